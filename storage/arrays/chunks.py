"""Arrays of data.zarr in chunks, read and written without Zarr: same bytes, a tenth of the work.

What Zarr spends goes into handing each request to a thread of its own and back. Only arrays of
numbers and of text are meant, packed as this project packs them.

Codecs are imported where they are used: most commands read no chunk.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np

from storage.arrays.documents import ArrayNode

Codec = tuple[str, Mapping[str, object]]  # its name and its settings
Outer = tuple[slice, ...] | tuple[np.ndarray, ...]  # an index of NumPy
Indices = tuple[np.ndarray, ...]  # what is wanted along each dimension
Fetch = Callable[[Sequence[str]], Iterable[bytes | None]]  # the bytes of objects, None if absent
_CODECS = (["bytes", "zstd"], ["bytes"], ["vlen-utf8", "zstd"], ["vlen-utf8"])
TEXT = "string"  # the data type of text, in the words of Zarr


class UnreadableError(ValueError):
    """A chunk that is damaged: its key, and what the codecs say."""

    def __init__(self, key: str, reason: ValueError) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


@dataclass(frozen=True)
class Chunked:
    """An array of numbers or of text in chunks."""

    path: str  # ensemble/loss
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[np.generic]
    codecs: tuple[Codec, ...]

    @classmethod
    def parsed(cls, path: str, node: ArrayNode) -> Self:
        """From what zarr.json holds of it; ValueError where it is packed in another way.

        LookupError and TypeError where these are no metadata of such an array.
        """
        codecs = tuple((each["name"], each.get("configuration", {})) for each in node["codecs"])
        if [name for name, _ in codecs] not in _CODECS:
            raise ValueError(f"{path} is packed by {', '.join(name for name, _ in codecs)}")
        return cls(
            path,
            tuple(node.get("dimension_names") or ()),
            tuple(node["shape"]),
            tuple(node["chunk_grid"]["configuration"]["chunk_shape"]),
            _dtype(node["data_type"]),
            codecs,
        )

    @property
    def fill(self) -> float | int | str:
        """The value where nothing was written: NaN for floats, "" for text, 0 for all else."""
        return fill_of(self.dtype)

    def key(self, place: Sequence[int]) -> str:
        """The name of the object that holds the chunk at a place, below data.zarr."""
        return "/".join([self.path, "c", *map(str, place)])

    def decoded(self, data: bytes) -> bytes:
        """The bytes of the values of a chunk; ValueError where it is damaged."""
        from numcodecs import zstd  # pyright: ignore[reportAttributeAccessIssue]  compiled

        try:
            return zstd.decompress(data) if self._packing else data
        except RuntimeError as error:
            raise ValueError(str(error)) from None

    def encoded(self, content: bytes) -> bytes:
        """The chunk that holds the bytes of values: what Zarr itself would write."""
        from numcodecs import zstd  # pyright: ignore[reportAttributeAccessIssue]  compiled

        packing = self._packing
        return zstd.compress(content, packing["level"], packing["checksum"]) if packing else content

    def values(self, data: bytes) -> np.ndarray:
        """The values of a chunk; ValueError where it is damaged."""
        content = self.decoded(data)
        if self.dtype.kind != "T":
            return np.frombuffer(content, dtype=self.dtype).reshape(self.chunks)
        from numcodecs.vlen import VLenUTF8

        found = np.empty(np.prod(self.chunks, dtype=int), dtype=object)
        VLenUTF8().decode(content, found)
        return found.astype(self.dtype).reshape(self.chunks)

    def packed(self, values: np.ndarray) -> bytes:
        """The chunk that holds these values."""
        if self.dtype.kind != "T":
            return self.encoded(np.ascontiguousarray(values, dtype=self.dtype).tobytes())
        from numcodecs.vlen import VLenUTF8

        return self.encoded(bytes(VLenUTF8().encode(values.astype(object).ravel())))

    @property
    def _packing(self) -> Mapping[str, object]:
        return self.codecs[1][1] if len(self.codecs) > 1 else {}


def fill_of(dtype: np.dtype[np.generic]) -> float | int | str:
    """The value that stands for nothing."""
    return {"f": np.nan, "T": ""}.get(dtype.kind, 0)


def _dtype(name: str) -> np.dtype[np.generic]:
    return np.dtypes.StringDType() if name == TEXT else np.dtype(name).newbyteorder("<")


def read(fetch: Fetch, array: Chunked, indices: Indices) -> np.ndarray:
    """The outer product of the indices, none of them empty; fill values where nothing was written.

    `fetch` gives the bytes of chunks by their names. Raises UnreadableError where one is damaged.
    """
    dtype = array.dtype if array.dtype.kind == "T" else array.dtype.newbyteorder("=")
    found = np.full([len(index) for index in indices], array.fill, dtype)
    places = list(places_of(array, indices))
    for place, data in zip(places, fetch([place.key for place in places]), strict=True):
        if data is not None:
            found[place.there] = values_of(array, place.key, data)[place.inside]
    return found


def values_of(array: Chunked, key: str, data: bytes) -> np.ndarray:
    """The values of the chunk of this name; UnreadableError where it is damaged."""
    try:
        return array.values(data)
    except ValueError as error:
        raise UnreadableError(key, error) from error


@dataclass(frozen=True)
class Place:
    """Where a chunk meets an outer product of indices."""

    key: str  # of the chunk
    there: Outer  # in the product
    inside: Outer  # in the chunk
    count: int  # of values


def places_of(array: Chunked, indices: Indices) -> Iterator[Place]:
    """The chunks that an outer product of indices meets."""
    along = [[*_parts(index, chunk)] for index, chunk in zip(indices, array.chunks, strict=True)]
    for parts in product(*along):
        key = array.key([number for number, _, _ in parts])
        there, inside = [part[1] for part in parts], [part[2] for part in parts]
        yield Place(key, _outer(there), _outer(inside), math.prod(map(len, there)))


def _parts(index: np.ndarray, chunk: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Along a dimension: the number of a chunk, places in the result, and places in the chunk."""
    numbers = index // chunk
    for number in np.unique(numbers):
        there = np.flatnonzero(numbers == number)
        yield int(number), there, index[there] - number * chunk


def _outer(places: Sequence[np.ndarray]) -> Outer:
    """An index of NumPy for the outer product; slices where they say the same, which is faster."""
    slices = tuple(slice(place[0], place[-1] + 1) for place in places)
    if all((np.diff(place) == 1).all() for place in places):
        return slices
    return np.ix_(*places)
