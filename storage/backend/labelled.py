"""A group of a campaign as a labelled dataset, of which nothing is read but the labels.

Cells are points of a grid, or `folded`: along `cell`, in the order of those points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from xarray import Coordinates, Dataset, Variable
from xarray.core.indexing import LazilyIndexedArray

from storage.arrays.attributes import axes_of, encoded
from storage.arrays.grid import MISSING, Grid, locate
from storage.backend.lazy import Finished, LazyArray, Masked, Reader, Stored, Unfolded
from storage.backend.snapshot import Snapshot
from storage.backend.snapshot import Stored as Raw
from storage.errors import CampaignError

if TYPE_CHECKING:
    import zarr

# dimension -> the one that counts its shards
SHARDS = {"chain": "block", "draw": "segment", "time": "segment"}


def dataset(snapshot: Snapshot, path: str, dropped: set[str], folded: bool = False) -> Dataset:
    """The variables of a group but for those dropped, on its grid if it has one."""
    group = Group(snapshot, path, snapshot.group(path), folded)
    names = [name for name in sorted(group.arrays) if name not in dropped]
    variables = {name: group.variable(name) for name in names if name not in group.replaced}
    labels = {name: label for name, label in group.labels().items() if name not in dropped}
    named = [name for name in variables if name in group.sizes or name in group.coordinates]
    coordinates = {name: variables.pop(name) for name in named} | labels
    attrs = {key: value for key, value in group.attrs.items() if key != "coordinates"}
    if group.grid is not None and not group.grid.complete and not folded:
        attrs["absent"] = group.grid.absent
    return Dataset(variables, Coordinates(coordinates, indexes={}), encoded(attrs))


class _Named(Protocol):
    """Metadata of an array whose dimensions have names, as all of ours have."""

    dimension_names: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """A stored group and the grid that its cells form."""

    snapshot: Snapshot
    path: str
    node: "zarr.Group"
    folded: bool

    @cached_property
    def arrays(self) -> dict[str, Raw]:
        """The stored arrays by name."""
        return dict(self.node.arrays())

    @cached_property
    def attrs(self) -> dict[str, object]:
        """The stored attributes."""
        return dict(self.node.attrs)

    @cached_property
    def coordinates(self) -> set[str]:
        """Names of the coordinates that are not those of a dimension."""
        return set(str(self.attrs.get("coordinates", "")).split())

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Length of every stored dimension."""
        arrays = self.arrays.values()
        return {dim: n for a in arrays for dim, n in zip(_dims(a), a.shape, strict=True)}

    @cached_property
    def grid(self) -> Grid | None:
        """The grid of the cells; None where the group has none."""
        axes = axes_of(self.attrs)
        if axes is None or "cell" not in self.sizes:
            return None
        names = [name for settings in axes.values() for name in settings]
        if missing := [name for name in names if name not in self.arrays]:
            raise CampaignError(
                f"{self.snapshot.url}: {self.path} has no coordinate {missing[0]}, wanted one for "
                "every setting of the sweep; run `finitewidth predict` again"
            )
        everything = (np.arange(self.sizes["cell"]),)
        settings = {name: self._reader(name)(everything) for name in names}
        return locate(axes, settings, self.sizes["cell"])

    @cached_property
    def replaced(self) -> set[str]:
        """Stored arrays whose place the labels of the grid take."""
        return set() if self.grid is None else {"cell", *self.labels()}

    @cached_property
    def finished(self) -> Finished | None:
        """Which shards of the group are finished; None where it is not written by shards."""
        array = self.arrays.get("finished")
        return None if array is None else Finished(Stored(self.snapshot, array.path), array.shape)

    def labels(self) -> dict[str, Variable]:
        """Every setting along its axis, and the first of each axis under the axis' own name."""
        found: dict[str, Variable] = {}
        if self.grid is None:
            return found
        points = np.nonzero(self.grid.places != MISSING) if self.grid.axes else ()
        for number, (axis, settings) in enumerate(self.grid.axes.items()):
            for name, values in settings.items():
                attrs, labels = dict(self.arrays[name].attrs), _labels(values)
                along = (("cell",), labels[points[number]]) if self.folded else ((axis,), labels)
                found[name] = Variable(*along, attrs)
        for axis, settings in self.grid.axes.items():
            found[axis] = found[next(iter(settings))]
        return found

    def variable(self, name: str) -> Variable:
        """An array with the axes for `cell`, NaN where its shard is not finished, not yet read."""
        array = self.arrays[name]
        dims, shape = _dims(array), array.shape
        read = self._reader(name)
        dtype, fill = _kind(array.dtype, isinstance(read, Masked))
        if self.grid is not None and "cell" in dims:
            cell, places = dims.index("cell"), self.grid.places
            if self.folded:
                places = places[places != MISSING]
            elif not self.grid.complete and name != "finished":
                dtype, fill = _kind(array.dtype, holes=True)
            read = Unfolded(read, cell, places, fill, dtype)
            dims = dims if self.folded else self.grid.unfold(dims)
            shape = (*shape[:cell], *places.shape, *shape[cell + 1 :])
        lengths = dict(zip(_dims(array), array.chunks, strict=True))
        encoding = {"preferred_chunks": {dim: lengths.get(dim, 1) for dim in dims}}
        lazy = LazilyIndexedArray(LazyArray(read, shape, dtype))
        return Variable(dims, lazy, dict(array.attrs), encoding)

    def _reader(self, name: str) -> Reader:
        """What reads the array as it is stored, masked where its values belong to shards."""
        stored, finished = Stored(self.snapshot, self.arrays[name].path), self.finished
        if finished is None or name == "finished":
            return finished or stored
        dims, steps = _dims(self.arrays[name]), []
        for counter in _dims(self.arrays["finished"]):
            dim = next((dim for dim in dims if counter in (dim, SHARDS.get(dim))), None)
            if dim is None:
                return stored
            steps.append((dims.index(dim), self.sizes[dim] // self.sizes[counter]))
        return Masked(stored, finished, tuple(steps))


def _dims(array: Raw) -> tuple[str, ...]:
    return cast("_Named", array.metadata).dimension_names


def _kind(stored: np.dtype[np.generic], holes: bool) -> tuple[np.dtype[np.generic], float | str]:
    """The dtype that readers see, and the value of what is not there."""
    if stored.kind == "T":
        return np.dtype(object), ""
    if stored.kind == "f" or holes:
        return stored if stored.kind == "f" else np.dtype(np.float64), np.nan
    return stored, 0


def _labels(values: Sequence[object]) -> np.ndarray:
    labels = np.array(values)
    return labels.astype(object) if labels.dtype.kind == "U" else labels
