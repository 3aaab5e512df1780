"""Which shard runs next: lanes side by side, where machines come, go and fail.

It knows no cluster and no clock of its own, only what a `Cluster` says of both.
"""

import heapq
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple, Protocol

from storage.planning.plan import Lane, Place, Shard
from workers.faults import Fault
from workers.shard import Job, Outcome

ATTEMPTS = 5  # at a shard, where machines are at fault
BACKOFF = 1.0  # seconds before the second attempt; twice as long before each one after that
POLL = 0.5  # seconds between two looks at whether to stop
RENEW = 5.0  # seconds between two questions to the cluster about its size
GRACE = 20.0  # seconds for what runs when a stop is asked for; Prefect and Slurm kill after 30
AHEAD = 16  # of so many slots one has a shard waiting before its door, so that none falls idle

Seconds = Callable[[Shard], float]
Began = Callable[[Shard], None]


def alike(_: Shard) -> float:
    """Nothing is known of how long shards take."""
    return 1.0


def unheard(_: Shard) -> None:
    """Nobody wants to know."""


class Size(NamedTuple):
    """What a cluster can take."""

    slots: int  # cores that shards may hold, together
    largest: int  # of one node


@dataclass(frozen=True)
class Request:
    """Where an attempt may run."""

    cores: int = 1  # that it holds: the more, the fewer neighbours share the memory of its node
    avoiding: str = ""  # a node that has failed it


class Ending(NamedTuple):
    """How an attempt came to its end, on which node if that is known."""

    outcome: Outcome
    node: str = ""
    roomier: bool = False  # it lacked memory beside neighbours, of which there are fewer now


class Cluster(Protocol):
    """Runs single shards."""

    def size(self) -> Size:
        """What it can take now."""
        ...

    def submit(self, job: Job, shard: Shard, request: Request) -> Hashable:
        """Begin an attempt as soon as there is room."""
        ...

    def ended(self, timeout: float) -> list[tuple[Hashable, Ending]]:
        """The attempts that have ended since the last call; waits for the first, in seconds."""
        ...

    def cancel(self, attempt: Hashable) -> None:
        """End an attempt; nothing more is heard of it."""
        ...

    def now(self) -> float:
        """Seconds."""
        ...


@dataclass
class _Work:
    """A lane from one of its shards on."""

    lane: Lane
    left: float  # seconds of a core
    place: int = 0
    attempts: int = 1
    request: Request = field(default_factory=Request)

    @property
    def shard(self) -> Shard:
        return self.lane[self.place]


class _Longest:
    """Lanes, the one with most work left first; among equals the first that came."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Work]] = []
        self._order = count()

    def __bool__(self) -> bool:
        return bool(self._heap)

    @property
    def left(self) -> float:
        return -self._heap[0][0] if self._heap else -1.0

    def push(self, work: _Work) -> None:
        heapq.heappush(self._heap, (-work.left, next(self._order), work))

    def pop(self) -> _Work:
        return heapq.heappop(self._heap)[2]


class Pool:
    """Drives lanes on a cluster, as many at once as it takes and a few more.

    Long lanes begin first. A lane that has begun goes on, so that cells end one after another,
    unless one that waits has more left than each slot would have if all were shared evenly: then
    that one must begin, or the run would end with it alone.
    """

    def __init__(
        self,
        cluster: Cluster,
        job: Job,
        lanes: Iterable[Lane],
        seconds: Seconds = alike,
        began: Began = unheard,
    ) -> None:
        """`seconds` of a core for each shard; `began` hears of each that is handed out first."""
        self._cluster, self._job, self._seconds, self._began = cluster, job, seconds, began
        self._fresh, self._begun = _Longest(), _Longest()
        self._later: list[tuple[float, int, _Work]] = []  # by when they are due
        self._order = count()
        self._running: dict[Hashable, _Work] = {}  # in the order in which they were handed out
        self._cores: dict[Place, int] = {}  # that shards of a cell need to have memory enough
        self._held = 0  # cores, by all that run
        self._left = 0.0  # seconds of a core
        for lane in lanes:
            if lane:
                work = _Work(lane, sum(map(seconds, lane)))
                self._left += work.left
                self._fresh.push(work)
        self._size, self._renewed = cluster.size(), cluster.now()

    def run(self, stop: threading.Event) -> Iterator[Outcome]:
        """Outcomes as they come. After a stop nothing is begun, and what runs has `GRACE`."""
        try:
            while self._busy() and not stop.is_set():
                self._hand_out()
                yield from self._collect()
            yield from self._drain()
        finally:
            for attempt in self._running:
                self._cluster.cancel(attempt)

    def _busy(self) -> bool:
        return bool(self._running or self._fresh or self._begun or self._later)

    def _drain(self) -> Iterator[Outcome]:
        for attempt in list(self._running)[self._size.slots :]:  # they have not begun
            self._cluster.cancel(attempt)
            del self._running[attempt]
        end = self._cluster.now() + GRACE
        while self._running and self._cluster.now() < end:
            yield from self._collect()

    # -- handing out --------------------------------------------------------------------------

    def _hand_out(self) -> None:
        now = self._cluster.now()
        if now - self._renewed >= RENEW:
            self._size, self._renewed = self._cluster.size(), now
        while self._later and self._later[0][0] <= now:
            self._begun.push(heapq.heappop(self._later)[2])
        room = self._size.slots + 1 + self._size.slots // AHEAD
        while self._held < room and (self._fresh or self._begun):
            work = self._next()
            cores = min(work.request.cores, max(self._size.largest, 1))
            work.request = replace(work.request, cores=cores)
            self._running[self._cluster.submit(self._job, work.shard, work.request)] = work
            self._held += work.request.cores
            if work.attempts == 1:
                self._began(work.shard)

    def _next(self) -> _Work:
        even = self._left / max(self._size.slots, 1)
        if not self._begun or self._fresh.left > max(even, self._begun.left):
            return self._fresh.pop()
        return self._begun.pop()

    # -- collecting ---------------------------------------------------------------------------

    def _collect(self) -> Iterator[Outcome]:
        wait = POLL
        if self._later:
            wait = min(max(self._later[0][0] - self._cluster.now(), 0.0), POLL)
        for attempt, ending in self._cluster.ended(wait):
            work = self._running.pop(attempt)
            self._held -= work.request.cores
            if (again := self._again(work, ending)) is not None:
                self._put_off(again)
                continue
            outcome = replace(ending.outcome, attempt=work.attempts)
            if outcome.receipt is None and work.attempts > 1:
                outcome = replace(outcome, reason=f"{outcome.reason}, {work.attempts} times")
            self._go_on(work, outcome)
            yield outcome

    def _go_on(self, work: _Work, outcome: Outcome) -> None:
        """To the next shard of the lane, or to none where this one failed."""
        shard = work.shard
        if outcome.receipt is None or work.place + 1 == len(work.lane):
            self._left -= work.left
            return
        spent = self._seconds(shard)
        self._left -= spent
        request = Request(self._cores.get(_place(shard), 1))
        left = max(work.left - spent, 0.0)
        self._begun.push(_Work(work.lane, left, work.place + 1, request=request))

    def _put_off(self, work: _Work) -> None:
        due = self._cluster.now() + BACKOFF * 2 ** (work.attempts - 2)
        heapq.heappush(self._later, (due, next(self._order), work))

    def _again(self, work: _Work, ending: Ending) -> _Work | None:
        """How a shard is tried again; None where it is finished, or would fail again."""
        fault, request = ending.outcome.fault, work.request
        if fault is Fault.MACHINE and work.attempts < ATTEMPTS:
            request = replace(request, avoiding=ending.node)
        elif ending.roomier:
            pass
        elif fault is Fault.MEMORY and request.cores < self._size.largest:
            cores = min(2 * request.cores, self._size.largest)
            place = _place(work.shard)
            self._cores[place] = max(cores, self._cores.get(place, 1))
            request = replace(request, cores=self._cores[place])
        else:
            return None
        return replace(work, attempts=work.attempts + 1, request=request)


def _place(shard: Shard) -> Place:
    return shard.kind, shard.cell.key
