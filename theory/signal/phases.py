"""Fixed points of variance and correlation: where the layers of a deep network lead."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.records import Activation
from theory.numerics.bracket import root
from theory.signal.arguments import Number, broadcast, check_not_negative, check_positive
from theory.signal.crossings import crossings
from theory.signal.propagation import Expectations, expectations_of
from theory.signal.tables import MomentTable

NOISE = 1e-12  # relative, of σ_b² + σ_w² E[φ²] - K
CELLS = 4096  # at a time
LEAST_VARIANCE = 1e-300  # variance


class FixedPoint(NamedTuple):
    """K* and c* with what happens beside them; all of one shape, NaN where there is none.

    Small deviations of K_l and c_l shrink as exp(-l/ξ); a negative ξ says that they grow.
    """

    variance: Tensor
    """K* = σ_b² + σ_w² E[φ²]."""
    correlation: Tensor
    """c*, the stable one: 1 in the ordered phase, below 1 in the chaotic one."""
    chi_parallel: Tensor
    """χ_∥ = σ_w² dE[φ²]/dK, the factor of a small change of K in a layer."""
    chi_perpendicular: Tensor
    """χ_⊥ = σ_w² E[φ'²], that of a small 1 - c: order below 1, chaos above."""
    depth_variance: Tensor
    """ξ_q = -1/ln |χ_∥| [layers]."""
    depth_correlation: Tensor
    """ξ_c = -1/ln of the slope σ_w² E[φ'φ'] at c*, which is χ_⊥ for c* = 1 [layers]."""


def fixed_point(
    activation: Activation, *, weight_variance: Number, bias_variance: Number
) -> FixedPoint:
    """The stable fixed point of positive variance, of the least one where there are several.

    Variances broadcast. NaN where K_l grows without end or runs to 0 from wherever it starts, and
    on the line of fixed points that relu and its like have at χ = 1. Poole et al. (2016),
    arXiv:1606.05340; Schoenholz et al. (2017), arXiv:1611.01232.

    Beside c* = 1, which is unstable in the chaotic phase, and the c* given there is no other: for
    c ≥ 0 the map of c is a power series of positive coefficients, hence convex; for c < 0 it lies
    above c, but for odd φ without biases, whose fixed points are those of -c as well.

    Errors are below 1e-8 for smooth φ, 1e-6 for others with kinks, times 1/|1 - χ| of the direction
    concerned. Raises ValueError for weight variances that are not positive, negative bias
    variances, and an activation without known moments.
    """
    every = fixed_points(activation, weight_variance=weight_variance, bias_variance=bias_variance)
    stable = every.chi_parallel.abs() < 1
    first = stable & (stable.int().cumsum(0) == 1)
    return FixedPoint(
        *(torch.where(first, some, 0.0).sum(0).where(first.any(0), math.nan) for some in every)
    )


def fixed_points(
    activation: Activation, *, weight_variance: Number, bias_variance: Number
) -> FixedPoint:
    """All fixed points of positive variance, stable or not, (count, ...), by ascending K*.

    Arguments and the rest as in `fixed_point`; where a pair of variances has fewer, NaN.
    """
    weights, biases = broadcast(weight_variance=weight_variance, bias_variance=bias_variance)
    check_positive(weight_variance=weights)
    check_not_negative(bias_variance=biases)
    expectations = expectations_of(activation)
    w, b = weights.flatten(), biases.flatten()
    solutions = _variances(expectations, w, b)
    found = [_beside(expectations, w, variance) for variance in solutions]
    columns = zip(*found, strict=True)
    return FixedPoint(*(torch.stack(some).reshape(-1, *weights.shape) for some in columns))


def _variances(expectations: Expectations, weights: Tensor, biases: Tensor) -> Tensor:
    """All K*, ascending, (count, n)."""
    table = expectations.table
    if table is None:  # E[φ²] is a multiple of K
        chi = weights * expectations.moments(torch.ones(1, dtype=torch.float64)).second
        there = (chi < 1) & (biases > 0)
        return torch.where(there, biases / (1 - chi), math.nan)[None]
    parts = [
        _roots(table, w, b).T
        for w, b in zip(weights.split(CELLS), biases.split(CELLS), strict=True)
    ]
    count = max([1, *(part.shape[1] for part in parts)])
    pad = torch.nn.functional.pad
    return torch.cat([pad(part, (0, count - part.shape[1]), value=math.nan) for part in parts]).T


def _roots(table: MomentTable, weights: Tensor, biases: Tensor) -> Tensor:
    """Where σ_b² + σ_w² E[φ²] - K changes sign, (count, n); NaN beyond the last."""

    def change(variance: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return b + w * table(variance).second - variance

    grid = torch.cat([torch.tensor([LEAST_VARIANCE], dtype=torch.float64), table.variance])
    second = torch.cat([table.at_zero[None], table(table.variance).second])
    rise = biases[:, None] + weights[:, None] * second
    ends = crossings(rise - grid, NOISE * (rise + grid))
    found = torch.full(ends.shape[:2], math.nan, dtype=torch.float64)
    for ks, places in zip(found, ends, strict=True):
        some = places[:, 0] >= 0
        w, b = weights[some], biases[some]
        low, high = grid.log()[places[some]].T
        ks[some] = root(lambda x, w=w, b=b: change(x.exp(), w, b) / x.exp(), low, high).exp()
    return found


def _beside(expectations: Expectations, weights: Tensor, variance: Tensor) -> FixedPoint:
    """What belongs to K* of each pair of variances, (n,)."""
    there = ~variance.isnan()
    k, w = variance[there], weights[there]
    _, second_slope, slope = expectations.moments(k)
    parallel, perpendicular = w * second_slope, w * slope
    correlation, at_fixed_point = torch.ones_like(k), perpendicular.clone()
    chaotic = perpendicular > 1
    if bool(chaotic.any()):
        distance, derivative = _chaos(expectations, w[chaotic], k[chaotic])
        correlation[chaotic] = 1 - distance
        at_fixed_point[chaotic] = derivative
    columns = (
        k,
        correlation,
        parallel,
        perpendicular,
        depth_scale(parallel),
        depth_scale(at_fixed_point),
    )
    return FixedPoint(
        *(torch.full_like(variance, math.nan).masked_scatter(there, some) for some in columns)
    )


def _chaos(expectations: Expectations, weights: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """1 - c* and the slope of the map there: σ_w² R(K*, c) = 1, and R increases with c."""
    chords = expectations.chord_table.at(variance)

    def excess(t: Tensor) -> Tensor:
        return weights * chords.slope(chords.distance(t)) - 1

    low, high = torch.zeros_like(variance), torch.ones_like(variance)
    t = root(excess, low, high)
    # Without biases an odd φ has c* = 0 at the end t = 1, where the sign is that of the rounding.
    at_end = (excess(high) > 0).to(t)
    distance = chords.distance(torch.where(t.isnan(), at_end, t))
    return distance, weights * chords.derivative(distance)


def depth_scale(factor: Tensor) -> Tensor:
    """ξ = -1/ln |χ|, in layers; infinite for χ = 1."""
    return torch.where(factor == 1, math.inf, -1 / factor.abs().log())
