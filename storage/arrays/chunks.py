"""Arrays of data.zarr in chunks, read and written without Zarr: same bytes, a tenth of the work.

What Zarr spends goes into handing each request to a thread of its own and back. Only arrays of
numbers are meant, packed as this project packs them; all others are left to Zarr.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Self

import numpy as np

Codec = tuple[str, Mapping[str, Any]]  # its name and its settings
Indices = tuple[np.ndarray, ...]  # what is wanted along each dimension
_CODECS = (["bytes", "zstd"], ["bytes"])


class UnreadableError(ValueError):
    """A chunk that is damaged: its key, and what the codecs say."""

    def __init__(self, key: str, reason: ValueError) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


@dataclass(frozen=True)
class Chunked:
    """An array of numbers in chunks."""

    path: str  # ensemble/loss
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    codecs: tuple[Codec, ...]

    @classmethod
    def parsed(cls, path: str, node: Mapping[str, Any]) -> Self:
        """From what zarr.json holds of it; ValueError where it is packed in another way.

        LookupError and TypeError where these are no metadata of an array of numbers.
        """
        codecs = tuple((each["name"], each.get("configuration", {})) for each in node["codecs"])
        if [name for name, _ in codecs] not in _CODECS:
            raise ValueError(f"{path} is packed by {', '.join(name for name, _ in codecs)}")
        return cls(
            path,
            tuple(node.get("dimension_names") or ()),
            tuple(node["shape"]),
            tuple(node["chunk_grid"]["configuration"]["chunk_shape"]),
            np.dtype(node["data_type"]).newbyteorder("<"),
            codecs,
        )

    @property
    def fill(self) -> float | int:
        """The value where nothing was written: NaN for floats, 0 for integers."""
        return np.nan if self.dtype.kind == "f" else 0

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
        return np.frombuffer(self.decoded(data), dtype=self.dtype).reshape(self.chunks)

    @property
    def _packing(self) -> Mapping[str, Any]:
        return self.codecs[1][1] if len(self.codecs) > 1 else {}


def read(get: Callable[[str], bytes | None], array: Chunked, indices: Indices) -> np.ndarray:
    """The outer product of the indices, none of them empty; fill values where nothing was written.

    `get` gives the bytes of a chunk, or None. Raises UnreadableError where one is damaged.
    """
    found = np.full([len(index) for index in indices], array.fill, array.dtype.newbyteorder("="))
    along = [[*_parts(index, chunk)] for index, chunk in zip(indices, array.chunks, strict=True)]
    for parts in product(*along):
        key = array.key([number for number, _, _ in parts])
        if (data := get(key)) is None:
            continue
        try:
            values = array.values(data)
        except ValueError as error:
            raise UnreadableError(key, error) from error
        found[_outer([there for _, there, _ in parts])] = values[_outer([at for _, _, at in parts])]
    return found


def _parts(index: np.ndarray, chunk: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Along a dimension: the number of a chunk, places in the result, and places in the chunk."""
    numbers = index // chunk
    for number in np.unique(numbers):
        there = np.flatnonzero(numbers == number)
        yield int(number), there, index[there] - number * chunk


def _outer(places: Sequence[np.ndarray]) -> tuple[Any, ...]:
    """An index of NumPy for the outer product; slices where they say the same, which is faster."""
    slices = tuple(slice(place[0], place[-1] + 1) for place in places)
    if all((np.diff(place) == 1).all() for place in places):
        return slices
    return np.ix_(*places)
