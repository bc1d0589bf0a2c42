"""The context: its recurrence pixel by pixel, which pixels it reads, and exact probabilities of regions."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelrnn.completion import masked_nats
from pixelrnn.layers.context import Context, UnmaskedRowLSTM
from pixelrnn.model import PixelModel, PixelNetwork
from pixelrnn.pixel_config import ImageShape, ModelConfig, Order
from vision_rnn.errors import UserError

MakeModel = Callable[..., PixelModel]
HIDDEN, ROWS, COLUMNS = 4, 5, 7

# Eight pixels of a region on an image of 4x5: in the middle, above, in columns, and scattered.
REGIONS = {
    "middle": [".....", ".####", ".####", "....."],
    "above": ["#####", "###..", ".....", "....."],
    "left": ["##...", "##...", "##...", "##..."],
    "scattered": ["#.#.#", ".#..#", "#.#..", "....#"],
}


def region(rows: list[str]) -> Tensor:
    return torch.tensor([[cell == "#" for cell in row] for row in rows])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def states_one_by_one(layer: UnmaskedRowLSTM, x: np.ndarray) -> np.ndarray:
    """Compute equation 3 of PixelRNN with three taps each, for features (H, W, h) of one image from the last row up."""
    values = {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}
    inputs, states = (np.split(values[name], 3, axis=1) for name in ("input_to_state", "state_to_state"))
    hidden, cell = values["initial_hidden"].T, values["initial_cell"].T
    found = np.zeros((ROWS, COLUMNS, HIDDEN))
    for row in reversed(range(ROWS)):
        new_hidden, new_cell = np.zeros_like(hidden), np.zeros_like(cell)
        for column in range(COLUMNS):
            total = values["bias"].copy()
            for tap, offset in enumerate((-layer.dilation, 0, layer.dilation)):
                if 0 <= column + offset < COLUMNS:
                    total += inputs[tap] @ x[row, column + offset] + states[tap] @ hidden[column + offset]
            output, forget, write, candidate = np.split(total, 4)
            new_cell[column] = sigmoid(forget) * cell[column] + sigmoid(write) * np.tanh(candidate)
            new_hidden[column] = sigmoid(output) * np.tanh(new_cell[column])
        hidden, cell = new_hidden, new_cell
        found[row] = hidden
    return found


def test_layers_run_from_the_last_row_up_and_add_their_states_to_their_input() -> None:
    torch.manual_seed(0)
    context = Context(1, HIDDEN, COLUMNS, (2, 1), 1, 6).double()
    for parameter in context.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    pixels = torch.rand(2, 1, ROWS, COLUMNS, dtype=torch.float64)
    mask = torch.rand(2, 1, ROWS, COLUMNS) < 0.5
    states = context(pixels, mask).detach().numpy()
    assert states.shape == (ROWS, 2 * HIDDEN, COLUMNS, 2)
    kernel, bias = (each.detach().numpy() for each in (context.first.weight, context.first.bias))
    for image in range(2):
        known = ~mask[image, 0].numpy()
        planes = np.pad(np.stack([pixels[image, 0].numpy() * known, known]), ((0, 0), (3, 3), (3, 3)))
        x = np.zeros((ROWS, COLUMNS, HIDDEN))
        for row, column in itertools.product(range(ROWS), range(COLUMNS)):
            window = planes[:, row : row + 7, column : column + 7]
            x[row, column] = (kernel * window).sum((1, 2, 3)) + bias
        for index, layer in enumerate(context.layers):
            assert isinstance(layer, UnmaskedRowLSTM)
            expected = states_one_by_one(layer, x)
            found = states[:, index * HIDDEN : (index + 1) * HIDDEN, :, image].transpose(0, 2, 1)
            np.testing.assert_allclose(found, expected, atol=1e-12)
            x = x + expected


@pytest.mark.pairwise
@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize(("channels", "levels", "pixels"), [(1, 2, 8), (1, 3, 5), (3, 2, 3)])
def test_probabilities_of_all_fillings_of_a_region_sum_to_one(
    make_model: MakeModel, variant: dict[str, Any], name: str, channels: int, levels: int, pixels: int
) -> None:
    """Of its first pixels; the others are known. Up to 512 fillings."""
    model = make_model(4, 5, channels, levels, **variant | {"context_layers": 2})
    mask = region(REGIONS[name])
    mask[tuple(mask.nonzero()[pixels:].T)] = False
    fillings = list(itertools.product(range(levels), repeat=pixels * channels))
    known = torch.randint(levels, (1, channels, 4, 5), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    images = known.repeat(len(fillings), 1, 1, 1)
    images[..., mask] = torch.tensor(fillings, dtype=torch.uint8).view(len(fillings), channels, pixels)
    assert (-masked_nats(model, images, mask)).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_a_mask_for_every_image(make_model: MakeModel, variant: dict[str, Any], order: Order) -> None:
    """Values as with each mask alone, and 0 for known pixels."""
    model = make_model(4, 5, 3, 4, **variant | {"context_layers": 2, "order": order})
    images = torch.randint(4, (4, 3, 4, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    masks = torch.stack([region(rows) for rows in REGIONS.values()])[:, None]
    together = model.log_likelihood(images, mask=masks)
    for image, mask, found in zip(images, masks[:, 0], together, strict=True):
        alone = model.log_likelihood(image[None], mask=mask)[0]
        torch.testing.assert_close(found, alone)
        assert (found[:, ~mask] == 0).all()


def test_the_likelihood_of_a_region_depends_on_the_pixels_after_it(make_model: MakeModel, order: Order) -> None:
    ordinary, given = (make_model(4, 5, order=order, context_layers=layers) for layers in (0, 2))
    mask = region(["....."] + ["#####"] + ["....."] * 2).rot90(2 if order == "rotated" else 0)
    if order == "transposed":
        mask = torch.zeros(4, 5, dtype=torch.bool)
        mask[:, 1] = True
    image = torch.zeros(1, 1, 4, 5, dtype=torch.uint8)
    other = image.clone()
    # Far from the region, at the end of the image in each order.
    other[..., *((0, 0) if order == "rotated" else (3, 4))] = 1
    assert torch.equal(masked_nats(ordinary, image, mask), masked_nats(ordinary, other, mask))
    assert not torch.equal(masked_nats(given, image, mask), masked_nats(given, other, mask))


def test_a_new_context_changes_nothing() -> None:
    """Its output starts at zero, whatever is known."""
    torch.manual_seed(0)
    plain, extended = (
        PixelNetwork(ModelConfig(num_layers=2, hidden_channels=4, context_layers=layers), ImageShape(height=4, width=5))
        for layers in (0, 2)
    )
    extended.load_state_dict(extended.state_dict() | plain.state_dict())
    images, mask = torch.randint(2, (3, 1, 4, 5)), region(REGIONS["middle"])
    assert torch.equal(extended.log_likelihood(images, mask=mask), plain.log_likelihood(images, mask=mask))


def test_a_context_needs_layers_to_add_to() -> None:
    with pytest.raises(UserError, match=r"^model\.context_layers: .* give model\.num_layers >= 1$"):
        ModelConfig(num_layers=0, context_layers=1)
