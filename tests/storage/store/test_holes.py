"""Points that a campaign leaves out are missing for readers, and can be filled in later."""

import numpy as np
import pytest
import xarray as xr

from pipelines.estimates.estimate import estimate
from pipelines.report.figures.cells import flat, label
from storage.backend.reader import open_campaign, open_cells, open_raw
from storage.store.store import Store
from support.driving import prepared
from support.fake_shards import finish_all, finish_most, planned

pytestmark = pytest.mark.slow

HOLE = "exclude=[{phi: relu, size: 4}]"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A campaign with a hole in its grid, all of it finished."""
    store = Store(str(tmp_path_factory.mktemp("holes") / "campaign"))
    finish_all(store, planned(store, HOLE).shards())
    return store


def grid(store):
    return open_campaign(store.url)["ensemble"].to_dataset()


def test_a_point_that_is_left_out_is_missing_on_the_grid_and_not_stored(stored):
    found = grid(stored)
    assert open_raw(stored.url)["ensemble"].sizes["cell"] == 3
    assert found["loss"].dims[:2] == ("phi", "size")
    missing = np.isnan(found["loss"]).all(["dataset", "chain", "draw"])
    assert missing.values.tolist() == [[False, False], [True, False]]
    assert not np.isnan(found["loss"].sel(phi="erf")).any()
    assert (found["finished"].sel(phi="relu", size=4) == 0).all()
    assert found.attrs["absent"] == [2]


def test_pictures_and_conclusions_see_the_cells_that_there_are(stored):
    found = flat(grid(stored))
    assert found.sizes["cell"] == 3
    assert [label(found, cell) for cell in range(3)] == [
        "φ = erf, N = 4, n = 4",
        "φ = erf, N = 8, n = 6",
        "φ = relu, N = 8, n = 6",
    ]
    assert np.isfinite(found["loss"]).all()


def test_cells_are_read_one_after_another_as_they_are_on_the_grid(stored, tmp_path):
    unfinished = Store(str(tmp_path / "campaign"))
    finish_most(unfinished)
    for store in (stored, unfinished):
        for name in ("ensemble", "regression"):
            found = open_cells(store.url)[name].to_dataset().load()
            xr.testing.assert_equal(found, flat(open_campaign(store.url)[name].to_dataset()).load())
            raw = open_raw(store.url)[name].to_dataset()
            assert {n: v.dims for n, v in found.items()} == {n: v.dims for n, v in raw.items()}


def test_a_plan_says_how_many_points_are_left_out(tmp_path):
    lines = estimate(prepared(tmp_path, "exclude=[{size: 8}]")).splitlines()
    assert "cells    1 of the ensemble, 1 of the regression; 1 of the grid left out" in lines


def test_the_hole_is_filled_without_computing_anything_twice(stored):
    before = grid(stored).load()
    finished = stored.ledger.finished()
    whole = planned(stored)
    added = [shard for shard in whole.shards() if shard.name not in finished]
    assert {shard.cell.index for shard in added} == {3}
    finish_all(stored, added)
    after = grid(stored)
    assert "absent" not in after.attrs
    assert np.isfinite(after["loss"]).all()
    kept = np.isfinite(before["loss"].values)
    np.testing.assert_array_equal(after["loss"].values[kept], before["loss"].values[kept])
    planned(stored, HOLE)  # and what is there does not vanish
    assert np.isfinite(grid(stored)["loss"]).all()
