"""Runs on Ray whose processes are killed or told to end, over and over: the bytes are the same.

`pytest -m chaos` does it at many random moments; without the marker one worker is killed.
"""

import random
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from pipelines.run.draining import DRAINED
from storage.store.store import Store
from support.driving import (
    HERE,
    PATIENCE,
    PLUGIN,
    SMALL,
    Tree,
    contents,
    prepared,
    simulate,
    unlike,
    until,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ENTER = "from pipelines.cli import main; main()"
SETTINGS = ("observe.measure=[plugin:slow]", "regression=null", "theories=[nngp]", "name=chaos")
PAUSE = 0.2  # seconds a draw, so that what is killed is at work
EVENTS = 20
CALM = 1.0  # seconds between two events, at least


@pytest.fixture(autouse=True)
def _beside_the_plugin(monkeypatch):
    monkeypatch.chdir(HERE)


def start(root: Path) -> Tree:
    where = ("--store", root, "--workers", 2, "--plugins", PLUGIN)
    settings = (f"--set={each}" for each in SETTINGS)
    return Tree("-c", ENTER, "run", SMALL, *where, *settings, SLOW_SECONDS=PAUSE)


def receipts(store: Store) -> dict[str, bytes]:
    return contents(f"{store.url}/ledger/receipts")


def at_work(run: Tree) -> list[psutil.Process]:
    """Workers that compute a shard now."""
    return [each for each in run.living() if title(each).startswith("ray::attempted")]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill_a_worker(run: Tree, draw: random.Random) -> None:
    if found := at_work(run):
        draw.choice(found).send_signal(signal.SIGKILL)


def kill_all(run: Tree, _: random.Random) -> None:
    run.kill()


def drain(run: Tree, draw: random.Random) -> None:
    run.process.send_signal(draw.choice([signal.SIGTERM, signal.SIGUSR1]))
    printed, _ = run.process.communicate(timeout=PATIENCE)
    assert run.process.returncode == DRAINED, printed


HARMS = [kill_a_worker, kill_a_worker, kill_all, drain]


def data(store: Store) -> dict[str, bytes]:
    """What shards have written; the analysis of a whole run comes on top of it."""
    parts = ("ensemble", "check")
    return {
        f"{part}/{name}": found
        for part in parts
        for name, found in contents(f"{store.data}/{part}").items()
    }


def undisturbed(folder: Path) -> dict[str, bytes]:
    campaign = prepared(folder, *SETTINGS)
    simulate(campaign)
    return data(campaign.store)


def wait_for_one(run: Tree, store: Store) -> None:
    """Until one more shard is finished, or the run has ended."""
    already = len(receipts(store))
    until(lambda: run.process.poll() is not None or len(receipts(store)) > already)


def test_a_worker_that_is_killed_costs_one_attempt(tmp_path, short):
    store = prepared(tmp_path / "killed", *SETTINGS).store
    run = start(tmp_path / "killed")
    until(lambda: receipts(store) and at_work(run))
    kill_a_worker(run, random.Random(1))
    assert "report/report.html" in run.finish()
    (failure,) = store.ledger.failures()
    assert "its worker died" in failure.record["error"]
    assert failure.shard in store.ledger.finished()
    assert unlike(data(store), undisturbed(tmp_path / "undisturbed")) == []


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_whatever_is_killed_at_random_moments_the_bytes_are_the_same(tmp_path, short):
    store = prepared(tmp_path / "killed", *SETTINGS).store
    draw, events = random.Random(11), Counter()
    finished: dict[str, bytes] = {}
    run = start(tmp_path / "killed")
    while events.total() < EVENTS:
        wait_for_one(run, store)
        time.sleep(CALM + draw.random())
        if run.process.poll() is not None:
            break
        harm = draw.choice(HARMS)
        harm(run, draw)
        events[harm.__name__] += 1
        assert finished.items() <= receipts(store).items()
        finished = receipts(store)
        if run.process.poll() is not None:
            run = start(tmp_path / "killed")
    run.finish()
    print(dict(events), f"{len(finished)} shards when the last came")
    assert finished.items() <= receipts(store).items()
    assert unlike(data(store), undisturbed(tmp_path / "undisturbed")) == []
