"""After a power cut a durable store has the data of its receipts, and the next run goes on."""

import shutil
from pathlib import Path

import pytest

from pipelines.engine import engine, stages
from storage.files import lease
from storage.reading.document import parse
from storage.store.store import Store
from storage.verification.verify import verify
from support.driving import unlike
from support.power import Change, Event, left, recorded
from support.tiny import REGRESSION, SPEC, plain_report
from support.what_is_stored import stored

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="")]

CUTS = 6  # evenly over all that is done
PARTS = 4  # of cuts at every event, so that none takes long
SEEDS = 200  # of cuts where nothing is forced: few of them leave a receipt
RUNS = 2  # of these, followed by a run


@pytest.fixture(autouse=True)
def _cut(monkeypatch):
    monkeypatch.setattr(lease, "_runs", lambda holder: False)
    plain_report(monkeypatch)


def run(root: Path, durable: bool = True) -> Store:
    prepared = engine.prepare(parse(SPEC + REGRESSION, ()), str(root), durable=durable)
    with engine.drive(prepared, engine.Inline()) as driven:
        for wave in driven.left:
            assert all(outcome.receipt for outcome in driven.run(wave))
        stages.analyze(driven.store, prepared.plugins)
    return prepared.store


def restored(events: list[Event], count: int, top: Path, folder: Path) -> None:
    """The files that a cut behind so many events may leave, in another folder."""
    for path, data in left(events[:count], seed=count).items():
        file = folder / path.relative_to(top)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def broken(folder: Path) -> list[str]:
    """The finished shards of which something is missing or damaged."""
    stores = [Store(str(place)) for place in folder.glob("tiny-*/") if (place / "specs").is_dir()]
    finished = {name for store in stores for name in store.ledger.finished()}
    return [bad.name for store in stores for bad in verify(store) if bad.name in finished]


def test_receipts_outlast_a_power_cut_with_their_data(tmp_path):
    top = tmp_path / "durable"
    top.mkdir()
    with recorded(top) as events:
        store = run(top)
    made = {event.path for event in events if isinstance(event, Change)}
    assert {path for path in top.rglob("*") if path.is_dir()} <= made
    assert verify(store) == []
    run(tmp_path / "any other", durable=False)
    assert unlike(stored(top), stored(tmp_path / "any other")) == []
    counts = [round((i + 1) * len(events) / CUTS) for i in range(CUTS)]
    for count in counts:
        folder = cut(events, count, top, tmp_path)
        if count in counts[:: CUTS // RUNS]:
            run(folder)
            assert unlike(stored(top), stored(folder)) == []


def cut(events: list[Event], count: int, top: Path, place: Path) -> Path:
    """A folder as the power was cut after so many events: what has a receipt is whole."""
    folder = place / str(count)
    folder.mkdir()
    restored(events, count, top, folder)
    assert broken(folder) == []
    return folder


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_power_cut_at_any_event_leaves_receipts_with_their_data(part, tmp_path):
    top = tmp_path / "durable"
    top.mkdir()
    with recorded(top) as events:
        run(top)
    wanted, differing = stored(top), {}
    counts = range(part, len(events) + 1, PARTS)
    for count in counts:
        folder = cut(events, count, top, tmp_path)
        if count % (PARTS * 16) == part:
            run(folder)
            if other := unlike(wanted, stored(folder)):
                differing[count] = other[:4]
        shutil.rmtree(folder)
    print(f"{len(counts)} cuts at {len(events)} events, {len(differing)} left a trace")
    assert differing == {}


def test_without_forcing_they_need_not(tmp_path):
    """The same files on a disk that forces nothing: or the test above could not fail."""
    top = tmp_path / "forgetful"
    top.mkdir()
    with recorded(top, forcing=False) as events:
        run(top)
    whole = {path for path in top.rglob("*") if path.is_file()}
    receipts = {path for path in whole if "receipts" in path.parts}
    chunks = {path for path in whole if path.is_relative_to(top) and "c" in path.parts}
    cuts = [left(events, seed) for seed in range(SEEDS)]
    assert any(receipts & cut.keys() and chunks - cut.keys() for cut in cuts)
