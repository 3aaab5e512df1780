"""The cells of a campaign are points of its sweep, and what is not finished is missing."""

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.arrays.attributes import axes_of
from storage.arrays.chunks import Indices
from storage.arrays.coordinates import Coordinate
from storage.arrays.schema import Variable
from storage.backend.lazy import Stored
from storage.backend.reader import open_campaign, open_raw
from storage.store.store import Store, create_array
from support.fake_shards import ONE_CELL, finish, finish_all, planned, values

pytestmark = pytest.mark.slow

AXES = {"phi": ["erf", "relu"], "size": [4, 8]}
# A dimension of an ensemble's variables -> the one that counts its shards, and its steps in one.
COUNTERS = {
    "chain": ("block", 2),
    "block": ("block", 1),
    "draw": ("segment", 2),
    "segment": ("segment", 1),
}


def masked(raw: xr.Dataset, name: str, cell: int) -> xr.DataArray:
    """A variable of one cell with NaN for unfinished shards, one shard after another."""
    variable = raw[name].isel(cell=cell)
    counted = {str(dim): COUNTERS[str(dim)] for dim in variable.dims if dim in COUNTERS}
    if name == "finished" or len(counted) < 2:  # written once for all segments, or for all blocks
        return variable
    found = variable if variable.dtype.kind == "f" else variable.astype("f8")
    flags = raw["finished"].isel(cell=cell, dataset=0)
    for block, segment in np.argwhere(flags.values == 0):
        shard = {"block": block, "segment": segment}
        place = {
            dim: slice(shard[counter] * steps, (shard[counter] + 1) * steps)
            for dim, (counter, steps) in counted.items()
        }
        found[place] = np.nan
    return found


# The grid


def test_the_grid_has_the_cells_where_they_belong(partial):
    raw = open_raw(partial.url)["ensemble"].to_dataset().load()
    grid = open_campaign(partial.url)["ensemble"].to_dataset()
    assert {axis: grid[axis].values.tolist() for axis in AXES} == AXES
    for name in raw.data_vars:
        assert grid[name].dims == ("phi", "size", *raw[name].dims[1:])
        for cell, (phi, size) in enumerate(itertools.product(*AXES.values())):
            point = grid[name].sel(phi=phi, size=size)
            np.testing.assert_array_equal(point, masked(raw, str(name), cell), str(name))
    assert 0 < np.isnan(grid["loss"]).mean() < 1


def test_repeats_of_a_regression_are_masked(partial):
    raw = open_raw(partial.url)["regression"].to_dataset().load()
    grid = open_campaign(partial.url)["regression"].to_dataset()
    assert grid["test_error"].dims == ("phi", "repeat", "train", "ridge")
    kept = raw["test_error"].where(raw["finished"] == 1)
    np.testing.assert_array_equal(grid["test_error"], kept)
    np.testing.assert_array_equal(grid["eigenvalue"], raw["eigenvalue"])
    assert 0 < np.isnan(grid["test_error"]).mean() < 1


def test_every_setting_is_a_coordinate_along_its_axis(partial):
    grid = open_campaign(partial.url)["ensemble"].to_dataset()
    assert grid["phi"].dtype == object
    assert grid["phi"].attrs["long_name"] == "network.activation"
    for name, (axis, found) in {
        "network_activation": ("phi", ["erf", "relu"]),
        "network_width": ("size", [4, 8]),
        "data_train": ("size", [4, 6]),
    }.items():
        assert grid[name].dims == (axis,)
        assert grid[name].values.tolist() == found
    assert grid["width"].dims == ("phi", "size")
    assert grid["width"].values.tolist() == [[4, 8], [4, 8]]
    assert "cell" not in grid.variables


def test_counts_are_floats_and_flags_stay_flags(partial):
    grid = open_campaign(partial.url)["ensemble"]
    assert grid["histogram"].dtype == grid["status"].dtype == np.float64
    assert grid["output"].dtype == np.float32
    assert grid["finished"].dtype == np.uint8
    assert grid["status"].attrs["flag_meanings"] == "ok diverged"


def test_the_grid_is_that_of_the_newest_spec(store):
    before = open_campaign(store.url)["ensemble"].to_dataset().load()
    planned(store, "sweep.size={network.width: [16, 4], data.train: [9, 4]}")
    after = open_campaign(store.url)["ensemble"].to_dataset()
    assert after["size"].values.tolist() == [16, 4]
    assert after["data_train"].values.tolist() == [9, 4]
    xr.testing.assert_equal(after["loss"].sel(size=4), before["loss"].sel(size=4))
    assert np.isnan(after["loss"].sel(size=16)).all()


def test_points_that_are_not_stored_are_missing(store):
    settings = dict(axes_of(store.root.group("ensemble").attrs))
    settings["phi"] = {"network_activation": ["tanh", "relu", "erf"]}
    store.root.group("ensemble").update_attributes({"axes": settings})
    before = open_campaign(store.url)["ensemble"].to_dataset().load()
    store.publish()
    grid = open_campaign(store.url)["ensemble"].to_dataset()
    kept = grid.sel(phi=["erf", "relu"])
    missing = grid.sel(phi="tanh")
    xr.testing.assert_equal(kept.drop_vars("width"), before.drop_vars("width"))
    assert (missing["finished"] == 0).all()
    for name in {*missing.variables} - {"finished", "phi", "network_activation"}:
        if "size" in missing[name].dims[:1] and name not in ("size", *settings["size"]):
            found = missing[name]
            assert (found == "" if found.dtype == object else found.isnull()).all(), name
    np.testing.assert_array_equal(kept["width"], before["width"])


def test_settings_that_are_no_numbers_find_their_cells(tmp_path):
    store = Store(str(tmp_path / "campaign"))
    swept = "sweep={prior: {network.weight_variance: [[1, 2], [2.5, 1]], sampler.thin: [1, 2]}}"
    finish_all(store, planned(store, swept).shards())
    grid = open_campaign(store.url)["ensemble"].to_dataset()
    assert grid["prior"].values.tolist() == ["[1.0, 2.0]", "[2.5, 1.0]"]
    assert grid["sampler_thin"].values.tolist() == [1, 2]
    assert np.isfinite(grid["loss"]).all()


def test_one_cell_has_no_dimension(tmp_path):
    store = Store(str(tmp_path / "campaign"))
    shards = finish_all(store, planned(store, text=ONE_CELL).shards())
    tree = open_campaign(store.url)
    assert tree["ensemble/loss"].dims == ("dataset", "chain", "draw")
    assert tree["ensemble/width"].item() == 4
    assert tree["regression/test_error"].dims == ("repeat", "train", "ridge")
    last = tree["ensemble/loss"].isel(dataset=0, chain=slice(2, 4), draw=slice(2, 4))
    np.testing.assert_array_equal(last, values(shards[-1])["loss"])


def test_a_prediction_is_subtracted_from_what_it_predicts(store):
    axes = axes_of(store.root.group("ensemble").attrs)
    raw = open_raw(store.url)["ensemble"]
    group = store.root.require_group("theory/nngp")
    described = Variable(("cell", "component"), "f8", "learnability")
    array = create_array(group, "learnability", (4, 1), (1, 1), described)
    array[...] = np.arange(4.0)[:, None]
    names = ["cell", "component", "network_activation", "network_width", "data_train"]
    coordinates = {
        name: Coordinate(raw[name].dims, raw[name].values, raw[name].attrs) for name in names
    }
    store.write_coordinates("theory/nngp", coordinates, axes)
    store.publish()
    tree = open_campaign(store.url)
    assert tree["theory/nngp/learnability"].dims == ("phi", "size", "component")
    measured, predicted = tree["ensemble/learnability"], tree["theory/nngp/learnability"]
    residual = measured - predicted
    assert residual.dims == measured.dims
    assert residual.shape == measured.shape
    np.testing.assert_array_equal(
        residual.sel(phi="relu", size=4), measured.sel(phi="relu", size=4) - 2.0
    )


# Laziness


def indexers(length: int) -> st.SearchStrategy[Any]:
    """Whatever `isel` takes, but for empty slices that run backwards, where xarray itself fails."""
    place = st.integers(-length, length - 1)
    some = st.lists(place, max_size=4).map(lambda found: np.array(found, dtype=int))
    backwards = st.just(slice(None, None, -1))
    return place | st.slices(length).filter(lambda s: (s.step or 1) > 0) | some | backwards


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_part_of_the_array_is_the_part_of_what_is_read(partial, data):
    name = data.draw(st.sampled_from(["loss", "moment", "kernel", "finished", "width"]))
    lazily, whole = (open_campaign(partial.url)[f"ensemble/{name}"] for _ in range(2))
    whole.load()
    part = {dim: data.draw(indexers(n)) for dim, n in whole.sizes.items()}
    xr.testing.assert_identical(lazily.isel(part).load(), whole.isel(part))


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_points_are_picked_one_by_one(partial, data):
    lazily, whole = (open_campaign(partial.url)["ensemble/loss"] for _ in range(2))
    whole.load()
    points = data.draw(st.integers(0, 5))
    part = {}
    for dim, n in whole.sizes.items():
        places = data.draw(st.lists(st.integers(-n, n - 1), min_size=points, max_size=points))
        part[dim] = xr.DataArray(np.array(places, dtype=int), dims="point")
    xr.testing.assert_identical(lazily.isel(part).load(), whole.isel(part))


def test_nothing_is_read_but_what_is_asked_for(store):
    """Every other chunk of data is damaged, so that reading it would be an error."""
    shard = [*planned(store).shards()][-1]
    finish(store, shard)
    kept = {store.chunk(shard, name) for name in ("loss", "finished")}
    for group in ("ensemble", "regression"):
        coordinates = set(open_raw(store.url)[group].coords)
        for file in Path(store.data, group).rglob("c/**/*"):
            name = file.relative_to(Path(store.data, group)).parts[0]
            if (
                file.is_file()
                and name not in coordinates
                and str(file.relative_to(store.url)) not in kept
            ):
                file.write_bytes(b"damaged")
    tree = open_campaign(store.url)
    place = {"phi": 1, "size": [1], "dataset": 0, "chain": slice(2, None), "draw": [3, 2]}
    part = tree["ensemble/loss"].isel(place)
    np.testing.assert_array_equal(part[0], values(shard)["loss"][:, ::-1])
    with pytest.raises(Exception, match="cannot be read"):
        tree["ensemble/loss"].isel(phi=0).load()


def test_opening_reads_the_labels_alone(partial, monkeypatch):
    paths = []
    read = Stored.__call__

    def recorded(self: Stored, indices: Indices) -> np.ndarray:
        paths.append(self.path)
        return read(self, indices)

    monkeypatch.setattr(Stored, "__call__", recorded)
    repr(open_campaign(partial.url))
    labels = {
        f"{name}/{key}"
        for name in ("ensemble", "regression")
        for key in open_raw(partial.url)[name].coords
    }
    assert paths
    assert {*paths} <= labels


def test_a_tree_travels_without_what_opened_it(partial):
    tree = open_campaign(partial.url)
    sent = pickle.loads(pickle.dumps(tree["ensemble/loss"]))
    np.testing.assert_array_equal(sent, tree["ensemble/loss"])
    assert len(pickle.dumps(tree["ensemble/histogram"])) < 20_000
