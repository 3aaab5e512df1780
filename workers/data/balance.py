"""How many points of each class a set of points has, where targets are classes."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from storage.arrays.schema import CLASSES
from workers.data.dataset import Array

Rows = Sequence[Sequence[float]]
Counts = dict[str, NDArray[np.int64]]  # of each set of points, (class,)


def class_counts(
    targets: Mapping[str, Array], known: Rows | None = None
) -> tuple[Array, Counts] | None:
    """The targets of the classes, (class,) or (class, outputs), and how many points have each.

    Of the noise-free targets, (points,) or (points, outputs), of each set. `known` are those of all
    classes, with the class's own output the largest, where the data fix them. Elsewhere targets are
    classes where they are at most CLASSES and have at least two points each, on the average.
    """
    rows = {name: y.reshape(len(y), math.prod(y.shape[1:])) for name, y in targets.items()}
    everything = np.concatenate([*rows.values()])
    if known is not None:
        values, which = np.array(known), everything.argmax(1)
    else:
        values, which = np.unique(everything, axis=0, return_inverse=True)
        if len(values) > CLASSES or 2 * len(values) > len(everything):
            return None
    ends = np.cumsum([len(y) for y in rows.values()])[:-1]
    parts = zip(rows, np.split(which.reshape(-1), ends), strict=True)
    counts = {name: np.bincount(part, minlength=len(values)) for name, part in parts}
    outputs = next(iter(targets.values())).shape[1:]
    return values.reshape(len(values), *outputs), counts


def stored_counts(targets: Mapping[str, Array], known: Rows | None = None) -> dict[str, NDArray]:
    """The same in the shape of the store, CLASSES long: NaN and 0 where there is no class."""
    outputs = next(iter(targets.values())).shape[1:]
    values = np.full((CLASSES, *outputs), np.nan)
    found: dict[str, NDArray] = {"class_target": values}
    found |= {f"{name}_class_count": np.zeros(CLASSES, np.uint32) for name in targets}
    if (classes := class_counts(targets, known)) is not None:
        values[: len(classes[0])] = classes[0]
        for name, counts in classes[1].items():
            found[f"{name}_class_count"][: len(counts)] = counts
    return found
