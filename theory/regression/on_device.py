"""The same regressions where the kernel lies on a device, as on a GPU.

Matrices, and what is made of them, stay there in float64; columns of weights and sums, of which
there are few, come home. Whatever was factored is held against the matrix it was made of: libraries
for GPUs have been wrong for large matrices without saying so. What does not hold is done again on
the CPU, and told.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from theory.numerics import device_linear
from theory.regression.nested import Floats, Nested, standing
from theory.regression.nested import factors as nested_at_home
from theory.regression.pool import PANEL, Array, Panels, Places, Pool, parts
from theory.regression.refinement import Factor
from theory.regression.spectral import Spectral
from theory.regression.spectral import factors as spectral_at_home

Tell = Callable[[str], None]  # is told what was done again on the CPU


def unheard(_: str) -> None:
    """Nobody wants to know."""


BLOCK = 4096  # points that are never drawn at a time


@dataclass(frozen=True, eq=False)
class DevicePool(Pool):
    """A pool whose kernel (M, M), float64, is on a device; columns are taken and given at home."""

    kernel: Tensor

    @cached_property
    def diagonal(self) -> Array:
        """K(x, x) of every point, (M,)."""
        return self.kernel.diagonal().cpu().numpy()

    @property
    def drawn(self) -> Tensor:
        """K of the draws, (n, n), on the device."""
        order = self.there(self.order)
        return self.kernel[order][:, order]

    def times_points(self, weights: Array) -> Array:
        """K w for weights of all points, (M, columns)."""
        return times(self.kernel, weights)

    def blocks_of_others(self) -> Iterator[Tensor]:
        """K between the points that are never drawn and the draws, some rows at a time."""
        order, never = self.there(self.order), np.flatnonzero(self.first == len(self.order))
        for part in parts(0, len(never), BLOCK):
            yield self.kernel[self.there(never[part])][:, order]

    def there(self, array: Floats | Places) -> Tensor:
        """An array on the device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.kernel.device)

    def at_home(self) -> Pool:
        """The same for the CPU."""
        return Pool(self.panels, self.points, self.order)


def times(matrix: Tensor | Array, columns: Array) -> Array:
    """A product with columns of home, wherever the matrix is."""
    if not isinstance(matrix, Tensor):
        return matrix @ columns
    return (matrix @ torch.from_numpy(columns).to(matrix.device)).cpu().numpy()


def pool_on(kernel: Tensor, order: Places) -> DevicePool:
    """The pool of a kernel on a device."""
    return DevicePool(_panels_of(kernel), len(kernel), order, kernel.double())


def _panels_of(kernel: Tensor) -> Panels:
    def panels() -> Iterator[tuple[slice, Array]]:
        for part in parts(0, len(kernel), PANEL):
            yield part, kernel[part].double().cpu().numpy()

    return panels


class DeviceNested(Nested):
    """L of one ridge on the device; columns are sizes."""

    def __init__(
        self, pool: DevicePool, sizes: Sequence[int], ridge: float, lower: Tensor, definite: int
    ) -> None:
        self.pool: Pool = pool
        self._there, self._others = pool.there, pool.blocks_of_others
        self.sizes = np.asarray(sizes)
        self.ridges = np.full(len(sizes), ridge)
        self.sound = self.sizes <= definite
        self.draws = len(lower)
        self._lower = lower

    def _forward(self, columns: Array) -> Floats:
        right = self._there(columns)
        return torch.linalg.solve_triangular(self._lower, right, upper=False).cpu().numpy()

    def _backward(self, columns: Floats) -> Floats:
        right = self._there(columns)
        return torch.linalg.solve_triangular(self._lower.mT, right, upper=True).cpu().numpy()

    def _pivots(self) -> Floats:
        return self._lower.diagonal().cpu().numpy()

    def _gained_by_others(self) -> Array:
        gained = self._lower.new_zeros(self.draws)
        for rows in self._others():
            whitened = torch.linalg.solve_triangular(self._lower, rows.mT, upper=False)
            gained += whitened.square().sum(1)
        return gained.cpu().numpy()

    def _gained_by_rows(self, start: int, stop: int) -> Array:
        first = self._there(self.pool.is_first[start:stop].astype(np.float64))
        gained = self._lower.new_zeros(self.draws)
        gained[:start] = first @ self._lower[start:stop, :start].square()
        return gained.cpu().numpy()

    def _inverse_squares(self, first: Array) -> Array:
        ones = torch.eye(self.draws, dtype=torch.float64, device=self._lower.device)
        inverse = torch.linalg.solve_triangular(self._lower, ones, upper=False)
        return (inverse.square_() @ self._there(first)).cpu().numpy()


class DeviceSpectral(Spectral):
    """K = UΛUᵀ of one training set, with U on the device; columns are ridges."""

    def __init__(
        self, pool: DevicePool, ridges: Sequence[float], values: Array, vectors: Tensor
    ) -> None:
        super().__init__(pool, ridges, values, np.empty((0, 0)))
        self._there, self._others = pool.there, pool.blocks_of_others
        self._columns = vectors

    def _to_modes(self, columns: Array) -> Array:
        return (self._columns.mT @ self._there(columns)).cpu().numpy()

    def _from_modes(self, columns: Array) -> Array:
        return (self._columns @ self._there(columns)).cpu().numpy()

    def _squares_of_drawn(self) -> Array:
        first = self._there(self.pool.is_first.astype(np.float64))
        return (first @ self._columns.square()).cpu().numpy()

    def _gained_by_others(self) -> Array:
        gained = self._columns.new_zeros(len(self._columns))
        for rows in self._others():
            gained += (rows @ self._columns).square().sum(0)
        return gained.cpu().numpy()


def nested_factors(
    pool: DevicePool, sizes: Sequence[int], ridges: Sequence[float], tell: Tell
) -> Iterator[Factor]:
    """As `nested.factors` in double precision, the one that there is on a device."""
    drawn = replace(pool, order=pool.order[: sizes[-1]])
    for ridge in ridges:
        square = drawn.drawn
        square.diagonal().add_(ridge)
        lower, definite = device_linear.factorize(square)
        wrong = device_linear.factor_is_wrong(square, lower) if definite == len(square) else ""
        size = float(drawn.diagonal.max()) + ridge
        del square
        if wrong:
            tell(f"factor of {len(lower)} points with ridge {ridge:g}: {wrong}")
            yield from nested_at_home(drawn.at_home(), sizes, [ridge], np.float64)
            continue
        pivots = lower.diagonal()[:definite].cpu().numpy()
        standing_draws = standing(pivots, len(lower), size)
        yield DeviceNested(drawn, sizes, ridge, lower, standing_draws)


def spectral_factors(
    pool: DevicePool, sizes: Sequence[int], ridges: Sequence[float], tell: Tell
) -> Iterator[Factor]:
    """As `spectral.factors`."""
    for size in sizes:
        part = replace(pool, order=pool.order[:size])
        square = part.drawn
        values, vectors, wrong = device_linear.decompose(square)
        del square
        if wrong:
            tell(f"decomposition of {size} points: {wrong}")
            yield from spectral_at_home(part.at_home(), [size], ridges)
        else:
            yield DeviceSpectral(part, ridges, values.cpu().numpy(), vectors)
