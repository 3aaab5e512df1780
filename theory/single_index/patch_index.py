"""Convolutional networks on patches that do not overlap, as single-index problems of a filter.

f(x) = Σ_i Σ_c a_ic φ(w_c·x_i) over P patches x_i of S inputs and C channels, w ~ N(0, σ_w²/S) and
a ~ N(0, σ_a²/PC), learns y(x) = Σ_i a*_i y(w*·x_i), |a*| = |w*| = 1. By symmetry the discrepancy is
Σ_i a*_i δ(w*·x_i). As patches are independent and φ is odd, a filter feels them one by one,

    <δ(x) φ(w·x_i)> = a*_i δ·g(q),   Σ_i <δ φ(w·x_i)>² = (δ·g(q))²,

and the kernel (σ_a²/P) Σ_i <φ(w·x_i) φ(w·x'_i)> has the eigenvalues (σ_a²/P) <g gᵀ> on those
functions: the theory of a fully connected network on S inputs with C neurons and a readout of
variance σ_a²/P. Only the posterior variance knows that each eigenvalue occurs once for every patch.
The network is `theory.single_index.problems.problem` with `patches` = P; with P = 1 it is fully
connected.

For linear φ p(q) is Gaussian, of variance b = r σ_w²/S:

    1/b = S/σ_w² - (σ_a²/PC) (n/T_eff)² (1 - L)²,   L = λ/(λ + T_eff/n),   λ = σ_a² b/P,

from which features are learned at n ~ √(P S C T_eff²/(σ_a² σ_w²)), where regression with the kernel
needs n ~ P S. Naveh and Ringel (2021, arXiv:2106.04110), Seroussi, Naveh and Ringel (2023,
arXiv:2112.15383).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from theory.numerics.bracket import root
from theory.single_index.effective_temperature import Spectrum, at_ridge
from theory.single_index.problems import Problem, Ridge, learnability

SPAN = 12.0  # e-folds of n, up and down, in which a level of learnability is sought


class LinearFilters(NamedTuple):
    """Linear networks, in the names of `OrderParameter`; all but two are (cells,)."""

    learnability: Tensor  # L, (cells, component)
    variance: Tensor  # r = b S/σ_w²
    readout_variance: Tensor  # E[a²] in prior variances
    eigenvalue_ratio: Tensor  # of the kernel, along over across w*: r
    temperature: Tensor  # T of the closure: bare or effective
    discrepancy: Tensor  # 1 - L, in the modes, (cells, mode)
    residual: Tensor  # of the equation for 1/b, times b


def linear_filters(cells: Problem, ridge: Ridge) -> LinearFilters:
    """The linear network in every cell, with T ("bare") or T_eff ("effective").

    With μ = n λ/T at b = σ_w²/S and κ = C T/n it is 1/r = 1 - (μ/κ) y²/(1 + μ r)²; its free energy
    is convex in r. Raises ValueError for another activation, or without the mode 1.
    """
    if cells.activation != "linear" or 1 not in cells.orders:
        raise ValueError(
            f"activation {cells.activation} with modes {list(cells.orders)}; wanted linear, 1"
        )
    place = cells.orders.index(1)
    target = cells.target[:, place]
    prior = cells.kernel_variance * cells.weight_variance / cells.dimension

    def forces(ratio: Tensor, temperature: Tensor) -> Tensor:
        """(μ/κ) δ², the square of the mean readout of x = 1."""
        strength = cells.train / temperature * prior
        left = target / (1 + strength * ratio)
        return strength * cells.train / (cells.width * temperature) * left.square()

    def solve(temperature: Tensor, before: Tensor | None) -> Tensor:
        def excess(log_ratio: Tensor) -> Tensor:
            return 1 - log_ratio.exp() * (1 - forces(log_ratio.exp(), temperature))

        # r/2 - ln 2 ≤ r - 1 - ln r ≤ y²/κ.
        stiffness = cells.width * temperature / cells.train
        highest = torch.log(2 * target.square() / stiffness + 1.5)
        return root(excess, torch.full_like(highest, -1e-9), highest).exp()

    def eigenvalues(ratio: Tensor) -> Spectrum:
        block = torch.zeros(len(ratio), *[len(cells.orders)] * 2, dtype=torch.float64)
        block[:, place, place] = prior * ratio
        return Spectrum(block, prior, prior * (ratio + cells.dimension - 1))

    temperature, ratio = at_ridge(cells, ridge, solve, eigenvalues)
    discrepancy = cells.target.clone()
    discrepancy[:, place] /= 1 + cells.train / temperature * prior * ratio
    force = forces(ratio, temperature)
    return LinearFilters(
        learnability(cells, discrepancy),
        ratio,
        1 + force * ratio,
        ratio,
        temperature,
        discrepancy,
        (1 - ratio * (1 - force)).abs(),
    )


def points_to_learn(cells: Problem, level: float, learned: Callable[[Problem], Tensor]) -> Tensor:
    """n at which a learnability that grows with n reaches `level`, (cells,).

    `learned` gives it for problems with another n. NaN where that is not within a factor of e^12
    of the n of the cell.
    """
    start = cells.train.log()

    def excess(log_train: Tensor) -> Tensor:
        return learned(cells._replace(train=log_train.exp())) - level

    return root(excess, start - SPAN, start + SPAN).exp()
