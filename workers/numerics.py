"""What decides the bits of a shard: threads, versions and device, fixed once per campaign.

Libraries are imported where they are used: threads are set before, and a driver asks for few.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

from workers.devices.placement import CUDA, TORCH

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

THREADS = 1  # of BLAS and of torch, within one shard


@contextmanager
def fixed_threads() -> Iterator[None]:
    """Run with a fixed number of BLAS and torch threads, so that sums are taken in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with _libraries(len(sys.modules)).limit(limits=THREADS):
            yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _libraries(_: int) -> "ThreadpoolController":
    """All with threads in this process: to find them takes milliseconds, and imports bring more."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def describe(device: str = "cpu", backend: str = "") -> dict[str, str]:
    """What this process would compute with, in words that are compared between workers.

    `device` and `backend` are those that are wanted: named as such if they can be had here. Without
    a wish the backend is the fastest one of the device.
    """
    import numpy
    import scipy
    import torch

    found = "cpu" if why_no(device) else device
    return {
        "backend": backend if backend == TORCH else _fastest(found),
        "threads": str(THREADS),
        "device": _described(found),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }


def why_no(device: str) -> str:
    """Why nothing can be computed on a device here, in one line; nothing where it can."""
    import torch

    if device != CUDA or torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return f"torch {torch.__version__} finds no GPU"


def _described(device: str) -> str:
    """'cpu AVX512' or 'cuda sm_90 NVIDIA H200': what of a device decides bits."""
    import torch

    if device != CUDA:
        return f"{device} {torch.backends.cpu.get_cpu_capability()}"
    major, minor = torch.cuda.get_device_capability()
    return f"{device} sm_{major}{minor} {torch.cuda.get_device_name()}"


def _fastest(device: str) -> str:
    return TORCH if why_torch(device) else _compiler_of(device).name()


def why_torch(device: str) -> str:
    """Why torch alone computes on a device here, in one line; nothing where it need not."""
    return _compiler_of(device).unavailable()


def _compiler_of(device: str) -> ModuleType:
    """What compiles kernels for a device."""
    if device == CUDA:
        from workers.triton import build
    else:
        from workers.fused import build
    return build


def settle(device: str) -> None:
    """On a GPU: products of float32 in float32, and sums in one order."""
    import torch

    if device == CUDA:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def difference(wanted: dict[str, str], found: dict[str, str]) -> str:
    """'torch is 2.13.0, the campaign runs with 2.12.0; ...', or nothing where they agree."""
    return "; ".join(
        f"{key} is {found.get(key, 'absent')}, the campaign runs with {value}"
        for key, value in wanted.items()
        if found.get(key) != value
    )
