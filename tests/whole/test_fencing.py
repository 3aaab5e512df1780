"""A driver that was taken for dead changes nothing any more, wherever it wakes up."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.engine import engine
from storage.errors import CampaignError
from storage.files import compaction, lease
from storage.files.lease import SupersededError
from storage.files.objects import Objects
from storage.reading.document import parse
from storage.store.holding import held
from support.driving import PATIENCE, PLUGIN, SMALL, Tree, contents, prepared, unlike, until
from support.tiny import CASES, SPEC, done, plain_report

pytestmark = pytest.mark.slow

WAKINGS = 3  # moments at which a driver wakes up, evenly over all that it writes
ELSEWHERE = """
from functools import partial
from pipelines import cli
from storage.store import holding; from storage.files import lease
lease._host = lambda: "elsewhere/boot/pid"
holding.acquire = partial(lease.acquire, interval=0.2)
cli.main()
"""


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    plain_report(monkeypatch)
    monkeypatch.setattr(compaction, "SIZE", 3)


class Overtaken:
    """From some write on, another driver holds the lease, and much time has gone by."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int | None = None) -> None:
        self.writes, self._at, self._patch = 0, at, patch
        self.found: dict[str, bytes] = {}  # what there was when it was taken over
        patch.setattr(Objects, "writing", self._counted(Objects.writing))

    def _counted(self, writing):
        @contextmanager
        def counted(place: Objects, doing: str, name: str) -> Iterator[None]:
            if "ledger/lease" not in name:
                self.writes += 1
                if self.writes == self._at:
                    self._take(place)
            with writing(place, doing, name):
                yield

        return counted

    def _take(self, place: Objects) -> None:
        campaign = Path(place.url.removesuffix("/data.zarr"))
        taken = Objects(str(campaign))
        with pytest.MonkeyPatch.context() as dead:
            dead.setattr(lease, "_runs", lambda holder: False)
            lease.acquire(taken).release()
        later = lease._clock() + 1e6
        self._patch.setattr(lease, "_clock", lambda: later)
        self.found = contents(campaign)


@pytest.mark.parametrize("name", ["a run", "predictions"])
def test_a_driver_that_wakes_up_after_a_takeover_writes_nothing(name, tmp_path, monkeypatch):
    case = CASES[name]

    base = tmp_path / "base"
    base.mkdir()
    if case.before is not None:
        engine.run(parse(case.text, case.before), str(base))

    def begin(root: Path) -> Path:
        return Path(shutil.copytree(base, root))

    with pytest.MonkeyPatch.context() as patch:
        root = begin(tmp_path / "whole")
        counted = Overtaken(patch)
        done(case, root)
    for waking in range(WAKINGS):
        root = begin(tmp_path / str(waking))
        with pytest.MonkeyPatch.context() as patch:
            overtaken = Overtaken(patch, at=1 + waking * counted.writes // WAKINGS)
            with pytest.raises(SupersededError, match="was taken over by process") as caught:
                done(case, root)
        assert "\n" not in str(caught.value)
        (campaign,) = root.iterdir()
        changed = unlike(overtaken.found, contents(campaign))
        assert {name.rpartition("/")[0] for name in changed} <= {"ledger/lease"}


def test_a_suspended_driver_ends_in_one_line_and_leaves_its_successor_alone(tmp_path):
    store = prepared(tmp_path, "observe.measure=[plugin:slow]").store
    arguments = ("--executor=inline", "--plugins", PLUGIN, "--set=observe.measure=[plugin:slow]")
    command = ("-c", ELSEWHERE, "run", SMALL, "--store", tmp_path, *arguments)
    run = Tree(*command, SLOW_SECONDS=0.05)
    until(lambda: list(tmp_path.rglob("receipts/ensemble/*/*.json")))
    run.process.send_signal(signal.SIGSTOP)
    with held(store):
        before = contents(store.url)
        run.process.send_signal(signal.SIGCONT)
        printed, _ = run.process.communicate(timeout=PATIENCE)
        assert run.process.returncode == 2, printed
        assert printed.splitlines()[-1].startswith(f"finitewidth: {store.url} was taken over by")
        assert "Traceback" not in printed
        changed = unlike(before, contents(store.url))
        assert {name.rpartition("/")[0] for name in changed} <= {"ledger/lease"}


def test_theories_are_not_computed_by_two_at_once(tmp_path, finitewidth):
    engine.run(parse(SPEC, ()), str(tmp_path))
    store = engine.prepare(parse(SPEC, ()), str(tmp_path)).store
    with held(store):
        before = contents(store.url)
        status, out, err = finitewidth("predict", store.url)
        assert (status, out) == (2, "")
        assert "wanted no other driver" in err
        assert err.count("\n") == 1
        with pytest.raises(CampaignError, match="wanted no other driver"):
            engine.run(parse(SPEC, ()), str(tmp_path))
        assert unlike(before, contents(store.url)) == []
