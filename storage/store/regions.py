"""The region of a shard in an array: one chunk, of which nobody else writes a part.

It is written and read without Zarr, which takes ten times as long to come to the same bytes.
"""

import hashlib

import numpy as np

from storage.arrays.layout import Stored, place_of
from storage.files.objects import Objects
from storage.planning.plan import Shard

INDEXED = ("cell", "dataset", "block", "segment", "repeat")  # one shard has one index along these


def write_region(
    data: Objects, stored: Stored, shard: Shard, value: np.ndarray | np.generic
) -> str:
    """Write a shard's region of an array, and return the sha256 of its decoded bytes.

    A chunk of fill values is an object too, so that a missing one is noticed.
    """
    _check(stored, shard)
    shape = _shape(stored)
    value = _padded(stored, value, shape)
    if value.shape != shape:
        raise ValueError(f"{stored.path}: found shape {value.shape}, wanted {shape}")
    # What a chain on its way to divergence had beyond the range of float32 is infinite there.
    with np.errstate(over="ignore"):
        content = np.ascontiguousarray(value, dtype=stored.dtype)
    data.put(stored.chunk(shard), stored.encoded(content.tobytes()))
    return digest(content)


def read_region(data: Objects, stored: Stored, shard: Shard) -> np.ndarray:
    """A shard's region of an array, as it was written; fill values where nothing was.

    Raises ValueError where the chunk is damaged.
    """
    _check(stored, shard)
    shape = _shape(stored)
    if (found := data.get(stored.chunk(shard))) is None:
        return np.full(shape, stored.fill, dtype=stored.dtype)
    return np.frombuffer(stored.decoded(found), dtype=stored.dtype).reshape(shape)


def chunk_of(stored: Stored, shard: Shard) -> str:
    """The name of the object that holds a shard's region; ValueError if it has none."""
    _check(stored, shard)
    return stored.chunk(shard)


def _shape(stored: Stored) -> tuple[int, ...]:
    """The lengths along the dimensions of which a shard has more than one index."""
    lengths = zip(stored.dims, stored.chunks, strict=True)
    return tuple(n for dim, n in lengths if dim not in INDEXED)


def _padded(stored: Stored, value: np.ndarray | np.generic, shape: tuple[int, ...]) -> np.ndarray:
    """A network with fewer hidden layers than the deepest fills the layers that it has."""
    value = np.asarray(value)
    kept = [dim for dim in stored.dims if dim not in INDEXED]
    if "layer" not in kept or value.ndim != len(shape):
        return value
    axis = kept.index("layer")
    missing = [(0, 0)] * value.ndim
    missing[axis] = (0, max(shape[axis] - value.shape[axis], 0))
    return np.pad(value, missing, constant_values=stored.fill)


def _check(stored: Stored, shard: Shard) -> None:
    """ValueError unless the region is a whole chunk: never a read, modify, write."""
    place = place_of(shard)
    for dim, length, chunk in zip(stored.dims, stored.shape, stored.chunks, strict=True):
        start = place[dim] * chunk if dim in place else 0
        stop = start + chunk if dim in place else length
        if start < 0 or stop > length or (dim not in place and chunk != length):
            raise ValueError(
                f"{stored.path}: {dim} [{start}, {stop}) is not one chunk of {chunk} of {length}"
            )


def digest(values: np.ndarray) -> str:
    """sha256 of the bytes of an array, the same whatever its layout in memory."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
