"""How networks forget: the kernels between two times, at any time apart, from a few correlations.

In u = √(1 - ρ), ρ = e^{-Tτ}, R/ρ is smooth up to both ends, also where φ has a kink, so that a
polynomial through Chebyshev's points gives it to rounding, and with it, without cancellation,

    T ∫_0^τ R ds = C_0(0) - C_0(τ) = u² S(u),      S(u) = ∫_0^1 2 s (R/ρ)(u s) ds.

Trefethen (2013), Approximation theory and approximation practice, for the interpolation.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from theory.dynamics.two_time import TwoTimeKernels

FEWEST_INTERVALS, MOST_INTERVALS = 16, 512  # intervals between the points
PRECISION = 1e-11  # of the largest element


class Memory(NamedTuple):
    """At each time τ apart, each (lag, n, n)."""

    correlation: Tensor  # C_0(τ)
    response: Tensor  # R(τ)
    dissipated: Tensor  # ∫_0^τ R ds


class MemoryKernel:
    """C_0 and R of networks at temperature T.

    Raises ValueError where pre-activations are so large that the kernels change too fast.
    """

    def __init__(self, kernels: TwoTimeKernels, temperature: float) -> None:
        self.temperature = temperature
        self.prior, self.tangent = kernels.at(1.0)
        self._nodes, self._slope = _resolved(kernels)
        self._mean = _averaging(self._nodes) @ self._slope  # S

    def __call__(self, lags: Tensor) -> Memory:
        """Both kernels and the integral of R at lags (lag,) of zero or more."""
        forgotten = -torch.expm1(-self.temperature * lags)[:, None]  # u²
        weights = _lagrange(forgotten[:, 0].sqrt(), self._nodes)
        lost = (forgotten * weights) @ self._mean
        response = ((1 - forgotten) * weights) @ self._slope
        shape = (-1, *self.prior.shape)
        dissipated = (lost / self.temperature).reshape(shape)
        return Memory(self.prior - lost.reshape(shape), response.reshape(shape), dissipated)


def _resolved(kernels: TwoTimeKernels) -> tuple[Tensor, Tensor]:
    """Points u, and R/ρ at them as rows, so many that as many more would not tell more."""
    nodes = _points(FEWEST_INTERVALS)
    slope = _slopes(kernels, nodes)
    while len(nodes) <= MOST_INTERVALS:
        between = _points(2 * (len(nodes) - 1))[1::2]
        found = _slopes(kernels, between)
        missed = float((_lagrange(between, nodes) @ slope - found).abs().max())
        if missed <= PRECISION * float(slope.abs().max()):
            return nodes, slope
        both, order = torch.cat([nodes, between]).sort()
        nodes, slope = both, torch.cat([slope, found])[order]
    raise ValueError(
        f"kernels between two times are not resolved by {MOST_INTERVALS} correlations of the "
        "weights; scale the inputs or the weights down"
    )


def _slopes(kernels: TwoTimeKernels, nodes: Tensor) -> Tensor:
    """R/ρ at points u, (point, n·n)."""
    return torch.stack([kernels.slope_at(float(1 - u * u)).flatten() for u in nodes])


def _points(intervals: int) -> Tensor:
    """Chebyshev's points between 0 and 1, both of which are among them."""
    angles = torch.arange(intervals + 1, dtype=torch.float64) * (torch.pi / (2 * intervals))
    return angles.sin().square()


def _lagrange(wanted: Tensor, nodes: Tensor) -> Tensor:
    """The polynomials that are one at one of the nodes, (wanted, node). Barycentric formula."""
    weights = torch.ones_like(nodes)
    weights[1::2] = -1
    weights[0], weights[-1] = weights[0] / 2, weights[-1] / 2
    away = wanted[:, None] - nodes
    hit = away == 0
    terms = weights / torch.where(hit, 1.0, away)
    terms = torch.where(hit.any(1, keepdim=True), hit.to(terms), terms)
    return terms / terms.sum(1, keepdim=True)


def _averaging(nodes: Tensor) -> Tensor:
    """The matrix from a polynomial g at the nodes to ∫_0^1 2 s g(u s) ds at the nodes."""
    raw, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(len(nodes)))
    share = (raw + 1) / 2
    values = _lagrange((nodes[:, None] * share).flatten(), nodes)
    return torch.einsum("s,usk->uk", share * weights, values.unflatten(0, (len(nodes), -1)))
