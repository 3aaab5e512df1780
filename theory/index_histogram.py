"""Predicted histograms of the order parameter, as probabilities of bins.

Given x = q/√(σ_w²/d), p(x) = exp(-x²/2 + m(x)²/2)/(√(2π) Z) and the readout in prior deviations is
N(m(x), 1), in the theory of `theory.order_parameter`. Bins are integrated by Gauss and Legendre's
rule in panels no wider than the spacing of the grid that holds p(x). What lies beyond the outermost
edges belongs to the outermost bins.
"""

import math

import numpy as np
import torch
from torch import Tensor

from theory.order_grid import STRETCH, coordinate, place
from theory.order_parameter import OrderParameter, features
from theory.single_index import Problem

NODES, WEIGHTS = (torch.from_numpy(a) / 2 for a in np.polynomial.legendre.leggauss(6))


def histogram(cells: Problem, solution: OrderParameter, edges: Tensor) -> Tensor:
    """P(x in bin), (cells, bin), for edges (bin + 1,) in prior deviations of q.

    Rows add up to one; NaN where the solution is. Raises ValueError for edges that do not increase.
    """
    rows = [
        _columns(cells.of(cell), _take(solution, cell), edges, None) for cell in _each(solution)
    ]
    return torch.cat(rows)[..., 0]


def joint_histogram(
    cells: Problem, solution: OrderParameter, edges: Tensor, readout_edges: Tensor
) -> Tensor:
    """P(x and readout in bins), (cells, bin, readout bin), for edges in prior deviations.

    Edges and errors as in `histogram`.
    """
    rows = [
        _columns(cells.of(cell), _take(solution, cell), edges, _checked(readout_edges))
        for cell in _each(solution)
    ]
    return torch.cat(rows)


def _each(solution: OrderParameter) -> list[Tensor]:
    return list(torch.arange(len(solution.temperature)).split(1))


def _take(solution: OrderParameter, cell: Tensor) -> OrderParameter:
    return OrderParameter(*(value[cell] for value in solution))


def _columns(
    cell: Problem, solution: OrderParameter, edges: Tensor, readout_edges: Tensor | None
) -> Tensor:
    """Of one cell, (1, bin, readout bin); one readout bin for all without edges."""
    inner = _checked(edges)
    if not bool(solution.reach.isfinite()):
        columns = 1 if readout_edges is None else len(readout_edges) - 1
        return torch.full((1, len(inner) - 1, columns), torch.nan, dtype=torch.float64)
    reach = solution.reach.clamp_min(float(inner.abs().max()))
    bins = _mass(cell, solution, inner[:-1], inner[1:], readout_edges)
    bins[:, :1] += _mass(cell, solution, -reach, inner[:1], readout_edges)
    bins[:, -1:] += _mass(cell, solution, inner[-1:], reach, readout_edges)
    return bins


def _mass(
    cell: Problem,
    solution: OrderParameter,
    low: Tensor,
    high: Tensor,
    readout_edges: Tensor | None,
) -> Tensor:
    """P(low < x < high) of intervals (bin,), with the readouts in bins, (1, bin, readout bin)."""
    stretch = STRETCH[cell.activation]
    first, last = coordinate(low, stretch), coordinate(high, stretch)
    panels = max(1, math.ceil(float((last - first).max() / solution.spacing)))
    width = (last - first)[:, None, None] / panels
    start = first[:, None, None] + width * torch.arange(panels, dtype=torch.float64)[:, None]
    x, measure = place((start + width * (NODES + 0.5)).flatten(1), stretch)  # (bin, node)
    overlap, _ = features(cell, x[None])  # (1, bin, mode, node)
    field = torch.sqrt(cell.dimension * cell.coupling(solution.temperature))
    readout = field * (solution.discrepancy[0] @ overlap[0])  # (bin, node)
    exponent = (readout.square() - x.square()) / 2 - solution.log_partition + measure
    density = exponent.exp() / math.sqrt(2 * math.pi)
    weighted = density * (width * WEIGHTS).expand(-1, panels, -1).flatten(1)
    if readout_edges is None:
        return weighted.sum(1)[None, :, None]
    below = torch.special.ndtr(readout_edges - readout[..., None])  # (bin, node, edge)
    below[..., 0], below[..., -1] = 0, 1
    return (weighted[:, None] @ below.diff(dim=-1))[:, 0][None]


def _checked(edges: Tensor) -> Tensor:
    values = torch.as_tensor(edges, dtype=torch.float64)
    if values.ndim != 1 or len(values) < 2 or not bool((values.diff() > 0).all()):
        raise ValueError(f"edges are {values.tolist()[:4]}...; give a row that increases")
    return values
