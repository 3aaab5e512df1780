"""The groups and arrays of data.zarr for a driver, which makes, extends and fills them.

It goes without Zarr, as in `storage.arrays.chunks`: a campaign has hundreds of small arrays, and
what Zarr spends on each of them would be most of the time of an analysis. The bytes are those that
Zarr would write.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from types import EllipsisType
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import DTypeLike

from storage.arrays.chunks import (
    Chunked,
    Indices,
    UnreadableError,
    fill_of,
    places_of,
    read,
    values_of,
)
from storage.arrays.documents import ArrayNode, Node, is_array
from storage.arrays.nodes import (
    EMPTY,
    PACKED,
    array_node,
    consolidated,
    group_node,
    serialized,
)
from storage.errors import damaged
from storage.store.sound import Sound
from storage.store.wanted import METADATA

Part: TypeAlias = int | slice | EllipsisType | Sequence[int] | np.ndarray
Key: TypeAlias = Part | tuple[Part, ...]  # an index of NumPy


class Group:
    """A group: other groups and arrays by their names, and attributes."""

    def __init__(self, place: Sound, path: str, node: Node) -> None:
        self.place, self.path, self._node = place, path, node
        self._node["attributes"] = dict(node["attributes"])

    @property
    def attrs(self) -> dict[str, object]:
        """Attributes by name."""
        return dict(self._node["attributes"])

    def update_attributes(self, attributes: Mapping[str, object]) -> None:
        """Give attributes other values, or more of them."""
        _update(self.place, self.path, self._node, attributes)

    def __contains__(self, name: str) -> bool:
        return self.place.read(_metadata(self._below(name))) is not None

    def get(self, name: str) -> "Group | Array | None":
        """A group or an array, None where there is none of this name."""
        path = self._below(name)
        node = _read(self.place, path)
        if node is None:
            return None
        try:
            if is_array(node):
                return Array(self.place, path, node)
            return Group(self.place, path, node)
        except (LookupError, TypeError, ValueError) as error:
            raise damaged(self.place.objects.url, _metadata(path), error) from None

    def __getitem__(self, name: str) -> "Array":
        """An array; KeyError where there is none of this name."""
        if not isinstance(found := self.get(name), Array):
            raise KeyError(self._below(name))
        return found

    def group(self, name: str) -> "Group":
        """A group; KeyError where there is none of this name."""
        if not isinstance(found := self.get(name), Group):
            raise KeyError(self._below(name))
        return found

    def __iter__(self) -> Iterator[str]:
        """The names of the groups and arrays directly in this one."""
        return (path.rpartition("/")[2] for path, _ in _directly(self.place, self.path))

    def paths(self) -> list[str]:
        """The paths of all groups and arrays below this one."""
        return sorted(dict(_below(self.place, self.path)))

    def publish(self) -> None:
        """Write into this one the metadata of all that lies below, as readers see it."""
        members = dict(sorted(_below(self.place, self.path), key=itemgetter(0)))
        node = _read(self.place, self.path) or self._node  # whose attributes may be other by now
        self.place.write(_metadata(self.path), serialized(consolidated(node, members)))

    def groups(self) -> Iterator[tuple[str, "Group"]]:
        """The groups directly in this one, by name."""
        for name in self:
            if isinstance(found := self.get(name), Group):
                yield name, found

    def arrays(self) -> Iterator[tuple[str, "Array"]]:
        """The arrays directly in this group, by name."""
        for name in self:
            if isinstance(found := self.get(name), Array):
                yield name, found

    def require_group(self, name: str) -> "Group":
        """The group of this name, made together with those that it lies in where it is none."""
        found = self
        for each in name.split("/"):
            below = found.get(each)
            if below is None:
                path = found._below(each)
                below = Group(self.place, path, group_node({}))
                self.place.write(_metadata(path), serialized(below._node))
            assert isinstance(below, Group)
            found = below
        return found

    def create_array(
        self,
        name: str,
        shape: Sequence[int],
        chunks: Sequence[int],
        dtype: np.dtype[np.generic],
        dims: Sequence[str],
        attributes: Mapping[str, object],
        packing: Mapping[str, object] = PACKED,
    ) -> "Array":
        """An array, in which lies what there is of one of this name: nothing, unless it was."""
        path = self._below(name)
        node = array_node(shape, chunks, dtype, dims, attributes, packing)
        self.place.write(_metadata(path), serialized(node))
        return Array(self.place, path, node)

    def delete(self, name: str) -> None:
        """Remove a group or an array with all that is in it; it need not exist."""
        self.place.delete_below(self._below(name))

    def _below(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


class Array:
    """An array, of which parts are read and written as of one of NumPy's."""

    def __init__(self, place: Sound, path: str, node: ArrayNode) -> None:
        self.place, self.path, self._node = place, path, node
        self._chunked = Chunked.parsed(path, node)

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths along the dimensions."""
        return self._chunked.shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """The lengths of a chunk along the dimensions."""
        return self._chunked.chunks

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the dimensions."""
        return self._chunked.dims

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of the values, as of this machine."""
        dtype = self._chunked.dtype
        return dtype if dtype.kind == "T" else dtype.newbyteorder("=")

    @property
    def attrs(self) -> dict[str, object]:
        """Attributes by name."""
        return dict(self._node["attributes"])

    def update_attributes(self, attributes: Mapping[str, object]) -> None:
        """Give attributes other values, or more of them."""
        _update(self.place, self.path, self._node, attributes)

    def resize(self, shape: Sequence[int]) -> None:
        """Change the lengths in the metadata alone; chunks stay as they are."""
        self._node["shape"] = [int(length) for length in shape]
        self.place.write(_metadata(self.path), serialized(self._node))
        self._chunked = Chunked.parsed(self.path, self._node)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def __getitem__(self, key: Key) -> np.ndarray:
        """The values there; damaged ones are a CampaignError."""
        indices, squeeze = _indices(key, self.shape)
        if not all(map(len, indices)):
            return np.empty([len(index) for index in indices], self.dtype)[squeeze]
        with self._told():
            return read(self.place.fetch, self._chunked, indices)[squeeze]

    def __setitem__(self, key: Key, value: object) -> None:
        """Write values there; chunks of fill values are not kept, as Zarr would not.

        CampaignError where what is in a chunk beside them is damaged.
        """
        indices, squeeze = _indices(key, self.shape)
        shape = tuple(len(index) for index in indices)
        kept = np.broadcast_to(np.asarray(value, dtype=self.dtype), np.empty(shape)[squeeze].shape)
        values = np.reshape(kept, shape)
        for place in places_of(self._chunked, indices):
            chunk = np.full(self.chunks, self._chunked.fill, self.dtype)
            if place.count < chunk.size and (data := self.place.read(place.key)) is not None:
                with self._told():
                    chunk[...] = values_of(self._chunked, place.key, data)
            chunk[place.inside] = values[place.there]
            if _is_fill(chunk):
                self.place.delete(place.key)
            else:
                self.place.write(place.key, self._chunked.packed(chunk))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A chunk that is damaged is a CampaignError that names it."""
        try:
            yield
        except UnreadableError as error:
            raise damaged(self.place.objects.url, error.key, error.reason) from error


def root(place: Sound) -> Group:
    """The root of a hierarchy; one that nobody has made yet is made."""
    if (node := _read(place, "")) is None:
        place.create(METADATA, serialized(EMPTY))
        node = _read(place, "")
    assert node is not None
    return Group(place, "", group_node(node["attributes"]))


def _metadata(path: str) -> str:
    return f"{path}/{METADATA}" if path else METADATA


def _read(place: Sound, path: str) -> Node | None:
    if (data := place.read(_metadata(path))) is None:
        return None
    try:
        return cast("Node", dict(json.loads(data)))
    except (TypeError, ValueError) as error:
        raise damaged(place.objects.url, _metadata(path), error) from None


def _directly(place: Sound, path: str) -> Iterator[tuple[str, Node]]:
    """Groups and arrays in a group, by path; chunks, of which there may be millions, not listed."""
    for name in place.objects.folders(path):
        below = f"{path}/{name}" if path else name
        if (node := _read(place, below)) is not None:
            yield below, node


def _below(place: Sound, path: str) -> Iterator[tuple[str, Node]]:
    """The same with all that lies deeper; what lies in no group, as one that goes, is not seen."""
    for below, node in _directly(place, path):
        yield below, node
        if node.get("node_type") == "group":
            yield from _below(place, below)


def _update(place: Sound, path: str, node: Node, attributes: Mapping[str, object]) -> None:
    node["attributes"] |= attributes
    place.write(_metadata(path), serialized(node))


def _indices(key: Key, shape: Sequence[int]) -> tuple[Indices, tuple[int | slice, ...]]:
    """An index as one list of whole numbers a dimension, and what takes those of length 1 away."""
    given = key if isinstance(key, tuple) else (key,)
    for at in [i for i, part in enumerate(given) if part is Ellipsis]:
        missing = len(shape) - len(given) + 1
        given = (*given[:at], *[slice(None)] * missing, *given[at + 1 :])
    given = (*given, *[slice(None)] * (len(shape) - len(given)))
    pairs = list(zip(given, shape, strict=True))
    indices = tuple(np.atleast_1d(np.arange(length)[part]) for part, length in pairs)
    whole = [isinstance(part, int | np.integer) for part, _ in pairs]
    return indices, tuple(0 if single else slice(None) for single in whole)


def _is_fill(chunk: np.ndarray) -> bool:
    fill = np.asarray(fill_of(chunk.dtype), dtype=chunk.dtype)
    numbers = chunk.dtype.kind == "f"
    return np.array_equal(chunk, np.broadcast_to(fill, chunk.shape), equal_nan=numbers)
