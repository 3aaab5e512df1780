"""The table of cells while a campaign runs: what it shows, in what time, and of which cells."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.engine import stages
from pipelines.report.table import cell_rows
from pipelines.run.live import LiveCells
from pipelines.text.rounding import uncertain
from storage.backend.reader import open_raw
from storage.store.results import stored_plan
from storage.store.store import Store
from support.driving import prepared, simulate
from support.fake_shards import planned as allocated
from workers.shard import Outcome


def live(store: Store, counted: dict[str, int] | None = None, **known: Any) -> LiveCells:
    """What is known of a campaign of which so much is stored."""
    planned = stored_plan(store)
    driven: Any = SimpleNamespace(
        plan=planned, finished=store.ledger.finished(), store=store, failed=[], told=[]
    )
    vars(driven).update(known)
    return LiveCells(driven, lambda: counted or {})


@pytest.mark.slow
def test_what_is_seen_while_it_runs_is_what_the_stages_find(tmp_path):
    campaign = prepared(tmp_path, "regression=null", "theories=[nngp]")
    simulate(campaign)
    store = campaign.store
    cells = live(store)
    cells.measure(1e9)
    rows, said = cells.table()
    assert said.startswith("2 cells; in all rows ")
    stages.run("assess convergence", store, campaign.plugins)
    found, _ = cell_rows(stored_plan(store), store)
    for row, expected in zip(rows, found, strict=True):
        for name in ("R-hat", "ESS", "converged"):
            assert row.get(name) == expected[name] or f"{name} {expected[name]}" in said
        assert "learnability He1" in row
    # Its error comes from independent chains, those of each dataset apart.
    draws = open_raw(store.url)["ensemble"].learnability.values[:, :, :, :, 0]
    means = draws.mean(3)  # (cell, dataset, chain)
    errors = np.sqrt((means.var(2, ddof=1) / means.shape[2]).sum(1)) / means.shape[1]
    expected = [uncertain(m, e) for m, e in zip(means.mean((1, 2)), errors, strict=True)]
    assert [row["learnability He1"] for row in rows] == expected

    cells.settle()
    settled, _ = cells.table()
    assert [row["shards"] for row in settled] == ["20 of 20", "20 of 20"]
    assert [row["R-hat"] for row in settled] == [row["R-hat"] for row in rows]


def test_a_look_ends_when_its_time_is_up_and_the_next_one_goes_on(store):
    cells = live(store)
    cells.measure(0.0)
    rows, said = cells.table()
    assert "4 of them wait to be measured" in said
    assert all("R-hat" not in row for row in rows)
    cells.measure(1e9)
    rows, said = cells.table()
    assert "wait" not in said
    assert all("R-hat" in row or "R-hat" in said for row in rows)


def test_shards_are_counted_by_the_run_that_computes_them(store):
    planned = stored_plan(store)
    first = planned.cells[0]
    before = [row["shards"] for row in live(store).table()[0]]
    asked = planned.work["ensemble", first.key]
    rows, _ = live(store, {f"ensemble/{first.key}": asked}).table()
    after = [row["shards"] for row in rows]
    assert after[0] == f"{asked} of {asked}" != before[0]
    assert after[1:] == before[1:]


def test_of_too_many_cells_those_that_failed_come_first(store):
    planned = stored_plan(store)
    shard = next(each for each in planned.shards() if each.cell.key == planned.cells[3].key)
    twice = [Outcome(shard, None, "a very long reason " * 20), Outcome(shard, None, "another")]
    rows, said = live(store, failed=twice).table(most=2)
    assert len(rows) == 2
    assert said.startswith("2 of 4 cells, those that failed or are at work before others")
    assert rows[0]["N"] == str(planned.cells[3].settings["network.width"])
    assert rows[0]["failed"].startswith("2: a very long reason")
    assert len(rows[0]["failed"]) < 120
    assert rows[1]["failed"] == ""
    assert list(rows[0]) == list(rows[1])


def test_a_regression_alone_has_a_table_too(tmp_path):
    alone = ("network=null", "sampler=null", "ensemble=null", "observe={}")
    kernel = "regression.kernel={activation: erf, weight_variance: [1, 1]}"
    store = Store(str(tmp_path / "campaign"))
    planned = allocated(store, *alone, kernel, "sweep={noise: {data.label_noise: [0.0, 0.1]}}")
    (first, _) = planned.regressions
    cells = live(store, {f"regression/{first.key}": 1})
    cells.measure(1e9)
    rows, said = cells.table()
    assert said == "2 cells"
    asked = sum(planned.work.values()) // 2
    assert [row["shards"] for row in rows] == [f"1 of {asked}", f"0 of {asked}"]
