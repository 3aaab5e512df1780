"""What a data source gives: a dataset for an ensemble, or a pool for regression."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


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


@dataclass(frozen=True, eq=False)
class Pool:
    """A population for regression, and points outside it; targets without noise, float64."""

    x: Array  # (pool, d)
    y: Array  # (pool,)
    x_heldout: Array  # (heldout, d)
    y_heldout: Array  # (heldout,)


class Points(NamedTuple):
    """Inputs (n, d) and the parts (n, component) or (n, outputs, component) of their target."""

    x: Array
    components: Array

    @property
    def y(self) -> Array:
        """The target without noise, (n,) or (n, outputs)."""
        return self.components.sum(axis=-1)
