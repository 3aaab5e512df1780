"""What a run says while it goes on: bars on a terminal, plain lines otherwise."""

import sys
import threading
import time
from typing import TextIO

from workers.shard import Outcome

QUIET = 30  # seconds between two plain lines that only count


class Progress:
    """Counts shards as they end. Safe to call from several threads."""

    def __init__(self, total: int, done: int, stream: TextIO | None = None) -> None:
        self.total = total
        self.done = done
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._bar = None
        self._task = None
        self._spoke = time.monotonic()

    def __enter__(self) -> "Progress":
        if self._stream.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("shards"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(file=self._stream),
            )
            self._task = self._bar.add_task("simulate", total=self.total, completed=self.done)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def fraction(self) -> float:
        """Finished shards as a fraction of all."""
        return self.done / self.total if self.total else 1.0

    def say(self, text: str) -> None:
        """One line about the run."""
        with self._lock:
            if self._bar is not None:
                self._bar.console.print(text, highlight=False, markup=False)
            else:
                self._print(text)

    def count(self, outcome: Outcome) -> None:
        """Count a shard that ended."""
        if outcome.receipt is None:
            self.say(f"failed: {outcome.shard.name}: {outcome.reason}")
            return
        with self._lock:
            self.done += 1
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=self.done)
            elif time.monotonic() - self._spoke > QUIET:
                self._print(self._counted())

    def grow(self, total: int) -> None:
        """There is more to do than before."""
        with self._lock:
            self.total = total
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, total=total)

    def stage(self, name: str) -> None:
        """Say which stage or wave is running now."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=name)
        else:
            self.say(f"{name} ({self._counted()})")

    def _counted(self) -> str:
        return f"{self.done} of {self.total} shards finished"

    def _print(self, text: str) -> None:
        self._spoke = time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {text}", file=self._stream, flush=True)
