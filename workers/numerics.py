"""What decides the bits of a shard: threads, versions and device, fixed once per campaign."""

from collections.abc import Iterator
from contextlib import contextmanager

PLAIN = "plain"  # gradients by torch alone; anything else names compiled kernels
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


def describe(kernel: str = "") -> dict[str, str]:
    """What this process would compute with, in words that are compared between workers.

    `kernel` is the one that is wanted: named as such if it can be had here. Without a wish it is
    the fastest one.
    """
    import numpy
    import scipy
    import torch

    return {
        "kernel": kernel if kernel == PLAIN else _fastest(),
        "threads": str(THREADS),
        "device": f"cpu {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }


def _fastest() -> str:
    from workers.fused import build

    return PLAIN if build.unavailable() else build.name()


def why_plain() -> str:
    """Why there is no compiled kernel here, in one line; nothing where there is one."""
    from workers.fused import build

    return build.unavailable()


def difference(wanted: dict[str, str], found: dict[str, str]) -> str:
    """'torch is 2.13.0, the campaign runs with 2.12.0; ...', or nothing where they agree."""
    return "; ".join(
        f"{key} is {found.get(key, 'absent')}, the campaign runs with {value}"
        for key, value in wanted.items()
        if found.get(key) != value
    )
