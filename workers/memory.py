"""How much memory is free on this machine, or in this container."""

from pathlib import Path

import psutil

from storage.errors import CampaignError

CGROUP = Path("/sys/fs/cgroup")


def available() -> int:
    """Bytes that may still be taken, by the system's own count and a container's limit."""
    free = psutil.virtual_memory().available
    limit, used, cached = (
        _number(CGROUP / "memory.max"),
        _number(CGROUP / "memory.current"),
        _cached(CGROUP / "memory.stat"),
    )
    return free if limit is None or used is None else max(0, min(free, limit - used + cached))


def require(needed: int, purpose: str, advice: str) -> None:
    """Raise CampaignError where so many bytes are not to be had."""
    if needed > (free := available()):
        raise CampaignError(
            f"{purpose} needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free "
            f"here; {advice}"
        )


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, and for `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _cached(path: Path) -> int:
    """File pages that the container's limit counts and the system takes back when it must."""
    try:
        lines = dict(line.split() for line in path.read_text().splitlines())
        return int(lines.get("inactive_file", 0))
    except (OSError, ValueError):
        return 0
