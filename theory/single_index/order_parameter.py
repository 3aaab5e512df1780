"""The mean-field theory of a single-index problem, with the whole law of the order parameter q.

Each neuron has the action, in x = q/√(σ_w²/d),

    S(x) = x²/2 - m(x)²/2,   m = √(d U) Σ_k δ_k g_k,   U = n² σ_a²/(T² d N),

at |w|² = q² + σ_w²(d - 1)/d, where |w_⊥|² concentrates; the closure for the discrepancy is

    δ = (T/n) [Q + T/n]^-1 y,   Q = σ_a² <g gᵀ> over p(x) ∝ exp(-S(x)).

T is physical, or the effective T_eff = T + V of finite n. For φ = erf and y = H1 + ε H3 that is
S = d q²/2σ_w² - (2 d U/π) (q²/D) (b - 2c q²/D)² with D = 1 + 2|w|² and δ = b H1 + c H3. Rubin,
Seroussi and Ringel (2024, arXiv:2310.03789). The solution is unique at a given temperature
(`theory.single_index.saddle_point`).

Averages over q are sums over a grid (`theory.single_index.order_grid`), which is made longer and
finer for each cell until it holds the density of the cell to rounding.

In campaigns: `order_parameter`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.expectations import moment
from theory.single_index.effective_temperature import Spectrum, at_ridge
from theory.single_index.hermite_overlap import is_odd, overlaps, slope, stretch_of
from theory.single_index.order_grid import Grid
from theory.single_index.problems import Problem, Ridge, learnability
from theory.single_index.saddle_point import Neurons, Saddle, saddle_point

ACCEPTED_RESIDUAL = 1e-9  # residual
NEGLIGIBLE = 34.0  # nats below the maximum, where a density ends
BEYOND = (torch.arange(256, dtype=torch.float64) + 0.5) * (math.pi / 512)  # q ∝ tan of these
BEND = 0.6  # greatest -d²l of neighbours: a Gaussian is summed to rounding
FIRST_GRID = (0.5, 16.0)  # spacing and reach of the first grid, in prior deviations
MOST_POINTS = 2**16  # points
FAILURES = (
    3  # grids on which the closure is not solved one after another: then others are not tried
)


class OrderParameter(NamedTuple):
    """What the theory says of each cell; NaN where it did not converge, but for the residual."""

    learnability: Tensor  # <f̄ g_j>/<g_j²>, (cells, component)
    mean: Tensor  # of x = q/√(σ_w²/d), (cells,)
    variance: Tensor  # of x
    skewness: Tensor
    kurtosis: Tensor  # excess
    readout_variance: Tensor  # E[a²] in prior variances
    eigenvalue_ratio: Tensor  # of the kernel: w*·x over a linear function across w*
    temperature: Tensor  # T of the closure: bare or effective
    error_factor: Tensor  # E_0 of the mean predictor over datasets
    discrepancy: Tensor  # δ_k, (cells, mode)
    free_energy: Tensor  # -ln Z of the network at the temperature of the closure
    log_partition: Tensor  # ln Z of a neuron, relative to the prior
    residual: Tensor  # of the closure, in units of y
    spacing: Tensor  # of the grid that holds p(x), in t(x)
    reach: Tensor  # |x| beyond which p(x) is negligible


def order_parameter(cells: Problem, ridge: Ridge) -> OrderParameter:
    """Solve the closure in every cell, with T ("bare") or T_eff ("effective").

    The free energy, (n/T)[δ·y - |δ|²/2] - N ln Z, obeys dF/d(1/T) = n |δ|²/2, the loss of the mean
    predictor. The readout of a filter at P patches is its part along the teacher's, Σ_i a*_i a_i.
    Cells whose residual exceeds 1e-9, or whose density no grid of 65536 points holds, are NaN; so
    are those that are not solved on three grids in a row.
    """
    count = len(cells.train)
    found: list[tuple[Tensor, OrderParameter]] = []
    stretch = stretch_of(cells.activation)
    longer_by = 2 if math.isinf(stretch) else 64
    pending = [(Grid(*FIRST_GRID, stretch), torch.arange(count), torch.zeros(count))]
    while pending:
        grid, where, failures = pending.pop()
        part = cells.of(where)
        found_here, longer, finer = _on_grid(part, ridge, grid)
        solved = (found_here.residual <= ACCEPTED_RESIDUAL) & found_here.temperature.isfinite()
        failures = torch.where(solved, 0, failures + 1)
        refused = failures >= FAILURES
        longer, finer = longer & ~refused, finer & ~refused
        for grows, halves in ((True, False), (False, True), (True, True)):
            wanted = (longer == grows) & (finer == halves)
            reach = grid.reach * (longer_by if grows else 1)
            following = Grid(grid.spacing / (2 if halves else 1), reach, stretch)
            if following.size > MOST_POINTS:
                refused |= wanted
            elif bool(wanted.any()):
                pending.append((following, where[wanted], failures[wanted]))
        done = ~(longer | finer) | refused
        found.append((where[done], _take(_marked(found_here, solved & ~refused), done)))
    order = torch.cat([where for where, _ in found]).argsort()
    parts = zip(*(part for _, part in found), strict=True)
    return OrderParameter(*(torch.cat(values)[order] for values in parts))


def neurons(cells: Problem, temperature: Tensor, log_prior: Tensor, overlap: Tensor) -> Neurons:
    """Points with a log-prior (point,) and overlaps g (cells, mode, point), at a temperature."""
    field = torch.sqrt(cells.dimension * cells.coupling(temperature))
    stiffness = cells.width * temperature / cells.train
    return Neurons(field[:, None, None] * overlap, log_prior[None], cells.target, stiffness)


def features(cells: Problem, x: Tensor) -> tuple[Tensor, Tensor]:
    """g_k at q = x √(σ_w²/d), (cells, ..., mode, point), and |w|², (cells, ..., point).

    x is (point,), or (cells, ..., point).
    """
    shape = (-1,) + (1,) * max(x.ndim - 1, 1)
    q = cells.prior_deviation.view(shape) * x
    perpendicular = cells.perpendicular.view(shape)
    overlap = overlaps(cells.activation, q, perpendicular, cells.orders)
    return overlap, perpendicular + q.square()


def is_even(cells: Problem) -> bool:
    """Whether p(q) = p(-q): all modes, and so m(q), are odd."""
    return is_odd(cells.activation) and all(order % 2 for order in cells.orders)


def spectrum(cells: Problem, overlap: Tensor, square: Tensor, probability: Tensor) -> Spectrum:
    """Eigenvalues of the kernel averaged over p, at the points of `features`."""
    variance = cells.kernel_variance
    block = (overlap * probability[:, None]) @ overlap.mT * variance[:, None, None]
    slopes = slope(cells.activation, square).square()
    weight = cells.perpendicular / (cells.dimension - 1)
    across = variance * weight * torch.linalg.vecdot(probability, slopes)
    diagonal = moment(cells.activation).diagonal(square)
    return Spectrum(block, across, variance * torch.linalg.vecdot(probability, diagonal))


def free_energy(
    cells: Problem, temperature: Tensor, discrepancy: Tensor, log_partition: Tensor
) -> Tensor:
    """(n/T) [δ·y - |δ|²/2] - N ln Z, (cells,)."""
    data = torch.linalg.vecdot(discrepancy, cells.target - discrepancy / 2)
    return cells.train / temperature * data - cells.width * log_partition


def moments(x: Tensor, probability: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, variance, skewness and excess kurtosis of x (point,) over p (cells, point)."""
    mean = probability @ x
    centred = x - mean[:, None]
    variance = torch.linalg.vecdot(probability, centred.square())
    third = torch.linalg.vecdot(probability, centred**3) / variance**1.5
    fourth = torch.linalg.vecdot(probability, centred**4) / variance.square()
    return mean, variance, third, fourth - 3


def _on_grid(cells: Problem, ridge: Ridge, grid: Grid) -> tuple[OrderParameter, Tensor, Tensor]:
    """The solution on one grid, and which cells need a longer and which a finer one."""
    even = is_even(cells)
    x, log_prior = grid.points(even=even)
    overlap, square = features(cells, x)

    def solve(temperature: Tensor, before: Saddle | None) -> Saddle:
        start = None if before is None else before.discrepancy
        return saddle_point(neurons(cells, temperature, log_prior, overlap), start)

    def eigenvalues(saddle: Saddle) -> Spectrum:
        return spectrum(cells, overlap, square, saddle.probability)

    def solved(saddle: Saddle) -> Tensor:
        return saddle.residual <= ACCEPTED_RESIDUAL

    temperature, saddle = at_ridge(cells, ridge, solve, eigenvalues, solved)
    weight, readout = saddle.probability, saddle.mean_readout
    if even:
        both, weight = torch.cat([-x, x]), torch.cat([weight, weight], 1) / 2
    else:
        both = x
    found = OrderParameter(
        learnability(cells, saddle.discrepancy),
        *moments(both, weight),
        1 + torch.linalg.vecdot(saddle.probability, readout.square()),
        eigenvalues(saddle).ratio(cells.orders),
        temperature,
        eigenvalues(saddle).error_factor(cells, temperature),
        saddle.discrepancy,
        free_energy(cells, temperature, saddle.discrepancy, saddle.log_partition),
        saddle.log_partition,
        saddle.residual,
        torch.full_like(temperature, grid.spacing),
        torch.full_like(temperature, grid.reach),
    )
    longer, finer = _too_coarse(saddle.probability.log(), even)
    return found, longer | _goes_on(cells, found, even), finer


def _too_coarse(logits: Tensor, even: bool) -> tuple[Tensor, Tensor]:
    """Whether the density does not end on the grid, and whether it is too narrow for it."""
    seen = logits > logits.amax(1, keepdim=True) - NEGLIGIBLE
    longer = seen[:, -1] if even else seen[:, -1] | seen[:, 0]
    bend = 2 * logits[:, 1:-1] - logits[:, :-2] - logits[:, 2:]
    finer = ((bend > BEND) & seen[:, 1:-1]).any(1)
    return longer, finer


def _goes_on(cells: Problem, found: OrderParameter, even: bool) -> Tensor:
    """Whether the action comes down again beyond the grid: a droplet that it does not hold."""
    half = torch.sqrt(0.5 + cells.weight_variance)[:, None] * BEYOND.tan()
    x = (half if even else torch.cat([-half.flip(1), half], 1)) / cells.prior_deviation[:, None]
    overlap, _ = features(cells, x)
    field = torch.sqrt(cells.dimension * cells.coupling(found.temperature))
    readout = field[:, None] * (found.discrepancy[:, None] @ overlap)[:, 0]
    logits = (readout.square() - x.square()) / 2 - found.log_partition[:, None]
    return ((x.abs() > found.reach[:, None]) & (logits > -NEGLIGIBLE)).any(1)


def _marked(found: OrderParameter, sound: Tensor) -> OrderParameter:
    """NaN where a cell is not sound; its residual stays."""
    kept = {"residual"}
    values = {
        name: value
        if name in kept
        else value.where(sound if value.ndim == 1 else sound[:, None], torch.nan)
        for name, value in found._asdict().items()
    }
    return OrderParameter(**values)


def _take(found: OrderParameter, which: Tensor) -> OrderParameter:
    return OrderParameter(*(value[which] for value in found))
