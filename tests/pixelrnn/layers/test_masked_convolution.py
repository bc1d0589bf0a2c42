"""The masks, and the masked convolutions against explicit sums over the pixels of the past."""

import itertools
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelrnn.layers.masked_convolution import MaskedConv2d, MaskedPointwise, group_mask


def test_mask_a_of_three_channels() -> None:
    assert group_mask(3, 3, 3, "A").tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]


def test_mask_b_of_three_channels() -> None:
    assert group_mask(3, 3, 3, "B").tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_mask_of_grey_hides_all_or_nothing() -> None:
    assert group_mask(4, 1, 1, "A").tolist() == [[0]] * 4
    assert group_mask(2, 3, 1, "B").tolist() == [[1] * 3] * 2


def test_groups_of_uneven_size_lie_in_order() -> None:
    # Four features: two for red, one for green, one for blue; five: two, two, one.
    assert group_mask(4, 3, 3, "B").tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert group_mask(3, 5, 3, "B").tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


@given(st.lists(st.integers(3, 20), min_size=1, max_size=4))
def test_through_any_widths_a_channel_sees_those_before_it_and_no_other(widths: list[int]) -> None:
    reach = group_mask(widths[0], 3, 3, "A")
    for before, after in itertools.pairwise([*widths, 3]):
        reach = group_mask(after, before, 3, "B") @ reach
    assert (reach > 0).tolist() == [[False, False, False], [True, False, False], [True, True, False]]


def slow_convolution(convolution: MaskedConv2d, x: np.ndarray, kind: str, channels: int) -> np.ndarray:
    """Sum the inputs before each output; inputs of the same pixel are compared by channel."""
    weight, bias = convolution.weight.detach().numpy(), convolution.bias.detach().numpy()
    outputs, (batch, inputs, rows, columns) = len(bias), x.shape
    size = convolution.kernel_size
    kernel, middle = weight.reshape(outputs, inputs, size, size), size // 2
    result = np.zeros((batch, outputs, rows, columns))
    for output, row, column in itertools.product(range(outputs), range(rows), range(columns)):
        result[:, output, row, column] = bias[output]
        own = output * channels // outputs
        for feature, down, right in itertools.product(range(inputs), range(size), range(size)):
            r, c = row + down - middle, column + right - middle
            if not (0 <= r < rows and 0 <= c < columns):
                continue
            of = feature * channels // inputs
            if (r, c) < (row, column) or ((r, c) == (row, column) and (of < own or (kind == "B" and of == own))):
                result[:, output, row, column] += kernel[output, feature, down, right] * x[:, feature, r, c]
    return result


@pytest.mark.parametrize("kind", ["A", "B"])
@pytest.mark.parametrize(("inputs", "outputs", "channels"), [(1, 2, 1), (3, 4, 3), (4, 5, 3)])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_convolution_sums_over_the_past(
    kind: Literal["A", "B"], inputs: int, outputs: int, channels: int, size: int
) -> None:
    torch.manual_seed(0)
    convolution = MaskedConv2d(inputs, outputs, size, kind, channels).double()
    torch.nn.init.normal_(convolution.bias)
    x = torch.randn(2, inputs, 4, 5, dtype=torch.float64)
    expected = slow_convolution(convolution, x.numpy(), kind, channels)
    np.testing.assert_allclose(convolution(x).detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_pointwise_is_a_1x1_convolution_with_the_batch_last(channels: int) -> None:
    torch.manual_seed(0)
    convolution = MaskedConv2d(4, 5, 1, "B", channels).double()
    torch.nn.init.normal_(convolution.bias)
    pointwise = MaskedPointwise(4, 5, channels).double()
    pointwise.load_state_dict(convolution.state_dict())
    x = torch.randn(2, 4, 3, 6, dtype=torch.float64)
    y = pointwise(x.permute(2, 1, 3, 0).contiguous())
    assert y.shape == (3, 5, 6, 2)
    torch.testing.assert_close(y.permute(3, 1, 0, 2), convolution(x), rtol=0, atol=1e-12)
