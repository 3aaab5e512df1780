"""Stored arrays before they are read: cells as points of a grid, unfinished shards as NaN."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from storage.arrays import chunks
from storage.arrays.chunks import Indices, UnreadableError
from storage.arrays.grid import MISSING
from storage.backend.snapshot import Snapshot
from storage.backend.snapshot import Stored as Raw
from storage.errors import damaged

if TYPE_CHECKING:
    from storage.store.sound_objects import SoundObjects

Reader = Callable[[Indices], np.ndarray]  # the outer product of the indices, none of them empty

_UNSEEN = 255


@dataclass(frozen=True)
class Stored:
    """Reads an array from no more chunks than hold what is wanted; text becomes Python's."""

    snapshot: Snapshot
    path: str

    def __call__(self, indices: Indices) -> np.ndarray:
        """The outer product of the indices."""
        with self.snapshot.explained():
            array = self.snapshot.array(self.path)
            numbers = self.snapshot.numbers(self.path)
            if numbers is None:
                return _by_zarr(array, indices)
            try:
                place = cast("SoundObjects", array.store)
                values = chunks.read(place.sound.fetch, numbers, indices)
            except UnreadableError as error:
                raise damaged(self.snapshot.url, error.key, error.reason) from error
            return values.astype(object) if values.dtype.kind == "T" else values


def _by_zarr(array: Raw, indices: Indices) -> np.ndarray:
    key = tuple(_slice(index) for index in indices)
    basic = all(isinstance(part, slice) for part in key)
    values = np.asarray(array[key] if basic else array.oindex[key])
    return values.astype(object) if values.dtype.kind == "T" else values


def _slice(index: np.ndarray) -> slice | np.ndarray:
    return slice(index[0], index[-1] + 1) if (np.diff(index) == 1).all() else index


class Finished:
    """Reads which shards of a group are finished. Once looked at, a shard keeps its answer."""

    def __init__(self, stored: Stored, shape: Sequence[int]) -> None:
        self._stored = stored
        self._seen = np.full(shape, _UNSEEN, dtype=np.uint8)

    def __call__(self, indices: Indices) -> np.ndarray:
        """The outer product of the indices."""
        place = np.ix_(*indices)
        seen = self._seen[place]
        if (seen == _UNSEEN).any():
            seen = np.where(seen == _UNSEEN, self._stored(indices), seen)
            self._seen[place] = seen
        return seen


@dataclass(frozen=True)
class Masked:
    """Reads an array whose values belong to shards: NaN where the shard is not finished."""

    stored: Stored
    finished: Finished
    steps: tuple[tuple[int, int], ...]  # the array's dimension and its length in a shard, in order

    def __call__(self, indices: Indices) -> np.ndarray:
        """The outer product of the indices."""
        unfinished = self._unfinished(indices)  # first: what is finished by now is there to read
        values = self.stored(indices)
        if values.dtype.kind != "f":
            values = values.astype(np.float64)
        np.copyto(values, np.nan, where=unfinished)
        return values

    def _unfinished(self, indices: Indices) -> np.ndarray:
        shards = [np.unique(indices[dim] // step, return_inverse=True) for dim, step in self.steps]
        flags = self.finished(tuple(shard for shard, _ in shards))
        flags = flags[np.ix_(*(inverse for _, inverse in shards))]
        kept = {dim for dim, _ in self.steps}
        return flags.reshape([len(n) if i in kept else 1 for i, n in enumerate(indices)]) == 0


@dataclass(frozen=True)
class Unfolded:
    """Reads an array with the points of a grid in the place of its dimension `cell`."""

    read: Reader
    cell: int  # which dimension `cell` is
    places: np.ndarray  # the cell at each point, or MISSING
    fill: float | str  # the value at points without a cell
    dtype: np.dtype[np.generic]

    def __call__(self, indices: Indices) -> np.ndarray:
        """The outer product of the indices."""
        at, end = self.cell, self.cell + self.places.ndim
        points = np.ravel(self.places[np.ix_(*indices[at:end])])
        stored = points != MISSING
        cells, inverse = np.unique(points[stored], return_inverse=True)
        wanted, shape = (*indices[:at], cells, *indices[end:]), [len(index) for index in indices]
        if np.array_equal(points, cells):
            return self.read(wanted).reshape(shape)
        found = np.full([*shape[:at], len(points), *shape[end:]], self.fill, dtype=self.dtype)
        if len(cells):
            found[(slice(None),) * at + (stored,)] = self.read(wanted).take(inverse, axis=at)
        return found.reshape(shape)


class LazyArray(BackendArray):
    """What a reader gives, as xarray wants it."""

    def __init__(self, read: Reader, shape: Sequence[int], dtype: np.dtype[np.generic]) -> None:
        self.read = read
        self.dtype = dtype
        self.shape = tuple(shape)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._outer)

    def _outer(self, key: tuple[int | np.integer | slice | np.ndarray, ...]) -> np.ndarray:
        pairs = zip(self.shape, key, strict=True)
        indices = tuple(np.atleast_1d(np.arange(length)[part]) for length, part in pairs)
        if not all(map(len, indices)):
            values = np.empty([len(index) for index in indices], dtype=self.dtype)
        else:
            values = self.read(indices).astype(self.dtype, copy=False)
        return values[
            tuple(0 if isinstance(part, int | np.integer) else slice(None) for part in key)
        ]
