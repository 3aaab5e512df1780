"""How much memory is free on this machine, or in this container."""

from pathlib import Path

import psutil

from storage.errors import CampaignError
from workers.machine import cgroups

# Of version 2 and of version 1: the limit, what is used, and the file pages among it that the
# system takes back when it must, in a file of many numbers.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


class MemoryShortageError(CampaignError):
    """What a shard needs is more than is free on this machine now."""


def available() -> int:
    """Bytes that may still be taken, by the system's own count and the limits of every group."""
    left = [_left(folder, *names) for folder in cgroups.groups("memory") for names in _FILES]
    free = psutil.virtual_memory().available
    return max(0, min([free, *(each for each in left if each is not None)]))


def require(needed: int, purpose: str, advice: str) -> None:
    """Raise MemoryShortageError where so many bytes are not to be had."""
    if needed > (free := available()):
        raise MemoryShortageError(
            f"{purpose} needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free "
            f"here; {advice}"
        )


def _left(folder: Path, limit: str, used: str, cached: str) -> int | None:
    """Bytes that the processes of a group may still take; None where it has no limit."""
    most, now = cgroups.number(folder / limit), cgroups.number(folder / used)
    return None if most is None or now is None else most - now + _cached(folder, cached)


def _cached(folder: Path, name: str) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines).get(name, 0))
    except (OSError, ValueError):
        return 0
