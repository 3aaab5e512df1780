"""What `status` says: of campaigns that nobody began, that run, that failed and that ended."""

import time

import pytest

from pipelines.commands.status import status, watched
from pipelines.progress.pace import ENDED, Pace
from storage.files import lease
from storage.store.store import Store
from support.fake_shards import finish_all
from support.fake_shards import planned as allocated


def pace(store: Store, **changes) -> Pace:
    work = {"/".join(place): (10.0, count) for place, count in _plan(store).work.items()}
    usual = {
        "began": time.time() - 36000,
        "cores": 2,
        "simulation": 3600.0,
        "work": work,
        "before": {},
        "stages": {"predict": 36000.0, "report": 36000.0},
    }
    return Pace(**usual | changes)


def _plan(store: Store):
    from storage.planning.plan import plan

    specs = store.specs()
    return plan(specs[-1], specs, store.sources(), store.rounds())


def line(text: str, name: str) -> str:
    (found,) = [each for each in text.splitlines() if each.startswith(f"{name} ")]
    return found.removeprefix(name).strip()


def finish(store: Store) -> None:
    finish_all(store, (s for s in _plan(store).shards() if store.ledger.receipt(s.name) is None))


def test_what_nobody_drives_and_is_not_finished_goes_on(store):
    total = sum(_plan(store).work.values())
    done = len(store.ledger.finished())
    text = status(store)
    assert 0 < done < total
    assert line(text, "shards") == f"{done} of {total} finished"
    assert line(text, "driver") == "none; `finitewidth run` goes on where it stopped"


def test_what_is_finished_does_not_go_on(store):
    finish(store)
    assert "`finitewidth run` makes the report" in line(status(store), "driver")
    pace(store, stage=ENDED, since=time.time()).keep(store.objects)
    text = status(store)
    assert line(text, "driver") == "none; the campaign is finished; the last run took 10 h"
    assert "goes on" not in text
    assert line(text, "cells").startswith(f"{len(_plan(store).cells)} finished")


def test_a_driver_has_a_time_behind_and_before_it(store):
    pace(store).at("predict", time.time()).keep(store.objects)
    with lease.acquire(store.objects):
        said = line(status(store), "driver")
    assert said.endswith("; predict, 10 h so far, about 20 h left")


def test_watching_ends_with_the_driver(store, monkeypatch):
    monkeypatch.setattr("pipelines.commands.status.INTERVAL", 0.0)
    held = lease.acquire(store.objects)
    texts = watched(store)
    assert "process" in line(next(texts), "driver")
    held.release()
    assert [line(text, "driver").split(";")[0] for text in texts] == ["none"]


@pytest.mark.parametrize("certain", [True, False])
def test_only_the_last_failure_of_what_is_not_finished_is_shown(certain, store):
    finished = sorted(store.ledger.finished())[0]
    missing = next(s.name for s in _plan(store).shards() if s.name not in store.ledger.finished())
    store.ledger.fail(finished, {"error": "long ago"})
    store.ledger.fail(missing, {"error": "first"})
    store.ledger.fail(missing, {"error": "second", "certain": certain})
    text = status(store)
    assert line(text, "failed") == f"{missing}: second"
    assert "long ago" not in text
    assert ("--retry-failed" in text) == certain


def test_cells_are_folded_and_counted(tmp_path):
    store = Store(str(tmp_path))
    allocated(store, f"sweep={{size: {{network.width: {list(range(1, 51))}}}}}")
    text = status(store)
    assert line(text, "cells") == "50 not begun"
    assert text.endswith("  and 30 more cells; --all shows them")
    rows = status(store, every=True).splitlines()[-50:]
    assert [int(row.split()[0]) for row in rows] == list(range(1, 51))


@pytest.mark.parametrize("width", [20, 40, 80])
def test_the_table_is_no_wider_than_the_terminal(width, tmp_path):
    store = Store(str(tmp_path))
    allocated(store, f"sweep={{size: {{network.width: {list(range(1, 31))}}}}}")
    table = status(store, width=width).partition("\n\n")[2].splitlines()
    rows = [each for each in table if not each.startswith(("  no room", "  and "))]
    assert max(map(len, rows)) <= width
