"""The mean squared slope of chords of φ, from which correlations follow.

For u and v of variance K each and correlation c = cos θ it is

    R(K, c) = E[(φ(u) - φ(v))²] / E[(u - v)²] = (E[φ(u)²] - E[φ(u)φ(v)]) / (K (1 - c)),

and E[φ'²] at c = 1. It keeps the digits of 1 - c, which a difference of the expectations loses.

In polar coordinates, u = √K r cos α and v = √K r cos(α - θ), the average over α is that of a
periodic function times itself turned by θ. With f_m the coefficient of φ(√K r cos α) at cos mα,

    E[φ(u)φ(v)] = Σ_m A_m cos mθ,   A_0 = E_r[f_0²],   A_m = E_r[f_m²]/2,

r being of density r exp(-r²/2). For smooth φ these decay geometrically, so that a discrete cosine
transform has them all. A kink, where dφ/dα jumps by J at α = ±β, has f_m = -(2J/π) cos(mβ)/m²,
which is taken off before and summed exactly.
"""

import math
from typing import NamedTuple

import scipy.fft
import torch
from torch import Tensor

from theory.signal.elementwise import Shape
from theory.signal.gaussian import legendre

RADIUS = 9.0  # standard deviations
RINGS = torch.linspace(0, RADIUS, 7, dtype=torch.float64)  # ends of panels in r
ENDS = torch.cat([torch.tensor([0.25, 0.5, 1, 2]), torch.arange(4, 65, 4)]).double()  # in √K r
FAR_ENDS = 2.0 ** torch.arange(7, 14).double()
ORDER = 16  # nodes of a panel
FEWEST_ANGLES, FEWEST_ANGLES_OF_KINKS = 128, 512  # angles over half a turn
MOST_ANGLES = 8192
TAIL, TAIL_KINKED = 1e-14, 1e-5  # of Σ m² A_m, in the upper half of the orders


class Waves(NamedTuple):
    """φ along circles of radius √K r, its kinks apart."""

    weight: Tensor  # of each r, (r,)
    power: Tensor  # A_m less what the kinks alone have of it, (m,)
    angle: Tensor  # β of each kink, (r, kink)
    jump: Tensor  # J, (r, kink); 0 where the circle does not reach the kink


def chord_slopes(shape: Shape, variance: float, angles: Tensor) -> Tensor:
    """R(K, cos θ) at angles θ > 0."""
    waves = _waves(shape, variance)
    order = torch.arange(len(waves.power), dtype=torch.float64)
    sines = torch.sin(order * (angles[:, None] / 2)).square()  # half of 1 - cos mθ
    lost = 2 * sines @ waves.power + _kink_losses(waves, angles)
    return lost / (2 * variance * torch.sin(angles / 2).square())


def _kink_losses(waves: Waves, angles: Tensor) -> Tensor:
    """Σ_m A_m (1 - cos mθ) of the kinks alone, m from 1 to ∞."""
    total = torch.zeros_like(angles)
    for one, by in zip(waves.angle.T, waves.jump.T, strict=True):
        for other, also in zip(waves.angle.T, waves.jump.T, strict=True):
            share = waves.weight * by * also / (2 * math.pi**2)
            for apart in (one + other, one - other):
                turned = _quartic(apart[:, None] + angles) + _quartic(apart[:, None] - angles)
                total += share @ (2 * _quartic(apart)[:, None] - turned)
    return total


def _quartic(x: Tensor) -> Tensor:
    """Σ_m cos(mx)/m⁴, a polynomial of Bernoulli."""
    x = x.remainder(2 * math.pi)
    return math.pi**4 / 90 - x.square() * (math.pi**2 / 12 - x * (math.pi / 12 - x / 48))


def _waves(shape: Shape, variance: float) -> Waves:
    r, weight = _radial(shape, variance)
    reach = math.sqrt(variance) * r[:, None]
    kinks, bends = (torch.tensor(some, dtype=torch.float64) for some in (shape.kinks, shape.bends))
    cosine = (kinks / reach).clamp(-1, 1)
    angle, jump = cosine.acos(), bends * reach * (1 - cosine.square()).sqrt()
    angle, jump = angle[:, bends != 0], jump[:, bends != 0]
    count, tail = (FEWEST_ANGLES_OF_KINKS, TAIL_KINKED) if len(kinks) else (FEWEST_ANGLES, TAIL)
    while True:
        smooth, bent = _transform(shape, reach, angle, jump, count)
        power = weight @ (smooth * (smooth + 2 * bent)) / 2
        power[0] *= 2
        rising = (power * torch.arange(count).square()).abs()
        if count >= MOST_ANGLES or float(rising[count // 2 :].sum()) <= tail * float(rising.sum()):
            return Waves(weight, power, angle, jump)
        count *= 2


def _transform(
    shape: Shape, reach: Tensor, angle: Tensor, jump: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """f_m of φ without its kinks and of the kinks, (r, m), m below `count`."""
    turn = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
    order = torch.arange(count, dtype=torch.float64)
    value = shape.value(reach * turn.cos())
    bent = torch.zeros_like(value)
    falling = torch.where(order > 0, -2 / order.square(), 0)
    for place, by in zip(angle.T[:, :, None], jump.T[:, :, None] / math.pi, strict=True):
        # Σ_m cos(mα) cos(mβ)/m², twice; a polynomial of Bernoulli on both sides of α = β.
        square = math.pi**2 / 3 + (turn.square() + place.square()) / 2
        value = value + by * square.sub_(torch.maximum(turn, place), alpha=math.pi)
        bent += by * falling * torch.cos(order * place)
    waves = torch.from_numpy(scipy.fft.dct(value.numpy(), axis=1)) / count
    waves[:, 0] /= 2
    return waves, bent


def _radial(shape: Shape, variance: float) -> tuple[Tensor, Tensor]:
    """Nodes r and weights of r exp(-r²/2), (r,)."""
    x, w = legendre(ORDER)
    root = math.sqrt(variance)
    kinks = torch.tensor(shape.kinks, dtype=torch.float64).abs() / root
    kinks = kinks[(kinks > 0) & (kinks < RADIUS)].unique()
    ends = torch.cat([ENDS, FAR_ENDS]) / root
    edges = torch.cat([RINGS, kinks, ends[ends < RADIUS]]).unique()
    # The kink at b is there from r = |b|/√K on, as the 3/2 power of what r is beyond: x² for it.
    bent = torch.isin(edges[:-1], kinks)[:, None]
    x, w = torch.where(bent, x.square(), x), torch.where(bent, 2 * x * w, w)
    length = edges.diff()[:, None]
    r = (edges[:-1, None] + length * x).flatten()
    return r, (length * w).flatten() * r * torch.exp(-r.square() / 2)
