"""What a store promises: shards that never meet, growth that moves nothing, metadata that speak."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from storage.arrays.schema import BIN_RANGE, BINS, CONVENTIONS, SCHEMA_VERSION, Variable
from storage.backend.reader import open_campaign, open_raw
from storage.errors import CampaignError
from storage.planning.plan import Plan, Shard, plan
from storage.planning.sweep import DIMENSIONS
from storage.reading.document import parse
from storage.store.regions import digest
from storage.store.sound import Sound
from storage.store.store import Store, create_array
from support.fake_shards import TEXT, finish_all, planned, values

EXTENSIONS = {
    "cells": ["sweep.size={network.width: [8, 16, 4], data.train: [6, 7, 4]}"],
    "other cells": ["sweep.phi={network.activation: [tanh]}"],
    "datasets": ["ensemble.datasets=2"],
    "chains": ["ensemble.chains=6"],
    "draws": ["sampler.draws=6"],
    "repeats": ["regression.repeats=5"],
}
ALL = [override for overrides in EXTENSIONS.values() for override in overrides]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Store:
    """A finished campaign, to be left as it is."""
    store = Store(str(tmp_path_factory.mktemp("finished") / "campaign"))
    finish_all(store, planned(store).shards())
    return store


@pytest.fixture
def store(finished, tmp_path) -> Store:
    """A copy of it."""
    shutil.copytree(finished.url, tmp_path / "campaign")
    return Store(str(tmp_path / "campaign"))


def files(store: Store) -> dict[str, str]:
    """sha256 of every file of the hierarchy."""
    top = Path(store.data).parent
    return {
        str(file.relative_to(top)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(Path(store.data).rglob("*"))
        if file.is_file()
    }


def shards_of(*overrides: str) -> list[Shard]:
    return list(plan(parse(TEXT, overrides)).shards())


def chunks_of(store: Store, shard: Shard) -> list[str]:
    """The objects that a shard writes."""
    flagged = shard.kind == "regression" or (shard.kind == "ensemble" and shard.segment >= 0)
    names = [*values(shard), *(["finished"] if flagged else [])]
    return [store.chunk(shard, name) for name in names]


def killed_after(writes: int) -> Callable[[Sound, str, bytes], None]:
    """A writer of data.zarr that is killed after so many objects."""
    write, left = Sound.write, iter(range(writes))

    def until_killed(self: Sound, key: str, data: bytes) -> None:
        if next(left, None) is None:
            raise CampaignError("killed")
        write(self, key, data)

    return until_killed


# Growth


def test_allocating_again_changes_no_byte(store):
    before = files(store)
    planned(store)
    planned(Store(store.url))
    assert files(store) == before


def test_bytes_do_not_depend_on_the_order_of_shards_or_on_repeating_them(finished, tmp_path):
    again = Store(str(tmp_path / "again"))
    shards = list(planned(again).shards())
    finish_all(again, [*reversed(shards), *shards[::3]])
    assert files(again) == files(finished)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", EXTENSIONS.values(), ids=EXTENSIONS.keys())
def test_growth_moves_no_data(store, overrides):
    before, old = files(store), shards_of()
    chunks = [chunk for shard in old for chunk in chunks_of(store, shard)]
    grown = planned(store, *overrides)
    after = files(store)
    assert before.keys() <= after.keys()
    assert [after[name] for name in chunks] == [before[name] for name in chunks]
    new = [shard for shard in grown.shards() if shard.name not in {s.name for s in old}]
    assert new
    assert not {chunk for shard in new for chunk in chunks_of(store, shard)} & {*chunks}
    finish_all(store, new)
    for shard in [*old, *new]:
        for name, value in store.read(shard, list(values(shard))).items():
            np.testing.assert_array_equal(value, values(shard)[name])


@pytest.mark.slow
@pytest.mark.parametrize("writes", [0, 8, 45])
def test_growth_that_was_interrupted_shows_nothing_and_ends_the_same(
    store, tmp_path, monkeypatch, writes: int
):
    shutil.copytree(store.url, tmp_path / "undisturbed")
    undisturbed = Store(str(tmp_path / "undisturbed"))
    planned(undisturbed, *ALL)
    raw, labelled = open_raw(store.url).load(), open_campaign(store.url).load()
    with monkeypatch.context() as patch:
        patch.setattr(Sound, "write", killed_after(writes))
        with pytest.raises(CampaignError, match="killed"):
            planned(store, *ALL)
    xr.testing.assert_identical(open_raw(store.url).load(), raw)
    xr.testing.assert_identical(open_campaign(store.url).load(), labelled)
    planned(Store(store.url), *ALL)
    assert files(store) == files(undisturbed)


def test_whole_numbers_and_fractions_are_of_one_type_where_the_setting_is(tmp_path):
    store = Store(str(tmp_path / "campaign"))
    planned(store, "sweep={heat: {sampler.temperature: [1, 2]}}")
    before = open_raw(store.url)
    planned(store, "sweep={heat: {sampler.temperature: [0.5, 1]}}")
    assert before["ensemble/sampler_temperature"].values.tolist() == [1.0, 2.0]
    assert open_raw(store.url)["ensemble/sampler_temperature"].values.tolist() == [1.0, 2.0, 0.5]
    assert open_campaign(store.url)["ensemble/heat"].values.tolist() == [0.5, 1.0]


def test_an_array_never_shrinks(store):
    before = files(store)
    with pytest.raises(ValueError, match="never shrinks; plan with all specs"):
        store.allocate(plan(parse(TEXT, ["ensemble.chains=2"])))
    assert files(store) == before


# Room for cells to come


def with_room(store: Store, room: int, *overrides: str) -> Plan:
    """The plan of a spec that is added to the store, with room behind its cells."""
    spec = parse(TEXT, overrides)
    found = plan(spec, store.add_spec(spec, {}))
    store.allocate(found, room)
    return found


def places(store: Store) -> dict[str, int]:
    """The places along `cell` in every array of the ensemble, as readers see it."""
    arrays = open_raw(store.url)["ensemble"].variables.items()
    return {name: array.sizes["cell"] for name, array in arrays if "cell" in array.dims}


def test_room_is_seen_in_the_store_and_not_in_the_grid(store):
    raw, labelled = open_raw(store.url)["ensemble"].load(), open_campaign(store.url).load()
    with_room(store, 3)
    before = files(store)
    with_room(Store(store.url), 3)
    assert files(store) == before
    xr.testing.assert_identical(open_campaign(store.url).load(), labelled)
    found = xr.open_zarr(f"{store.data}/ensemble", consolidated=False).load()
    assert found["refined"].values.tolist() == [0] * 4 + [2] * 3
    for name, array in found.isel(cell=slice(4, None)).data_vars.items():
        assert (array.isnull() if array.dtype.kind == "f" else array == 0).all(), name
    xr.testing.assert_equal(found.isel(cell=found["refined"] != 2), raw.to_dataset())


@pytest.mark.slow
def test_cells_move_into_room_and_what_is_left_goes(store, tmp_path):
    plain, old = Store(str(shutil.copytree(store.url, tmp_path / "plain"))), shards_of()
    with_room(store, 3)
    before, lengths = files(store), places(store)
    grown = with_room(store, 1, *EXTENSIONS["cells"])
    new = [shard for shard in grown.shards() if shard not in old]
    finish_all(store, new)
    assert places(store) == lengths
    for each in (store, plain):
        planned(each, *EXTENSIONS["cells"])
    finish_all(plain, new)
    xr.testing.assert_identical(open_raw(store.url).load(), open_raw(plain.url).load())
    after, chunks = files(store), [name for shard in old for name in chunks_of(store, shard)]
    assert [after[name] for name in chunks] == [before[name] for name in chunks]


MORE = EXTENSIONS["cells"]  # two of them
STEPS = [(0, 3, [], 8), (0, 3, [], 30), (3, 1, MORE, 2), (3, 1, MORE, 6), (1, 1, MORE, 20)]
STEPS += [(3, 0, [], 5), (3, 0, [], 20)]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after", "overrides", "writes"), STEPS)
def test_room_that_was_interrupted_shows_nothing_and_ends_the_same(
    store, tmp_path, monkeypatch, before: int, after: int, overrides: list[str], writes: int
):
    with_room(store, before)
    undisturbed = Store(str(shutil.copytree(store.url, tmp_path / "undisturbed")))
    with_room(undisturbed, after, *overrides)
    lengths, labelled = places(store), open_campaign(store.url).load()
    with monkeypatch.context() as patch:
        patch.setattr(Sound, "write", killed_after(writes))
        with pytest.raises(CampaignError, match="killed"):
            with_room(store, after, *overrides)
    assert places(store) == lengths
    xr.testing.assert_identical(open_campaign(store.url).load(), labelled)
    cells = open_raw(store.url)["ensemble"]
    assert (cells["network_width"] > 0)[cells["refined"] != 2].all()  # a cell says which it is
    with_room(Store(store.url), after, *overrides)
    assert files(store) == files(undisturbed)


def test_cells_are_no_room(store):
    with_room(store, 2)
    before = files(store)
    with pytest.raises(ValueError, match="found 4 cells, wanted 2: a store never shrinks"):
        store.allocate(plan(parse(TEXT, ["sweep.phi={network.activation: [erf]}"])), room=2)
    assert files(store) == before


# Shards


@pytest.mark.parametrize("kind", ["ensemble", "regression", "spectrum"])
def test_what_is_written_is_read(store, kind: str):
    for shard in (shard for shard in shards_of() if shard.kind == kind):
        written = values(shard)
        found = store.read(shard, list(written))
        digests = {name: digest(value) for name, value in written.items()}
        assert {name: digest(value) for name, value in found.items()} == digests
        assert store.write(shard, found) == digests


def test_no_two_shards_write_the_same_object_and_nothing_else_is_written(finished):
    chunks = [chunk for shard in shards_of() for chunk in chunks_of(finished, shard)]
    assert len(set(chunks)) == len(chunks)
    coordinates = {
        f"data.zarr/{name}/{key}"
        for name in ("ensemble", "regression")
        for key in open_raw(finished.url)[name].coords
    }
    others = {name for name in files(finished) if "/c/" in name} - {*chunks}
    assert {name.partition("/c/")[0] for name in others} <= coordinates


@pytest.mark.parametrize("name", values(shards_of()[-1]))
def test_a_wrong_shape_is_refused(finished, name: str):
    shard = shards_of()[-1]
    chunk, value = Path(finished.url, finished.chunk(shard, name)), values(shard)[name]
    before = chunk.read_bytes()
    for wrong in (value[None], value[..., :-1], value.T[..., None], np.zeros(())):
        with pytest.raises(ValueError, match=f"{name}: found shape .*, wanted"):
            finished.write(shard, {name: wrong})
    assert chunk.read_bytes() == before


def test_a_region_that_is_not_one_chunk_is_refused(store):
    """Where chunks are longer than a shard, two writers would lose what the other wrote."""
    shard = next(s for s in shards_of("ensemble.chains=6") if s.kind == "ensemble" and s.block == 2)
    before = files(store)
    with pytest.raises(ValueError, match=r"loss: chain \[4, 6\) is not one chunk of 2 of 4"):
        store.write(shard, {"loss": np.zeros((2, 2))})
    warmup = next(s for s in shards_of() if s.kind == "ensemble" and s.segment < 0)
    with pytest.raises(ValueError, match=r"loss: draw \[-2, 0\) is not one chunk"):
        store.write(warmup, {"loss": np.zeros((2, 2))})
    assert files(store) == before
    variable = Variable(("cell", "test"), "f8", "split along a dimension of no shard")
    create_array(store.root.group("ensemble"), "split", (4, 5), (1, 3), variable)
    store.publish()
    with pytest.raises(ValueError, match=r"split: test \[0, 5\) is not one chunk of 3 of 5"):
        store.write(warmup, {"split": np.zeros(5)})


WRITER = """
import sys
from support.fake_shards import TEXT, finish
from storage.planning.plan import plan
from storage.reading.document import parse
from storage.store.store import Store
store = Store(sys.argv[1])
shards = list(plan(parse(TEXT)).shards())[int(sys.argv[2]) :: 3]
print("ready", flush=True)
sys.stdin.readline()
for shard in shards:
    finish(store, shard)
"""


@pytest.mark.slow
def test_writers_side_by_side_lose_nothing(finished, tmp_path):
    shared = Store(str(tmp_path / "shared"))
    planned(shared)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, shared.url, str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for first in range(3)
    ]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.communicate(b"\n")
        assert writer.returncode == 0
    assert files(shared) == files(finished)


# What a reader is told


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> xr.DataTree:
    """A campaign of which nothing is finished, as it is stored."""
    store = Store(str(tmp_path_factory.mktemp("empty") / "campaign"))
    planned(store)
    return open_raw(store.url)


def test_what_is_not_finished_is_nan_or_zero(empty):
    for group in ("ensemble", "regression"):
        for name, variable in empty[group].data_vars.items():
            if variable.dtype.kind == "f":
                assert np.isnan(variable.values).all(), name
            else:
                assert (variable.values == 0).all(), name


def test_everything_has_a_name_and_units(empty):
    for group in ("ensemble", "regression"):
        for name, variable in empty[group].variables.items():
            assert {"long_name", "units"} <= variable.attrs.keys(), name
            assert all(variable.attrs[key] for key in ("long_name", "units")), name
            assert set(variable.dims) <= {*DIMENSIONS}, name


def test_dimensions_have_the_lengths_of_the_spec(empty):
    expected = {"cell": 4, "dataset": 1, "chain": 4, "draw": 4, "block": 2, "segment": 2}
    assert expected.items() <= dict(empty["ensemble"].sizes).items()
    expected = {"cell": 2, "repeat": 2, "train": 2, "ridge": 1, "mode": 6}
    assert dict(empty["regression"].sizes) == expected
    assert empty["ensemble/loss"].dims == ("cell", "dataset", "chain", "draw")
    assert empty["regression/test_error"].dims == ("cell", "repeat", "train", "ridge")


def test_conventions_are_named_and_kept(empty):
    assert empty.attrs["Conventions"] == CONVENTIONS
    assert empty.attrs["schema_version"] == SCHEMA_VERSION
    ensemble = empty["ensemble"].to_dataset()
    bounds = ensemble[ensemble["bin"].attrs["bounds"]]
    np.testing.assert_array_equal(bounds.mean("bound"), ensemble["bin"])
    np.testing.assert_array_equal(bounds[1:, 0], bounds[:-1, 1])
    assert bounds[0, 0] == -BIN_RANGE
    assert bounds[-1, 1] == BIN_RANGE
    assert len(bounds) == BINS
    for name in ("status", "finished"):
        flags = ensemble[name].attrs
        assert len(flags["flag_meanings"].split()) == len(flags["flag_values"])


def test_cells_carry_their_settings(empty):
    cells = empty["ensemble"].coords
    assert cells["network_activation"].values.tolist() == ["erf", "erf", "relu", "relu"]
    assert cells["data_train"].values.tolist() == [4, 6, 4, 6]
    assert cells["network_width"].values.tolist() == cells["width"].values.tolist() == [4, 8, 4, 8]
    assert empty["regression/network_activation"].values.tolist() == ["erf", "relu"]


def test_a_finished_chunk_of_fill_values_is_a_file(store):
    shard = shards_of()[-1]
    for fill in (np.nan, 0):
        store.write(shard, {"loss": np.full((2, 2), fill)})
        assert store.objects.exists(store.chunk(shard, "loss"))


def test_groups_are_seen_when_they_are_published(store):
    before = zarr.open_group(store.data, mode="r")
    group = store.root.require_group("theory/nngp")
    create_array(group, "loss", (4,), (4,), Variable(("cell",), "f8", "loss"))[...] = 1.0
    assert "theory" not in open_raw(store.url).children
    store.publish()
    assert open_raw(store.url)["theory/nngp/loss"].values.tolist() == [1.0] * 4
    assert dict(zarr.open_group(store.data, mode="r").attrs) == dict(before.attrs)
