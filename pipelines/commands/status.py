"""What is finished, running, failed and converged, read from the store alone."""

import time
from collections import Counter
from collections.abc import Iterator

import numpy as np

from pipelines.analysis.verdict_rows import VERDICTS, verdicts
from pipelines.engine import devices
from pipelines.progress import pace
from pipelines.report.table import cell_rows
from pipelines.report.theory_names import learn
from pipelines.report.verdict_table import counts
from pipelines.text import columns
from pipelines.text.durations import about, duration
from storage.arrays.schema import REFUSED
from storage.backend.reader import open_raw
from storage.backend.snapshot import explained
from storage.campaign.messages import printable
from storage.files import lease
from storage.planning.plan import Cell, Place, Plan, plan
from storage.store import archive
from storage.store.store import Store

BEYOND_POOL = 0.3
MOST_FAILURES = 20  # failures at most
INTERVAL = 2.0  # seconds between two looks

Finished = Counter[Place]


def status(store: Store, every: bool = False, width: int | None = None) -> str:
    """The state of a campaign in a few lines, with a table of the first cells, or of every one."""
    specs = store.specs()
    planned = plan(specs[-1], specs, store.sources(), store.rounds())
    names = store.ledger.finished()
    finished = planned.of(names)
    done, total = finished.total(), sum(planned.work.values())
    failures = store.ledger.last_failures(names)
    lines = [
        printable(specs[-1].title or specs[-1].name),
        f"store     {store.url}",
        *_computed(store),
        f"shards    {done} of {total} finished",
        *_kinds(planned, finished),
        f"driver    {_driver(store, finished, done == total)}",
    ]
    lines += [
        f"failed    {name}: {failures[name].get('error', 'nobody knows why')}"
        for name in sorted(failures)[:MOST_FAILURES]
    ]
    if len(failures) > MOST_FAILURES:
        lines.append(
            f"          and {len(failures) - MOST_FAILURES} more in {store.url}/ledger/failures"
        )
    elif any(record.get("certain") for record in failures.values()):
        lines.append("          a run tries these again with --retry-failed alone")
    with explained(store.data):
        lines += _regressions(planned, store)
        if planned.cells:
            lines.append(f"cells     {_cells(planned, store, finished)}")
        lines += _verdicts(store)
        if planned.cells:
            lines.append("")
            lines += _table(planned, store, finished, every, width)
    return "\n".join(lines)


def watched(store: Store, every: bool = False, width: int | None = None) -> Iterator[str]:
    """The state now and again, until nobody drives the campaign."""
    while True:
        driven = lease.holder(store.objects) is not None
        yield status(store, every, width)
        if not driven:
            return
        time.sleep(INTERVAL)


def _driver(store: Store, finished: Finished, complete: bool) -> str:
    """Who runs it, for how long and for how much longer; else what is left to do, if anything."""
    holder, kept = lease.holder(store.objects), pace.kept(store.objects)
    if holder is None:
        ended = kept is not None and kept.stage == pace.ENDED
        if not complete:
            return "none; `finitewidth run` goes on where it stopped"
        if not ended and not store.objects.exists("report/report.html"):
            return "none; all shards are finished, and `finitewidth run` makes the report"
        took = (
            f"; the last run took {duration(pace.elapsed(kept.began, kept.since))}"
            if kept and ended
            else ""
        )
        return f"none; the campaign is finished{took}"
    if kept is None or kept.stage == pace.ENDED:
        return f"{holder}, starting"
    now = time.time()
    by_name = {"/".join(place): count for place, count in finished.items()}
    spent, left = duration(pace.elapsed(kept.began, now)), about(kept.left(by_name, now))
    return f"{holder}; {kept.stage}, {spent} so far, {left} left"


def _computed(store: Store) -> list[str]:
    """What it computes with, from its first run on."""
    found = archive.numerics(store.objects)
    return [f"device    {devices.words(found)}"] if found else []


def _kinds(planned: Plan, finished: Finished) -> list[str]:
    counts: dict[str, list[int]] = {}
    for place, count in planned.work.items():
        each = counts.setdefault(place[0], [0, 0])
        each[0] += finished[place]
        each[1] += count
    return [f"          {kind}: {done} of {total}" for kind, (done, total) in counts.items()]


def _verdicts(store: Store) -> list[str]:
    """How many tests each theory has passed, a line each."""
    if VERDICTS not in store.root:
        return []
    tree = open_raw(store.url)
    learn(tree)
    found = counts(verdicts(tree))
    heads = ["verdicts", *[""] * len(found)]
    return [f"{head:10}{line}" for head, line in zip(heads, found, strict=False)]


def _cells(planned: Plan, store: Store, finished: Finished) -> str:
    """How many are finished, begun and converged."""
    states = Counter(_state(planned, finished, cell) for cell in planned.cells)
    parts = [f"{states[state]} {state}" for state in (FINISHED, BEGUN, WAITING) if states[state]]
    if "progress" in store.root and "converged" in store.root.group("progress"):
        converged = np.asarray(store.root["progress/converged"][...]) == 1
        parts.append(f"{int(converged.all(axis=1).sum())} converged")
    return ", ".join(parts)


FINISHED, BEGUN, WAITING = "finished", "begun", "not begun"


def _state(planned: Plan, finished: Finished, cell: Cell) -> str:
    done, total = planned.chains_of(cell, finished)
    return FINISHED if done >= total else BEGUN if done else WAITING


def _table(
    planned: Plan, store: Store, finished: Finished, every: bool, width: int | None
) -> list[str]:
    shown = planned.cells if every else planned.cells[: columns.SHOWN_ROWS]
    rows, _ = cell_rows(planned, store, shown)
    found = []
    for cell, row in zip(shown, rows, strict=True):
        done, total = planned.chains_of(cell, finished)
        state = f"{done} of {total}" if total else "not asked for any more"
        found.append(_first(row, cell) | {"shards": state} | row)
    return columns.table(found, len(planned.cells), width, keep={"shards", "converged"})


def _first(row: dict[str, str], cell: Cell) -> dict[str, str]:
    """What the sweep changes, which comes before all else."""
    return dict(list(row.items())[: len(cell.settings)])


def _regressions(planned: Plan, store: Store) -> list[str]:
    """Sizes at which the pool shows that it is finite, and regressions that were refused."""
    regression = planned.spec.regression
    if regression is None:
        return []
    beyond = [size for size in regression.train if size > BEYOND_POOL * regression.pool]
    lines = []
    if beyond:
        sizes = ", ".join(str(size) for size in beyond)
        lines.append(
            f"  regression: {sizes} training points are more than {BEYOND_POOL:g} of the pool of "
            f"{regression.pool}, where theories of the pool miss"
        )
    group = store.root.group("regression")
    refused = np.asarray(group["refused"][...]) if "refused" in group else np.zeros((1, 1, 1, 1))
    for why, value in REFUSED.items():
        for place, ridge in enumerate(regression.ridges):
            if value and (count := int((refused[..., place] == value).sum())):
                lines.append(f"  regression: ridge {ridge:g}: {count} refused as {why}")
    if regression.quartic is not None and "quartic_accepted" in group:
        sampled = np.isfinite(np.asarray(group["quartic_accepted"][...]))
        unmixed = sampled & np.isnan(np.asarray(group["quartic_error"][...]))
        for place, coupling in enumerate(regression.quartic.couplings):
            if count := int(unmixed[..., place].sum()):
                lines.append(f"  regression: coupling {coupling:g}: {count} refused as unmixed")
    return lines
