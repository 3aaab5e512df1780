"""Whatever happens to a file is noticed, and repairing it brings the same bytes back."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from storage.backend.reader import open_campaign
from storage.errors import CampaignError
from storage.files.sealed import seal, unseal
from storage.planning.plan import Shard
from storage.store.store import Store, checkpoint_name
from storage.verification import shard_checks
from storage.verification.repair import repair
from storage.verification.verify import Bad, Cure, verify
from support.fake_shards import finish, finish_all, planned, values

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
    assert verify(finished, lambda shard, sound: checked.append((shard, sound))) == []
    assert sorted(checked) == [(name, True) for name in sorted(finished.ledger.finished())]


def test_shards_that_are_known_to_be_sound_are_passed_by(finished):
    known, checked = frozenset(list(finished.ledger.finished())[::2]), set()
    assert verify(finished, lambda shard, _: checked.add(shard), known) == []
    assert checked == finished.ledger.finished() - known


def test_several_processes_find_the_same(store, monkeypatch):
    monkeypatch.setattr(shard_checks, "_MANY", 0)
    flip(Path(store.url, store.chunk(shard_of(store, "ensemble", **LAST), "loss")))
    assert verify(store, processes=2) == verify(store)
    assert len(verify(store)) == 1


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
    (bad,) = verify(store)
    assert bad[::2] == (shard.name, Cure.COMPUTE)
    assert bad.reason.startswith(f"{name} ")
    assert "\n" not in bad.reason
    with pytest.raises(CampaignError, match="verify --repair"):
        open_campaign(store.url).load()
    repair(store, [bad])
    assert verify(store) == []
    assert store.ledger.receipt(shard.name) is None
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
    found = unseal(store.objects.get(receipt(shard)) or b"")
    found["digests"]["lost"] = found["digests"].pop("loss")
    store.objects.put(receipt(shard), seal(found))


def changed_receipt(store: Store, shard: Shard) -> None:
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
    (changed_receipt, "its receipt is not whole"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_other_faults_are_noticed_and_made_good(
    finished, store, fault: Callable[[Store, Shard], None], reason: str
):
    shard = shard_of(store, "ensemble", **LAST)
    fault(store, shard)
    (bad,) = verify(store)
    assert bad.name == shard.name
    assert bad.reason.startswith(reason)
    repair(store, [bad])
    assert verify(store) == []
    finish(store, shard)
    assert files(store) == files(finished)


def test_a_flag_without_a_receipt_is_noticed(finished, store):
    """A worker that was killed between the two leaves it; the data below it are whole."""
    shard = shard_of(store, "ensemble", segment=1, block=1)
    store.write(shard, values(shard))
    store.write(shard, {"finished": np.uint8(1)})
    bad = verify(store)
    assert bad == [Bad(shard.name, "finished is 1, and there is no receipt")]
    repair(store, bad)
    assert verify(store) == []
    finish(store, shard)
    assert verify(store) == []


def test_only_the_last_checkpoint_of_a_chain_matters(store):
    for segment in (-1, 0):
        store.objects.delete(checkpoint_name(shard_of(store, "ensemble", segment)))
    assert verify(store) == []


def test_a_receipt_of_no_shard_is_noticed_and_left_alone(store):
    """It may be of a spec that somebody has lost: what no spec asks for is not ours to clear."""
    store.ledger.commit("ensemble/0123456789abcdef/d0000-b0000-s00000", {"shard": "?"})
    before = files(store)
    bad = verify(store)
    assert [(each.reason, each.cure) for each in bad] == [
        ("no spec of the store asks for it", Cure.NONE)
    ]
    repair(store, bad)
    assert files(store) == before


def test_one_changed_character_of_a_spec_clears_nothing(finished, store):
    path = Path(store.url, "specs", "0001.yaml")
    path.write_text(path.read_text().replace("step_size: 0.1", "step_size: 0.7"))
    with pytest.raises(CampaignError, match=r"0001.yaml has changed .* verify --repair"):
        store.specs()
    bad = verify(store)
    assert [each[::2] for each in bad] == [("specs/0001.yaml", Cure.RESTORE)]
    repair(store, bad)
    assert verify(store) == []
    assert files(store) == files(finished)


def test_without_copies_a_changed_spec_is_known_by_the_identity_of_the_data(store):
    """As in a store of an earlier version: nothing says what it was, and nothing is touched."""
    shutil.rmtree(Path(store.url, "copies"))
    path = Path(store.url, "specs", "0001.yaml")
    path.write_text(path.read_text().replace("step_size: 0.1", "step_size: 0.7"))
    before = files(store)
    with pytest.raises(CampaignError, match="one of them has changed"):
        store.specs()
    (bad,) = verify(store)
    assert bad[::2] == ("specs", Cure.NONE)
    repair(store, [bad])
    assert files(store) == before


def test_a_store_of_an_earlier_version_is_sound_and_gets_its_copies(finished, store):
    """Without copies, digests of metadata, and seals in its records."""
    shutil.rmtree(Path(store.url, "copies"))
    store.objects.delete("provenance/digests.json")
    for name in store.objects.names("ledger/receipts"):
        store.objects.put(name, json.dumps(unseal(store.objects.get(name) or b"")).encode())
    old = Store(store.url)
    assert verify(old) == []
    open_campaign(old.url).load()
    planned(old)
    assert files(old).keys() == files(finished).keys()
    assert verify(old) == []


def read(store: Store, name: str) -> None:
    """Both ways to come to metadata: what is published, and group by group."""
    if name == "zarr.json":
        open_campaign(store.url)
    store.root.group("ensemble")["width" if "width" in name else "loss"][...]


METADATA = ["zarr.json", "ensemble/zarr.json", "ensemble/loss/zarr.json", "ensemble/width/c/0"]


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("damage", [flip, empty, Path.unlink])
def test_metadata_are_made_again_from_the_specs(finished, store, name, damage):
    damage(Path(store.data, name))
    with pytest.raises(CampaignError):
        read(store, name)
    bad = verify(store)
    assert [each[::2] for each in bad] == [(f"data.zarr/{name}", Cure.DERIVE)]
    repair(store, bad)
    assert verify(store) == []
    assert files(store) == files(finished)


def test_all_bad_shards_are_found_at_once(store):
    shards = [shard_of(store, kind) for kind in ("ensemble", "regression", "spectrum")]
    for shard in shards:
        flip(Path(store.url, store.chunk(shard, next(iter(values(shard))))))
    assert {bad.name for bad in verify(store)} == {shard.name for shard in shards}


def test_a_repair_that_was_interrupted_leaves_nothing_behind(finished, store, monkeypatch):
    """The receipt goes first, so that a run computes the shard again whatever comes after."""
    shard = shard_of(store, "ensemble", **LAST)
    flip(Path(store.url, store.chunk(shard, "loss")))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            repair(store, verify(store))
    assert shard.name not in store.ledger.finished()
    finish(store, shard)
    assert files(store) == files(finished)
