"""What expectations need to know of an activation: φ, φ', and where they bend.

A kink is a place where φ' or φ'' jumps. Quadrature puts the ends of its panels there, and so keeps
the order that it has for smooth functions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from theory.activations.expectations import derivative_of
from theory.activations.large_variance import Elementwise
from theory.activations.records import Activation, function_of

FARTHEST_KINK = 64.0
CELLS = 8192  # in which kinks are looked for, over -64 to 64
HALVINGS = 50
LEAST_JUMP = 1e-6  # in units of |φ|, |φ'| or |φ''| nearby, or of 1
MAX_KINKS = 16
APART = 1e-9  # kinks closer than this are one
BESIDE = 1e-12  # of a kink, where its two slopes are taken
SCALES = 2.0 ** torch.arange(-12, 13, dtype=torch.float64)


@dataclass(frozen=True)
class Shape:
    """An activation as its expectations see it."""

    name: str
    value: Elementwise
    slope: Elementwise
    kinks: tuple[float, ...]
    bends: tuple[float, ...]
    """How much φ' jumps at each kink; 0 where φ'' alone does."""
    rays: tuple[float, float] | None
    """Slopes below and above 0 of a φ with φ(λu) = λφ(u) for λ > 0; None for any other."""

    def slope_at_zero(self) -> float:
        """E[φ'²] as K → 0: the mean of φ'² on both sides of 0."""
        beside = torch.tensor([-BESIDE, BESIDE], dtype=torch.float64)
        return float(self.slope(beside if 0.0 in self.kinks else 0 * beside).square().mean())

    def steepest(self) -> float:
        """The largest φ'² of ordinary pre-activations, by which errors of slopes are judged."""
        ordinary = torch.linspace(-8, 8, 129, dtype=torch.float64)
        return float(self.slope(ordinary).square().max())

    @classmethod
    def of(cls, activation: Activation) -> "Shape":
        """Of a name that theory knows, or a function of tensors that torch can differentiate.

        Raises ValueError where φ is zero, not elementwise, not finite near 0, without a gradient,
        jumps, or bends at more than 16 places.
        """
        function = function_of(activation)
        name = activation if isinstance(activation, str) else _name(activation)
        _check(name, function)
        rays = _rays(function)
        if rays == (0, 0):
            raise ValueError(f"activation {name} is zero; give one that is not")
        _check_gradient(name, function)
        slope = derivative_of(function)
        kinks = _kinks(name, function, slope)
        sides = torch.tensor(kinks, dtype=torch.float64)
        away = BESIDE * (1 + sides.abs())
        bends = slope(sides + away) - slope(sides - away)
        return cls(name, function, slope, kinks, tuple(bends.tolist()), rays)


def _name(function: Elementwise) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _curvature(function: Elementwise) -> Elementwise:
    def curvature(z: Tensor) -> Tensor:
        leaf = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(leaf).sum(), leaf, create_graph=True)
        if not slope.requires_grad:  # φ' is the same everywhere
            return torch.zeros_like(z)
        return torch.autograd.grad(slope.sum(), leaf)[0]

    return curvature


def _check(name: str, function: Elementwise) -> None:
    z = torch.linspace(-1, 1, 6, dtype=torch.float64)
    value = function(z)
    if not isinstance(value, Tensor) or value.shape != z.shape or value.dtype != z.dtype:
        raise ValueError(f"activation {name} is not elementwise; give a function of tensors")
    if not bool(value.isfinite().all()):
        raise ValueError(f"activation {name} is not finite between -1 and 1")


def _check_gradient(name: str, function: Elementwise) -> None:
    with torch.enable_grad():
        leaf = torch.ones(1, dtype=torch.float64).requires_grad_()
        try:
            differentiable = function(leaf).requires_grad
        except RuntimeError:  # where NumPy is asked for it
            differentiable = False
    if not differentiable:
        raise ValueError(
            f"activation {name} is constant, or not differentiated by torch; give another function"
        )


def _rays(function: Elementwise) -> tuple[float, float] | None:
    """φ(-1)/(-1) and φ(1) if φ is two rays from the origin, up to rounding."""
    up, down = function(SCALES), function(-SCALES)
    below, above = float(-down[12]), float(up[12])  # at ∓1
    straight = torch.cat([up - above * SCALES, down + below * SCALES])
    size = torch.cat([SCALES, SCALES]) * max(abs(below), abs(above))
    return (below, above) if bool((straight.abs() <= 4e-16 * size).all()) else None


def _kinks(name: str, function: Elementwise, slope: Elementwise) -> tuple[float, ...]:
    for place in _jumps(function).tolist():
        raise ValueError(f"activation {name} jumps at {place:.3g}; give a continuous function")
    places = torch.cat([_jumps(slope), _jumps(_curvature(function))]).sort().values
    if not len(places):
        return ()
    first = torch.cat([places.new_tensor([True]).bool(), places.diff() > APART])
    kinks = places[first]
    if len(kinks) > MAX_KINKS:
        raise ValueError(
            f"activation {name} has kinks at {len(kinks)} places, and {MAX_KINKS} are the most; "
            "give a smoother function"
        )
    return tuple(kinks.tolist())


def _jumps(function: Elementwise) -> Tensor:
    """Where a function jumps: cells whose ends go on differing when they are halved."""
    # An odd number of cells, so that neither 0 nor another simple number is an end.
    ends = torch.linspace(-FARTHEST_KINK, FARTHEST_KINK, CELLS, dtype=torch.float64)
    low, high = ends[:-1], ends[1:]
    at_low, at_high = function(low), function(high)
    size = torch.maximum(at_low.abs(), at_high.abs()).clamp_min(1)
    for _ in range(HALVINGS):
        some = (at_high - at_low).abs() > LEAST_JUMP * size
        low, high, at_low, at_high, size = (x[some] for x in (low, high, at_low, at_high, size))
        if not len(low):
            return low
        middle = (low + high) / 2
        at_middle = function(middle)
        upper = (at_high - at_middle).abs() > (at_middle - at_low).abs()
        low, at_low = torch.where(upper, middle, low), torch.where(upper, at_middle, at_low)
        high, at_high = torch.where(upper, high, middle), torch.where(upper, at_high, at_middle)
    place = (low + high) / 2
    return torch.where(place.abs() < APART, 0.0, place)
