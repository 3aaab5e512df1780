"""The map from the covariance of pre-activations to that of activations, and its derivative.

With (u_μ) ~ N(0, K) it is κ(K)_μν = E[φ(u_μ) φ(u_ν)]. Of a matrix element it needs K_μν, K_μμ and
K_νν; its derivatives in these are E[φ'(u)φ'(v)], ½ E[φ''(u)φ(v)] and ½ E[φ(u)φ''(v)] (Price 1958,
doi:10.1109/TIT.1958.1057444). The mean m = E[φ(u)], which odd functions do not have, is a function
of the variance.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from theory.activations.closed_forms import TINY
from theory.activations.expectations import (
    LARGEST_VARIANCE,
    Activation,
    Elementwise,
    Moment,
    derivative_moment,
    moment,
)
from theory.activations.records import Known, known
from theory.numerics.precision import in_range

STEP = 1e-3  # relative, of a fourth-order difference: its error and its rounding are below 1e-12

# Standard deviations, and nodes over them, as in theory.activations.expectations.
REACH, FEWEST_NODES = 12.475, 500
NODE_SPACING = 0.25  # of nodes in u, for φ of scale 1
POINTS = 256  # variances at a time


@dataclass(frozen=True)
class KernelMap:
    """κ of one activation function, for matrices in float64."""

    activation: Activation

    @cached_property
    def known(self) -> Known:
        """What is known of it in closed form."""
        return known(self.activation)

    @cached_property
    def value(self) -> Moment:
        """E[φφ]."""
        return moment(self.activation)

    @cached_property
    def slope(self) -> Moment:
        """E[φ'φ']."""
        return derivative_moment(self.activation)

    def __call__(self, covariance: Tensor) -> Tensor:
        """κ(K), (n, n), of a covariance matrix K (n, n)."""
        return _symmetric(self.value, covariance)

    def cross(self, rows: Tensor, covariance: Tensor, columns: Tensor) -> Tensor:
        """κ between two sets of points: (n1,) variances, (n1, n2) covariances, (n2,) variances."""
        features = self.value.features(torch.cat([rows, columns]))
        return self.value.pairs(features[: len(rows)], covariance, features[len(rows) :])

    def diagonal(self, variance: Tensor) -> Tensor:
        """E[φ(u)²] at each variance."""
        return self.value.diagonal(variance)

    def pullback(self, covariance: Tensor, weight: Tensor) -> Tensor:
        """d Tr[A κ(K)]/dK for symmetric A, all n² elements of K being independent: (n, n).

        A_μν E[φ'(u_μ)φ'(u_ν)], and on the diagonal also Σ_ν A_μν E[φ''(u_μ)φ(u_ν)].
        """
        slope = _symmetric(self.slope, covariance)
        bent = 2 * (weight * self._curvature(covariance, slope)).sum(1)
        return weight * slope + bent.diag()

    def mean(self, variance: Tensor) -> Tensor:
        """m = E[φ(u)] at each variance."""
        if self.known.odd:
            return torch.zeros_like(variance)
        if self.known.mean is not None:
            return self.known.mean(variance)
        function = self.known.phi
        if float(variance.max()) > LARGEST_VARIANCE:
            raise ValueError(
                f"a pre-activation has variance {float(variance.max()):.3g}, and means of this "
                f"activation are known up to {LARGEST_VARIANCE:.0e}; scale the inputs or the "
                "weights down"
            )
        count = max(
            FEWEST_NODES, math.ceil(2 * REACH / NODE_SPACING * math.sqrt(float(variance.max())))
        )
        nodes = torch.linspace(-REACH, REACH, count, dtype=torch.float64).to(variance)
        weight = torch.softmax(-nodes.square() / 2, 0)
        roots = variance.sqrt()[:, None].split(POINTS)
        return in_range(torch.cat([function(root * nodes) @ weight for root in roots]), variance)

    def mean_slope(self, variance: Tensor) -> Tensor:
        """dm/dk = ½ E[φ''(u)] at each variance."""
        if self.known.odd:
            return torch.zeros_like(variance)
        if self.known.mean_slope is not None:
            return self.known.mean_slope(variance)
        below_two, below, above, above_two = (
            self.mean(variance * (1 + STEP * step)) for step in (-2, -1, 1, 2)
        )
        difference = (8 * (above - below) - (above_two - below_two)) / (12 * STEP)
        still = _bend(self.known.phi, variance)
        return torch.where(variance > 0, difference / variance.clamp_min(TINY), still)

    def _curvature(self, covariance: Tensor, slope: Tensor) -> Tensor:
        """½ E[φ''(u_μ) φ(u_ν)]: the derivative of κ in the variance of the row."""
        variance = covariance.diagonal()
        if self.known.curvature is not None:
            return self.known.curvature(
                variance[:, None], covariance, lambda: self(covariance), slope
            )
        # Along changes of the row's variance at fixed correlation, where κ is smooth up to ρ = ±1.
        count = len(variance)
        stretch = [1 + STEP * step for step in (-2, -1, 1, 2)]
        features = self.value.features(torch.cat([variance, *(variance * by for by in stretch)]))
        columns = features[:count]
        below_two, below, above, above_two = (
            self.value.pairs(rows, covariance * by**0.5, columns)
            for rows, by in zip(features[count:].split(count), stretch, strict=True)
        )
        difference = (8 * (above - below) - (above_two - below_two)) / (12 * STEP)
        found = (difference - covariance * slope / 2) / variance[:, None].clamp_min(TINY)
        still = variance == 0
        if bool(still.any()):  # u is 0, and κ is φ(0) m
            found[still] = torch.outer(self.mean_slope(variance[still]), self.mean(variance))
        return found


def _bend(function: Elementwise, like: Tensor) -> Tensor:
    """½ φ''(0)."""
    slope = torch.func.grad(torch.func.grad(lambda z: function(z).sum()))
    return slope(like.new_zeros(())) / 2


def _symmetric(expectation: Moment, covariance: Tensor) -> Tensor:
    """An expectation on all pairs of points, exactly symmetric and exact on the diagonal."""
    variance = covariance.diagonal()
    features = expectation.features(variance)
    matrix = expectation.pairs(features, covariance, features)
    matrix = (matrix + matrix.T) / 2
    matrix.diagonal().copy_(expectation.diagonal(variance))
    return matrix
