"""A campaign opens as a labelled grid, or as it is stored, whatever is still running."""

import itertools
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from fake_shards import ONE_CELL, finish, finish_all, planned, values
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.coordinates import Coordinate
from storage.errors import CampaignError
from storage.lazy import Indices, Stored
from storage.plan import Plan
from storage.reader import open_campaign, open_raw
from storage.schema import Variable
from storage.store import Store, create_array

AXES = {"phi": ["erf", "relu"], "size": [4, 8]}
# Ensemble variables that belong to a segment of a block, and how to see that in their dimensions.
BY_SHARD = {
    "chain": ("block", 2),
    "block": ("block", 1),
    "draw": ("segment", 2),
    "segment": ("segment", 1),
}


@pytest.fixture(scope="module")
def partial(tmp_path_factory) -> tuple[Store, Plan]:
    """A campaign with three of four shards finished, to be left as it is."""
    store = Store(str(tmp_path_factory.mktemp("partial") / "campaign"))
    found = planned(store)
    finish_all(store, [shard for i, shard in enumerate(found.shards()) if i % 4])
    # The data of a shard that was killed before its end are there already.
    killed = next(s for i, s in enumerate(found.shards()) if i % 4 == 0 and s.segment == 1)
    store.write(killed, values(killed))
    return store, found


@pytest.fixture
def store(partial, tmp_path) -> Store:
    """A copy of it."""
    shutil.copytree(partial[0].url, tmp_path / "campaign")
    return Store(str(tmp_path / "campaign"))


def masked(raw: xr.Dataset, name: str, cell: int) -> xr.DataArray:
    """A variable of one cell with NaN for unfinished shards, the slow and obvious way."""
    variable = raw[name].isel(cell=cell)
    counters = [BY_SHARD.get(str(dim)) for dim in variable.dims]
    if not {"block", "segment"} <= {counter[0] for counter in counters if counter}:
        return variable
    if name == "finished":
        return variable
    found = variable.astype("f4" if variable.dtype == np.float32 else "f8")
    for index in np.ndindex(found.shape):
        shard = {c[0]: i // c[1] for c, i in zip(counters, index, strict=True) if c}
        if not raw["finished"].isel(cell=cell, dataset=0, **shard):
            found.values[index] = np.nan
    return found


# The grid


def test_the_grid_has_the_cells_where_they_belong(partial):
    raw = open_raw(partial[0].url)["ensemble"].to_dataset().load()
    grid = open_campaign(partial[0].url)["ensemble"].to_dataset()
    assert {axis: grid[axis].values.tolist() for axis in AXES} == AXES
    for name in raw.data_vars:
        assert grid[name].dims == ("phi", "size", *raw[name].dims[1:])
        for cell, (phi, size) in enumerate(itertools.product(*AXES.values())):
            point = grid[name].sel(phi=phi, size=size)
            np.testing.assert_array_equal(point, masked(raw, str(name), cell), str(name))
    assert 0 < np.isnan(grid["loss"]).mean() < 1


def test_repeats_of_a_regression_are_masked(partial):
    raw = open_raw(partial[0].url)["regression"].to_dataset().load()
    grid = open_campaign(partial[0].url)["regression"].to_dataset()
    assert grid["test_error"].dims == ("phi", "repeat", "train", "ridge")
    kept = raw["test_error"].where(raw["finished"] == 1)
    np.testing.assert_array_equal(grid["test_error"], kept)
    np.testing.assert_array_equal(grid["eigenvalue"], raw["eigenvalue"])
    assert 0 < np.isnan(grid["test_error"]).mean() < 1


def test_every_setting_is_a_coordinate_along_its_axis(partial):
    grid = open_campaign(partial[0].url)["ensemble"].to_dataset()
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
    grid = open_campaign(partial[0].url)["ensemble"]
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
    settings = dict(store.root["ensemble"].attrs["axes"])
    settings["phi"] = {"network_activation": ["tanh", "relu", "erf"]}
    store.root["ensemble"].update_attributes({"axes": settings})
    before = open_campaign(store.url)["ensemble"].to_dataset().load()
    store.publish()
    grid = open_campaign(store.url)["ensemble"].to_dataset()
    kept = grid.sel(phi=["erf", "relu"])
    missing = grid.sel(phi="tanh")
    xr.testing.assert_equal(kept.drop_vars("width"), before.drop_vars("width"))
    assert (missing["finished"] == 0).all()
    for name in {*missing.variables} - {"finished", "phi", "network_activation"}:
        if "size" in missing[name].dims[:1] and name not in ("size", *settings["size"]):
            assert np.isnan(missing[name]).all(), name
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
    axes = store.root["ensemble"].attrs["axes"]
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
    place = st.integers(-length, length - 1)
    some = st.lists(place, max_size=4).map(lambda found: np.array(found, dtype=int))
    return place | st.slices(length) | some


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_part_of_the_array_is_the_part_of_what_is_read(partial, data):
    grid = open_campaign(partial[0].url)["ensemble"].to_dataset()
    name = data.draw(st.sampled_from(["loss", "histogram", "kernel", "finished", "width"]))
    whole = grid[name].load()
    part = {str(dim): data.draw(indexers(n)) for dim, n in grid[name].sizes.items()}
    lazily = open_campaign(partial[0].url)["ensemble"].to_dataset()[name]
    if data.draw(st.booleans()) and all(isinstance(p, np.ndarray) for p in part.values()):
        shortest = min(len(p) for p in part.values())
        part = {dim: xr.DataArray(p[:shortest], dims="point") for dim, p in part.items()}
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
    with pytest.raises(Exception, match=r"(?i)zstd|frame"):
        tree["ensemble/loss"].isel(phi=0).load()


def test_opening_reads_the_labels_alone(partial, monkeypatch):
    paths = []
    read = Stored.__call__

    def recorded(self: Stored, indices: Indices) -> np.ndarray:
        paths.append(self.path)
        return read(self, indices)

    monkeypatch.setattr(Stored, "__call__", recorded)
    repr(open_campaign(partial[0].url))
    labels = {
        f"{name}/{key}"
        for name in ("ensemble", "regression")
        for key in open_raw(partial[0].url)[name].coords
    }
    assert paths
    assert {*paths} <= labels


def test_a_tree_travels_without_what_opened_it(partial):
    tree = open_campaign(partial[0].url)
    sent = pickle.loads(pickle.dumps(tree["ensemble/loss"]))
    np.testing.assert_array_equal(sent, tree["ensemble/loss"])
    assert len(pickle.dumps(tree["ensemble/histogram"])) < 20_000


# Ways in


def test_all_ways_lead_to_the_same_tree(partial, tmp_path):
    store = partial[0]
    expected = open_campaign(store.url).load()
    shutil.copytree(store.data, tmp_path / "moved.zarr")
    ways = [store.url, Path(store.url), f"{store.url}/", store.data, tmp_path / "moved.zarr"]
    for way in ways:
        xr.testing.assert_identical(xr.open_datatree(way, engine="finitewidth").load(), expected)
    xr.testing.assert_identical(xr.open_datatree(store.url).load(), expected)
    for group in ("ensemble", "/regression/"):
        opened = xr.open_dataset(store.url, engine="finitewidth", group=group)
        xr.testing.assert_identical(opened.load(), expected[group.strip("/")].to_dataset())
    below = xr.open_datatree(store.url, engine="finitewidth", group="ensemble").load()
    xr.testing.assert_identical(below.to_dataset(), expected["ensemble"].to_dataset())
    groups = xr.open_groups(store.url, engine="finitewidth")
    assert set(groups) == {"/", "/ensemble", "/regression"}


def test_variables_can_be_dropped(partial):
    opened = xr.open_dataset(
        partial[0].url, engine="finitewidth", group="ensemble", drop_variables=["loss", "width"]
    )
    assert not {"loss", "width"} & set(opened.variables)
    assert "histogram" in opened


def test_the_raw_tree_is_what_the_zarr_engine_opens(partial):
    plain = xr.open_datatree(partial[0].data, engine="zarr")
    xr.testing.assert_identical(open_raw(partial[0].url).load(), plain.load())


def newer(path: Path) -> None:
    metadata = path / "data.zarr" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"schema_version": 1', '"schema_version": 2'))


def torn(path: Path) -> None:
    metadata = path / "data.zarr" / "zarr.json"
    metadata.write_text(metadata.read_text()[:100])


def foreign(path: Path) -> None:
    shutil.rmtree(path / "data.zarr")
    xr.Dataset({"x": ("y", [1.0])}).to_zarr(path / "data.zarr", consolidated=False)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (newer, r"found schema_version 2, wanted at most 1; open it with a newer finitewidth"),
        (torn, r"without schema_version, wanted that of a campaign; give the folder"),
        (foreign, r"without schema_version, wanted that of a campaign; give the folder"),
        (shutil.rmtree, r"no campaign is stored here; give the folder"),
    ],
)
def test_what_is_no_campaign_is_refused_in_one_line(store, change, line: str):
    change(Path(store.url))
    for opened in (open_campaign, open_raw):
        with pytest.raises(CampaignError, match=rf"^[^\n]*{line}[^\n]*$"):
            opened(store.url)
    assert not os.path.exists(store.url) or change is not shutil.rmtree


@pytest.mark.parametrize("path", ["nowhere", "file", ".", "gs://bucket/x", "s3://b b/x", ""])
def test_a_path_that_leads_nowhere_is_refused_in_one_line(tmp_path, monkeypatch, path: str):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("text")
    with pytest.raises(CampaignError, match=r"^[^\n]+$"):
        open_campaign(path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_group_that_is_not_there_names_those_that_are(partial):
    with pytest.raises(CampaignError, match="'theory/x', wanted one of ensemble, regression;"):
        xr.open_dataset(partial[0].url, engine="finitewidth", group="theory/x")


# Growth


def test_a_tree_stays_as_it_was_opened(store):
    found = [*planned(store).shards()]
    opened, kept = open_campaign(store.url), open_campaign(store.url)
    kept["ensemble/loss"].load()
    finish_all(store, planned(store, "ensemble.chains=6", "sampler.draws=6").shards())
    assert (
        kept["ensemble/output"].shape[:5] == opened["ensemble/output"].shape[:5] == (2, 2, 1, 4, 4)
    )
    # What was looked at together belongs together; what is looked at now is finished.
    missing = np.isnan(kept["ensemble/loss"])
    np.testing.assert_array_equal(np.isnan(kept["ensemble/output"]).all("probe"), missing)
    assert missing.any()
    assert np.isfinite(opened["ensemble/output"]).all()
    again = open_campaign(store.url)["ensemble/loss"]
    assert again.shape == (2, 2, 1, 6, 6)
    assert np.isfinite(again).all()
    assert found


GROWING = """
import sys
from fake_shards import finish, planned
from storage.store import Store
store = Store(sys.argv[1])
for overrides in (
    [],
    ["sweep.size={network.width: [4, 8, 16], data.train: [4, 6, 8]}"],
    ["sampler.draws=6", "ensemble.datasets=2"],
    ["ensemble.chains=6", "sweep.phi={network.activation: [relu, tanh]}", "regression.repeats=3"],
):
    for shard in planned(store, *overrides).shards():
        finish(store, shard)
"""


@pytest.mark.slow
def test_reading_never_fails_while_a_campaign_grows(tmp_path):
    store = Store(str(tmp_path / "campaign"))
    planned(store)
    arguments = [sys.executable, "-c", GROWING, store.url]
    writer = subprocess.Popen(arguments, cwd=Path(__file__).parent)
    shapes, finished = set(), 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while finished < 1:
            ended = writer.poll() is not None
            raw = xr.open_datatree(store.data, engine="zarr").load()["ensemble"]
            grid = open_campaign(store.url)["ensemble"].to_dataset()
            loss, flags = grid["loss"], grid["finished"]
            blocks = np.repeat(np.repeat(flags, 2, -2), 2, -1)
            np.testing.assert_array_equal(np.isfinite(loss), blocks == 1)
            assert (raw["cell"].values == np.arange(raw.sizes["cell"])).all()
            assert set(raw["network_activation"].values) <= {"erf", "relu", "tanh"}
            shapes.add(loss.shape)
            finished = float(flags.mean()) if ended else 0.0
    assert writer.returncode == 0
    assert len(shapes) > 1


PLAIN = """
import importlib.util, sys
sys.path.append(sys.argv[1])
assert not any(map(importlib.util.find_spec, ("storage", "workers", "theory", "pipelines")))
import xarray
tree = xarray.open_datatree(sys.argv[2], engine="zarr")
for group in tree.children.values():
    for name, variable in group.variables.items():
        assert variable.attrs["long_name"] and variable.attrs["units"], name
    group.to_dataset().load()
dataset = xarray.open_dataset(sys.argv[2], engine="zarr", group="ensemble")
print(dict(dataset.sizes), *sorted(dataset.coords))
"""


def test_the_store_opens_where_nothing_of_ours_is_installed(partial, tmp_path):
    """In an interpreter that finds every package but this one, with warnings as errors."""
    site = Path(xr.__file__).parents[1]
    for entry in site.iterdir():
        if "finitewidth" not in entry.name and entry.suffix != ".pth":
            (tmp_path / entry.name).symlink_to(entry)
    found = subprocess.run(
        [sys.executable, "-ISW", "error", "-c", PLAIN, str(tmp_path), partial[0].data],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stderr == ""
    raw = open_raw(partial[0].url)["ensemble"].to_dataset()
    assert found.stdout.split("} ")[1].split() == sorted(map(str, raw.coords))
    for dim, length in raw.sizes.items():
        assert f"'{dim}': {length}" in found.stdout
