"""The recurrence in plain torch, line by line: slow and short, the reference for the fast implementations."""

import torch
from torch import Tensor

from pixelrnn.scan.lstm_scan import Geometry


def plain_scan(
    x: Tensor,
    input_to_state: Tensor,
    state_to_state: Tensor,
    bias: Tensor,
    initial_hidden: Tensor,
    initial_cell: Tensor,
    geometry: Geometry,
) -> Tensor:
    """Compute `scan.lstm_scan` line by line, with the gradient from autograd.

    Arguments and result are the same, except that the result is zero at positions that a line does not have.
    """
    positions, batch = x.shape[2:]
    reach = max(map(abs, geometry.input_taps + geometry.state_taps))
    hidden = initial_hidden[..., None].expand(-1, -1, batch)
    cell = initial_cell[..., None].expand(-1, -1, batch)
    states = []
    for line, (first, last) in zip(x, geometry.ranges, strict=True):
        read = [(line, offset) for offset in geometry.input_taps] + [(hidden, offset) for offset in geometry.state_taps]
        taps = [
            torch.nn.functional.pad(source, (0, 0, reach, reach))[:, reach + offset : reach + offset + positions]
            for source, offset in read
        ]
        kernel = torch.cat([input_to_state, state_to_state], dim=1)
        gates = torch.einsum("gk,kpb->gpb", kernel, torch.cat(taps)) + bias[:, None, None]
        output, forget, write, candidate = gates.chunk(4)
        visited = torch.zeros(positions, 1, dtype=torch.bool, device=x.device)
        visited[first:last] = True
        cell = torch.where(visited, forget.sigmoid() * cell + write.sigmoid() * candidate.tanh(), cell)
        hidden = torch.where(visited, output.sigmoid() * cell.tanh(), hidden)
        states.append(hidden * visited)
    return torch.stack(states)
