"""Segments are copies of receipts: they make reading fast, and never say what receipts do not."""

from pathlib import Path

import pytest

from storage.backend.reader import open_campaign
from storage.files import compaction, segments
from storage.files.compaction import Compaction
from storage.files.ledger import RECEIPTS
from storage.files.objects import Objects
from storage.files.segments import Copies
from storage.store.store import Store
from storage.verification.repair import repair
from storage.verification.verify import verify
from support.damages import DAMAGES, deleted
from support.driving import contents
from support.fake_shards import ONE_CELL, finish, planned, values

SIZE = 4


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(compaction, "SIZE", SIZE)
    monkeypatch.setattr(segments, "_FEW", 0)


@pytest.fixture
def store(tmp_path) -> Store:
    """A campaign whose driver compacted the receipts as they came."""
    store = Store(str(tmp_path / "campaign"))
    driver = Compaction(store.objects, ())
    for shard in planned(store, text=ONE_CELL).shards():
        finish(store, shard)
        driver.add(shard.name, store.ledger.receipt(shard.name) or {})
    return store


def copied(objects: Objects) -> dict[str, bytes]:
    """All that segments hold."""
    held = [lines for _, lines in segments.each(objects) if lines is not None]
    return {shard: line for lines in held for shard, line in lines.items()}


def computed_otherwise(store: Store, name: str) -> None:
    """As by a driver of an earlier version, which knows no segments."""
    shard = next(each for each in planned(store, text=ONE_CELL).shards() if each.name == name)
    record = store.ledger.receipt(name) or {}
    store.ledger.clear(name)
    digests = store.write(shard, {key: value + 1 for key, value in values(shard).items()})
    store.ledger.commit(name, record | {"digests": digests})


def test_a_copy_is_the_receipt_and_few_are_in_no_segment(store):
    receipts, copies = dict(store.ledger.receipts()), Copies(store.objects)
    held = copied(store.objects).keys()
    assert len(segments.segments(store.objects)) == len(receipts) // SIZE
    assert len(receipts.keys() - held) < SIZE
    for shard, receipt in receipts.items():
        assert copies.receipt(shard) == (receipt if shard in held else None)
    assert verify(store) == []


def test_a_driver_goes_on_where_another_one_was_killed(store):
    """Also where none ever made a segment, and where one has lost some of them."""
    whole = copied(store.objects)
    for left in range(len(segments.segments(store.objects)) + 1):
        for name in segments.segments(store.objects)[left:]:
            store.objects.delete(name)
        Compaction(store.objects, store.ledger.finished())
        assert len(copied(store.objects)) == len(whole)
        assert verify(store) == []
    before = contents(store.url)
    Compaction(store.objects, store.ledger.finished())
    assert contents(store.url) == before


def test_a_damaged_segment_is_found_made_anew_and_never_read(store):
    whole = open_campaign(store.url).load()
    for damage in DAMAGES:
        if damage is deleted:
            continue
        name = segments.segments(store.objects)[0]
        damage(Path(store.url), Path(name))
        assert segments.read(store.objects, name) is None
        assert open_campaign(store.url).load().identical(whole)
        bad = verify(store)
        assert [each.name for each in bad] == [name]
        repair(store, bad)
        assert verify(store) == []
        assert len(copied(store.objects)) // SIZE == len(segments.segments(store.objects))


def test_a_receipt_that_says_something_else_is_believed(store):
    """And so is one that is gone: its shard is not finished."""
    name = next(name for name in copied(store.objects) if name.endswith("s00000"))
    before = open_campaign(store.url).load()
    computed_otherwise(store, name)
    after = open_campaign(store.url).load()
    assert (after["ensemble/loss"] != before["ensemble/loss"]).sum() == 4  # two chains, two draws
    bad = verify(store)
    assert [segments.is_segment(each.name) for each in bad] == [True]
    repair(store, bad)
    assert verify(store) == []
    store.objects.delete(f"{RECEIPTS}/{name}.json")
    assert Copies(store.objects).receipt(name) is None
    Compaction(store.objects, store.ledger.finished())
    assert name not in copied(store.objects)


def test_a_shard_that_is_cleared_leaves_no_copy(store):
    shard = next(
        each for each in planned(store, text=ONE_CELL).shards() if each.name.endswith("s00000")
    )
    assert shard.name in copied(store.objects)
    store.objects.put(store.chunk(shard, "loss"), b"")
    repair(store, verify(store))
    assert shard.name not in copied(store.objects)
    assert verify(store) == []
