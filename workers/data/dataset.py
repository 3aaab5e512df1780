"""What a data source gives: a dataset for an ensemble, or a pool for regression."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Origin(NamedTuple):
    """Where points come from, so that a refusal can name one as its user knows it.

    Drawn points are known by their place among their own; those of files by the row of a part, an
    array or a file: `rows` counts through all `parts`, each a name and a number of rows.
    """

    parts: tuple[tuple[str, int], ...]
    rows: NDArray[np.integer] | None = None  # of each point; None where they are in order

    def name(self, point: int) -> str:
        """Point `point` in words: row 3 of x_train."""
        row = point if self.rows is None else int(self.rows[point])
        for part, length in self.parts[:-1]:
            if row < length:
                return f"row {row} of {part}"
            row -= length
        return f"row {row} of {self.parts[-1][0]}"

    def of(self, places: NDArray[np.intp]) -> "Origin":
        """The origin of the points at these places."""
        return self._replace(rows=places if self.rows is None else self.rows[places])


def drawn(what: str) -> Origin:
    """The origin of points that were made, not read: `what` they are."""
    return Origin(((what, 0),))


@dataclass(frozen=True, eq=False)
class Dataset:
    """One draw of the data; all arrays are float64.

    `teacher` is the unit vector w* that the target depends on, where the source has one: of several
    directions the first, and of patches the one that the target follows in every patch.
    """

    x_train: Array  # (train, d)
    y_train: Array  # (train,) or (train, outputs), with label noise
    x_test: Array  # (test, d)
    y_test: Array  # (test,) or (test, outputs), without noise
    components: Array  # (*y_test.shape, component): parts of the target that sum to y_test
    teacher: Array | None  # (d,) or, of patches, (patch_size,)
    y_clean: Array  # y_train without noise
    origins: tuple[Origin, Origin]  # of the training and of the test points


@dataclass(frozen=True, eq=False)
class Pool:
    """A population for regression, and points outside it; targets without noise, float64."""

    x: Array  # (pool, d)
    y: Array  # (pool,) or (pool, outputs)
    x_heldout: Array  # (heldout, d)
    y_heldout: Array  # (heldout,) or (heldout, outputs)
    origins: tuple[Origin, Origin]  # of the pool and of the held-out points


class Points(NamedTuple):
    """Inputs (n, d) and the parts (n, component) or (n, outputs, component) of their target."""

    x: Array
    components: Array
    origin: Origin

    @property
    def y(self) -> Array:
        """The target without noise, (n,) or (n, outputs)."""
        return self.components.sum(axis=-1)
