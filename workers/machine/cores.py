"""How many cores this process may use: of a machine, or of what a container or a job has of it."""

import math
import os
from pathlib import Path

from workers.machine import cgroups


def available_cores() -> int:
    """At least one; what the scheduler, a quota and the machine itself allow.

    A part of a core counts as one: a worker more than there are whole cores uses it up.
    """
    return max(1, min([_allowed(), *(math.ceil(quota) for quota in _quotas())]))


def tell_libraries() -> None:
    """Set the threads of BLAS and torch where a quota allows fewer than they would take.

    They look at the cores that a process is bound to, not at its share of their time. It is for a
    process that has imported neither.
    """
    if (cores := available_cores()) < _allowed():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def _allowed() -> int:
    """Cores that the scheduler may put this process on; macOS does not bind processes."""
    everything = os.cpu_count() or 1
    if not hasattr(os, "sched_getaffinity"):
        return everything
    return min(len(os.sched_getaffinity(0)), everything)


def _quotas() -> list[float]:
    """Cores' worth of time that the groups of this process may take."""
    found = [_quota(folder) for folder in cgroups.groups("cpu")]
    return [quota for quota in found if quota is not None]


def _quota(folder: Path) -> float | None:
    """`cpu.max` holds time and period in version 2; version 1 has a file for each, -1 without."""
    try:
        time, period = map(int, (folder / "cpu.max").read_text().split())
    except (OSError, ValueError):  # it may be `max`
        time = cgroups.number(folder / "cpu.cfs_quota_us")
        period = cgroups.number(folder / "cpu.cfs_period_us")
    return time / period if time and period and time > 0 else None
