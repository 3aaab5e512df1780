"""The thermodynamic limit of erf networks on single-index problems: Gaussian mixtures, phases.

Let N → βN, d → √β d, χ → √β χ and n/T → β n/T with β → ∞ (`problems.rescale`). Then the
neurons are a Gaussian around q = 0, of variance r σ_w²/d, and possibly droplets at q = ±q*, a share
α = O(1/d) of all, as in a first-order transition. With u(q) = g(q)/q at |w|² = q² + σ_w²,

    1/r = 1 - h(0)²,   |h(q)| ≤ 1 for all q, with equality at q*,   h(q) = √(U σ_w²) δ·u(q),

the second of which says that the action of a droplet is not below that of the Gaussian, and equal
to it where there are droplets (Maxwell's construction fixes α). Both make the free energy

    F = (N/2)(r - 1 - ln r + A) + (n/2T) y·δ,   δ = (1 + μ [r u(0) u(0)ᵀ + A u(q) u(q)ᵀ])^-1 y,
    A = α d q²/σ_w²,   μ = (n/T) σ_a² σ_w²/(P d),   U σ_w² = μ n/(N T),

stationary in r, A and q. Phases: GFL without droplets, GMFL-I with a share of them, and at finite d
GMFL-II, where neurons that are all at one q* still have a lower action than the Gaussian, so that
nothing stays there. Rubin, Seroussi and Ringel (2024, arXiv:2310.03789).

With q = √((1 + 2σ_w²)/2) tan θ the overlaps are g_k = C_k sin^k θ.

In campaigns: `gmfl`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from theory.numerics.bracket import root
from theory.single_index.problems import Problem

PHASES = ("GFL", "GMFL-I", "GMFL-II")
ANGLES = (torch.arange(256, dtype=torch.float64) + 0.5) * (math.pi / 512)
FEW_ANGLES = (torch.arange(64, dtype=torch.float64) + 0.5) * (math.pi / 128)  # none in ANGLES
WIDEST_RATIO = 1e6  # T over or under that of the cell, where a threshold is sought
TOUCHING = 1e-12  # rounding of h


class Droplets(NamedTuple):
    """The neurons of each cell in the thermodynamic limit, (cells,) but for the discrepancy."""

    phase: Tensor  # index into PHASES
    discrepancy: Tensor  # δ_k, (cells, mode)
    variance: Tensor  # r, of the Gaussian around q = 0; NaN in GMFL-II
    share: Tensor  # α of the neurons in droplets
    position: Tensor  # q*; NaN without droplets
    largest: Tensor  # max |h| of a network without droplets: above 1 they form
    free_energy: Tensor  # F, of the network
    residual: Tensor  # the worst of the conditions


class _Limit(NamedTuple):
    """All that the limit depends on; angles come second, (cells, angle)."""

    target: Tensor  # y, (cells, 1, mode)
    strength: Tensor  # μ, (cells, 1)
    stiffness: Tensor  # κ = N T/n, (cells, 1)
    scale: Tensor  # √((1 + 2σ_w²)/2), (cells, 1)
    spread: Tensor  # d/σ_w², (cells, 1)
    powers: Tensor  # k, (mode,)
    sizes: Tensor  # C_k, (mode,)

    def slopes(self, angle: Tensor) -> Tensor:
        """u(q), (cells, angle, mode), finite at q = 0."""
        sine, cosine = angle.sin()[..., None], angle.cos()[..., None]
        return self.sizes * sine ** (self.powers - 1) * cosine / self.scale[..., None]

    def bends(self, angle: Tensor) -> Tensor:
        """du/dθ, (cells, angle, mode)."""
        sine, cosine = angle.sin()[..., None], angle.cos()[..., None]
        k = self.powers
        rise = (k - 1) * sine ** (k - 2).clamp_min(0) * cosine.square() - sine**k
        return self.sizes * rise / self.scale[..., None]

    def of(self, cells: Tensor) -> "_Limit":
        """The limits of these cells."""
        rows = (value[cells] for value in self[:5])
        return _Limit(*rows, powers=self.powers, sizes=self.sizes)

    def field(self, delta: Tensor, slopes: Tensor) -> Tensor:
        """h = √(μ/κ) δ·u, (cells, angle)."""
        return torch.sqrt(self.strength / self.stiffness) * torch.linalg.vecdot(delta, slopes)


class _State(NamedTuple):
    """A stationary point of F in every cell, (cells,) but for the discrepancy."""

    discrepancy: Tensor
    variance: Tensor  # r
    share: Tensor  # α
    position: Tensor  # q*
    residual: Tensor


def droplets(cells: Problem) -> Droplets:
    """Solve every cell in the thermodynamic limit, at its T.

    Raises ValueError for problems that are not of erf networks in odd modes.
    """
    limit = _limit(cells)
    largest, tilted, state = _gaussian(limit)
    formed = torch.nonzero(largest > 1 + TOUCHING).flatten()
    mixed = _mixed(limit.of(formed), tilted[formed])
    state = _put(state, formed, mixed)
    below, single = _single(limit)
    condensed = torch.nonzero(below | (state.share >= 1)).flatten()
    state = _put(state, condensed, _State(*(value[condensed] for value in single)))
    phase = torch.zeros_like(largest, dtype=torch.long)
    phase[formed] = 1
    phase[condensed] = 2
    return Droplets(
        phase,
        state.discrepancy,
        state.variance,
        state.share,
        state.position,
        largest,
        _free_energy(cells, state),
        state.residual,
    )


def threshold(cells: Problem) -> Tensor:
    """T below which droplets form, (cells,), with all else as it is in the cells.

    NaN where that is nowhere between 1e-6 and 1e6 times the T of the cell: a target without a
    cubic part has none. Errors as in `droplets`.
    """
    _check(cells)
    start = cells.temperature.log()
    width = math.log(WIDEST_RATIO)

    def excess(log_temperature: Tensor) -> Tensor:
        largest, _, _ = _gaussian(_limit(cells._replace(temperature=log_temperature.exp())))
        return largest - 1

    return root(excess, start - width, start + width).exp()


def _free_energy(cells: Problem, state: _State) -> Tensor:
    """F; neurons that are all in droplets have no Gaussian to pay for."""
    ratio = state.variance
    gaussian = torch.nan_to_num(ratio - 1 - ratio.log())
    outer = cells.dimension / cells.weight_variance * state.position.square()
    weight = torch.where(state.share > 0, state.share * outer, 0.0)
    data = torch.linalg.vecdot(cells.target, state.discrepancy)
    return (cells.width * (gaussian + weight) + cells.train / cells.temperature * data) / 2


def _limit(cells: Problem) -> _Limit:
    _check(cells)
    prior = cells.weight_variance
    powers = torch.tensor(cells.orders, dtype=torch.float64)
    strength = cells.train / cells.temperature * cells.kernel_variance * prior / cells.dimension
    return _Limit(
        cells.target[:, None],
        strength[:, None],
        (cells.width * cells.temperature / cells.train)[:, None],
        torch.sqrt((1 + 2 * prior) / 2)[:, None],
        (cells.dimension / prior)[:, None],
        powers,
        torch.tensor([_size(order) for order in cells.orders], dtype=torch.float64),
    )


def _put(state: _State, where: Tensor, new: _State) -> _State:
    pairs = zip(state, new, strict=True)
    return _State(*(old.index_copy(0, where, value) for old, value in pairs))


def _check(cells: Problem) -> None:
    if cells.activation != "erf" or any(order % 2 == 0 for order in cells.orders):
        raise ValueError(
            f"activation {cells.activation} with modes {list(cells.orders)}; droplets are those of "
            "erf networks in odd modes"
        )


def _size(order: int) -> float:
    """C_k, the overlap of a neuron with q → ∞ (k odd)."""
    half = order // 2
    ratio = math.factorial(2 * half) / math.factorial(half) / math.sqrt(math.factorial(order))
    return (1 - 2 * (half % 2)) * 2 * ratio / math.sqrt(math.pi * 2**order)


def _gaussian(limit: _Limit) -> tuple[Tensor, Tensor, _State]:
    """Without droplets: max |h|, the angle where it is, and the state."""
    zero = torch.zeros_like(limit.strength)
    grid = ANGLES.expand(len(zero), -1)
    variance, _, delta = _balance(limit, zero, weigh=False)
    place = limit.field(delta, limit.slopes(grid)).abs().argmax(1, keepdim=True)
    angle = _refine(grid, place, lambda angle: _tilt(limit, delta, angle))
    at_zero = limit.field(delta, limit.slopes(zero)).abs()
    largest = torch.fmax(limit.field(delta, limit.slopes(angle)).abs(), at_zero)
    residual = (1 / variance - 1 + at_zero.square()).abs()
    nan = torch.full_like(zero, torch.nan)
    columns = (variance, zero, nan, residual)
    state = _State(delta[:, 0], *(value[:, 0] for value in columns))
    return largest[:, 0], grid.gather(1, place)[:, 0], state


def _mixed(limit: _Limit, first: Tensor) -> _State:
    """The lowest F over r, A and q, where droplets form; they start to at the angles `first`."""
    grid = torch.cat([FEW_ANGLES.expand(len(first), -1), first[:, None]], 1).sort(1).values
    variance, weight, delta = _balance(limit, grid, weigh=True)
    value = _value(limit, variance, weight, delta)

    def falling(angle: Tensor) -> Tensor:
        return _tilt(limit, _balance(limit, angle, weigh=True)[2], angle)

    angle = _refine(grid, value.argmin(1, keepdim=True), falling)
    variance, weight, delta = _balance(limit, angle, weigh=True)
    inner = limit.field(delta, limit.slopes(torch.zeros_like(angle)))
    outer = limit.field(delta, limit.slopes(angle)).abs()
    conditions = 1 / variance - 1 + inner.square(), outer - 1, _tilt(limit, delta, angle)
    residual = torch.stack([condition.abs() for condition in conditions]).amax(0)
    q = limit.scale * angle.tan()
    columns = (variance, weight / (limit.spread * q.square()), q, residual)
    return _State(delta[:, 0], *(value[:, 0] for value in columns))


def _single(limit: _Limit) -> tuple[Tensor, _State]:
    """Whether all neurons at one q have the lower action, and the state that they make."""
    grid = ANGLES.expand(len(limit.strength), -1)

    def delta_at(angle: Tensor) -> Tensor:
        weight = limit.spread * (limit.scale * angle.tan()).square()  # A of α = 1
        return _discrepancy(limit, torch.zeros_like(angle), weight, limit.slopes(angle))

    def falling(angle: Tensor) -> Tensor:
        delta, slopes = delta_at(angle), limit.slopes(angle)
        across = limit.bends(angle) + 2 * slopes / torch.sin(2 * angle)[..., None]  # dg/dθ / q
        along = 2 / torch.sin(2 * angle)  # d ln q/dθ
        return limit.field(delta, slopes) * limit.field(delta, across) - along

    weight = limit.spread * (limit.scale * grid.tan()).square()
    delta = delta_at(grid)
    value = limit.stiffness * weight + torch.linalg.vecdot(limit.target, delta)
    angle = _refine(grid, value.argmin(1, keepdim=True), falling)
    delta = delta_at(angle)
    weight = limit.spread * (limit.scale * angle.tan()).square()
    action = weight * (1 - limit.field(delta, limit.slopes(angle)).square()) / 2
    inner = limit.field(delta, limit.slopes(torch.zeros_like(angle))).square()
    narrow = torch.maximum(1 - inner, 1 / (1 + limit.spread))  # no Gaussian is wider than |w*|
    below = action < narrow.log() / 2
    nan = torch.full_like(angle, torch.nan)
    columns = (nan, torch.ones_like(angle), limit.scale * angle.tan(), falling(angle).abs())
    return below[:, 0], _State(delta[:, 0], *(value[:, 0] for value in columns))


def _refine(grid: Tensor, place: Tensor, falling: Callable[[Tensor], Tensor]) -> Tensor:
    """The angle between the neighbours of a place on the grid where a function changes sign."""
    place = place.clamp(1, grid.shape[1] - 2)
    return root(falling, grid.gather(1, place - 1), grid.gather(1, place + 1))


def _balance(limit: _Limit, angle: Tensor, *, weigh: bool) -> tuple[Tensor, Tensor, Tensor]:
    """r and A that minimise F for droplets at an angle, and δ; A = 0 unless `weigh`."""
    slopes = limit.slopes(angle)
    inner = limit.slopes(torch.zeros_like(angle))

    def weight(variance: Tensor) -> Tensor:
        """A: zero, or what makes |h(q)| = 1."""
        if not weigh:
            return torch.zeros_like(variance)
        delta = _discrepancy(limit, variance, torch.zeros_like(variance), slopes)
        # δ·u is p/(1 + μ A k) with p that of A = 0.
        other = _inverse(limit, variance, slopes)
        size = limit.strength * torch.linalg.vecdot(slopes, other)
        return (limit.field(delta, slopes).abs() - 1).clamp_min(0) / size

    def excess(log_ratio: Tensor) -> Tensor:
        variance = log_ratio.exp()
        delta = _discrepancy(limit, variance, weight(variance), slopes)
        return 1 - variance * (1 - limit.field(delta, inner).square())

    bound = 2 * limit.target.square().sum(2) / limit.stiffness + 1.5
    variance = root(excess, torch.full_like(angle, -1e-9), bound.log().expand_as(angle)).exp()
    found = weight(variance)
    return variance, found, _discrepancy(limit, variance, found, slopes)


def _inverse(limit: _Limit, variance: Tensor, right: Tensor) -> Tensor:
    """(1 + μ r u(0) u(0)ᵀ)^-1 on vectors (cells, angle, mode)."""
    inner = limit.slopes(torch.zeros_like(limit.strength))
    strength = limit.strength * variance
    share = strength / (1 + strength * inner.square().sum(2))
    return right - (share * torch.linalg.vecdot(inner, right))[..., None] * inner


def _discrepancy(limit: _Limit, variance: Tensor, weight: Tensor, slopes: Tensor) -> Tensor:
    """δ, (cells, angle, mode)."""
    plain = _inverse(limit, variance, limit.target)
    other = _inverse(limit, variance, slopes)
    strength = limit.strength * weight
    share = strength / (1 + strength * torch.linalg.vecdot(slopes, other))
    return plain - (share * torch.linalg.vecdot(slopes, plain))[..., None] * other


def _value(limit: _Limit, variance: Tensor, weight: Tensor, delta: Tensor) -> Tensor:
    """2 F T/n, (cells, angle)."""
    neurons = limit.stiffness * (variance - 1 - variance.log() + weight)
    return neurons + torch.linalg.vecdot(limit.target, delta)


def _tilt(limit: _Limit, delta: Tensor, angle: Tensor) -> Tensor:
    """d|h|/dθ, (cells, angle)."""
    sign = limit.field(delta, limit.slopes(angle)).sign()
    return sign * limit.field(delta, limit.bends(angle))
