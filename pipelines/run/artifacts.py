"""What a campaign shows in the Prefect UI while it runs: progress, the table of cells, verdicts.

The report is imported where it is used: it takes seconds, and a run that ends at once shows little.
"""

import json
import re
import threading
import time
from typing import TYPE_CHECKING, Self
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from pipelines.engine.stages import REPORT
from pipelines.report import markdown
from pipelines.run.live import LiveCells
from storage.store.results import RESULTS
from storage.store.store import Store

if TYPE_CHECKING:
    from pipelines.engine.engine import Drive
    from pipelines.progress.progress import Progress

TICK = 3.0  # seconds between two moves of the bar; each is a request to the server
INTERVAL = 60.0  # seconds between two looks at all cells
SHARE = 0.05  # of one core, at most, that looks take where cells end all the time
MEASURING = 3.0  # seconds of a look, beyond which cells wait for the next one
FAILURES = 10  # that are told with their reasons

Shown = tuple[str, object]  # description and data of an artifact


class Board:
    """The artifacts of a run while the block lasts, kept up to date by a thread of their own.

    They are written over, not added to, so that a long run leaves no more than a short one. Where
    that fails the run goes on, and its log has the reason.
    """

    def __init__(self, name: str, driven: "Drive", progress: "Progress") -> None:
        self._name = name
        self._driven = driven
        self._progress = progress
        self._cells = LiveCells(driven, lambda: progress.finished)
        self._verdicts = _Verdicts(driven.store.url)
        self._made: dict[str, tuple[UUID, Shown]] = {}  # what each artifact shows, by its key
        self._complete = -1  # cells at the last look
        self._next = 0.0  # when the next look is due by the clock of `time.monotonic`
        self._soonest = 0.0  # when it may be taken, if a cell ends before
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="board", daemon=True)
        self._log = get_run_logger()
        context = FlowRunContext.get()
        self._run = context.flow_run.id if context and context.flow_run else None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with get_client(sync_client=True) as client:
            self._guarded(client, last=True, well=kind is None)

    def _watch(self) -> None:
        with get_client(sync_client=True) as client:
            self._guarded(client)
            while not self._stop.wait(TICK):
                self._guarded(client)

    def _guarded(self, client: SyncPrefectClient, last: bool = False, well: bool = False) -> None:
        try:
            if last or self._is_due():
                self._look(client, last, well)
            self._put(client, "progress", *self._bar(last and well))
        except Exception:  # noqa: BLE001  the campaign is worth more than its picture
            self._log.warning("the artifacts of the run could not be refreshed", exc_info=True)

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now < self._soonest:
            return False
        return now >= self._next or self._cells.complete() > self._complete

    def _look(self, client: SyncPrefectClient, last: bool, well: bool) -> None:
        """Look at all cells, and at what is concluded from them."""
        began = time.monotonic()
        self._complete = self._cells.complete()
        if last and well:
            self._cells.settle()
        else:
            self._cells.measure(MEASURING)
        rows, said = self._cells.table()
        if rows:
            self._put(client, "cells", said, json.dumps(rows))
        self._put(client, "report", "State, verdicts so far and where to look", self._report(last))
        ended = time.monotonic()
        self._soonest = ended + (ended - began) / SHARE
        self._next = max(self._soonest, began + INTERVAL)

    def _bar(self, ended: bool) -> Shown:
        part = 1.0 if ended else self._progress.fraction
        return self._progress.state, round(100 * part, 1)

    def _report(self, last: bool) -> str:
        """Markdown: how far it is, what has failed, what is concluded, where to look."""
        url = self._driven.store.url
        lines = [f"# {markdown.text(self._name)}"]
        if not last:
            lines.append(f"{markdown.text(self._progress.state)} ({time.strftime('%H:%M %Z')})")
        if failures := self._cells.failures():
            lines += ["## Failed", *_bullets(_failed(failures))]
        title = "Conclusions" if last else "Verdicts so far"
        verdicts = self._verdicts.at(self._driven.plan, last or self._progress.at == REPORT)
        lines += [f"## {title}", *verdicts]
        lines += ["## Where to look", *_places(url)]
        return "\n\n".join([lines[0], "\n".join(lines[1:])])

    def _put(self, client: SyncPrefectClient, what: str, description: str, data: object) -> None:
        """Make an artifact, or change it where it would show something else.

        Prefect's own function for changing one also records an event with all its data.
        """
        shown = (description, data)
        if what not in self._made:
            kind = {"progress": "progress", "cells": "table"}.get(what, "markdown")
            new = ArtifactCreate(
                key=_key(self._name, what),
                type=kind,
                description=description,
                data=data,
                flow_run_id=self._run,
            )
            self._made[what] = client.create_artifact(new).id, shown
        elif shown != self._made[what][1]:
            made = self._made[what][0]
            change = {"description": description, "data": data}
            client.request("PATCH", "/artifacts/{id}", path_params={"id": made}, json=change)
            self._made[what] = made, shown


class _Verdicts:
    """What is concluded from the store, read again when it can have changed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen: object = None
        self._lines: list[str] = []

    def at(self, plan: object, compared: bool) -> list[str]:
        """A table and sentences in Markdown; `compared` where theories have been, in this run."""
        if self._seen != (now := (id(plan), compared)):
            self._lines = self._read()
            self._seen = now
        return self._lines

    def _read(self) -> list[str]:
        from pipelines.analysis.verdict_rows import verdicts
        from pipelines.report.sentences.conclusions import conclusions
        from pipelines.report.theory_names import learn
        from pipelines.report.verdict_table import verdict_table
        from storage.backend.reader import open_cells

        if not any(name in Store(self._url).root for name in RESULTS):
            return _bullets(["Theories are compared when the sampling has ended."])
        tree = open_cells(self._url)
        learn(tree)
        table = markdown.table(verdict_table(verdicts(tree)))
        return [*([f"{table}\n"] if table else []), *_bullets(conclusions(tree))]


def _failed(failures: dict[str, list[str]]) -> list[str]:
    reasons = [reason for each in failures.values() for reason in each]
    more = len(reasons) - FAILURES
    lines = [f"{key}: {reason}" for key, each in failures.items() for reason in each][:FAILURES]
    return [*lines, f"and {more} more, in the store's ledger/failures"] if more > 0 else lines


def _places(url: str) -> list[str]:
    """Where the results are; a page in a browser cannot open files, so these are to be copied."""
    return [
        f"- report: `{url}/report/report.html`",
        f"- store: `{url}/data.zarr`",
        f"- state: `finitewidth status {url}`",
    ]


def _bullets(lines: list[str]) -> list[str]:
    return [f"- {markdown.text(line)}" for line in lines]


def _key(name: str, what: str) -> str:
    """Prefect's keys have lower-case letters, digits and dashes alone."""
    return re.sub(r"[^a-z0-9-]+", "-", f"{name}-{what}".lower())
