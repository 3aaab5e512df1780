"""Files that file managers, editors and services that copy folders leave beside ours."""

import sys
from pathlib import Path

import pytest
import xarray as xr

from pipelines.report.provenance import runs
from storage.backend.reader import open_campaign, open_raw
from storage.files.objects import Objects
from storage.store.results import remove_groups
from storage.verification.verify import verify

NAMES = (
    ".DS_Store", "._0001.yaml", "._zarr.json", "Icon\r", "Thumbs.db", "desktop.ini",
    "0001.yaml~", ".0001.yaml.swp", "#0001.yaml#", "0001.yaml.bak", "run-0001.json.orig",
    "0001 (conflicted copy).yaml", "0002.sync-conflict-20260101-120000-ABCDEFG.yaml",
    "0001 2.yaml", "d0000-b0000-s00000 (1).json", "d0000-b0000-s00000.sync-conflict.json",
    "d0000-b0000-s00000.sync-conflict-1.json", "000001.old.json", "notes.partial", "notes ü.txt",
    ".git/config", "old/0001.yaml",
)  # fmt: skip


@pytest.fixture
def littered(store) -> dict[Path, bytes]:
    """Foreign files in every folder of a campaign."""
    top, found = Path(store.url), {}
    folders = [top, *(path for path in top.rglob("*") if path.is_dir())]
    for place in [folder / name for folder in folders for name in NAMES]:
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"\0foreign")
        found[place] = b"\0foreign"
    for folder in folders:
        (folder / "broken").symlink_to("nowhere")
    return found


@pytest.mark.slow
def test_a_campaign_among_foreign_files_is_the_same(partial, store, littered, finitewidth):
    store.objects.sweep()
    assert store.specs() == partial.specs()
    assert store.rounds() == partial.rounds()
    assert runs(store) == runs(partial)
    assert store.ledger.finished() == partial.ledger.finished()
    assert store.ledger.failures() == partial.ledger.failures()
    assert verify(store) == verify(partial)
    for opened in (open_campaign, open_raw):
        xr.testing.assert_identical(opened(store.url), opened(partial.url))
    said = finitewidth("status", store.url)
    assert said[0] == 0
    assert said == tuple(
        each.replace(partial.url, store.url) if isinstance(each, str) else each
        for each in finitewidth("status", partial.url)
    )
    assert {path: path.read_bytes() for path in littered} == littered


@pytest.mark.slow
def test_the_hierarchy_is_published_and_cleared_among_foreign_files(partial, store, littered):
    store.publish()
    xr.testing.assert_identical(open_campaign(store.url), open_campaign(partial.url))
    name = next(name for name in store.root if name != "ensemble")
    remove_groups(store, name)
    assert name not in open_campaign(store.url)
    assert {path: path.read_bytes() for path in littered} == littered


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_names_that_are_no_text_are_not_seen(tmp_path):
    place = Objects(str(tmp_path))
    place.put("specs/0001.yaml", b"x")
    Path(
        str(tmp_path / "specs").encode().decode(), b"\xff.yaml".decode(errors="surrogateescape")
    ).touch()
    assert place.names("specs") == place.names() == ["specs/0001.yaml"]
    assert place.numbered("specs", "yaml") == ["specs/0001.yaml"]


def test_a_folder_in_the_place_of_an_object_is_none(tmp_path):
    place = Objects(str(tmp_path))
    place.put("specs/0001.yaml", b"x")
    (tmp_path / "specs" / "0002.yaml").mkdir()
    assert place.numbered("specs", "yaml") == ["specs/0001.yaml"]
    assert place.folders("specs") == ["0002.yaml"]
    assert place.folders("none") == []
