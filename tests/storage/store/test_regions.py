"""The region of a shard has the bytes that Zarr itself would write, and is read as Zarr reads."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from storage.arrays.layout import Layout
from storage.arrays.schema import Variable
from storage.files.objects import Objects
from storage.planning.plan import Cell, Shard
from storage.reading.document import parse
from storage.store.hierarchy import root
from storage.store.regions import read_region, write_region
from storage.store.sound import Sound
from storage.store.store import create_array
from support.fake_shards import ONE_CELL

CELL = Cell(1, "b" * 16, parse(ONE_CELL), {})
SHARD = Shard("ensemble", CELL, dataset=2, block=1, segment=3)
DIMS = ("cell", "dataset", "chain", "draw", "layer")
SHAPE, CHUNK = (2, 3, 8, 20, 2), (1, 1, 4, 5, 2)
REGION = (slice(1, 2), slice(2, 3), slice(4, 8), slice(15, 20), slice(None))


def values(dtype: str) -> np.ndarray:
    """What a shard has to write; some of it is a fill value."""
    drawn = np.random.default_rng(5).normal(0, 9, size=(4, 5, 2))
    drawn[0, :2] = np.nan if dtype.startswith("f") else 0
    return drawn.astype(dtype)


@pytest.fixture(params=["f4", "f8", "i4", "i8", "u1"])
def places(request, tmp_path) -> tuple[str, Objects, Objects]:
    """The same array twice: one for us, one for Zarr."""
    for name in ("ours", "theirs"):
        made = root(Sound(Objects(str(tmp_path / name)), None))
        group = made.require_group("ensemble")
        create_array(group, "x", SHAPE, CHUNK, Variable(DIMS, request.param, "x"))
        made.publish()
    return request.param, Objects(str(tmp_path / "ours")), Objects(str(tmp_path / "theirs"))


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_region_has_the_bytes_that_zarr_writes(places):
    dtype, ours, theirs = places
    stored = Layout(ours.get("zarr.json")).arrays["ensemble/x"]
    write_region(ours, stored, SHARD, values(dtype))
    zarr.open_array(theirs.url, path="ensemble/x", mode="r+")[REGION] = values(dtype)[None, None]
    chunk = stored.chunk(SHARD)
    assert Path(ours.url, chunk).read_bytes() == Path(theirs.url, chunk).read_bytes()
    np.testing.assert_array_equal(read_region(theirs, stored, SHARD), values(dtype))


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_region_that_nobody_wrote_is_fill_values(places):
    _, ours, theirs = places
    stored = Layout(ours.get("zarr.json")).arrays["ensemble/x"]
    unwritten = np.asarray(zarr.open_array(theirs.url, path="ensemble/x", mode="r")[REGION])[0, 0]
    found = read_region(ours, stored, SHARD)
    assert found.dtype == unwritten.dtype
    np.testing.assert_array_equal(found, unwritten)
