"""What a power cut may leave: what was forced to the disk, and any part of the rest.

Recorded are all names that appear and vanish below a folder, with whether the content under a name
had been forced before, and every time that the names of a folder were forced.
"""

import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Change:
    """A name in a folder: a file with its content, a folder, or nothing any more."""

    path: Path
    content: bytes | None = None
    folder: bool = False
    forced: bool = False  # the content, before it had this name


@dataclass(frozen=True)
class Forced:
    """All names in a folder are on the disk."""

    path: Path


Event = Change | Forced


class Recorder:
    """The events below a folder, as system calls make them."""

    def __init__(self, top: Path) -> None:
        self.events: list[Event] = []
        self._top, self._synced, self._lock = top, set[Path](), threading.Lock()

    def sync(self, descriptor: int) -> None:
        place = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if place.is_dir():
            self._add(Forced(place))
        else:
            self._synced.add(place)

    def named(self, source: object, target: object) -> None:
        """A name for a file that has had another."""
        old, new = Path(str(source)), Path(str(target))
        self._add(Change(new, new.read_bytes(), forced=old in self._synced))

    def made(self, path: object, *_: object) -> None:
        self._add(Change(Path(str(path)), folder=True))

    def removed(self, path: object) -> None:
        self._add(Change(Path(str(path))))

    def _add(self, event: Event) -> None:
        if event.path.is_relative_to(self._top):
            with self._lock:
                self.events.append(event)


@contextmanager
def recorded(top: Path, forcing: bool = True) -> Iterator[list[Event]]:
    """The events while the block runs; where nothing is forced, those of a disk that forgets."""
    recorder = Recorder(top)
    calls = {
        "replace": recorder.named,
        "link": recorder.named,
        "mkdir": recorder.made,
        "unlink": recorder.removed,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, note in calls.items():
            patch.setattr(os, name, _then(getattr(os, name), note))
        patch.setattr(os, "fsync", recorder.sync if forcing else lambda descriptor: None)
        yield recorder.events


def _then(call, note):
    def both(*arguments, **options):
        found = call(*arguments, **options)
        note(*arguments)
        return found

    return both


def left(events: Sequence[Event], seed: int) -> dict[Path, bytes]:
    """The files after a cut behind these events: of what was not forced, chance decides."""
    chance = random.Random(seed)
    found: dict[Path, bytes] = {}
    lost: set[Path] = set()  # folders
    forced = {event.path: place for place, event in enumerate(events) if isinstance(event, Forced)}
    for place, event in enumerate(events):
        if isinstance(event, Forced):
            continue
        safe = forced.get(event.path.parent, -1) > place
        if not safe and chance.random() < 0.5:
            if event.folder:
                lost.add(event.path)
        elif event.folder:
            lost.discard(event.path)
        elif event.content is None:
            found.pop(event.path, None)
        else:
            whole = event.forced or chance.random() < 0.5
            found[event.path] = event.content if whole else event.content[: chance.randint(0, 8)]
    return {path: data for path, data in found.items() if lost.isdisjoint(path.parents)}
