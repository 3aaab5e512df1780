"""What an actor asks of the GPU that Ray gave it; tests have one that is none.

torch is imported where it is used: on the worker, not by a driver that only names the class.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from workers import numerics
from workers.devices.graphs import CAPTURING
from workers.devices.placement import CUDA

if TYPE_CHECKING:
    from torch.cuda import Stream


class Card(Protocol):
    """One GPU, which a process has to itself."""

    def missing(self) -> str:
        """Why nothing can be computed on it, in one line; nothing where it can."""
        ...

    def describe(self) -> dict[str, str]:
        """What it computes with, as `workers.numerics.describe` says it."""
        ...

    def free(self) -> int:
        """Bytes of its memory that may be taken."""
        ...

    def lane(self) -> AbstractContextManager[None]:
        """Where a lane works beside others."""
        ...

    def peak(self) -> int:
        """Bytes that were taken at most since the process began."""
        ...

    def forget(self) -> None:
        """Give back what no lane uses any more."""
        ...

    def answers(self) -> bool:
        """Whether it still works: after some errors every later call of the process fails."""
        ...


class Gpu:
    """A CUDA device; each lane has a stream, whose memory the next lane on it takes over."""

    def __init__(self) -> None:
        self._streams: SimpleQueue[Stream] = SimpleQueue()

    def missing(self) -> str:
        """As `numerics` says it."""
        return numerics.why_no(CUDA)

    def describe(self) -> dict[str, str]:
        """With its name and capability."""
        return numerics.describe(CUDA)

    def free(self) -> int:
        """By the driver's count, which knows of other processes."""
        import torch

        return torch.cuda.mem_get_info()[0]

    @contextmanager
    def lane(self) -> Iterator[None]:
        """On a stream that no other lane has."""
        import torch

        try:
            stream = self._streams.get_nowait()
        except Empty:
            stream = torch.cuda.Stream()
        try:
            with torch.cuda.stream(stream):
                yield
        finally:
            self._streams.put(stream)

    def peak(self) -> int:
        """With what the allocator keeps for later, since nobody else can have it."""
        import torch

        return torch.cuda.max_memory_reserved()

    def forget(self) -> None:
        """What the allocator keeps for later."""
        import torch

        with CAPTURING:
            torch.cuda.empty_cache()

    def answers(self) -> bool:
        """All that was launched ends, and without an error."""
        import torch

        try:
            with CAPTURING:
                torch.cuda.synchronize()
        except RuntimeError:
            return False
        return True
