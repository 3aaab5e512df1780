"""What a campaign shows in the Prefect UI: a progress bar, a table of cells, the report."""

import re
import threading
import time
from typing import Any
from urllib.parse import quote

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from storage.store.results import stored_plan
from storage.store.store import Store

INTERVAL = 3.0  # seconds between two moves of the bar; each is a request to the server


class Bar:
    """The progress artifact of a run, moved seldom enough for the server. Safe among threads."""

    def __init__(self, name: str, fraction: float) -> None:
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._id: Any = create_progress_artifact(
            progress=100 * fraction, key=_key(name, "progress"), description="finished shards"
        )

    def move(self, fraction: float, at_once: bool = False) -> None:
        """Show the fraction of finished shards, unless the bar has moved a moment ago."""
        with self._lock:
            if not at_once and time.monotonic() - self._last < INTERVAL:
                return
            self._last = time.monotonic()
        update_progress_artifact(self._id, progress=100 * fraction)


def publish(name: str, store: Store) -> None:
    """The table of cells and the link to the report, once they exist."""
    from pipelines.report import markdown
    from pipelines.report.figures.cells import group
    from pipelines.report.ranking import ranking_rows
    from pipelines.report.sentences.conclusions import conclusions
    from pipelines.report.table import cell_rows
    from storage.backend.reader import open_campaign

    tree = open_campaign(store.url)
    rows, _ = cell_rows(stored_plan(store), store)
    if rows:
        create_table_artifact(rows, key=_key(name, "cells"), description="Cells of the campaign")
    fits = group(tree, "fits")
    if fits is not None and (theories := ranking_rows(fits)):
        create_table_artifact(
            theories, key=_key(name, "theories"), description="Which theory explains what"
        )
    place = f"{store.url}/report/report.html"
    lines = [f"# {name}", *(f"- {markdown.text(line)}" for line in conclusions(tree))]
    shown, data = markdown.text(place), markdown.text(store.data)
    lines += ["", f"[Report]({_link(place)}): {shown}", "", f"Store: {data}"]
    create_markdown_artifact("\n".join(lines), key=_key(name, "report"), description="Conclusions")


def _link(place: str) -> str:
    return place if "://" in place else f"file://{quote(place)}"


def _key(name: str, what: str) -> str:
    """Prefect's keys have lower-case letters, digits and dashes alone."""
    return re.sub(r"[^a-z0-9-]+", "-", f"{name}-{what}".lower())
