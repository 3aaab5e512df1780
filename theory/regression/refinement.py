"""Weights of regressions, refined until the kernel itself agrees.

A regression at (size P, ridge T) is α = (K + T)⁻¹y on the first P draws. Whatever solves for it has
an F⁻¹ in place of (K + T)⁻¹, with errors of rounding. They are taken out by what is left of y:
α ← α + F⁻¹(y - (K + T)α). Wilkinson (1963), Moler (1967, doi:10.1145/321386.321394).
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from theory.regression.pool import Array, Places, Pool

ACCURATE = 1e-11  # residual below which weights are not refined any further
ACCEPTED_RESIDUAL = 1e-6  # of a regression worth anything: about its error of predictions
TRUSTED_RESIDUAL = 1e-3  # the first, of a factor in single precision that does for the rest
ROUNDS = 8


class Factor(Protocol):
    """K + T of some sizes and ridges, the columns, in a form in which it is easily solved."""

    pool: Pool  # whose draws are those of the largest size
    sizes: Places  # (column,)
    ridges: Array
    sound: NDArray[np.bool_]  # whether K + T is positive definite to rounding

    def solve(self, right: Array) -> Array:
        """(K + T)⁻¹ of every column: (n, column, output), zero beyond the size."""
        ...

    def log_determinant(self) -> Array:
        """ln det(K + T) of every column."""
        ...

    def products(self, left: Array, right: Array) -> Array:
        """l·(K + T)⁻¹r of pairs of vectors (n, modes): (column, modes)."""
        ...

    def variance(self) -> Array:
        """Sum of the posterior variances of all points of the pool; afterwards nothing is left."""
        ...


class Fit(NamedTuple):
    """Regressions of some columns."""

    weights: Array  # (n, column, output)
    predicted: Array  # (M, column, output)
    residual: Array  # (column,): |y - (K + T)α| / |y|
    first_residual: Array  # before anything was refined


def fitted(factor: Factor, labels: Array) -> Fit:
    """Weights for labels (draws, output), refined until the residual is small or stays."""
    labels = labels[: len(factor.pool.order)]
    inside = np.arange(len(labels))[:, None] < factor.sizes
    wanted = np.where(inside[:, :, None], labels[:, None, :], 0.0)
    scale = np.maximum(_norm(wanted), np.finfo(np.float64).tiny)
    weights, missing = np.zeros_like(wanted), wanted
    fit: Fit | None = None
    for _ in range(ROUNDS):
        weights = weights + factor.solve(missing)
        flat = factor.pool.times(weights.reshape(len(weights), -1))
        predicted = flat.reshape(len(flat), *weights.shape[1:])
        missing = wanted - predicted[factor.pool.order] - factor.ridges[:, None] * weights
        missing[~inside] = 0
        residual = _norm(missing) / scale
        following = Fit(weights, predicted, residual, residual)
        falling = residual > ACCURATE
        if fit is not None:
            falling &= residual < fit.residual / 2
            following = _better(fit, following)
        fit = following
        if not falling.any():
            break
    assert fit is not None
    return fit


def _better(fit: Fit, following: Fit) -> Fit:
    """The better of two fits, column by column."""
    better = following.residual < fit.residual
    return Fit(
        np.where(better[:, None], following.weights, fit.weights),
        np.where(better[:, None], following.predicted, fit.predicted),
        np.where(better, following.residual, fit.residual),
        fit.first_residual,
    )


def _norm(columns: Array) -> Array:
    return np.sqrt(np.square(columns).sum(axis=(0, 2)))
