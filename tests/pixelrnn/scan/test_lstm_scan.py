"""The scans with hand-derived gradients: against autograd through a plain loop, `torch.nn.LSTM`, and differences."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pixelrnn.layers.reference import plain_scan
from pixelrnn.scan import kernels
from pixelrnn.scan.compiled_scan import CompiledScan
from pixelrnn.scan.kernels import LANES
from pixelrnn.scan.lstm_scan import Geometry, lstm_scan
from pixelrnn.scan.torch_scan import TorchScan
from vision_rnn.precision import products_in

Scan = Callable[..., Tensor]

INPUTS, HIDDEN, BATCH = 3, 2, 2


def row_geometry(rows: int, columns: int, dilation: int = 1) -> Geometry:
    return Geometry((-dilation, 0), (-dilation, 0, dilation), ((0, columns),) * rows)


def diagonal_geometry(rows: int, columns: int) -> Geometry:
    lines = range(rows + columns - 1)
    return Geometry((0,), (-1, 0), tuple((max(0, d - columns + 1), min(rows, d + 1)) for d in lines))


GEOMETRIES = {
    "rows": (row_geometry(4, 5), 5),
    "rows, dilated": (row_geometry(3, 6, 2), 6),
    "rows, taps almost beyond the line": (row_geometry(3, 4, 3), 4),
    "rows, taps beyond the line": (row_geometry(3, 4, 5), 4),
    "rows, taps far beyond the line": (row_geometry(2, 2, 9), 2),
    "one row": (row_geometry(1, 4), 4),
    "one column": (row_geometry(4, 1), 1),
    "diagonals, square": (diagonal_geometry(4, 4), 4),
    "diagonals, wide": (diagonal_geometry(3, 5), 3),
    "diagonals, high": (diagonal_geometry(5, 2), 5),
    "diagonals, one row": (diagonal_geometry(1, 4), 1),
    "diagonals, one column": (diagonal_geometry(4, 1), 4),
}


@pytest.fixture(params=GEOMETRIES.values(), ids=GEOMETRIES.keys())
def case(request: pytest.FixtureRequest) -> tuple[Geometry, int]:
    """Geometry and number of positions of its lines."""
    return request.param


@pytest.fixture(params=[CompiledScan, TorchScan])
def scan(request: pytest.FixtureRequest) -> Scan:
    return request.param.apply


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Function that sets the number of torch threads until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def arguments(
    geometry: Geometry, positions: int, dtype: torch.dtype = torch.float64, batch: int = BATCH
) -> list[Tensor]:
    """Return random x, K_is, K_ss, bias, initial hidden state and initial cell."""
    generator = torch.Generator().manual_seed(0)
    shapes = [
        (len(geometry.ranges), INPUTS, positions, batch),
        (4 * HIDDEN, len(geometry.input_taps) * INPUTS),
        (4 * HIDDEN, len(geometry.state_taps) * HIDDEN),
        (4 * HIDDEN,),
        (HIDDEN, positions),
        (HIDDEN, positions),
    ]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def visited(states: Tensor, geometry: Geometry) -> Tensor:
    """Set the values that the scan leaves undefined to zero."""
    mask = torch.zeros(states.shape[0], 1, states.shape[2], 1, dtype=torch.bool)
    for line, (first, last) in zip(mask, geometry.ranges, strict=True):
        line[:, first:last] = True
    return states.masked_fill(~mask, 0)


def check_against_plain_loop(
    scan: Scan, geometry: Geometry, positions: int, tolerance: float, dtype: torch.dtype, batch: int = BATCH
) -> None:
    inputs = arguments(geometry, positions, dtype, batch)
    states, expected = visited(scan(*inputs, geometry), geometry), plain_scan(*inputs, geometry)
    torch.testing.assert_close(states, expected, rtol=tolerance, atol=tolerance)
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    gradients = torch.autograd.grad(states, inputs, weights)
    torch.testing.assert_close(
        gradients, torch.autograd.grad(expected, inputs, weights), rtol=tolerance, atol=tolerance
    )


def test_states_and_gradients_are_those_of_a_plain_loop(scan: Scan, case: tuple[Geometry, int]) -> None:
    check_against_plain_loop(scan, *case, tolerance=1e-12, dtype=torch.float64)


def test_in_single_precision(scan: Scan, case: tuple[Geometry, int]) -> None:
    check_against_plain_loop(scan, *case, tolerance=2e-5, dtype=torch.float32)


@pytest.mark.parametrize("batch", [1, LANES, 2 * LANES + 5, 5 * LANES])
@pytest.mark.parametrize("number_of_threads", [1, 2])
def test_shares_of_a_batch(threads: Callable[[int], None], number_of_threads: int, batch: int) -> None:
    """One share or several, with a full or a partial last share."""
    threads(number_of_threads)
    for geometry, positions in (row_geometry(3, 5), 5), (diagonal_geometry(4, 3), 4):
        check_against_plain_loop(CompiledScan.apply, geometry, positions, 1e-11, torch.float64, batch)


def test_a_share_no_wider_than_a_cache() -> None:
    """With a thousand positions, only few images fit in a share, so one thread has several shares."""
    check_against_plain_loop(CompiledScan.apply, row_geometry(2, 1000), 1000, 1e-9, torch.float64, 2 * LANES + 1)


@pytest.mark.parametrize("scan", [CompiledScan.apply, TorchScan.apply])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_taps(scan: Scan, data: st.DataObject) -> None:
    lines, positions = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    taps = st.lists(st.integers(-7, 7), min_size=1, max_size=3, unique=True)
    geometry = Geometry(tuple(data.draw(taps)), tuple(data.draw(taps)), ((0, positions),) * lines)
    check_against_plain_loop(scan, geometry, positions, tolerance=1e-12, dtype=torch.float64)


@pytest.mark.parametrize(
    ("geometry", "positions"),
    [
        (row_geometry(2, 3), 3),
        (row_geometry(2, 4, 2), 4),
        (diagonal_geometry(2, 3), 2),
        (diagonal_geometry(3, 2), 3),
    ],
)
def test_gradient_equals_differences(scan: Scan, geometry: Geometry, positions: int) -> None:
    inputs = arguments(geometry, positions)
    assert torch.autograd.gradcheck(lambda *given: visited(scan(*given, geometry), geometry), inputs)


def test_gradient_that_is_one_number_repeated(scan: Scan, case: tuple[Geometry, int]) -> None:
    """The gradient of a sum is an expanded tensor, whose entries all share one memory location."""
    geometry, positions = case
    inputs = arguments(geometry, positions)
    gradients = torch.autograd.grad(visited(scan(*inputs, geometry), geometry).sum(), inputs)
    expected = torch.autograd.grad(plain_scan(*inputs, geometry).sum(), inputs)
    torch.testing.assert_close(gradients, expected, rtol=1e-12, atol=1e-12)


def test_gradient_leaves_its_arguments_alone(scan: Scan) -> None:
    geometry = row_geometry(3, 4)
    inputs = arguments(geometry, 4)
    before = [tensor.detach().clone() for tensor in inputs]
    states = scan(*inputs, geometry)
    kept, weights = states.detach().clone(), torch.ones_like(states)
    states.backward(weights)
    torch.testing.assert_close([tensor.detach() for tensor in inputs], before, rtol=0, atol=0)
    torch.testing.assert_close(states.detach(), kept, rtol=0, atol=0)
    assert (weights == 1).all()


def test_one_tap_makes_it_torchs_lstm(scan: Scan) -> None:
    """Each position is then a separate sequence."""
    lines, positions = 6, 3
    geometry = Geometry((0,), (0,), ((0, positions),) * lines)
    x, input_to_state, state_to_state, bias, hidden, cell = arguments(geometry, positions)
    lstm = torch.nn.LSTM(INPUTS, HIDDEN, dtype=torch.float64)

    def torchs(rows: Tensor) -> Tensor:
        """Reorder the gates from o, f, i, g to i, f, g, o."""
        output, forget, write, candidate = rows.chunk(4)
        return torch.cat([write, forget, candidate, output])

    parameters: dict[str, Any] = {
        "weight_ih_l0": torchs(input_to_state),
        "weight_hh_l0": torchs(state_to_state),
        "bias_ih_l0": torchs(bias),
        "bias_hh_l0": torch.zeros_like(bias),
    }
    sequences = x.permute(0, 2, 3, 1).flatten(1, 2)
    start = tuple(state.t().repeat_interleave(BATCH, 0)[None].contiguous() for state in (hidden, cell))
    expected, _ = torch.func.functional_call(lstm, parameters, (sequences, start))
    states = scan(x, input_to_state, state_to_state, bias, hidden, cell, geometry)
    torch.testing.assert_close(states, expected.unflatten(1, (positions, BATCH)).permute(0, 3, 1, 2))


def test_the_candidate_goes_through_tanh(scan: Scan) -> None:
    """With gates o and i open and f closed, h = tanh(tanh(g)), which is negative for a negative g."""
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    bias = torch.tensor([50.0, -50.0, 50.0, -0.7], dtype=torch.float64)
    no_kernel, start = torch.zeros(4, 1, dtype=torch.float64), torch.full((1, 1), 5.0, dtype=torch.float64)
    states = scan(zero, no_kernel, no_kernel, bias, start, start, Geometry((0,), (0,), ((0, 1),)))
    assert states.item() == pytest.approx(torch.tensor(-0.7, dtype=torch.float64).tanh().tanh().item())


def test_cells_outside_the_diagonals_receive_no_gradient(scan: Scan) -> None:
    geometry = diagonal_geometry(3, 4)
    inputs = arguments(geometry, 3)
    gradient = torch.autograd.grad(visited(scan(*inputs, geometry), geometry).sum(), inputs[0])[0]
    assert torch.equal(gradient, visited(gradient, geometry))


def test_a_processor_takes_the_compiled_scan() -> None:
    geometry = row_geometry(3, 4)
    inputs = arguments(geometry, 4)
    states = lstm_scan(*inputs, geometry)
    assert states.grad_fn is not None
    assert states.grad_fn.name() == "CompiledScanBackward"
    assert torch.equal(states, CompiledScan.apply(*inputs, geometry))


def squash(x: Tensor) -> Tensor:
    """Compute tanh(tanh(x)) with the compiled scan in float32: x is its candidate, and the gates o and i are open."""
    kernel = torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    start, bias = torch.zeros(1, 1), torch.tensor([50.0, 0.0, 50.0, 0.0])
    states = CompiledScan.apply(
        x.reshape(1, 1, 1, -1), kernel, 0 * kernel, bias, start, start, Geometry((0,), (0,), ((0, 1),))
    )
    return states.flatten()


def test_tanh_in_single_precision_is_exact_to_a_few_of_its_last_digits() -> None:
    x = torch.cat([torch.linspace(-20, 20, 100_001), torch.logspace(-30, 0, 1001), torch.tensor([0.0, 1e30, -1e30])])
    expected = x.double().tanh().tanh()
    torch.testing.assert_close(squash(x).double(), expected, rtol=1e-6, atol=0)


def test_nan_is_not_hidden() -> None:
    found = squash(torch.tensor([0.5, math.nan, 1.0]))
    assert found.isnan().tolist() == [False, True, False]


def test_leaves_the_number_of_torchs_threads_alone() -> None:
    """In a new process, because Numba starts its threads, and sets the number of torch threads, at its first call."""
    program = """
import torch
from pixelrnn.scan.lstm_scan import Geometry, lstm_scan
torch.set_num_threads(1)
shapes = [(2, 3, 4, 40), (8, 3), (8, 2), (8,), (2, 4), (2, 4)]
states = lstm_scan(*(torch.ones(shape) for shape in shapes), Geometry((0,), (0,), ((0, 4),) * 2))
print(torch.get_num_threads())
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.split() == [b"1"]


needs_bf16 = pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(), reason="this processor does not multiply bf16"
)


def scanned(
    inputs: list[Tensor], geometry: Geometry, precision: Literal["32-true", "bf16-mixed"]
) -> tuple[Tensor, ...]:
    """Return states and gradients; the inputs are of float32."""
    with products_in(precision):
        states = visited(lstm_scan(*inputs, geometry), geometry)
        weights = torch.rand(states.shape, generator=torch.Generator().manual_seed(1))
        return states.detach(), *torch.autograd.grad(states, inputs, weights)


@needs_bf16
@pytest.mark.parametrize("batch", [2, LANES, 2 * LANES + 5])
def test_with_factors_in_bf16_all_is_as_near_as_they_are(
    case: tuple[Geometry, int], batch: int, threads: Callable[[int], None]
) -> None:
    """A factor rounded to 8 bits is off by 2^-9 of itself at most; by more are differences, and sums of many lines."""
    threads(2)
    geometry, positions = case
    inputs = [(tensor.detach() / 3).requires_grad_() for tensor in arguments(geometry, positions, torch.float32, batch)]
    exact, rounded = (scanned(inputs, geometry, precision) for precision in ("32-true", "bf16-mixed"))
    assert not torch.equal(exact[0], rounded[0])
    for name, a, b in zip(["states", "x", "K_is", "K_ss", "bias", "hidden", "cell"], exact, rounded, strict=True):
        if a.any():
            assert (a - b).norm() / a.norm() < 0.02, name
        else:
            assert not b.any(), name


@needs_bf16
def test_only_factors_are_rounded_to_bf16() -> None:
    """Factors that bf16 holds give the states of float32, though it does not hold the bias, the cells and the sums."""
    geometry, positions = row_geometry(1, 6), 6
    inputs = arguments(geometry, positions, torch.float32, 3)
    with torch.no_grad():
        for factor in (*inputs[:3], inputs[4]):
            factor.copy_(factor.bfloat16())
    exact, rounded = (scanned(inputs, geometry, precision)[0] for precision in ("32-true", "bf16-mixed"))
    torch.testing.assert_close(rounded, exact, rtol=2e-6, atol=2e-6)


@needs_bf16
@pytest.mark.parametrize("vectors", [1, 2, 3, 6])
def test_a_product_of_packed_integers_is_exact(vectors: int) -> None:
    random = np.random.default_rng(0)
    kernel, source = (random.integers(-9, 10, size=shape).astype(np.float32) for shape in ((16, 6), (6, 8 * LANES)))
    total = np.ones((16, 8 * LANES), np.float32)
    columns = vectors * LANES
    pairs = kernels.pack(np.ascontiguousarray(source.T)).T.copy()
    kernels._add_packed_product(total, LANES, kernels.pack(kernel), pairs, 2 * LANES, columns)
    expected = np.ones_like(total)
    expected[:, LANES : LANES + columns] += kernel @ source[:, 2 * LANES : 2 * LANES + columns]
    assert np.array_equal(total, expected)


def test_numbers_are_rounded_to_bf16_as_torch_does() -> None:
    """Also those between two, of which the even one is taken, and the greatest."""
    bits = torch.randint(-(2**31), 2**31, (400,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    bits[:200] = (bits[:200] & ~0xFFFF) | 0x8000
    numbers = torch.cat([bits.view(torch.float32), torch.tensor([0.0, -0.0, 3.4028e38, 1e-45])])
    numbers = numbers.where(numbers.isfinite(), 1.0)
    found = torch.from_numpy(kernels.pack(numbers.view(2, -1).numpy()).view(np.uint16).astype(np.int32))
    expected = numbers.bfloat16().view(torch.int16).int() & 0xFFFF
    assert torch.equal(found.flatten(), expected)
