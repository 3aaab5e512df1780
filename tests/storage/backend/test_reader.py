"""A campaign opens from wherever it is kept, whatever is still running, or says why not."""

import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from storage.backend.reader import open_campaign, open_raw
from storage.errors import CampaignError
from storage.store.store import Store
from storage.verification.verify import verify
from support.fake_shards import ONE_CELL, finish_all, planned

# Ways in


@pytest.mark.slow
def test_all_ways_lead_to_the_same_tree(partial, tmp_path):
    store = partial
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
        partial.url, engine="finitewidth", group="ensemble", drop_variables=["loss", "width"]
    )
    assert not {"loss", "width"} & set(opened.variables)
    assert "histogram" in opened


def test_the_raw_tree_is_what_the_zarr_engine_opens(partial):
    plain = xr.open_datatree(partial.data, engine="zarr")
    xr.testing.assert_identical(open_raw(partial.url).load(), plain.load())


@pytest.mark.slow
@pytest.mark.usefixtures("endpoint")
def test_a_bucket_is_a_place_like_any_other(tmp_path):
    trees = []
    for url in (str(tmp_path / "campaign"), "s3://campaigns/reader/campaign"):
        store = Store(url)
        finish_all(store, list(planned(store, text=ONE_CELL).shards())[1:])
        planned(store, "ensemble.chains=6", text=ONE_CELL)
        opened = xr.open_datatree(url, engine="finitewidth")
        sent = pickle.dumps(opened["ensemble/loss"])
        assert b"SECRET" not in sent
        trees.append(opened.load())
        xr.testing.assert_identical(pickle.loads(sent), trees[-1]["ensemble/loss"])
        assert verify(store) == []
        assert open_raw(url)["ensemble"].sizes["chain"] == 6
    xr.testing.assert_identical(*trees)
    with pytest.raises(CampaignError, match="no campaign is stored here"):
        open_campaign("s3://campaigns/reader")


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
        xr.open_dataset(partial.url, engine="finitewidth", group="theory/x")


# Growth


@pytest.mark.slow
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
from support.fake_shards import finish, planned
from storage.store.store import Store
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
    writer = subprocess.Popen(arguments, cwd=Path(__file__).parents[2])
    shapes, ended = set(), False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while not ended:
            ended = writer.poll() is not None
            raw = xr.open_datatree(store.data, engine="zarr").load()["ensemble"]
            grid = open_campaign(store.url)["ensemble"].to_dataset()
            loss, flags = grid["loss"], grid["finished"]
            blocks = np.repeat(np.repeat(flags, 2, -2), 2, -1)
            np.testing.assert_array_equal(np.isfinite(loss), blocks == 1)
            assert raw["cell"].values.tolist() == list(range(raw.sizes["cell"]))
            assert set(raw["network_activation"].values) <= {"erf", "relu", "tanh"}
            shapes.add(loss.shape)
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
        [sys.executable, "-ISW", "error", "-c", PLAIN, str(tmp_path), partial.data],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stderr == ""
    raw = open_raw(partial.url)["ensemble"].to_dataset()
    assert found.stdout.split("} ")[1].split() == sorted(map(str, raw.coords))
    for dim, length in raw.sizes.items():
        assert f"'{dim}': {length}" in found.stdout
