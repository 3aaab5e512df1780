"""Regressions on nested training sets, all sizes by one Cholesky factor.

The factor L of K + T for n draws holds those of all smaller sizes P, as its leading blocks. Two
identities make the posterior variance of the whole pool cheap. Row j > P of L up to column P is
L_P⁻¹k_j, so that a point drawn later has the variance k_jj - Σ_{i≤P} L_ji²; and one of the P has
T - T² [(K + T)⁻¹]_jj, where [(K + T)⁻¹]_jj = Σ_{k≤P} W_kj² with W = L⁻¹, nested like L.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from theory.regression.pool import PANEL, Array, Places, Pool, parts

Floats = NDArray[np.floating]


def factors(
    pool: Pool, sizes: Sequence[int], ridges: Sequence[float], dtype: type[np.floating]
) -> Iterator["Nested"]:
    """For one ridge after another the factor of all draws; `sizes` increase, the last is n.

    All share one matrix, n² numbers of `dtype`: K stays above the diagonal, L is made below. A
    factor is of use until the next is asked for.
    """
    square = pool.square(sizes[-1], dtype)
    (factorize,) = get_lapack_funcs(("potrf",), dtype=square.dtype)
    diagonal = square.diagonal().copy()
    for ridge in ridges:
        square.flat[:: len(square) + 1] = diagonal + square.dtype.type(ridge)
        bad = int(factorize(square.T, lower=0, clean=0, overwrite_a=1)[1])
        count = bad - 1 if bad else len(square)
        pivots, size = square.diagonal()[:count], float(diagonal.max()) + ridge
        definite = standing(pivots, len(square), size)
        yield Nested(pool, sizes, ridge, square, definite)
        _mirror(square)


class Nested:
    """L of one ridge, below the diagonal of a matrix that holds K above it; columns are sizes."""

    def __init__(
        self, pool: Pool, sizes: Sequence[int], ridge: float, square: Floats, definite: int
    ) -> None:
        self.pool = pool
        self.sizes: Places = np.asarray(sizes)
        self.ridges: Array = np.full(len(sizes), ridge)
        self.sound = self.sizes <= definite  # where K + T is positive definite
        self.draws = len(square)
        self._square = square
        (self._invert,) = get_lapack_funcs(("trtri",), dtype=square.dtype)
        (self._solve,) = get_blas_funcs(("trsm",), dtype=square.dtype)

    def solve(self, right: Array) -> Array:
        """(K + T)⁻¹ of every column by itself: (n, size, output), zero beyond the size."""
        columns = self._forward(right.reshape(len(right), -1))
        per_size = right.shape[2]
        for place, size in enumerate(self.sizes):
            columns[size:, place * per_size : (place + 1) * per_size] = 0
        return self._backward(columns).astype(np.float64).reshape(right.shape)

    def log_determinant(self) -> Array:
        """ln det(K + T) at each size."""
        logarithms = np.log(self._pivots().astype(np.float64))
        return 2 * logarithms.cumsum()[self.sizes - 1]

    def products(self, left: Array, right: Array) -> Array:
        """l·(K + T)⁻¹r of columns (n, modes) at each size, (size, modes)."""
        whitened = [self._forward(columns) for columns in (left, right)]
        return self._sum_blocks(whitened[0].astype(np.float64) * whitened[1]).cumsum(axis=0)

    def variance(self) -> Array:
        """Sum of the posterior variances of all points of the pool at each size; L is lost."""
        return self._of_others() + self._of_later() + self._of_drawn()

    def _of_others(self) -> Array:
        """Points that are never drawn: Σ k - |L_P⁻¹k|²."""
        never = self.pool.first == self.draws
        gained = self._gained_by_others()
        return self.pool.diagonal[never].sum() - self._sum_blocks(gained).cumsum()

    def _of_later(self) -> Array:
        """Points that are drawn first after the size, by the rows of L from there on."""
        left = np.zeros(len(self.sizes))
        prior = np.where(self.pool.is_first, self.pool.diagonal[self.pool.order], 0.0)
        for start, stop in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            gained = self._gained_by_rows(start, stop)
            before = self.sizes <= start
            left[before] += prior[start:stop].sum() - self._sum_blocks(gained).cumsum()[before]
        return left

    def _of_drawn(self) -> Array:
        """Points that are drawn within the size, by L⁻¹ in place of L."""
        first = self.pool.is_first.astype(np.float64)
        both = np.stack([first, self._inverse_squares(first)], axis=1)
        drawn = self._sum_blocks(both).cumsum(axis=0)
        return self.ridges * (drawn[:, 0] - self.ridges * drawn[:, 1])

    def _sum_blocks(self, rows: Array) -> Array:
        """Sums over the draws that each size adds to the one before."""
        return np.add.reduceat(rows, [0, *self.sizes[:-1]], axis=0)

    # -- what is done with L, and elsewhere on another device -------------------------------------

    def _forward(self, columns: Array) -> Floats:
        """L⁻¹ of columns (n, any), which stay as they are."""
        return self._whiten(np.array(columns, dtype=self._square.dtype, order="F"))

    def _whiten(self, columns: Floats) -> Floats:
        """L⁻¹ of columns in Fortran's order, in their place."""
        return self._solve(1, self._square.T, columns, lower=0, trans_a=1, overwrite_b=1)

    def _backward(self, columns: Floats) -> Floats:
        """L⁻ᵀ of columns in Fortran's order, in their place."""
        return self._solve(1, self._square.T, columns, lower=0, overwrite_b=1)

    def _pivots(self) -> Floats:
        """The diagonal of L."""
        return self._square.diagonal()

    def _gained_by_others(self) -> Array:
        """Σ over points that are never drawn of the squares of L⁻¹k, (n,)."""
        gained = np.zeros(self.draws)
        for rows in self.pool.others():
            whitened = self._whiten(np.asarray(rows, dtype=self._square.dtype).T)
            gained += np.square(whitened, dtype=np.float64).sum(axis=1)
        return gained

    def _gained_by_rows(self, start: int, stop: int) -> Array:
        """Σ of squares of rows of L up to column `start`, those of first draws; zeros behind."""
        gained = np.zeros(self.draws)
        for part in parts(start, stop, PANEL):
            rows = self._square[part, :start][self.pool.is_first[part]]
            gained[:start] += np.square(rows, dtype=np.float64).sum(axis=0)
        return gained

    def _inverse_squares(self, first: Array) -> Array:
        """Σ_j W_kj² over first draws j, (n,), with W = L⁻¹; L is lost."""
        self._invert(self._square.T, lower=0, overwrite_c=1)
        inverse = np.empty(self.draws)
        for part in parts(0, self.draws, PANEL):
            rows = np.tril(self._square[part, : part.stop], part.start)
            inverse[part] = np.square(rows, dtype=np.float64) @ first[: part.stop]
        return inverse


def standing(pivots: Floats, draws: int, size: float) -> int:
    """Draws before the first pivot (of L) that does not stand out of the rounding of K + T, whose
    largest diagonal is `size`; in single precision all pass, to be judged by their residual.
    """
    squares = np.square(pivots.astype(np.float64))
    single = pivots.dtype == np.float32
    rounding = 0.0 if single else draws * np.finfo(np.float64).eps * size
    low = ~(squares > rounding)
    return int(low.argmax()) if low.any() else len(pivots)


def _mirror(square: Floats) -> None:
    """Write what is above the diagonal below it as well."""
    for part in parts(0, len(square), PANEL):
        square[part.stop :, part] = square[part, part.stop :].T
        inner = square[part, part]
        inner[...] = np.triu(inner) + np.triu(inner, 1).T
