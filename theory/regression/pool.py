"""A pool of points, the order in which they are drawn, and products with the pool's kernel.

The kernel of a pool may be larger than memory, so that it is read from first to last, some rows at
a time. Everything here is numpy on the CPU: skinny products are what its BLAS is good at.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", bound=np.floating)
Array = NDArray[np.float64]
Places = NDArray[np.intp]
Panels = Callable[[], Iterator[tuple[slice, Array]]]  # consecutive rows of a matrix, all of them

PANEL = 256  # rows


def panels_of(matrix: Array) -> Panels:
    """A matrix in memory as panels."""

    def panels() -> Iterator[tuple[slice, Array]]:
        for part in parts(0, len(matrix), PANEL):
            yield part, matrix[part]

    return panels


def parts(start: int, stop: int, step: int) -> list[slice]:
    """Consecutive slices of at most `step` places."""
    return [slice(first, min(first + step, stop)) for first in range(start, stop, step)]


@dataclass(frozen=True, eq=False)
class Pool:
    """The kernel K of M points, and n draws from them, one after another, perhaps with repeats."""

    panels: Panels  # of K, (M, M)
    points: int  # M
    order: Places  # (n,)

    @cached_property
    def first(self) -> Places:
        """When each point is drawn first, (M,); n where it never is."""
        places = np.full(self.points, len(self.order))
        places[self.order[::-1]] = np.arange(len(self.order))[::-1]
        return places

    @cached_property
    def is_first(self) -> NDArray[np.bool_]:
        """Whether a draw is the first of its point, (n,)."""
        return self.first[self.order] == np.arange(len(self.order))

    @cached_property
    def diagonal(self) -> Array:
        """K(x, x) of every point, (M,)."""
        values = [np.diagonal(rows, part.start).copy() for part, rows in self.panels()]
        return np.concatenate(values)

    def square(self, count: int, dtype: type[Real]) -> NDArray[Real]:
        """K of the first `count` draws, (count, count)."""
        drawn = self.order[:count]
        found = np.empty((count, count), dtype)
        for part, rows in self.panels():
            for place in np.flatnonzero((drawn >= part.start) & (drawn < part.stop)):
                found[place] = rows[drawn[place] - part.start].take(drawn)
        return found

    def times(self, weights: Array) -> Array:
        """Σ_i K(x, x_i) w_i over the draws at every point x: (n, columns) to (M, columns)."""
        spread = np.zeros((self.points, weights.shape[1]))
        if self.is_first.all():
            spread[self.order] = weights
        else:
            np.add.at(spread, self.order, weights)
        return self.times_points(spread)

    def times_points(self, weights: Array) -> Array:
        """K w for weights of all points, (M, columns)."""
        found = np.empty_like(weights)
        for part, rows in self.panels():
            np.matmul(rows, weights, out=found[part])
        return found

    def others(self) -> Iterator[Array]:
        """K between the points that are never drawn and the draws, (some, n) at a time."""
        for part, rows in self.panels():
            never = self.first[part] == len(self.order)
            if never.any():
                yield rows[never][:, self.order]
