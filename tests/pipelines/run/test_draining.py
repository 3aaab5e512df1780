"""A run that is told to end finishes what it is at, and goes on later to the same bytes."""

import os
import signal
import threading
from pathlib import Path

import pytest

from pipelines.run import draining
from pipelines.run.draining import DRAINED, Drained
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

ENTER = "from pipelines.cli import main; main()"
SETTINGS = ("observe.measure=[plugin:slow]", "regression=null", "theories=[nngp]", "name=drained")
SIGNALS = [signal.SIGTERM, signal.SIGUSR1]


@pytest.fixture(autouse=True)
def _beside_the_plugin(monkeypatch):
    monkeypatch.chdir(HERE)


@pytest.mark.parametrize("sign", SIGNALS)
def test_the_first_signal_sets_a_flag_and_the_second_ends_the_run(sign):
    stop = threading.Event()
    with draining.ending(), draining.draining(stop):
        os.kill(os.getpid(), sign)
        assert stop.is_set()
        with pytest.raises(Drained) as ended:
            os.kill(os.getpid(), sign)
    assert ended.value.code == DRAINED


@pytest.mark.parametrize("sign", SIGNALS)
def test_where_no_shards_run_a_signal_ends_the_run_at_once(sign):
    before = signal.getsignal(sign)
    with pytest.raises(Drained), draining.ending():
        os.kill(os.getpid(), sign)
    assert signal.getsignal(sign) is before


def test_what_does_not_end_within_its_time_is_interrupted(monkeypatch):
    monkeypatch.setattr(draining, "GRACE", 0.0)
    monkeypatch.setattr(draining, "MARGIN", 0.01)
    with draining.ending(), draining.draining(threading.Event()):
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Drained):
            threading.Event().wait(PATIENCE)


def run(root: Path, executor: str, seconds: float) -> Tree:
    where = ("--store", root, "--executor", executor, "--plugins", PLUGIN)
    settings = (f"--set={each}" for each in SETTINGS)
    return Tree("-c", ENTER, "run", SMALL, *where, *settings, SLOW_SECONDS=seconds)


def receipts(store: Store) -> dict[str, bytes]:
    return contents(f"{store.url}/ledger/receipts")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("executor", "sign"),
    [
        ("inline", signal.SIGTERM),
        pytest.param("ray", signal.SIGUSR1, marks=pytest.mark.ray),
    ],
)
def test_a_drained_run_keeps_what_it_was_at_and_ends_like_one_that_was_not(
    executor, sign, tmp_path, short
):
    store = prepared(tmp_path / "drained", *SETTINGS).store
    running = run(tmp_path / "drained", executor, seconds=0.3)
    until(lambda: receipts(store))
    running.process.send_signal(sign)
    printed, _ = running.process.communicate(timeout=PATIENCE)
    assert running.process.returncode == DRAINED, printed
    assert "Traceback" not in printed
    assert printed.splitlines()[-1].startswith("stopped; what is finished is kept")
    assert running.living() == []
    finished = receipts(store)
    assert store.ledger.failures() == []  # nothing was killed

    simulate(prepared(tmp_path / "drained", *SETTINGS))
    assert finished.items() <= receipts(store).items()
    undisturbed = prepared(tmp_path / "undisturbed", *SETTINGS)
    simulate(undisturbed)
    assert unlike(contents(store.data), contents(undisturbed.store.data)) == []
