"""What decides the bits of a shard: threads, versions and device, fixed once per campaign."""

from collections.abc import Iterator
from contextlib import contextmanager

KERNEL = "plain"  # which implementation of the gradient; one per campaign
THREADS = 1  # of BLAS and of torch, within one shard


@contextmanager
def fixed_threads() -> Iterator[None]:
    """Run with a fixed number of BLAS and torch threads, so that sums are taken in one order."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with threadpool_limits(THREADS):
            yield
    finally:
        torch.set_num_threads(before)


def describe() -> dict[str, str]:
    """What this process would compute with, in words that are compared between workers."""
    import numpy
    import scipy
    import torch

    return {
        "kernel": KERNEL,
        "threads": str(THREADS),
        "device": f"cpu {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }


def difference(wanted: dict[str, str], found: dict[str, str]) -> str:
    """'torch is 2.13.0, the campaign runs with 2.12.0; ...', or nothing where they agree."""
    return "; ".join(
        f"{key} is {found.get(key, 'absent')}, the campaign runs with {value}"
        for key, value in wanted.items()
        if found.get(key) != value
    )
