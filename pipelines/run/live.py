"""The cells of a campaign while it runs: how far each is, and what has been measured so far.

What that costs is bounded: each look measures cells that have grown since the last one, those that
wait longest first, and stops when its time is up.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from pipelines.analysis import convergence, step_check
from pipelines.analysis.chains import sound_chains
from pipelines.report import table
from pipelines.text.rounding import UNKNOWN, uncertain
from storage.campaign.observables import learnabilities
from storage.planning.plan import Cell, EnsembleCell, Place, Plan
from storage.store.results import ensemble_grid
from storage.store.store import Store

if TYPE_CHECKING:
    from pipelines.engine.engine import Drive

MOST_ROWS = 200  # rows: a browser is slow with more of them
VARYING = ("shards", "converged")  # columns that stay where all rows are alike
REASON = 100  # letters of a failure for which a row has room

Row = dict[str, str]


class LiveCells:
    """What is known of the cells of a campaign that this process drives."""

    def __init__(self, driven: "Drive", counted: Callable[[], Mapping[str, int]]) -> None:
        """`counted` tells the finished shards by `kind/cell`, as far as this run computes them."""
        self._driven = driven
        self._counted = counted
        self._plan: Plan | None = None
        self._before: Counter[Place] = Counter()  # also those that this run leaves alone
        self._measured: dict[str, tuple[int, Row]] = {}  # at so many shards, by cell
        self._waiting = 0  # cells for which the last look had no time

    def finished(self) -> Counter[Place]:
        """Finished shards of each cell, by kind and cell."""
        if self._plan is not self._driven.plan:  # it grows where a campaign refines itself
            self._plan = self._driven.plan
            self._before = self._plan.of(set(self._driven.finished))
        found = Counter(self._before)
        for name, count in self._counted().items():
            kind, _, cell = name.partition("/")
            found[kind, cell] = count
        return found

    def complete(self) -> int:
        """How many cells have all their shards."""
        planned, finished = self._driven.plan, self.finished()
        return sum(planned.work[place] == finished[place] for place in planned.work)

    def measure(self, seconds: float) -> None:
        """Measure for about so long; what is left then waits for the next look."""
        ends = time.monotonic() + seconds
        planned, finished = self._driven.plan, self.finished()
        growing = [
            (cell, done, total)
            for cell in planned.cells
            for done, total in [planned.chains_of(cell, finished)]
            if done > self._measured.get(cell.key, (0, {}))[0]
        ]
        order = {key: place for place, key in enumerate(self._measured)}  # the latest comes last
        growing.sort(key=lambda each: order.get(each[0].key, -1))
        reader = _Reader(self._driven.store.url, planned) if growing else None
        self._waiting = len(growing)
        for cell, done, total in growing:
            if time.monotonic() > ends or reader is None:
                return
            row = reader.row(cell, done == total)
            self._measured.pop(cell.key, None)
            self._measured[cell.key] = (done, row)
            self._waiting -= 1

    def settle(self) -> None:
        """Take what the stages have found instead, once they have run."""
        planned, finished = self._driven.plan, self.finished()
        rows, _ = table.cell_rows(planned, self._driven.store) if planned.cells else ([], [])
        for cell, row in zip(planned.cells, rows, strict=True):
            self._measured[cell.key] = (planned.chains_of(cell, finished)[0], row)
        self._waiting = 0

    def table(self, most: int = MOST_ROWS) -> tuple[list[Row], str]:
        """A row for each cell, and in a line what the rows do not say.

        Where there are too many, those that failed or are at work come first. All rows have the
        same columns, since the first one decides which there are.
        """
        planned, finished = self._driven.plan, self.finished()
        failures = self.failures()
        cells = planned.cells or planned.regressions
        states = [(cell, *_counts(planned, finished, cell)) for cell in cells]
        if len(states) > most:
            states.sort(key=lambda each: (each[0].key not in failures, not 0 < each[1] < each[2]))
        rows = [self._row(*each, failures) for each in states[:most]]
        said = f"{len(states)} cells"
        if len(states) > most:
            said = f"{most} of {said}, those that failed or are at work before others"
        if waiting := self._waiting:
            said += f"; {waiting} of them wait{'s' * (waiting == 1)} to be measured"
        names = dict.fromkeys(name for row in rows for name in row)
        rows = [{name: row.get(name, "") for name in names} for row in rows]
        alike = [name for name in names if name not in VARYING and _alike(rows, name)]
        if alike:
            said += f"; in all rows {', '.join(f'{name} {rows[0][name]}' for name in alike)}"
        return [{name: row[name] for name in row if name not in alike} for row in rows], said

    def _row(self, cell: Cell, done: int, total: int, failures: Mapping[str, list[str]]) -> Row:
        row = table.settings_row(cell) | {"shards": f"{done} of {total}" if total else "none asked"}
        row |= self._measured.get(cell.key, (0, {}))[1]
        if failures:
            row["failed"] = _failure(failures.get(cell.key, []))
        return row | (table.physical_row(cell) if isinstance(cell, EnsembleCell) else {})

    def failures(self) -> dict[str, list[str]]:
        """Why shards of each cell have failed, by the cell's key."""
        found: dict[str, list[str]] = {}
        for outcome in [*self._driven.failed, *self._driven.told]:
            found.setdefault(outcome.shard.cell.key, []).append(outcome.reason)
        return found


class _Reader:
    """Reads what is stored of the cells of a plan, as it is now."""

    def __init__(self, url: str, planned: Plan) -> None:
        self._planned = planned
        root = Store(url).root
        # Zarr opens an array whenever a group is asked for it; that is half the time of a look.
        self._root = {
            name: dict(root.group(name).arrays())
            for name in ("ensemble", "step_check")
            if name in root
        }
        self._group = self._root["ensemble"]
        self._assessed = convergence.assessed_variables(root.group("ensemble"))
        components = ensemble_grid(planned)[0]["component"].values.tolist()
        self._names = convergence.quantities(self._assessed, components)
        self._learned = learnabilities(components)
        self._checked = step_check.names(self._group, components)

    def row(self, cell: EnsembleCell, complete: bool) -> Row:
        """Learnabilities with errors from independent chains, mixing, and the bias of the step."""
        group = self._group
        datasets = range(group["finished"].shape[1])
        chains = [sound_chains(group, self._planned, cell.index, each) for each in datasets]
        values = [
            convergence.scalars(each, self._assessed) if each.enough else None for each in chains
        ]
        found = [None if each is None else convergence.diagnostics(each) for each in values]
        known = [each for each in found if each is not None]
        rhat = np.concatenate([each.rhat for each in known] or [np.empty(0)])
        ess = np.concatenate([each.ess_bulk for each in known] or [np.empty(0)])
        passed = sum(
            convergence.has_law(cell) and each.passes(len(of.chains))
            for each, of in zip(found, chains, strict=True)
            if each is not None
        )
        bias = step_check.bias(self._root, self._planned, cell, self._checked) if complete else {}
        return {
            **self._learnabilities([each for each in values if each is not None]),
            "R-hat": table.extreme(rhat, np.nanmax, ".3f"),
            "ESS": table.extreme(ess, np.nanmin, ".0f"),
            "diverged": str(sum(each.diverged for each in chains)),
            "converged": f"{passed} of {len(chains)}",
            "step": table.step_in_words(cell, bias.get("biased")),
        }

    def _learnabilities(self, values: list[np.ndarray]) -> Row:
        """The mean over datasets and chains, √(Σ se²)/datasets as its error."""
        row: Row = {}
        for place, name in enumerate(self._names):
            if name not in self._learned:
                continue
            means = [each[..., place].mean(axis=1) for each in values]  # (chain,) of each dataset
            error = np.sqrt(sum(each.var(ddof=1) / len(each) for each in means))
            row[table.learnability_title(name)] = (
                uncertain(float(np.mean([each.mean() for each in means])), error / len(means))
                if means
                else UNKNOWN
            )
        return row


def _counts(planned: Plan, finished: Counter[Place], cell: Cell) -> tuple[int, int]:
    """Shards of a cell, or of a regression: finished, and asked for."""
    if isinstance(cell, EnsembleCell):
        return planned.chains_of(cell, finished)
    places = [(kind, cell.key) for kind in ("regression", "spectrum")]
    return sum(finished[each] for each in places), sum(planned.work.get(p, 0) for p in places)


def _alike(rows: list[Row], name: str) -> bool:
    return len(rows) > 1 and len({row[name] for row in rows}) == 1


def _failure(reasons: list[str]) -> str:
    if not reasons:
        return ""
    first = reasons[0] if len(reasons[0]) <= REASON else f"{reasons[0][: REASON - 1]}…"
    return first if len(reasons) == 1 else f"{len(reasons)}: {first}"
