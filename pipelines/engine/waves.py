"""Waves: what those who watch see of a run whose lanes are all under way at once.

A wave is a line, and no barrier: it begins with the first of its shards that is handed out, and
ends with its last.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from storage.planning.plan import Lane, Place, Shard
from workers.shard import Outcome

MOST_WAVES = 100  # lines that people can look at


@dataclass(frozen=True)
class Wave:
    """Lanes under a name."""

    name: str
    lanes: tuple[Lane, ...]


def merged(waves: Sequence[Wave]) -> list[Wave]:
    """At most `MOST` of them, neighbours put together."""
    size = -(-len(waves) // MOST_WAVES)
    if size <= 1:
        return [*waves]
    groups = [waves[i : i + size] for i in range(0, len(waves), size)]
    return [
        Wave(f"{group[0].name} to {group[-1].name}", tuple(ln for w in group for ln in w.lanes))
        for group in groups
    ]


class Line:
    """A wave while it goes on, for other threads to wait for."""

    def __init__(self, wave: Wave) -> None:
        self.wave = wave
        self.begun = False
        self.finished = 0  # shards
        self.failed: list[Outcome] = []
        self._lanes = len(wave.lanes)  # that go on
        self._last = {lane[-1].name for lane in wave.lanes}
        self._ended = threading.Event()

    @property
    def complete(self) -> bool:
        """Whether every lane has come to its end, at its last shard or at one that failed."""
        return self._lanes == 0

    def count(self, outcome: Outcome) -> None:
        """Count a shard that ended."""
        if outcome.receipt is None:
            self.failed.append(outcome)
        else:
            self.finished += 1
        if outcome.receipt is None or outcome.shard.name in self._last:
            self._lanes -= 1
        if self.complete:
            self.end()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended.set()

    def wait(self) -> None:
        """Until the wave ends."""
        self._ended.wait()


class Lines:
    """The lines of some waves, moved by what is begun and by what ends."""

    def __init__(self, waves: Sequence[Wave], began: Callable[[Line], object]) -> None:
        """`began` hears of a line when its first shard is handed out."""
        self._began = began
        self._lines: dict[Place, Line] = {}
        for wave in waves:
            line = Line(wave)
            for lane in wave.lanes:
                self._lines[_place(lane[0])] = line

    def begin(self, shard: Shard) -> None:
        """A shard is handed out."""
        line = self._lines[_place(shard)]
        if not line.begun:
            line.begun = True
            self._began(line)

    def count(self, outcome: Outcome) -> Line:
        """A shard has ended; the line it stands in."""
        line = self._lines[_place(outcome.shard)]
        line.count(outcome)
        return line

    def end(self) -> None:
        """The run ends, whether or not its waves are complete."""
        for line in self._lines.values():
            line.end()


@contextmanager
def lines(waves: Sequence[Wave], began: Callable[[Line], object]) -> Iterator[Lines]:
    """Lines that end with the block at the latest."""
    found = Lines(waves, began)
    try:
        yield found
    finally:
        found.end()


def _place(shard: Shard) -> Place:
    return shard.kind, shard.cell.key
