"""The ridge that an adaptive kernel sees at finite n: T and the posterior variance of the function.

Averaged over datasets, every mode of a kernel is learned with

    T_eff = T + V,   V = Σ_k λ_k (T_eff/n)/(λ_k + T_eff/n),

Canatar, Bordelon and Pehlevan (2021, arXiv:2006.13198), and the eigenvalues of an adaptive kernel
depend on T_eff in their turn. V has four parts here: the modes he_k(w*·x), whose block of the
kernel is K, once for each patch; the d - 1 linear functions across w* of each patch, all with λ_⊥;
and the rest of the trace, which counts as not learned at all (n λ/T_eff << 1 for its quadratic and
higher modes).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar, get_args

import torch
from torch import Tensor

from theory.single_index.problems import Problem, Ridge
from theory.words import check_word

ITERATIONS = 100
FRUITLESS = 8  # iterations on which `solve` fails one after another: a cell is then given up
PRECISION, ACCEPTED_ERROR = 1e-13, 1e-9  # of ln T_eff
SLOPES = 0.02, 1.0  # between which that of the fixed-point equation is kept

State = TypeVar("State")


class Spectrum(NamedTuple):
    """The eigenvalues of an adaptive kernel of each cell."""

    block: Tensor  # K = (σ_a²/P) <g gᵀ>, (cells, mode, mode)
    across: Tensor  # λ_⊥, (cells,)
    trace: Tensor  # (σ_a²/P) E[φ²], (cells,): of one patch

    def ratio(self, orders: tuple[int, ...]) -> Tensor:
        """Eigenvalue of w*·x over that of a linear function across w*; NaN without that mode."""
        if 1 not in orders:
            return torch.full_like(self.across, torch.nan)
        place = orders.index(1)
        return self.block[:, place, place] / self.across

    def error_factor(self, cells: Problem, ridge: Tensor) -> Tensor:
        """E_0 = 1/(1 - Σ_k L_k²/n) at T_eff = `ridge`, (cells,): infinite at n learned modes.

        Over datasets the error of the mean predictor is E_0 (Σ_k δ_k² + s²) - s² with label noise
        s², L_k = λ_k/(λ_k + T_eff/n). Canatar, Bordelon and Pehlevan (2021).
        """
        floor = ridge / cells.train
        one = torch.eye(self.block.shape[1], dtype=torch.float64, device=floor.device)
        along = torch.linalg.solve(self.block + floor[:, None, None] * one, self.block)
        linear = (self.across / (self.across + floor)).square()
        learned = _trace(along @ along) + (cells.dimension - 1) * linear
        return 1 / (1 - cells.patches * learned / cells.train).clamp_min(0)


def posterior_variance(cells: Problem, spectrum: Spectrum, ridge: Tensor) -> Tensor:
    """V at T_eff = `ridge`, (cells,)."""
    floor = ridge / cells.train
    across = cells.dimension - 1
    one = torch.eye(spectrum.block.shape[1], dtype=torch.float64, device=floor.device)
    left = torch.linalg.solve(spectrum.block + floor[:, None, None] * one, spectrum.block)
    along = floor * _trace(left)
    linear = across * spectrum.across * floor / (spectrum.across + floor)
    rest = spectrum.trace - _trace(spectrum.block) - across * spectrum.across
    return cells.patches * (along + linear + rest)


def at_ridge(
    cells: Problem,
    ridge: Ridge,
    solve: Callable[[Tensor, State | None], State],
    spectrum: Callable[[State], Spectrum],
    solved: Callable[[State], Tensor] | None = None,
) -> tuple[Tensor, State]:
    """The temperature of the closure, (cells,), and what `solve` makes of it.

    `solve` is given a temperature and what it returned last; `solved` tells in which cells it
    found what it looks for, where that is not certain. With the effective ridge, T_eff is found by
    the secant method in ln T_eff; where it is not found it is NaN.
    """
    check_word("ridge", ridge, get_args(Ridge))
    bare = cells.temperature
    state = solve(bare, None)
    if ridge == "bare":
        return bare, state
    low = bare.log()
    before, point = low, torch.log(bare + posterior_variance(cells, spectrum(state), bare))
    excess_before = low - point
    steps = 0
    failures = torch.zeros_like(bare)
    while True:
        state = solve(point.exp(), state)
        variance = posterior_variance(cells, spectrum(state), point.exp())
        excess = point - torch.log(bare + variance)
        steps += 1
        if solved is not None:
            failures = torch.where(solved(state), 0, failures + 1)
        reached = excess.abs() <= PRECISION * (1 + point.abs())
        if steps == ITERATIONS or bool((reached | (failures >= FRUITLESS)).all()):
            return torch.where(excess.abs() <= ACCEPTED_ERROR, point.exp(), torch.nan), state
        moved = point - before
        slope = torch.where(moved != 0, (excess - excess_before) / moved, 1.0)
        following = torch.maximum(point - excess / slope.clamp(*SLOPES), low)
        before, excess_before, point = point, excess, following


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=1, dim2=2).sum(1)
