"""Gaussian feature learning: the order parameter of a single-index problem as N(0, r σ_w²/d).

The variational Gaussian of zero mean. Once the discrepancy is eliminated,

    δ = (T/n) [K(r) + T/n]^-1 y,   K(r) = (σ_a²/P) <g gᵀ>_r,

the free energy of the network is a function of the ratio r of variances,

    F(r) = (N/2) (r - 1 - ln r) + (1/2) yᵀ[K(r) + T/n]^-1 y,

whose stationary points are 1/r = 1 - (σ_w²/d) <V''>_r with V = m²/2. It is bounded below, which the
free energy at fixed discrepancy is not for relu. To leading order in 1/d, for erf,

    1/r = 1 - 4 U σ_w² b²/(π (1 + 2 σ_w²)).

Rubin, Seroussi and Ringel (2024, arXiv:2310.03789). r = 1 is regression with the kernel of infinite
width.

In campaigns: `gfl`.
"""

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from theory.numerics.bracket import root
from theory.single_index.effective_temperature import Spectrum, at_ridge
from theory.single_index.order_parameter import features, spectrum
from theory.single_index.problems import Problem, Ridge, learnability
from theory.words import check_word

NODES = torch.linspace(-9.0, 9.0, 73, dtype=torch.float64)  # z = x/√r: sums exact to rounding
WEIGHTS = torch.softmax(-NODES.square() / 2, 0)
LEAST_RATIO = 0.3  # r: data do not narrow p(q) so far
SCAN = 24  # values of ln r, between which there is at most one minimum
CELLS = 64  # at a time
ACCEPTED_RESIDUAL = 1e-8  # residual


Branch = Literal["lowest", "narrow", "wide"]  # which minimum of F, where there are several


class GaussianFeatures(NamedTuple):
    """What the theory says of each cell, in the names of `theory.single_index.order_parameter`."""

    learnability: Tensor  # (cells, component)
    variance: Tensor  # r, of x = q/√(σ_w²/d), (cells,)
    readout_variance: Tensor  # E[a²] in prior variances
    eigenvalue_ratio: Tensor  # of the kernel: w*·x over a linear function across w*
    temperature: Tensor  # T of the closure: bare or effective
    error_factor: Tensor  # E_0 of the mean predictor over datasets
    discrepancy: Tensor  # δ_k, (cells, mode)
    free_energy: Tensor  # F, of the network
    minima: Tensor  # how many F has
    residual: Tensor  # (2/N) dF/d ln r


class _State(NamedTuple):
    log_ratio: Tensor
    discrepancy: Tensor
    free_energy: Tensor
    slope: Tensor
    minima: Tensor


def gaussian_features(cells: Problem, ridge: Ridge, branch: Branch = "lowest") -> GaussianFeatures:
    """A minimum of F in every cell, with T ("bare") or T_eff ("effective").

    Where F has several the lowest is taken, the one of least r ("narrow", which learning from the
    prior comes to) or the one of greatest r ("wide", which forgetting comes to). Cells whose
    residual exceeds 1e-8 are NaN, but for the residual.
    """
    check_word("branch", branch, get_args(Branch))

    def solve(temperature: Tensor, before: _State | None) -> _State:
        count = len(temperature)
        parts = [torch.arange(i, min(i + CELLS, count)) for i in range(0, count, CELLS)]
        found = [_minimise(cells.of(part), temperature[part], branch) for part in parts]
        return _State(*(torch.cat(values) for values in zip(*found, strict=True)))

    return _found(cells, *at_ridge(cells, ridge, solve, lambda state: _spectrum(cells, state)))


def infinite_width(cells: Problem, ridge: Ridge) -> GaussianFeatures:
    """Regression with the kernel of infinite width: r = 1 in every cell."""
    prior = torch.zeros_like(cells.train)

    def solve(temperature: Tensor, before: _State | None) -> _State:
        _, discrepancy, value, slope = _free_energy(cells, temperature, prior[:, None])
        ones = torch.ones_like(prior)
        return _State(prior, discrepancy[:, 0], value[:, 0], 0 * slope[:, 0], ones)

    found = _found(cells, *at_ridge(cells, ridge, solve, lambda state: _spectrum(cells, state)))
    return found._replace(readout_variance=torch.ones_like(prior))


def _found(cells: Problem, temperature: Tensor, state: _State) -> GaussianFeatures:
    eigenvalues = _spectrum(cells, state)
    delta = state.discrepancy
    force = (cells.train / temperature).square() / cells.width  # m² = (n/T)² (σ_a²/PN) (δ·g)²
    learned = (delta[:, None] @ eigenvalues.block @ delta[..., None])[:, 0, 0]
    residual = 2 * state.slope / cells.width
    sound = (residual.abs() <= ACCEPTED_RESIDUAL) & temperature.isfinite()

    def marked(value: Tensor) -> Tensor:
        return value.where(sound if value.ndim == 1 else sound[:, None], torch.nan)

    return GaussianFeatures(
        marked(learnability(cells, delta)),
        marked(state.log_ratio.exp()),
        marked(1 + force * learned),
        marked(eigenvalues.ratio(cells.orders)),
        marked(temperature),
        marked(eigenvalues.error_factor(cells, temperature)),
        marked(delta),
        marked(state.free_energy),
        marked(state.minima),
        residual,
    )


def _minimise(cells: Problem, temperature: Tensor, branch: Branch) -> _State:
    prior = torch.zeros(len(temperature), 1, dtype=torch.float64)
    start = _free_energy(cells, temperature, prior)[2]
    # (r - 1 - ln r) N/2 is at most F(1), and r/2 - ln 2 is at most r - 1 - ln r.
    highest = torch.log(4 * start / cells.width[:, None] + 1.5)
    steps = torch.linspace(0, 1, SCAN, dtype=torch.float64)
    grid = math.log(LEAST_RATIO) + (highest - math.log(LEAST_RATIO)) * steps
    _, _, value, slope = _free_energy(cells, temperature, grid)
    rising = (slope[:, :-1] < 0) & (slope[:, 1:] >= 0)
    if branch == "lowest":
        order = torch.minimum(value[:, :-1], value[:, 1:])
    else:
        order = grid[:, 1:] * (1 if branch == "narrow" else -1)
    chosen = torch.where(rising, order, math.inf).argmin(1, keepdim=True)

    def slope_at(log_ratio: Tensor) -> Tensor:
        return _free_energy(cells, temperature, log_ratio[:, None])[3][:, 0]

    low, high = (grid.gather(1, chosen + i)[:, 0] for i in (0, 1))
    log_ratio = root(slope_at, low, high)
    _, discrepancy, value, slope = _free_energy(cells, temperature, log_ratio[:, None])
    return _State(
        log_ratio, discrepancy[:, 0], value[:, 0], slope[:, 0], rising.sum(1).to(torch.float64)
    )


def _free_energy(
    cells: Problem, temperature: Tensor, log_ratio: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """K, δ, F and dF/d ln r at ln r (cells, ratio), of the shapes (cells, ratio, ...)."""
    scores = torch.stack([torch.ones_like(NODES), (NODES.square() - 1) / 2]) * WEIGHTS
    overlap, _ = _features(cells, log_ratio)
    kernel, slope = (
        (overlap * weight) @ overlap.mT * cells.kernel_variance[:, None, None, None]
        for weight in scores
    )
    stiffness = (cells.train / temperature)[:, None]
    one = torch.eye(len(cells.orders), dtype=torch.float64)
    target = cells.target[:, None].expand(*log_ratio.shape, -1)
    delta = torch.linalg.solve(one + stiffness[..., None, None] * kernel, target)
    width = cells.width[:, None]
    data = stiffness * torch.linalg.vecdot(target, delta) / 2
    force = stiffness.square() * (delta[..., None, :] @ slope @ delta[..., None])[..., 0, 0] / 2
    value = width / 2 * (torch.expm1(log_ratio) - log_ratio) + data
    return kernel, delta, value, width / 2 * torch.expm1(log_ratio) - force


def _features(cells: Problem, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Overlaps and |w|² at q = √(r σ_w²/d) z, (cells, ratio, mode, node) and without the mode."""
    x = torch.exp(log_ratio / 2)[..., None] * NODES
    return features(cells, x)


def _spectrum(cells: Problem, state: _State) -> Spectrum:
    overlap, square = _features(cells, state.log_ratio[:, None])
    weight = WEIGHTS.expand(len(cells.train), -1)
    return spectrum(cells, overlap[:, 0], square[:, 0], weight)
