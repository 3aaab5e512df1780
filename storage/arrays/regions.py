"""The region of a shard in an array: whole chunks, of which nobody else writes a part."""

import hashlib
from typing import Any

import numpy as np

from storage.arrays.layout import place_of
from storage.planning.plan import Shard

INDEXED = ("cell", "dataset", "block", "segment", "repeat")  # one shard has one index along these


def write_region(array: Any, shard: Shard, value: np.ndarray | np.generic) -> str:
    """Write a shard's region of an array, and return the sha256 of its decoded bytes."""
    region = region_of(array, shard)
    shape = tuple(part.stop - part.start for part in region)
    bare = tuple(n for n, dim in zip(shape, dims_of(array), strict=True) if dim not in INDEXED)
    value = _padded(array, value, bare)
    if value.shape != bare:
        raise ValueError(f"{array.name}: found shape {value.shape}, wanted {bare}")
    # What a chain on its way to divergence had beyond the range of float32 is infinite there.
    with np.errstate(over="ignore"):
        content = np.ascontiguousarray(value, dtype=array.dtype).reshape(shape)
    # a finished chunk of fill values is a file too, so that a missing one is noticed
    array.with_config({"write_empty_chunks": True})[region] = content
    return digest(content)


def _padded(array: Any, value: np.ndarray | np.generic, shape: tuple[int, ...]) -> np.ndarray:
    """A network with fewer hidden layers than the deepest fills the layers that it has."""
    value = np.asarray(value)
    kept = [dim for dim in dims_of(array) if dim not in INDEXED]
    if "layer" not in kept or value.ndim != len(shape):
        return value
    axis = kept.index("layer")
    missing = [(0, 0)] * value.ndim
    missing[axis] = (0, max(shape[axis] - value.shape[axis], 0))
    return np.pad(value, missing, constant_values=array.fill_value)


def region_of(array: Any, shard: Shard) -> tuple[slice, ...]:
    """The shard's slices of an array, checked to be whole chunks: never a read, modify, write."""
    place, region = place_of(shard), []
    for dim, length, chunk in zip(dims_of(array), array.shape, array.chunks, strict=True):
        start = place[dim] * chunk if dim in place else 0
        stop = start + chunk if dim in place else length
        if start < 0 or stop > length or (dim not in place and chunk != length):
            raise ValueError(
                f"{array.name}: {dim} [{start}, {stop}) is not one chunk of {chunk} of {length}"
            )
        region.append(slice(start, stop))
    return tuple(region)


def dims_of(array: Any) -> tuple[str, ...]:
    """The names of the dimensions of an array."""
    return array.metadata.dimension_names


def digest(values: np.ndarray) -> str:
    """sha256 of the bytes of an array, the same whatever its layout in memory."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
