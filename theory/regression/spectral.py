"""Regressions with many ridges, all of them by one eigendecomposition of each training set.

With K = UΛUᵀ of P draws everything is a sum over modes of something over λ + T.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from theory.numerics.eigen import decompose
from theory.regression.pool import Array, Places, Pool


def factors(pool: Pool, sizes: Sequence[int], ridges: Sequence[float]) -> Iterator["Spectral"]:
    """For one size after another the decomposition of the first draws."""
    for size in sizes:
        part = Pool(pool.panels, pool.points, pool.order[:size])
        yield Spectral(part, ridges, *decompose(part.square(size, np.float64)))


class Spectral:
    """K = UΛUᵀ of one training set; columns are ridges."""

    def __init__(self, pool: Pool, ridges: Sequence[float], values: Array, vectors: Array) -> None:
        self.pool = pool
        self.sizes: Places = np.full(len(ridges), len(values))
        self.ridges: Array = np.asarray(ridges, dtype=np.float64)
        self._values, self._vectors = values, vectors
        self._shifted = values[:, None] + self.ridges  # (mode, ridge)
        rounding = len(values) * np.finfo(np.float64).eps * float(self._shifted.max())
        self.sound = self._shifted[0] > rounding  # where K + T is positive definite
        self._shifted[:, ~self.sound] = np.nan

    def solve(self, right: Array) -> Array:
        """(K + T)⁻¹ of every column: (n, ridge, output)."""
        modes = self._to_modes(right.reshape(len(right), -1)).reshape(right.shape)
        modes /= self._shifted[:, :, None]
        return self._from_modes(modes.reshape(len(right), -1)).reshape(right.shape)

    def log_determinant(self) -> Array:
        """ln det(K + T) for each ridge."""
        return np.log(self._shifted).sum(axis=0)

    def products(self, left: Array, right: Array) -> Array:
        """l·(K + T)⁻¹r of columns (n, modes) for each ridge, (ridge, modes)."""
        both = self._to_modes(left) * self._to_modes(right)
        return (1 / self._shifted).T @ both

    def variance(self) -> Array:
        """Sum of the posterior variances of all points of the pool for each ridge.

        Tλ/(λ + T) of each mode at the points drawn; k - |k·u|²/(λ + T) at the others.
        """
        never = self.pool.first == len(self._values)
        weight = self._squares_of_drawn()
        modes = (weight * self._values)[:, None] * self.ridges - self._gained_by_others()[:, None]
        return self.pool.diagonal[never].sum() + (modes / self._shifted).sum(axis=0)

    # -- what is done with U, and elsewhere on another device -------------------------------------

    def _to_modes(self, columns: Array) -> Array:
        return self._vectors.T @ columns

    def _from_modes(self, columns: Array) -> Array:
        return self._vectors @ columns

    def _squares_of_drawn(self) -> Array:
        """Σ U² over first draws, (mode,)."""
        return np.square(self._vectors[self.pool.is_first]).sum(axis=0)

    def _gained_by_others(self) -> Array:
        """Σ (k·u)² over points that are never drawn, (mode,)."""
        gained = np.zeros(len(self._values))
        for rows in self.pool.others():
            gained += np.square(rows @ self._vectors).sum(axis=0)
        return gained
