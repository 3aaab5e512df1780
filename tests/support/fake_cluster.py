"""A cluster with a clock of its own, on which attempts take as long as they are told to."""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from storage.planning.plan import Cell, Lane, Shard
from workers.cluster.pool import Ending, Request, Size
from workers.faults import Fault
from workers.shard import Job, Outcome

JOB: Any = None  # nobody looks at it


def lanes(lengths: list[int], cells: int = 1) -> list[Lane]:
    """Lanes of so many shards, dealt out to cells of which only the name matters."""
    nothing: Any = None
    named = [Cell(index, f"{index:016d}", nothing, {}) for index in range(cells)]
    return [
        tuple(Shard("ensemble", named[i % cells], block=i, segment=j) for j in range(length))
        for i, length in enumerate(lengths)
    ]


Fails = Callable[[Shard, Request], Fault | None]


class FakeCluster:
    """Slots that are filled in the order of submission; `busy` integrates those in use."""

    def __init__(
        self,
        slots: int,
        seconds: Callable[[Shard], float] = lambda _: 1.0,
        fails: Fails = lambda *_: None,
        node: int = 2,
    ) -> None:
        self.slots = slots
        self.clock = self.busy = 0.0
        self.most = 0
        self.log: list[tuple[float, str, Shard, Request]] = []
        self.finished: Counter[str] = Counter()
        self._seconds, self._fails, self._node = seconds, fails, node
        self._queue: deque[int] = deque()
        self._known: dict[int, tuple[Shard, Request]] = {}
        self._running: list[tuple[float, int]] = []
        self._changes: list[tuple[float, int]] = []

    def change(self, when: float, slots: int) -> None:
        """Nodes join or leave; those that leave take what they run with them."""
        heapq.heappush(self._changes, (when, slots))

    def size(self) -> Size:
        return Size(self.slots, min(self._node, self.slots))

    def now(self) -> float:
        return self.clock

    def submit(self, job: Job, shard: Shard, request: Request) -> int:
        attempt = len(self.log)
        self.log.append((self.clock, "submit", shard, request))
        self._known[attempt] = shard, request
        self._queue.append(attempt)
        self.most = max(self.most, len(self._known))
        self._fill()
        return attempt

    def cancel(self, attempt: int) -> None:
        self._known.pop(attempt)
        self._running = [each for each in self._running if each[1] != attempt]
        heapq.heapify(self._running)
        if attempt in self._queue:
            self._queue.remove(attempt)
        self._fill()

    def ended(self, timeout: float) -> list[tuple[int, Ending]]:
        end = self.clock + timeout
        next_change = self._changes[0][0] if self._changes else math.inf
        next_end = self._running[0][0] if self._running else math.inf
        until = min(end, next_change, next_end)
        self.busy += len(self._running) * (until - self.clock)
        self.clock = until
        if next_change <= until:
            return self._resize(heapq.heappop(self._changes)[1])
        found = []
        while self._running and self._running[0][0] <= self.clock:
            attempt = heapq.heappop(self._running)[1]
            shard, request = self._known.pop(attempt)
            fault = self._fails(shard, request)
            found.append((attempt, self._ending(shard, fault)))
        self._fill()
        return found

    def _ending(self, shard: Shard, fault: Fault | None) -> Ending:
        if fault is not None:
            return Ending(Outcome(shard, None, f"a {fault}", fault), node="here")
        self.finished[shard.name] += 1
        return Ending(Outcome(shard, {}))

    def _resize(self, slots: int) -> list[tuple[int, Ending]]:
        self.slots, lost = slots, []
        while len(self._running) > slots:
            attempt = self._running.pop()[1]  # the last of a heap may go without harm
            shard, _ = self._known.pop(attempt)
            lost.append((attempt, self._ending(shard, Fault.MACHINE)))
        self._fill()
        return lost

    def _fill(self) -> None:
        while self._queue and len(self._running) < self.slots:
            attempt = self._queue.popleft()
            end = self.clock + self._seconds(self._known[attempt][0])
            heapq.heappush(self._running, (end, attempt))
