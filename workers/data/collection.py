"""A finite set of points, and how training and test points are taken from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.errors import CampaignError
from workers.data.dataset import Array, Origin, Points


class Images(NamedTuple):
    """Pixels (n, d) from 0 to `white`, labels (n,), and the files they were read from, in order."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    white: float
    parts: tuple[tuple[str, int], ...]  # name of a file, and how many images are in it


@dataclass(frozen=True, eq=False)
class Collection:
    """Points to draw from, in the order of their files; the last `reserved` are for testing only.

    Kept in the dtype of the file (a byte a pixel): point i is values[i] / unit.
    """

    values: NDArray[np.uint8] | NDArray[np.float64]  # (n, d)
    targets: Array  # (n,) or (n, outputs)
    origin: Origin  # of the points
    unit: float = 1.0
    reserved: int = 0

    @property
    def pool(self) -> int:
        """How many points training may draw from."""
        return len(self.values) - self.reserved

    @cached_property
    def mean(self) -> Array:
        """The mean point (d,) of the pool."""
        return self.values[: self.pool].mean(axis=0, dtype=np.float64) / self.unit

    def points(self, index: NDArray[np.intp]) -> Points:
        """The points at these places, with their target as the only component."""
        origin = self.origin.of(index)
        return Points(self.values[index] / self.unit, self.targets[index][..., None], origin)


def split(
    collection: Collection,
    train: int,
    test: int,
    generator: np.random.Generator,
    reserved: np.random.Generator | None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of the training and of the test points; neither depends on the number of the other.

    Training takes the first of one random order of the pool. Testing takes the last of that order
    or, where points are reserved for it, the first of a random order of those, which the generator
    `reserved` gives: a file may be sorted. All of them, or those of no generator, come as they lie.
    """
    order = generator.permutation(collection.pool)
    if collection.reserved:
        _enough(collection.pool, f"{train}", train, "to learn from")
        _enough(collection.reserved, f"{test}", test, "to test on")
        others = np.arange(collection.reserved)
        if reserved is not None and test < collection.reserved:
            others = reserved.permutation(collection.reserved)
        return order[:train], collection.pool + others[:test]
    total = train + test
    _enough(collection.pool, f"{train} + {test} = {total}", total, "to learn from and to test on")
    return order[:train], order[collection.pool - test :]


def _enough(found: int, asked: str, wanted: int, purpose: str) -> None:
    if wanted > found:
        raise CampaignError(
            f"the data hold {found} points {purpose}, but {asked} are asked for; ask for fewer"
        )


def binary(images: Images, positive: Sequence[int], negative: Sequence[int]) -> Collection:
    """Images of the `positive` classes with target +1 and the `negative` with -1, no others."""
    if not positive or not negative:
        raise CampaignError("positive and negative must each name at least one class")
    if both := sorted(set(positive) & set(negative)):
        raise CampaignError(
            f"class {both[0]} is in both positive and negative; a class can have one target only"
        )
    plus = np.isin(images.labels, positive)
    return _chosen(images, (*positive, *negative), np.where(plus, 1.0, -1.0))


def one_output_each(images: Images, classes: Sequence[int], targets: Array) -> Collection:
    """Images of these classes, each with the row of its class in targets (class, output)."""
    place = np.zeros(256, np.intp)
    place[list(classes)] = np.arange(len(classes))
    return _chosen(images, classes, targets[place[images.labels]])


def _chosen(images: Images, classes: Sequence[int], targets: Array) -> Collection:
    """Those of these classes, of targets for all images."""
    present = np.unique(images.labels).tolist()
    if absent := sorted(set(classes) - set(present)):
        raise CampaignError(
            f"no image of class {absent[0]} in the data; choose from the classes {present}"
        )
    chosen = np.flatnonzero(np.isin(images.labels, classes))
    return Collection(
        images.pixels[chosen], targets[chosen], Origin(images.parts, chosen), images.white
    )
