"""What a run says while it goes on: bars on a terminal, plain lines otherwise.

rich is imported where it is used: it is for terminals alone.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from pipelines.progress.pace import Pace
from pipelines.text.durations import about
from workers.shard import Outcome

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn, TaskID

QUIET = 30  # seconds between two plain lines that only count


class Listener(Protocol):
    """Hears of what a progress is told, by one thread at a time."""

    def said(self, text: str) -> None:
        """A line for people."""
        ...

    def staged(self, name: str) -> None:
        """Another wave or stage begins."""
        ...

    def counted(self, outcome: Outcome) -> None:
        """A shard has ended."""
        ...

    def grown(self, total: int) -> None:
        """There is more to do."""
        ...


class Progress:
    """Counts shards as they end. Safe to call from several threads."""

    def __init__(
        self,
        total: int,
        done: int,
        stream: TextIO | None = None,
        pace: Pace | None = None,
        keep: Callable[[Pace], None] = lambda _: None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        """`keep` takes the pace whenever another stage begins."""
        self.total = total
        self.done = done
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._bar: Bar | None = None
        self._task: TaskID  # of the bar, where there is one
        self._spoke = time.monotonic()
        self.pace = pace
        self._keep = keep
        self._listeners = listeners
        self._finished = Counter(pace.before if pace else {})
        self._part: float | None = None  # of the stage, where it says so
        self._stage = ""

    def __enter__(self) -> "Progress":
        if self._stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("shards"),
                TimeElapsedColumn(),
                _left_column(self),
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
        """The part of the campaign that is done: by shards, where nobody knows what stages take."""
        if self.pace is not None:
            return self.pace.done(self._finished, time.time(), self._part)
        return self.done / self.total if self.total else 1.0

    @property
    def finished(self) -> dict[str, int]:
        """Finished shards of the cells that this run computes, by kind and cell."""
        with self._lock:
            return dict(self._finished)

    @property
    def at(self) -> str:
        """The stage or wave that is running."""
        return self._stage

    @property
    def state(self) -> str:
        """What is going on, how many shards are finished, and the time that is left."""
        return f"{self._stage or 'starting'}: {self._state()}"

    @property
    def left(self) -> str:
        """`about 3 min left`; nothing where nothing is expected."""
        if self.pace is None:
            return ""
        seconds = self.pace.left(self._finished, time.time(), self._part)
        return f"{about(seconds)} left"

    def say(self, text: str) -> None:
        """One line about the run."""
        with self._lock:
            for each in self._listeners:
                each.said(text)
            self._line(text)

    def count(self, outcome: Outcome) -> None:
        """Count a shard that ended."""
        shard = outcome.shard
        with self._lock:
            for each in self._listeners:
                each.counted(outcome)
            if outcome.receipt is None:
                self._line(f"failed: {shard.name}: {outcome.reason}")
                return
            self.done += 1
            if self.pace is not None:
                self._finished[f"{shard.kind}/{shard.cell.key}"] += 1
            if self._bar is not None:
                self._bar.update(self._task, completed=self.done)
            elif time.monotonic() - self._spoke > QUIET:
                self._print(self._state())

    def grow(self, total: int, pace: Pace | None = None) -> None:
        """There is more to do than before."""
        with self._lock:
            self.total, self.pace = total, pace
            self._finished = Counter(pace.before if pace else {})
            for each in self._listeners:
                each.grown(total)
            if self._bar is not None:
                self._bar.update(self._task, total=total)

    def stage(self, name: str) -> None:
        """Say which stage is running now."""
        with self._lock:
            self._stage, self._part = name, None
            for each in self._listeners:
                each.staged(name)
            if self.pace is not None:
                self.pace = self.pace.at(name, time.time())
                self._keep(self.pace)
            if self._bar is not None:
                self._bar.update(self._task, description=_escaped(name))
            else:
                self._print(f"{name} ({self._state()})")

    def wave(self, name: str) -> None:
        """Say that a wave has come to its end; a terminal has its bar."""
        with self._lock:
            if self._bar is None:
                self._print(f"{name}: ended ({self._state()})")

    def detail(self, what: str, part: float) -> None:
        """Say what a stage is doing, and which part of it is done."""
        with self._lock:
            self._part = part
            if self._bar is not None:
                self._bar.update(self._task, description=_escaped(f"{self._stage}: {what}"))
            elif time.monotonic() - self._spoke > QUIET:
                left = f", {self.left}" if self.left else ""
                self._print(f"{self._stage}: {what}{left}")

    def _state(self) -> str:
        counted = f"{self.done} of {self.total} shards finished"
        return f"{counted}, {self.left}" if self.left else counted

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            self._print(text)

    def _print(self, text: str) -> None:
        self._spoke = time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {text}", file=self._stream, flush=True)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _left_column(progress: Progress) -> "ProgressColumn":
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Left(ProgressColumn):
        """The time that is left, as it is now."""

        def render(self, task: object) -> Text:
            return Text(progress.left)

    return Left()
