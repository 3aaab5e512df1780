"""What kinds of faults a shard may end with, since each is answered in its own way.

A chain that diverges is none of them: that is a result, stored as `status`, and its shard is
finished.
"""

from enum import StrEnum

from workers.machine.memory import MemoryShortageError


class Fault(StrEnum):
    """Why a shard has no receipt."""

    MACHINE = "machine"  # a worker, node, disk or network: tried again, elsewhere
    MEMORY = "memory"  # tried again with fewer neighbours on its node
    BUG = "bug"  # in the code, or in what it was given: it would fail again, anywhere


def fault_of(error: Exception) -> Fault:
    """The kind of an exception that a shard has raised."""
    short = isinstance(error, MemoryError | MemoryShortageError)
    if short or "allocate" in str(error):  # torch raises RuntimeError
        return Fault.MEMORY
    machine = isinstance(error, OSError) or "CUDA error" in str(error)
    return Fault.MACHINE if machine else Fault.BUG
