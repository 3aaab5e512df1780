"""Gaussian expectations E[φ(u)φ(v)] and E[φ'(u)φ'(v)] of activations.

Throughout (u, v) ~ N(0, [[k11, k12], [k12, k22]]). Activations with a closed form have one function
for φ and one for φ' in their record; any other φ is expanded in Hermite polynomials, whose
coefficients are found by quadrature, or goes by `theory.activations.large_variance` where that
would take too many.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from theory.activations.large_variance import Elementwise, interpolated, second_moment, table
from theory.activations.records import Activation, Formula, known
from theory.numerics.precision import LARGEST_NUMBER, in_range

NODES = torch.linspace(-12.475, 12.475, 500, dtype=torch.float64)  # standard deviations; none is 0
HIGHEST = 512  # Hermite order
LARGE_VARIANCE = 30.0  # variance that the nodes resolve for any g of scale 1
BAND = 400.0  # the same for g whose series ends, so that nodes √400/20 = 1 apart suffice
ENDS = 1e-9  # of the weight of g beyond the highest order
FALLS = 0.1  # from half of that order to it: less smooth g, of a kink at least, keep more
LARGEST_VARIANCE = 1e6  # variance


class Moment(Protocol):
    """E[g(u) g(v)] over all pairs of two sets of points."""

    def features(self, variance: Tensor) -> Tensor:
        """What the moment needs to know of single points: (n,) variances to (n, m)."""
        ...

    def diagonal(self, variance: Tensor) -> Tensor:
        """E[g(u)²] of each point."""
        ...

    def pairs(self, first: Tensor, k12: Tensor, second: Tensor) -> Tensor:
        """E[g(u) g(v)], (n1, n2), from covariances (n1, n2) and features (n1, m), (n2, m).

        Both sets of features are parts of what one call of `features` gave.
        """
        ...


@dataclass(frozen=True)
class ClosedForm:
    """A moment given by a formula in (k11, k12, k22)."""

    formula: Formula

    def features(self, variance: Tensor) -> Tensor:
        """The variances themselves."""
        return in_range(variance, variance)[:, None]

    def diagonal(self, variance: Tensor) -> Tensor:
        """The formula for u = v."""
        return self.formula(variance, variance, variance)

    def pairs(self, first: Tensor, k12: Tensor, second: Tensor) -> Tensor:
        """The formula on every pair."""
        return self.formula(first, k12, second.T)


@dataclass(frozen=True)
class HermiteSeries:
    """E[g(u) g(v)] = Σ_k c_k(k11) c_k(k22) ρ^k, with ρ = k12 / √(k11 k22).

    Mehler (1866, doi:10.1515/crll.1866.66.161).

    c_k(k) = E[g(√k z) He_k(z)] / √k! over standard normal z, by the trapezoidal rule (exponentially
    convergent for smooth g: Trefethen and Weideman 2014, doi:10.1137/130932132). Orders are added
    until the weight Σ c_k² beyond them is rounding, at most 512; what is left then, if g has kinks,
    is put on the next even and odd order, so that ρ = ±1 is right at any order. An even or odd g
    needs every `step`-th order only, from `lowest`.

    Where more orders are wanted the moment is interpolated instead
    (`theory.activations.large_variance`): from variances of about 10 on for tanh, and above 30 for
    every g but those whose series ends and those that are homogeneous. In units of E[g²] the error
    of smooth g of scale 1, such as tanh and gelu, is below 1e-9 up to variances of 1e5; of
    tanh(2u), twice as sharp, 1e-5. Homogeneous g are as good at any variance as at 1: with a kink
    (relu, abs) 1e-4, with a jump (relu') 5e-3 near ρ = ±1. Others with a kink or jump are cut to
    nodes √k/20 apart up to k = 30, 1/4 apart beyond: the error of elu is below 1e-6 and of elu'
    below 1e-3 there. Raises ValueError where it is found to exceed 1e-3 at a greatest variance
    above 30, above 1e6, and beyond the range of the dtype.
    """

    function: Elementwise
    lowest: int
    step: int
    homogeneous: bool  # g(2u) = 2^p g(u): as hard at any variance as at 1

    @classmethod
    def of(cls, function: Elementwise) -> "HermiteSeries":
        """The series of a function, which is even or odd if it is so to the last digit."""
        value, mirrored = function(NODES), function(-NODES)
        doubled = function(2 * NODES)
        homogeneous = any(torch.equal(doubled, 2**degree * value) for degree in range(4))
        if torch.equal(value, mirrored):
            return cls(function, 0, 2, homogeneous)
        if torch.equal(value, -mirrored):
            return cls(function, 1, 2, homogeneous)
        return cls(function, 0, 1, homogeneous)

    @property
    def parities(self) -> tuple[int, ...]:
        """Of g, 0 if even and 1 if odd; both if it is neither."""
        return (0, 1) if self.step == 1 else (self.lowest,)

    def features(self, variance: Tensor) -> Tensor:
        """1/√k, zero and the coefficients of each point; or 1/√k and the table, not from zero."""
        variance64 = in_range(variance, variance).double()
        inverse = torch.where(variance64 > 0, variance64, torch.inf).rsqrt()
        known = self._series(variance64, variance.dtype)
        if known is None:
            known = table(self.function, self.parities, _checked(variance64))
        return torch.cat([inverse[:, None], known], dim=1).to(variance.dtype)

    def diagonal(self, variance: Tensor) -> Tensor:
        """E[g(√k z)²], by quadrature."""
        variance64 = variance.double()
        found = self._values(variance64).square().sum(1)
        large = variance64 > LARGE_VARIANCE
        if not self.homogeneous and bool(large.any()):
            found[large] = second_moment(self.function, _checked(variance64[large]))
        return in_range(found.to(variance.dtype), variance)

    def pairs(self, first: Tensor, k12: Tensor, second: Tensor) -> Tensor:
        """The series in ρ, by Horner's rule, or what is interpolated."""
        correlation = (k12 * first[:, :1] * second[:, :1].T).clamp_(-1, 1)
        if bool((first[:1, 1] > 0).any()):
            return interpolated(first[:, 1:], correlation, second[:, 1:], self.parities)
        power = correlation.square() if self.step == 2 else correlation
        rows, columns = first.T[2:, :, None].contiguous(), second.T[2:, None, :].contiguous()
        total = rows[-1] * columns[-1]
        for row, column in zip(rows[:-1].flip(0), columns[:-1].flip(0), strict=True):
            total.mul_(power).addcmul_(row, column)
        return total.mul_(correlation) if self.lowest == 1 else total

    def _series(self, variance: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Zero and the coefficients of each point, or None where they do not do."""
        values = self._values(variance)
        in_range(values.square().sum(1).to(dtype), variance)
        order = 16
        coefficients, rest = _expand(values, order)
        before = rest
        while order < HIGHEST and not _is_rounding(rest, values, dtype):
            order, before = 2 * order, rest
            coefficients, rest = _expand(values, order)
        largest = float(variance.max()) if len(variance) else 0.0
        if not self.homogeneous and not _is_enough(rest, before, values, dtype, largest):
            return None
        used = torch.cat([coefficients, rest], dim=1)[:, self.lowest :: self.step]
        return torch.cat([torch.zeros_like(used[:, :1]), used], dim=1)

    def _values(self, variance: Tensor) -> Tensor:
        """g(√k z) times the root of the weight: (n, nodes), whose squares sum to E[g²]."""
        nodes, root_weight = _nodes(variance.device)
        return self.function(variance.sqrt()[:, None] * nodes) * root_weight


def _expand(values: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Coefficients c_0, ..., c_{order-1}, and the roots of the weight of g on the even and odd
    orders beyond them: (n, order) and (n, 2).
    """
    coefficients = values @ _hermite(order, values.device)
    total, mirrored = values.square().sum(1), (values * values.flip(1)).sum(1)
    weight = coefficients.square()
    even = (total + mirrored) / 2 - weight[:, 0::2].sum(1)
    odd = (total - mirrored) / 2 - weight[:, 1::2].sum(1)
    return coefficients, torch.stack([even, odd], dim=1).clamp_min(0).sqrt()


def _is_rounding(rest: Tensor, values: Tensor, dtype: torch.dtype) -> bool:
    relative = max(torch.finfo(dtype).eps, 1e-14)  # `rest` is itself a difference in float64
    return bool((rest.square().sum(1) <= relative * values.square().sum(1)).all())


def _is_enough(
    rest: Tensor, before: Tensor, values: Tensor, dtype: torch.dtype, largest: float
) -> bool:
    """Whether to take the series, of which `rest` is left and `before` was at half of its order."""
    ends = max(torch.finfo(dtype).eps, ENDS)
    left, earlier = (part.square().sum(1) for part in (rest, before))
    if bool((left <= ends * values.square().sum(1)).all()):
        return largest <= BAND
    return largest <= LARGE_VARIANCE and bool((left > FALLS * earlier).any())


def _checked(variance: Tensor) -> Tensor:
    largest = float(variance.max())
    if largest > LARGEST_VARIANCE:
        raise ValueError(
            f"a pre-activation has variance {largest:.3g}, and expectations of this activation are "
            f"known up to {LARGEST_VARIANCE:.0e}; scale the inputs or the weights down"
        )
    return variance


def _nodes(device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes z, and the square roots of the weights e^{-z²/2} dz / √2π."""
    nodes = NODES.to(device)
    spacing = (nodes[-1] - nodes[0]) / (len(nodes) - 1)
    return nodes, torch.exp(-nodes.square() / 4) * torch.sqrt(spacing / math.sqrt(2 * math.pi))


@cache
def _hermite(order: int, device: torch.device) -> Tensor:
    """Hermite functions He_k(z) / √k! times the root of the weight: (nodes, order), orthonormal.

    Kept, since equations that are solved by iteration ask for them ten thousand times.
    """
    nodes, root_weight = _nodes(device)
    basis = [root_weight, nodes * root_weight]
    for k in range(1, order - 1):
        following = (nodes * basis[k] - math.sqrt(k) * basis[k - 1]) / math.sqrt(k + 1)
        basis.append(following)
    return torch.stack(basis, dim=1)


def moment(activation: Activation) -> Moment:
    """E[φ(u)φ(v)] of a named activation, or of an elementwise function of tensors."""
    found = known(activation)
    return ClosedForm(found.value) if found.value is not None else HermiteSeries.of(found.phi)


def derivative_moment(activation: Activation) -> Moment:
    """E[φ'(u)φ'(v)] of a named activation, or of a function that torch can differentiate."""
    found = known(activation)
    if found.slope is not None:
        return ClosedForm(found.slope)
    return HermiteSeries.of(derivative_of(found.phi))


def most_in_single(activation: Activation, value: Moment) -> float:
    """The largest variance for which covariances in single precision do, `value` being E[φφ]."""
    homogeneous = isinstance(value, HermiteSeries) and value.homogeneous
    return LARGEST_NUMBER if homogeneous else known(activation).most_in_single


def derivative_of(function: Elementwise) -> Elementwise:
    """φ' of an elementwise φ that torch can differentiate."""

    def derivative(z: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            return torch.autograd.grad(function(leaf).sum(), leaf)[0]

    return derivative
