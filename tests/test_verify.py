"""Whatever happens to a file is noticed, and repairing it brings the same bytes back."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from fake_shards import finish, finish_all, planned, values

from storage.errors import CampaignError
from storage.plan import Shard
from storage.reader import open_campaign
from storage.store import Store, checkpoint_name
from storage.verify import Bad, repair, verify

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Store:
    """A campaign of which the last segments of some chains are left, to be left as it is."""
    store = Store(str(tmp_path_factory.mktemp("finished") / "campaign"))
    finish_all(store, stored(planned(store).shards()))
    return store


@pytest.fixture
def store(finished, tmp_path) -> Store:
    """A copy of it."""
    shutil.copytree(finished.url, tmp_path / "campaign")
    return Store(str(tmp_path / "campaign"))


def stored(shards: Iterable[Shard]) -> list[Shard]:
    return [s for s in shards if s.segment < 1 or s.block == 0]


def shard_of(store: Store, kind: str, segment: int = 0, block: int = 0) -> Shard:
    return next(
        s
        for s in planned(store).shards()
        if (s.kind, s.segment, s.block) == (kind, segment, block) and s.cell.index == 1
    )


def files(store: Store) -> dict[str, bytes]:
    top = Path(store.url)
    return {str(f.relative_to(top)): f.read_bytes() for f in top.rglob("*") if f.is_file()}


def test_a_sound_store_has_no_bad_shard(finished):
    checked = []
    assert verify(finished, checked.append) == []
    assert sorted(checked) == sorted(finished.ledger.finished())
    assert len(checked) == len(set(checked))


def test_a_store_of_which_nothing_is_finished_is_sound(tmp_path):
    store = Store(str(tmp_path / "campaign"))
    planned(store)
    assert verify(store) == []


def test_a_store_that_grew_is_sound(store):
    planned(store, "ensemble.chains=6", "sampler.draws=6", "ensemble.datasets=2")
    assert verify(store) == []
    grown = planned(store, "sweep.phi={network.activation: [tanh, erf]}")
    finish_all(store, grown.shards())
    assert verify(store) == []


def test_where_no_campaign_is_says_so(tmp_path):
    with pytest.raises(CampaignError, match="no campaign is stored here"):
        verify(Store(str(tmp_path)))


# Damage: to which shard, what is done, and what is said about it


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(path.stat().st_size))


def of_a_neighbour(path: Path) -> None:
    """A sound file in the wrong place."""
    others = (f for f in path.parents[3].rglob("*") if f.is_file() and f.name == path.name)
    shutil.copy(next(f for f in sorted(others) if f.read_bytes() != path.read_bytes()), path)


LAST = {"segment": 1}
WARMUP = {"segment": -1}
DAMAGES = [
    (truncate, "ensemble", "loss", LAST),
    (empty, "ensemble", "loss", LAST),
    (flip, "ensemble", "loss", LAST),
    (random_bytes, "ensemble", "loss", LAST),
    (Path.unlink, "ensemble", "loss", LAST),
    (of_a_neighbour, "ensemble", "loss", LAST),
    (flip, "ensemble", "kernel", {}),
    (Path.unlink, "ensemble", "histogram", LAST),
    (truncate, "ensemble", "label", WARMUP),
    (flip, "regression", "test_error", {}),
    (flip, "spectrum", "eigenvalue", {}),
]


@pytest.mark.parametrize(("damage", "kind", "name", "which"), DAMAGES)
def test_damaged_data_are_noticed_and_made_again(finished, store, damage, kind, name, which):
    shard = shard_of(store, kind, **which)
    damage(Path(store.url, store.chunk(shard, name)))
    ((bad, reason),) = verify(store)
    assert bad == shard.name
    assert reason.startswith(f"{name} ")
    assert "\n" not in reason
    repair(store, [bad])
    assert verify(store) == []
    assert store.ledger.receipt(bad) is None
    open_campaign(store.url).load()
    finish(store, shard)
    assert files(store) == files(finished)


def receipt(shard: Shard) -> str:
    return f"ledger/receipts/{shard.name}.json"


def lose_flag(store: Store, shard: Shard) -> None:
    store.write(shard, {"finished": np.uint8(0)})


def no_flag(store: Store, shard: Shard) -> None:
    store.objects.delete(store.chunk(shard, "finished"))


def torn_flag(store: Store, shard: Shard) -> None:
    store.objects.put(store.chunk(shard, "finished"), b"1")


def torn_receipt(store: Store, shard: Shard) -> None:
    truncate(Path(store.url, receipt(shard)))
    truncate(Path(store.url, receipt(shard)))


def empty_receipt(store: Store, shard: Shard) -> None:
    store.objects.put(receipt(shard), b"{}")


def receipt_of_another(store: Store, shard: Shard) -> None:
    other = store.objects.get(receipt(shard_of(store, "ensemble", block=1)))
    assert other
    store.objects.put(receipt(shard), other)


def no_checkpoint(store: Store, shard: Shard) -> None:
    store.objects.delete(checkpoint_name(shard))


def torn_checkpoint(store: Store, shard: Shard) -> None:
    truncate(Path(store.url, "checkpoints", f"{shard.name}.npz"))


def checkpoint_of_another(store: Store, shard: Shard) -> None:
    other = store.objects.get(checkpoint_name(shard_of(store, "ensemble", -1)))
    assert other
    store.objects.put(checkpoint_name(shard), other)


def unknown_variable(store: Store, shard: Shard) -> None:
    path = Path(store.url, receipt(shard))
    path.write_text(path.read_text().replace('"loss"', '"lost"'))


FAULTS = [
    (lose_flag, "finished is 0, and there is a receipt"),
    (no_flag, "finished is 0, and there is a receipt"),
    (torn_flag, "finished cannot be read"),
    (torn_receipt, "its receipt is not whole"),
    (empty_receipt, "its receipt is that of another shard, or of none"),
    (receipt_of_another, "its receipt is that of another shard, or of none"),
    (no_checkpoint, "its checkpoint is missing"),
    (torn_checkpoint, "its checkpoint is damaged"),
    (checkpoint_of_another, "its checkpoint is damaged"),
    (unknown_variable, "lost is not in the store"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_other_faults_are_noticed_and_made_good(
    finished, store, fault: Callable[[Store, Shard], None], reason: str
):
    shard = shard_of(store, "ensemble", **LAST)
    fault(store, shard)
    (bad,) = verify(store)
    assert bad.shard == shard.name
    assert bad.reason.startswith(reason)
    repair(store, [bad.shard])
    assert verify(store) == []
    finish(store, shard)
    assert files(store) == files(finished)


def test_a_flag_without_a_receipt_is_noticed(finished, store):
    """A worker that was killed between the two leaves it; the data below it are whole."""
    shard = shard_of(store, "ensemble", segment=1, block=1)
    store.write(shard, values(shard))
    store.write(shard, {"finished": np.uint8(1)})
    assert verify(store) == [Bad(shard.name, "finished is 1, and there is no receipt")]
    repair(store, [shard.name])
    assert verify(store) == []
    finish(store, shard)
    assert verify(store) == []


def test_only_the_last_checkpoint_of_a_chain_matters(store):
    for segment in (-1, 0):
        store.objects.delete(checkpoint_name(shard_of(store, "ensemble", segment)))
    assert verify(store) == []


def test_a_receipt_of_no_shard_is_noticed_and_taken_away(finished, store):
    store.ledger.commit("ensemble/0123456789abcdef/d0000-b0000-s00000", {"shard": "?"})
    (bad,) = verify(store)
    assert bad.reason == "no spec of the store asks for it"
    repair(store, [bad.shard])
    assert files(store) == files(finished)


def test_all_bad_shards_are_found_at_once(store):
    shards = [shard_of(store, kind) for kind in ("ensemble", "regression", "spectrum")]
    for shard in shards:
        flip(Path(store.url, store.chunk(shard, next(iter(values(shard))))))
    assert {bad.shard for bad in verify(store)} == {shard.name for shard in shards}


def test_a_repair_that_was_interrupted_leaves_nothing_behind(finished, store, monkeypatch):
    """The receipt goes first, so that a run computes the shard again whatever comes after."""
    shard = shard_of(store, "ensemble", **LAST)
    flip(Path(store.url, store.chunk(shard, "loss")))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            repair(store, [shard.name])
    assert shard.name not in store.ledger.finished()
    finish(store, shard)
    assert files(store) == files(finished)
