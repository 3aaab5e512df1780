"""What a process of ours sets for itself before it imports anything heavy."""

import os

from pipelines.text import terminal
from workers.machine import cache, cores


def settle() -> None:
    """Nobody else may write what is ours, and libraries take no more of the machine than given."""
    os.umask(os.umask(0o022) | 0o022)  # whatever was set
    terminal.quiet_libraries()
    # Threads of torch that wait for the next product burn a core each; sleeping costs nothing.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores.tell_libraries()
    cache.tell_libraries()
