"""Nothing finished is lost or computed again, whoever is killed, and the bits do not tell of it."""

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from pipelines.engine.engine import Inline, Prepared, drive
from storage.arrays.schema import ensemble_variables, regression_variables
from storage.errors import CampaignError
from storage.files import lease
from storage.planning.plan import plan
from storage.store.store import Store
from support.driving import HERE, Tree, contents, prepared, simulate, unlike, until
from workers import shard as shards

pytestmark = pytest.mark.slow

WORKERS = 2
SEGMENT = 2  # draws
OBSERVED = "observe.measure=[plugin:slow]"
LONG = (OBSERVED, "sampler.draws=10")
PAUSE = 0.05  # seconds a draw, so that kills fall into shards and a run outlives them


@pytest.fixture(autouse=True)
def _beside_the_plugin(monkeypatch):
    monkeypatch.chdir(HERE)


def stored(store: Store) -> dict[str, bytes]:
    """All of a campaign but who drove it, when and where: data, checkpoints and specs."""
    parts = ("data.zarr", "checkpoints", "specs")
    return {f"{part}/{k}": v for part in parts for k, v in contents(f"{store.url}/{part}").items()}


def measured(store: Store) -> dict[str, bytes]:
    """The chunks that shards have written; coordinates grow with the campaign."""
    spec = store.specs()[-1]
    arrays = {"ensemble": ensemble_variables(spec), "regression": regression_variables(spec)}
    return {
        f"{name}/{chunk}": data
        for group, variables in arrays.items()
        for name in variables
        for chunk, data in contents(f"{store.data}/{group}/{name}/c").items()
    }


def receipts(store: Store) -> dict[str, bytes]:
    """The receipt of every finished shard; it names the process that computed it, and the time."""
    return contents(f"{store.url}/ledger/receipts")


def assert_complete(campaign: Prepared) -> None:
    """Every shard has its receipt, and no writer has left a file unfinished."""
    planned = plan(campaign.spec, sources=campaign.sources)
    assert campaign.store.ledger.finished() == {shard.name for shard in planned.shards()}
    files = [path.name for path in Path(campaign.store.url).rglob("*")]
    assert [name for name in files if "#" in name or name.endswith(".partial")] == []


def start(root: Path, executor: str, workers: int, *overrides: str, **environment: object) -> Tree:
    pause = {"SLOW_SECONDS": PAUSE}
    return Tree("driving.py", root, executor, workers, *overrides, **pause, **environment)


def count(store: Store) -> int:
    """How many shards are finished, without reading a receipt."""
    return sum(1 for _ in Path(store.url, "ledger/receipts").rglob("*.json"))


class Moments:
    """Random moments of runs: some while they start, most while shards are computed."""

    def __init__(self, store: Store, seed: int) -> None:
        self._store = store
        self._random = random.Random(seed)
        self._start = 0.0  # seconds that a run takes to its first receipt

    def wait(self) -> None:
        if self._start and self._random.random() < 0.3:
            time.sleep(self._random.uniform(0, self._start))
            return
        began, already = time.monotonic(), count(self._store)
        until(lambda: count(self._store) > already)
        self._start = time.monotonic() - began
        more = self._random.randint(1, 4)
        until(lambda: count(self._store) >= already + more)
        time.sleep(self._random.uniform(0, SEGMENT * PAUSE))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("executor", "kills"),
    [
        ("inline", 3),
        pytest.param("ray", 3, marks=pytest.mark.ray),  # each of them starts a cluster
        pytest.param("ray", 10, marks=[pytest.mark.ray, pytest.mark.chaos]),
    ],
)
def test_kills_leave_no_trace(executor, kills, tmp_path, short, monkeypatch):
    monkeypatch.setenv("SLOW_DRAWS", str(tmp_path / "once"))
    undisturbed = prepared(tmp_path / "undisturbed", *LONG)
    simulate(undisturbed)
    monkeypatch.setenv("SLOW_DRAWS", str(tmp_path / "again"))
    campaign = prepared(tmp_path / "killed", *LONG)
    moments, finished = Moments(campaign.store, seed=7), {}
    for kill in range(kills):
        run = start(tmp_path / "killed", executor, 1 + kill % WORKERS, *LONG)
        moments.wait()
        assert run.process.poll() is None, "it ended before it was killed: let it last longer"
        run.kill()
        assert finished.items() <= receipts(campaign.store).items()
        finished = receipts(campaign.store)
    start(tmp_path / "killed", executor, WORKERS, *LONG).finish()

    assert finished.items() <= receipts(campaign.store).items()
    assert unlike(stored(undisturbed.store), stored(campaign.store)) == []
    assert_complete(campaign)
    once, again = (Counter((tmp_path / name).read_text().split()) for name in ("once", "again"))
    assert set(again) == set(once)
    in_flight = kills * WORKERS if executor == "ray" else kills
    assert again.total() - once.total() <= in_flight * SEGMENT


@pytest.mark.slow
def test_an_extension_that_was_killed_ends_like_one_that_was_not(tmp_path):
    campaigns = []
    for name in ("undisturbed", "killed"):
        simulate(prepared(tmp_path / name, OBSERVED, "sampler.draws=4"))
        campaigns.append(prepared(tmp_path / name, *LONG))
    undisturbed, killed = campaigns
    simulate(undisturbed)
    before = receipts(killed.store)
    run = start(tmp_path / "killed", "inline", 1, *LONG)
    until(lambda: count(killed.store) > len(before) + 2)
    run.kill()
    assert count(killed.store) < count(undisturbed.store)
    simulate(killed)
    assert before.items() <= receipts(killed.store).items()
    assert unlike(stored(undisturbed.store), stored(killed.store)) == []
    assert_complete(killed)


@pytest.mark.slow
def test_a_second_driver_is_refused_and_changes_nothing(tmp_path):
    store = prepared(tmp_path, *LONG).store
    run = start(tmp_path, "inline", 1, *LONG)
    until(lambda: count(store))
    run.process.send_signal(signal.SIGSTOP)  # alive, and at rest while its store is looked at
    before = contents(store.url)
    with pytest.raises(CampaignError, match=f"driven by process {run.process.pid} on") as caught:
        simulate(prepared(tmp_path, *LONG, "sampler.draws=20"))
    assert "\n" not in str(caught.value)
    assert unlike(before, contents(store.url)) == []
    run.kill()
    simulate(prepared(tmp_path, *LONG))  # the dead one is taken over at once
    assert_complete(prepared(tmp_path, *LONG))


EXTENSIONS = {
    "cells": "sweep.size={network.width: [4, 8, 16]}",
    "datasets": "ensemble.datasets=3",
    "chains": "ensemble.chains=8",
    "draws": "sampler.draws=10",
    "repeats": "regression.repeats=5",
}


@pytest.mark.parametrize("grown", EXTENSIONS)
def test_an_extension_computes_what_is_new_and_nothing_else(grown, tmp_path):
    simulate(prepared(tmp_path / "grown"))
    larger = prepared(tmp_path / "grown", EXTENSIONS[grown])
    store = larger.store
    finished, old = store.ledger.finished(), measured(store)
    new = {outcome.shard.name for outcome in simulate(larger)}
    assert new
    assert new == {shard.name for shard in plan(larger.spec).shards()} - finished
    assert old.items() <= measured(store).items()
    at_once = prepared(tmp_path / "at-once", EXTENSIONS[grown])
    simulate(at_once)
    assert unlike(measured(store), measured(at_once.store)) == []


def lost(file: Path) -> None:
    file.unlink()


def damaged(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [lost, damaged])
@pytest.mark.parametrize("which", ["last", "every"])
def test_a_checkpoint_that_is_gone_is_computed_again(which, harm, tmp_path):
    stores = []
    for name in ("sound", "harmed"):
        store = prepared(tmp_path / name).store
        simulate(prepared(tmp_path / name))
        last = "s00002" if which == "last" else ""
        for file in Path(store.url, "checkpoints").rglob(f"*{last}.npz"):
            if name == "harmed":
                harm(file)
        simulate(prepared(tmp_path / name, "sampler.draws=12"))
        stores.append(store)
    assert unlike(*map(stored, stores)) == []


def test_a_worker_whose_driver_was_taken_over_writes_nothing(tmp_path, monkeypatch):
    campaign = prepared(tmp_path)
    with drive(campaign, Inline()) as first:
        job, orphaned = first.job, list(first.plan.shards())[-1]
    compute = shards.compute

    def overtaken(*arguments):
        lease.acquire(campaign.store.objects).release()  # by another driver, meanwhile
        return compute(*arguments)

    monkeypatch.setattr(shards, "compute", overtaken)
    before = stored(campaign.store)
    with pytest.raises(CampaignError, match="taken over"):
        shards.attempt(job, orphaned)
    assert unlike(before, stored(campaign.store)) == []
    assert receipts(campaign.store) == {}
