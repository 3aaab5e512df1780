"""Criticality of deep networks at initialization: the line of order and chaos, and its ends."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.records import Activation
from theory.numerics.bracket import root
from theory.signal.arguments import Number, broadcast, check_positive
from theory.signal.crossings import crossings
from theory.signal.propagation import Expectations, expectations_of
from theory.signal.tables import MomentTable

NOISE = 1e-11  # relative, of differences of moments
SAME_VARIANCE = 1e-12  # relative, of variances that are equal but for rounding
DEPARTURE = 1e-9  # relative, at which E[φ²] is told from its slope at 0 times K

SCALE_INVARIANT, AT_ZERO, HALF_STABLE, NO_POINT = "scale-invariant", "K* = 0", "half-stable", "none"


class CriticalPoint(NamedTuple):
    """Where χ_∥ = χ_⊥ = 1; all NaN where an activation has no such point."""

    weight_variance: float
    bias_variance: float
    variance: float
    """K*; NaN for scale-invariant activations, for which any K is a fixed point there."""


def chi_parallel(activation: Activation, *, weight_variance: Number, variance: Number) -> Tensor:
    """χ_∥ = σ_w² dE[φ²]/dK = σ_w² E[φ φ' u]/K at variances K. Arguments broadcast."""
    return _chi(activation, weight_variance, variance, "second_slope")


def chi_perpendicular(
    activation: Activation, *, weight_variance: Number, variance: Number
) -> Tensor:
    """χ_⊥ = σ_w² E[φ'²] at variances K. Arguments broadcast."""
    return _chi(activation, weight_variance, variance, "slope")


def _chi(activation: Activation, weights: Number, variance: Number, which: str) -> Tensor:
    w, k = broadcast(weight_variance=weights, variance=variance)
    check_positive(weight_variance=w, variance=k)
    found = expectations_of(activation).moments(k.flatten())
    return w * getattr(found, which).reshape(w.shape)


def critical_bias(activation: Activation, weight_variance: Number) -> Tensor:
    """σ_b² at which χ_⊥ = 1 at the stable fixed point: the line between order and chaos.

    Of the shape of the weight variances; NaN where no bias variance does it. With several, that of
    the least K*. For scale-invariant activations 0 at their critical weight variance, beyond which
    (the semi-critical line, any σ_b² there) K_l = K_0 + l σ_b² grows while χ_⊥ = 1 throughout.
    Schoenholz et al. (2017), arXiv:1611.01232.
    """
    (weights,) = broadcast(weight_variance=weight_variance)
    check_positive(weight_variance=weights)
    expectations, w = expectations_of(activation), weights.flatten()
    at_zero = _slope_at_zero(expectations)
    end = torch.full_like(w, math.nan).masked_fill((w * at_zero - 1).abs() <= SAME_VARIANCE, 0.0)
    if expectations.table is None:
        return end.reshape(weights.shape)
    line = _line(expectations.table, w)
    return torch.where(end.isnan(), line, end).reshape(weights.shape)


def critical_point(activation: Activation) -> CriticalPoint:
    """The critical initialization: χ_∥ = χ_⊥ = 1 at a fixed point.

    What there is depends on the class, see `universality_class`. Roberts, Yaida and Hanin (2022),
    arXiv:2106.10165, section 5.
    """
    _, point = _classified(expectations_of(activation))
    return point


def universality_class(activation: Activation) -> str:
    """By the critical point that an activation has. Roberts, Yaida and Hanin (2022), section 5.

    "scale-invariant": φ(λu) = λφ(u) for λ > 0, at σ_b² = 0 every K is a fixed point (relu, linear).
    "K* = 0": K_l runs to 0 as a power of l at σ_w² = 1/φ'(0)², σ_b² = 0 (erf, tanh, sin).
    "half-stable": at a K* > 0, where dE[φ²]/dK = E[φ'²], which K_l reaches from one side only
    (silu, gelu).
    "none": no such point (sigmoid, softplus, quadratic).
    """
    name, _ = _classified(expectations_of(activation))
    return name


def _classified(expectations: Expectations) -> tuple[str, CriticalPoint]:
    slope = _slope_at_zero(expectations)
    if expectations.table is None:
        return SCALE_INVARIANT, CriticalPoint(1 / slope, 0.0, math.nan)
    if _runs_to_zero(expectations.table, slope):
        return AT_ZERO, CriticalPoint(1 / slope, 0.0, 0.0)
    for point in _half_stable(expectations.table):
        return HALF_STABLE, point
    return NO_POINT, CriticalPoint(math.nan, math.nan, math.nan)


def _slope_at_zero(expectations: Expectations) -> float:
    """E[φ'²] as K → 0 for φ(0) = 0, where it is E[φ²]/K as well; NaN for others."""
    shape = expectations.shape
    vanishes = bool(shape.value(torch.zeros(1, dtype=torch.float64)) == 0)
    return shape.slope_at_zero() if vanishes else math.nan


def _runs_to_zero(table: MomentTable, slope: float) -> bool:
    """Whether E[φ²] falls below its slope at 0 times K as K grows from 0."""
    if not slope > 0:  # φ(0) ≠ 0, or φ has no slope at 0
        return False
    departure = table(table.variance).second / (slope * table.variance) - 1
    told = departure[departure.abs() > DEPARTURE]
    return bool(len(told)) and float(told[0]) < 0


def _half_stable(table: MomentTable) -> list[CriticalPoint]:
    """Points with dE[φ²]/dK = E[φ'²] and a bias variance that is not negative."""

    def difference(log_variance: Tensor) -> Tensor:
        _, second_slope, slope = table(log_variance.exp())
        return second_slope - slope

    grid = table.variance
    _, second_slope, slope = table(grid)
    ends = crossings((second_slope - slope)[None], NOISE * (second_slope.abs() + slope)[None])[:, 0]
    low, high = grid.log()[ends[ends[:, 0] >= 0]].T
    variance = root(difference, low, high).exp()
    second, _, slope = table(variance)
    points = torch.stack([1 / slope, variance - second / slope, variance], 1).tolist()
    return [CriticalPoint(*point) for point in points if point[1] >= 0]


def _line(table: MomentTable, weights: Tensor) -> Tensor:
    """K - σ_w² E[φ²] at the least K with σ_w² E[φ'²] = 1 at which it is not negative, χ_∥ < 1."""
    ends = crossings(weights[:, None] * table(table.variance).slope - 1, torch.tensor(NOISE))
    line = torch.full_like(weights, math.nan)
    for places in ends.flip(0):
        some = places[:, 0] >= 0
        w = weights[some]
        low, high = table.variance.log()[places[some]].T
        k = root(lambda x, w=w: w * table(x.exp()).slope - 1, low, high).exp()
        second, second_slope, _ = table(k)
        bias = k - w * second
        stands = (bias >= -NOISE * k) & ((w * second_slope).abs() < 1)
        line[some] = torch.where(stands, bias.clamp_min(0), line[some])
    return line
