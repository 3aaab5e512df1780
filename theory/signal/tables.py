"""Expectations of one activation at many variances, interpolated in ln K.

Moments and chord slopes are analytic in ln K, in a strip that is wide for every φ: a few nodes for
each factor of 16 in K are as good as the quadrature at the nodes.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from theory.signal import chebyshev
from theory.signal.chords import chord_slopes
from theory.signal.elementwise import Shape
from theory.signal.gaussian import Moments, moments

FACTOR = 16.0
LOWEST, HIGHEST = -10, 10  # powers of the factor between which the variances lie
MOMENT_NODES = 28
CHORD_NODES = 24
ANGLES = 48
MOMENT_REST, CHORD_REST = 1e-9, 1e-6  # of the last coefficients, beyond which nothing is known


class MomentTable:
    """E[φ²], its slope and E[φ'²] up to K = 16¹⁰, or as far as they are known."""

    def __init__(self, shape: Shape):
        self.at_zero = shape.value(torch.zeros(1, dtype=torch.float64))[0].square()  # φ(0)²
        grid = FACTOR ** chebyshev.points(MOMENT_NODES)
        found: list[tuple[Tensor, Tensor]] = []
        for power in range(LOWEST, HIGHEST):
            variance = FACTOR**power * grid
            try:
                known = torch.stack(moments(shape, variance))
            except ValueError:
                if not found:
                    raise
                break  # φ overflows, or grows so fast that no larger variance has moments
            known[0] = (known[0] - self.at_zero) / variance
            waves = chebyshev.coefficients(known)
            if _rest(waves[1:], shape.steepest()) > MOMENT_REST:
                break  # φ goes on bending at large u, as sin does
            found.append((variance, waves))
        self.variance = torch.cat([variance[:-1] for variance, _ in found])  # ascending
        self._coefficients = torch.stack([waves for _, waves in found])

    def __call__(self, variance: Tensor) -> Moments:
        """At variances (n,) within the table."""
        place, x = _place(variance, len(self._coefficients))
        waves = chebyshev.basis(x, MOMENT_NODES)[:, None]
        rise, second_slope, slope = (self._coefficients[place] * waves).sum(-1).T
        return Moments(self.at_zero + rise * variance, second_slope, slope)


@dataclass(frozen=True)
class Chords:
    """R(K, c) at fixed variances (n,), as a function of the distance 1 - c.

    For c ≥ 0 it is a polynomial in t, sinh(t L) = 2 √(1 + K) sin(θ/2) with c = cos θ and t = 1 at
    c = 0; for c < 0 in the same of π - θ. These coordinates resolve u ≈ ±v at any K.
    """

    scale: Tensor  # 2 √(1 + K)
    length: Tensor  # L
    near: Tensor  # coefficients for c ≥ 0, (n, angles)
    far: Tensor  # for c < 0

    def slope(self, distance: Tensor) -> Tensor:
        """R, from 1 - c of each variance, (n,)."""
        near = distance <= 1
        sine = (torch.where(near, distance, 2 - distance) / 2).clamp_min(0).sqrt()
        waves = chebyshev.basis(self._place(sine), ANGLES)
        return (torch.where(near[:, None], self.near, self.far) * waves).sum(1)

    def derivative(self, distance: Tensor) -> Tensor:
        """E[φ'(u) φ'(v)] = d((1 - c) R)/d(1 - c) for c ≥ 0, which is R + tanh(tL)/(2L) dR/dt."""
        sine = (distance / 2).sqrt()
        waves = chebyshev.basis(self._place(sine), ANGLES)
        turned = (chebyshev.derivative(self.near) * waves).sum(1)
        sinh = self.scale * sine
        return self.slope(distance) + sinh / (1 + sinh.square()).sqrt() / (2 * self.length) * turned

    def distance(self, t: Tensor) -> Tensor:
        """1 - c at t, for c ≥ 0."""
        return 2 * (torch.sinh(t * self.length) / self.scale).square().clamp_max(0.5)

    def _place(self, sine: Tensor) -> Tensor:
        return torch.asinh(self.scale * sine) / self.length


@dataclass(frozen=True)
class ChordTable:
    """Chord slopes of one activation, computed where they are first wanted."""

    shape: Shape
    _known: dict[int, Tensor] = field(default_factory=dict)

    def at(self, variance: Tensor) -> Chords:
        """Of variances (n,). Raises ValueError where they are beyond what can be resolved."""
        place, x = _place(variance, HIGHEST - LOWEST)
        rows = variance.new_empty(len(variance), 2, ANGLES)
        for power in place.unique().tolist():
            some = place == power
            if power not in self._known:
                self._known[power] = self._solve(power + LOWEST)
            rows[some] = torch.einsum(
                "nk,hka->nha", chebyshev.basis(x[some], CHORD_NODES), self._known[power]
            )
        scale = _scale(variance)
        return Chords(scale, torch.asinh(scale * math.sqrt(0.5)), rows[:, 0], rows[:, 1])

    def _solve(self, power: int) -> Tensor:
        """Coefficients (2, nodes of K, angles) from 16^power to 16^(power + 1)."""
        variance = FACTOR**power * FACTOR ** chebyshev.points(CHORD_NODES)
        at_one = moments(self.shape, variance).slope
        rows = []
        for k, slope in zip(variance, at_one, strict=True):
            scale = _scale(k)
            length = torch.asinh(scale * math.sqrt(0.5))
            angle = 2 * torch.asin(torch.sinh(chebyshev.points(ANGLES) * length) / scale)
            both = torch.cat([angle[1:], math.pi - angle])
            found = torch.cat([slope[None], chord_slopes(self.shape, float(k), both)])
            rows.append(found.reshape(2, ANGLES))
        table = chebyshev.coefficients(torch.stack(rows, 1))
        table = chebyshev.coefficients(table.mT).mT
        steepest = self.shape.steepest()
        if max(_rest(table, steepest), _rest(table.mT, steepest)) > CHORD_REST:
            raise ValueError(
                f"expectations of activation {self.shape.name} are not resolved at variances "
                f"of {float(variance[0]):.3g} to {float(variance[-1]):.3g}; scale the inputs or "
                "the weights down, or give a smoother function"
            )
        return table


def _rest(coefficients: Tensor, unit: float) -> float:
    """The largest of the last three coefficients along the last dimension.

    In these units, or in those of the largest of all if that is larger. Where it is not small, the
    interpolation has not converged, or goes through noise.
    """
    size = coefficients.abs()
    return float(size[..., -3:].max() / size.max().clamp_min(unit))


def _scale(variance: Tensor) -> Tensor:
    return 2 * (1 + variance).sqrt()


def _place(variance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which factor of 16 a variance is in, and where in it; below the least, at the least."""
    power = variance.log() / math.log(FACTOR) - LOWEST
    if bool((power > count).any()):
        raise ValueError(
            f"a variance is {float(variance.max()):.3g}, and expectations are known up to "
            f"{FACTOR ** (count + LOWEST):.3g}; scale the inputs or the weights down"
        )
    place = power.floor().clamp(0, count - 1)
    return place.long(), (power - place).clamp(0, 1)
