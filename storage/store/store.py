"""A campaign's directory: specs, ledger, checkpoints, and data.zarr that xarray opens as it is."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import cast

import numpy as np

from storage.arrays.attributes import encoded
from storage.arrays.chunks import Chunked, read
from storage.arrays.coordinates import (
    Coordinate,
    axes,
    ensemble_axes,
    ensemble_coordinates,
    regression_axes,
    regression_coordinates,
)
from storage.arrays.documents import ArrayNode, RootNode
from storage.arrays.grid import Axes
from storage.arrays.layout import GROUPS, Layout, Stored, layout
from storage.arrays.nodes import EMPTY, PLAIN, serialized
from storage.arrays.schema import (
    CONVENTIONS,
    COORDINATE_CHUNK,
    GROWING,
    ORIGINS,
    SCHEMA_VERSION,
    Variable,
    check_sizes,
    check_variables,
    chunks,
    ensemble_sizes,
    ensemble_variables,
    has_step_check,
    regression_sizes,
    regression_variables,
)
from storage.campaign.resolved import regressed
from storage.campaign.spec import Campaign
from storage.errors import CampaignError, damaged
from storage.files.ledger import Ledger
from storage.files.objects import Objects
from storage.planning.plan import Plan, Round, Shard
from storage.store import archive
from storage.store.hierarchy import Array, Group, root
from storage.store.regions import chunk_of, read_region, write_region
from storage.store.sound import Sound
from storage.store.wanted import METADATA, Wanted

_WRITERS = 16  # regions of a shard written side by side in a bucket, where each is a round trip


class Store:
    """One campaign's directory, a local path or an s3:// URL."""

    def __init__(self, place: str | Objects) -> None:
        self.objects = place if isinstance(place, Objects) else Objects(place)
        self.ledger = Ledger(self.objects)
        self.wanted = Wanted(self.objects)

    @property
    def url(self) -> str:
        """Where the campaign's directory is."""
        return self.objects.url

    @cached_property
    def _data(self) -> Objects:
        return self.objects.child("data.zarr")

    @property
    def data(self) -> str:
        """Where the Zarr hierarchy is."""
        return self._data.url

    def specs(self) -> list[Campaign]:
        """Every spec that was run here, the oldest first.

        Raises CampaignError where there is no campaign.
        """
        if not (found := self.known()):
            raise CampaignError(
                f"{self.url}: no campaign is stored here; give the folder that `finitewidth run` "
                "printed"
            )
        return found

    def known(self) -> list[Campaign]:
        """Every spec that was run here, the oldest first; none where there is no campaign."""
        return archive.specs(self.objects)

    def sources(self) -> dict[str, str]:
        """Content hashes of the user's files and modules, as they were at the first run."""
        return archive.sources(self.objects)

    def add_spec(self, spec: Campaign, sources: Mapping[str, str]) -> list[Campaign]:
        """Keep a spec as the next of the campaign, unless it is the last one already."""
        return archive.add_spec(self.objects, spec, sources)

    def rounds(self) -> list[Round]:
        """The cells that the campaign added of its own accord, the oldest first."""
        return archive.rounds(self.objects)

    def add_round(self, made: Round) -> None:
        """Keep another round."""
        archive.add_round(self.objects, made)

    # -- the Zarr hierarchy -----------------------------------------------------------------

    @cached_property
    def root(self) -> Group:
        """The root group of data.zarr, for making groups and arrays; `publish` shows them.

        What is read of it is checked, as `storage.store.sound` says.
        """
        return root(Sound(self._data, self.wanted))

    def _published(self) -> RootNode:
        """The hierarchy as readers see it: one object holds the metadata of all arrays."""
        try:
            return json.loads(self.objects.get(f"data.zarr/{METADATA}") or json.dumps(EMPTY))
        except ValueError as error:
            raise damaged(self.data, METADATA, error) from None

    @cached_property
    def _layout(self) -> Layout:
        """The arrays of shards, of those that readers see."""
        try:
            return layout(self.objects.get(f"data.zarr/{METADATA}") or b"{}")
        except ValueError as error:
            raise damaged(self.data, METADATA, error) from None

    def _array(self, shard: Shard, name: str) -> Stored:
        """ValueError where the shard's group has no array of this name."""
        path = f"{GROUPS[shard.kind]}/{name}"
        if path not in self._layout.arrays:
            raise ValueError(f"{path}: no such array is published in {self.data}")
        return self._layout.arrays[path]

    def change(self) -> None:
        """Say that groups, arrays or coordinates will be other than they are; `publish` ends it."""
        self.wanted.digests.begin()

    def publish(self) -> None:
        """Show readers all groups and arrays as they now are, in one step.

        The last act of whoever makes or extends a group: until then readers see it as it was.
        """
        self.change()
        self.root.publish()
        self.__dict__.pop("_layout", None)
        self._keep_digests()

    def _keep_digests(self) -> None:
        digests, root = self.wanted.digests, self.objects.get(f"data.zarr/{METADATA}")
        self.wanted.forget()
        digests.note(METADATA, root)
        digests.keep(self.wanted.everything)

    def allocate(self, plan: Plan, room: int = 0) -> None:
        """Make or extend every array that the plan's shards write; repeating it is harmless.

        Behind its cells there is room for so many more; what is left of older room goes.
        """
        spec = plan.spec
        self.change()
        if plan.cells:
            self._check_cells("ensemble", len(plan.cells))
            sizes = ensemble_sizes(plan, room)
            self._allocate_group("ensemble", spec, ensemble_variables(spec), sizes)
            grid = axes(spec, ensemble_axes(spec))
            self.write_coordinates("ensemble", ensemble_coordinates(plan, sizes), grid)
            if has_step_check(spec) or "step_check" in self.root:  # it has been left out since
                sizes, variables = check_sizes(plan, room), check_variables(spec)
                self._allocate_group("step_check", spec, variables, sizes)
                dims = {dim for variable in variables.values() for dim in variable.dims}
                found = ensemble_coordinates(plan, sizes)
                used = {key: c for key, c in found.items() if dims.issuperset(c.dims)}
                self.write_coordinates("step_check", used, grid)
        if plan.regressions:
            self._check_cells("regression", len(plan.regressions))
            sizes = regression_sizes(plan)
            known = regressed(spec)
            self._allocate_group("regression", spec, regression_variables(known), sizes)
            grid = axes(spec, regression_axes(known))
            self.write_coordinates("regression", regression_coordinates(plan, sizes), grid)
        self.publish()
        self._describe(plan)

    def _describe(self, plan: Plan) -> None:
        wanted = {
            "Conventions": CONVENTIONS,
            "schema_version": SCHEMA_VERSION,
            "title": plan.spec.title or plan.spec.name,
            "campaign": plan.spec.name,
            "identity": plan.identity,
        }
        published = self._published()
        if published["attributes"] != published["attributes"] | wanted:
            self.change()
            published["attributes"] |= wanted
            self.objects.put(f"data.zarr/{METADATA}", serialized(published))
            self._keep_digests()

    def _fetch(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        return map(self._data.get, keys)

    def _check_cells(self, name: str, wanted: int) -> None:
        """Raise ValueError where readers see more cells in a group than that."""
        members = self._published()["consolidated_metadata"]["metadata"]
        if name not in self.root or f"{name}/cell" not in members:
            return
        arrays = cast("Mapping[str, ArrayNode]", members)  # that of cells is one
        (found,) = arrays[f"{name}/cell"]["shape"]
        if f"{name}/refined" in arrays:
            refined = Chunked.parsed(f"{name}/refined", arrays[f"{name}/refined"])
            origins = read(self._fetch, refined, (np.arange(found),))
            found -= int((origins == ORIGINS["unused"]).sum())
        if found > wanted:
            raise ValueError(
                f"{name}: found {found} cells, wanted {wanted}: a store never shrinks; plan with "
                "all specs of it"
            )

    def _allocate_group(
        self, name: str, spec: Campaign, variables: Mapping[str, Variable], sizes: Mapping[str, int]
    ) -> None:
        group = self.root.require_group(name)
        for key, variable in variables.items():
            shape = tuple(sizes[dim] for dim in variable.dims)
            if isinstance(array := group.get(key), Array):
                _grow(array, shape)
            else:
                create_array(group, key, shape, chunks(variable, sizes, spec), variable)

    def write_coordinates(
        self, name: str, coordinates: Mapping[str, Coordinate], grid: Axes
    ) -> None:
        """Write the coordinates of a group and the grid that its cells form; then `publish`."""
        group = self.root.require_group(name)
        for key, coordinate in coordinates.items():
            _write_coordinate(group, key, coordinate)
        auxiliary = [key for key, c in coordinates.items() if c.dims != (key,)]
        _update_attributes(group, encoded({"coordinates": " ".join(auxiliary), "axes": dict(grid)}))

    # -- what a shard writes ----------------------------------------------------------------

    def write(self, shard: Shard, values: Mapping[str, np.ndarray | np.generic]) -> dict[str, str]:
        """Write a shard's region of each variable; sha256 of the decoded bytes of each.

        The arrays have the variable's dimensions without those along which a shard has one index
        (cell, dataset, block, segment, repeat). Raises ValueError where a region is not exactly
        one chunk.
        """

        def region(name: str) -> str:
            return write_region(self._data, self._array(shard, name), shard, values[name])

        if not self.objects.remote:
            return {name: region(name) for name in values}
        with ThreadPoolExecutor(_WRITERS) as pool:
            return dict(zip(values, pool.map(region, values), strict=True))

    def read(self, shard: Shard, names: list[str]) -> dict[str, np.ndarray]:
        """A shard's region of each variable, as `write` took it."""
        return {name: read_region(self._data, self._array(shard, name), shard) for name in names}

    def variables(self, shard: Shard) -> list[str]:
        """The variables of the shard's group, coordinates not among them."""
        group = f"{GROUPS[shard.kind]}/"
        paths = (path for path in self._layout.arrays if path.startswith(group))
        return sorted(path.removeprefix(group) for path in paths)

    def chunk(self, shard: Shard, name: str) -> str:
        """The name of the object that holds a shard's region of a variable; ValueError if none."""
        return f"data.zarr/{chunk_of(self._array(shard, name), shard)}"


def checkpoint_name(shard: Shard) -> str:
    """Where the state at the end of a shard is kept."""
    return f"checkpoints/{shard.name}.npz"


def create_array(
    group: Group, name: str, shape: tuple[int, ...], chunk: tuple[int, ...], variable: Variable
) -> Array:
    """The array of a variable, nothing but fill values yet."""
    attributes = {"long_name": variable.long_name, "units": variable.units, **variable.attrs}
    dtype = np.dtype(variable.dtype)
    return group.create_array(name, shape, chunk, dtype, variable.dims, attributes)


def _write_coordinate(group: Group, name: str, coordinate: Coordinate) -> None:
    values = coordinate.values
    if values.dtype.kind in "UO":
        values = values.astype(np.dtypes.StringDType())
    array = group.get(name)
    if not isinstance(array, Array) or array.dtype != values.dtype or array.dims != coordinate.dims:
        array = _create_coordinate(group, name, coordinate.dims, values)
    if array.shape != values.shape:
        array.resize(values.shape)
    if not np.array_equal(array[...], values, equal_nan=values.dtype.kind == "f"):
        array[...] = values
    _update_attributes(array, coordinate.attrs)


def _create_coordinate(group: Group, name: str, dims: tuple[str, ...], values: np.ndarray) -> Array:
    """An array that grows within its chunks, so that whoever saw it shorter reads it still."""
    group.delete(name)  # one of another kind
    lengths = zip(dims, values.shape, strict=True)
    chunks = [COORDINATE_CHUNK if dim in GROWING else max(n, 1) for dim, n in lengths]
    return group.create_array(name, values.shape, chunks, values.dtype, dims, {}, PLAIN)


def _grow(array: Array, shape: tuple[int, ...]) -> None:
    """Extend an array; along `cell`, where it may have had room, any length will do."""
    lengths = zip(array.dims, shape, array.shape, strict=True)
    if any(new < old for dim, new, old in lengths if dim != "cell"):
        raise ValueError(
            f"{array.path}: found shape {array.shape}, wanted {shape}: an array never shrinks; "
            "plan with all specs of the store"
        )
    if array.shape != shape:
        array.resize(shape)


def _update_attributes(node: Group | Array, wanted: Mapping[str, object]) -> None:
    known = node.attrs
    if any(known.get(key) != value for key, value in wanted.items()):
        node.update_attributes(wanted)
