"""How fast this machine is: measured where it is asked for, and kept in the user's cache.

The file holds numbers by machine (processor, versions) and by what was timed; those that are old
are measured again. A cache that cannot be read or written is none: all is measured each time.

torch is imported where it is used: what is known already needs none.
"""

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from storage.planning.identity import digest
from workers import numerics
from workers.machine import cache

PATIENCE = 2.0  # seconds for all of a kind that is timed
FRESH_SECONDS = 30 * 24 * 3600.0  # seconds
PRODUCT = 512  # rows of the matrices that are multiplied
TURNS = 20_000  # of a loop of the interpreter

# What the two take on the machine on which the costs in `costs.py` were measured.
PRODUCT_SECONDS, LOOP_SECONDS = 3.5e-3, 2.1e-3


class Speeds:
    """Seconds by name, known or measured now; `keep` writes what is new to the cache."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or place()
        self._machine = _machine()
        self._known = _fresh(_read(self._path).get(self._machine))
        self._new: dict[str, object] = {}

    def known(self, name: str) -> list[float] | None:
        """What was measured of this name, if it was, and not long ago."""
        found = self._known.get(name)
        return None if found is None else found["seconds"]

    def measure(self, name: str, act: Callable[[], Sequence[float]]) -> list[float]:
        """What is known of this name, or what `act` returns: seconds."""
        if (found := self.known(name)) is not None:
            return found
        seconds = [float(each) for each in act()]
        self._known[name] = self._new[name] = {"seconds": seconds, "when": time.time()}
        return seconds

    @property
    def slowness(self) -> tuple[float, float]:
        """How much longer large products and plain Python take than where costs were measured."""
        product, loop = self.measure("reference", _reference)
        return product / PRODUCT_SECONDS, loop / LOOP_SECONDS

    def keep(self) -> None:
        """Add what was measured to the cache, beside what others have added meanwhile."""
        if not self._new:
            return
        found = _read(self._path)
        found[self._machine] = _fresh(found.get(self._machine)) | self._new
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._path, json.dumps(found).encode())
        self._new = {}


def place() -> Path:
    """The file; where the user has no place for one, a name that there is none of."""
    try:
        return cache.folder() / "speeds.json"
    except OSError:
        return Path(os.devnull) / "speeds.json"


def _replace(path: Path, data: bytes) -> None:
    """In one step, so that a reader sees the old file or the new one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    os.replace(file.name, path)


def _read(path: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def _fresh(entries: object) -> dict[str, Any]:
    """Entries that are whole and not old."""
    now = time.time()
    return {
        name: entry
        for name, entry in (entries.items() if isinstance(entries, dict) else ())
        if isinstance(entry, dict)
        and isinstance(entry.get("seconds"), list)
        and all(isinstance(each, int | float) for each in entry["seconds"])
        and isinstance(entry.get("when"), int | float)
        and 0 <= now - entry["when"] < FRESH_SECONDS
    }


def _machine() -> str:
    """What decides how fast it is: host, processor and versions."""
    model = platform.processor()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2] for line in lines if line.startswith("model name"))
    return digest([platform.node(), model, platform.python_version(), numerics.describe()])[:32]


def _reference() -> tuple[float, float]:
    """Seconds of a product of matrices and of a loop: the shortest of a few."""
    import torch

    matrix = torch.ones(PRODUCT, PRODUCT, dtype=torch.float64)

    def loop() -> None:
        json.dumps([str(each) for each in range(TURNS)])

    with numerics.fixed_threads():
        return _shortest(lambda: torch.mm(matrix, matrix)), _shortest(loop)


def _shortest(act: Callable[[], object]) -> float:
    times = []
    for _ in range(4):
        began = time.process_time()
        act()
        times.append(time.process_time() - began)
    return min(times)
