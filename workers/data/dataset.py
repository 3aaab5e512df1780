"""What a data source gives: a dataset for an ensemble, or a pool for regression."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """One draw of the data; all arrays are float64."""

    x_train: Array  # (train, d)
    y_train: Array  # (train,), with label noise
    x_test: Array  # (test, d)
    y_test: Array  # (test,), without noise
    components: Array  # (test, component): parts of the target that sum to y_test
    teacher: Array | None  # (d,), the unit vector w* where the source has one


@dataclass(frozen=True, eq=False)
class Pool:
    """A population for regression, and points outside it; targets without noise, float64."""

    x: Array  # (pool, d)
    y: Array  # (pool,)
    x_heldout: Array  # (heldout, d)
    y_heldout: Array  # (heldout,)


class Points(NamedTuple):
    """Inputs (n, d) and the parts (n, component) of their noise-free target."""

    x: Array
    components: Array

    @property
    def y(self) -> Array:
        """The target, (n,)."""
        return self.components.sum(axis=1)
