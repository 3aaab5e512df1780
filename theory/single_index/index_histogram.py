"""Predicted histograms of the order parameter, as probabilities of bins.

Given x = q/√(σ_w²/d) the readout in prior deviations is N(m(x), 1), and the law of x is

    p(x) = exp(-x²/2 + m(x)²/2)/(√(2π) Z) in the theory of `theory.single_index.order_parameter`,
    p(x) = N(x; 0, r) in that of `theory.single_index.gaussian_index`.

Bins are integrated by Gauss and Legendre's rule in panels no wider than the spacing of a grid that
holds p(x). What lies beyond the outermost edges belongs to the outermost bins.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from theory.single_index.gaussian_index import GaussianFeatures
from theory.single_index.hermite_overlap import stretch_of
from theory.single_index.order_grid import coordinate, place
from theory.single_index.order_parameter import OrderParameter, features
from theory.single_index.problems import Problem

NODES, WEIGHTS = (torch.from_numpy(a) / 2 for a in np.polynomial.legendre.leggauss(6))
FARTHEST = 9.0  # deviations of a Gaussian

Solution = OrderParameter | GaussianFeatures


class _Law(NamedTuple):
    """What is known of x and the readout in one cell."""

    discrepancy: Tensor  # (mode,)
    temperature: Tensor
    spacing: float  # in t(x) of `theory.single_index.order_grid`
    reach: Tensor  # |x| beyond which p(x) is negligible
    log_density: Callable[[Tensor, Tensor], Tensor]  # of x and m(x), without -½ ln 2π


def histogram(cells: Problem, solution: Solution, edges: Tensor) -> Tensor:
    """P(x in bin), (cells, bin), for edges (bin + 1,) in prior deviations of q.

    Rows add up to one; NaN where the solution is. Raises ValueError for edges that do not increase.
    """
    return _table(cells, solution, edges, None)[..., 0]


def joint_histogram(
    cells: Problem, solution: Solution, edges: Tensor, readout_edges: Tensor
) -> Tensor:
    """P(x and readout in bins), (cells, bin, readout bin), for edges in prior deviations.

    Edges and errors as in `histogram`.
    """
    return _table(cells, solution, edges, _checked(readout_edges))


def _table(
    cells: Problem, solution: Solution, edges: Tensor, readout_edges: Tensor | None
) -> Tensor:
    rows = []
    for cell in range(len(solution.temperature)):
        if isinstance(solution, OrderParameter):
            law = _whole(solution, cell)
        else:
            law = _gaussian(cells, solution, cell)
        rows.append(_columns(cells.of(torch.tensor([cell])), law, edges, readout_edges))
    return torch.cat(rows)


def _whole(solution: OrderParameter, cell: int) -> _Law:
    log_partition = solution.log_partition[cell]

    def log_density(x: Tensor, readout: Tensor) -> Tensor:
        return (readout.square() - x.square()) / 2 - log_partition

    delta, temperature = solution.discrepancy[cell], solution.temperature[cell]
    return _Law(
        delta, temperature, float(solution.spacing[cell]), solution.reach[cell], log_density
    )


def _gaussian(cells: Problem, solution: GaussianFeatures, cell: int) -> _Law:
    ratio = solution.variance[cell]

    def log_density(x: Tensor, readout: Tensor) -> Tensor:
        return -(x.square() / ratio + ratio.log()) / 2

    reach = FARTHEST * ratio.sqrt()
    far = coordinate(reach, stretch_of(cells.activation))
    spacing = float(far / (4 * FARTHEST)) if bool(reach.isfinite()) else math.nan
    delta, temperature = solution.discrepancy[cell], solution.temperature[cell]
    return _Law(delta, temperature, spacing, reach, log_density)


def _columns(cell: Problem, law: _Law, edges: Tensor, readout_edges: Tensor | None) -> Tensor:
    """Of one cell, (1, bin, readout bin); one readout bin for all without edges."""
    inner = _checked(edges)
    if not bool(law.reach.isfinite()):
        columns = 1 if readout_edges is None else len(readout_edges) - 1
        return torch.full((1, len(inner) - 1, columns), torch.nan, dtype=torch.float64)
    reach = law.reach[None].clamp_min(float(inner.abs().max()))
    bins = _mass(cell, law, inner[:-1], inner[1:], readout_edges)
    bins[:, :1] += _mass(cell, law, -reach, inner[:1], readout_edges)
    bins[:, -1:] += _mass(cell, law, inner[-1:], reach, readout_edges)
    return bins


def _mass(
    cell: Problem, law: _Law, low: Tensor, high: Tensor, readout_edges: Tensor | None
) -> Tensor:
    """P(low < x < high) of intervals (bin,), with the readouts in bins, (1, bin, readout bin)."""
    stretch = stretch_of(cell.activation)
    first, last = coordinate(low, stretch), coordinate(high, stretch)
    panels = max(1, math.ceil(float((last - first).max() / law.spacing)))
    width = (last - first)[:, None, None] / panels
    start = first[:, None, None] + width * torch.arange(panels, dtype=torch.float64)[:, None]
    x, measure = place((start + width * (NODES + 0.5)).flatten(1), stretch)  # (bin, node)
    overlap, _ = features(cell, x[None])  # (1, bin, mode, node)
    field = torch.sqrt(cell.dimension * cell.coupling(law.temperature[None]))
    readout = field * (law.discrepancy @ overlap[0])  # (bin, node)
    density = (law.log_density(x, readout) + measure).exp() / math.sqrt(2 * math.pi)
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
