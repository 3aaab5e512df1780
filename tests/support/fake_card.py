"""A GPU that is none, for actors: it computes on the CPU, and its memory is a number."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from workers import numerics, shard
from workers.devices.placement import TORCH

LANE = 1 << 20  # bytes that each lane takes


class FakeCard:
    """Takes so many lanes; the next one's allocation is refused, as CUDA would."""

    def __init__(self, lanes: int) -> None:
        self._most, self._taken, self._peak = lanes, 0, 0
        self._lock = threading.Lock()
        compute = shard.ensemble_run
        shard.ensemble_run = lambda *given: self._allocated(compute, *given)

    def _allocated(self, compute: Callable[..., Any], *given: Any) -> Any:
        with self._lock:
            if self._taken == self._most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 MiB.")
            self._taken += 1
            self._peak = max(self._peak, self._taken * LANE)
        try:
            time.sleep(0.3)  # so that lanes meet
            return compute(*given)
        finally:
            with self._lock:
                self._taken -= 1

    def missing(self) -> str:
        return ""

    def describe(self) -> dict[str, str]:
        return numerics.describe(backend=TORCH)

    def free(self) -> int:
        return 1000 * LANE

    def lane(self) -> AbstractContextManager[None]:
        return nullcontext()

    def peak(self) -> int:
        return self._peak

    def forget(self) -> None:
        pass

    def answers(self) -> bool:
        return True
