"""Shards on GPUs: one actor for each, which lives as long as the run and has lanes beside another.

Not tasks: each would be a process that starts CUDA anew. An actor that dies is replaced, and what
it was doing is done again; the shards that died with others go on alone, since one of them may be
what killed it.
"""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

from storage.errors import CampaignError
from storage.files.objects import Objects
from storage.files.sealed import seal, unseal
from storage.planning.plan import SAMPLED, Lane, Shard
from workers import numerics
from workers.cluster.card import Card, Gpu
from workers.cluster.packing import MOST_LANES, Packing, Ran
from workers.cluster.pool import Began, Ending, Request, Seconds, Size, alike, unheard
from workers.cluster.remote import RayExecutor, Reply, attempted, failed, node
from workers.faults import Fault
from workers.shard import Job, Outcome

PATIENCE = 600.0  # seconds for the first GPU: a node that is asked for takes minutes to start
LOOK = 0.1  # seconds between two looks at whether it has answered
STILLBORN = 3  # actors that died before they said anything: a fourth would as well
NAME = "ledger/packing.json"  # in the store: lanes by class of device and kind of shards
ADVICE = "or leave --device out"


class About(NamedTuple):
    """What an actor says of its GPU at first."""

    node: str
    numerics: dict[str, str]
    free: int  # bytes
    missing: str  # why it is of no use


class LaneRunner:
    """On a worker: runs shards of several lanes on one GPU, each in a thread of Ray's."""

    def __init__(self, card: Callable[[], Card]) -> None:
        self._card, self._lock = card(), threading.Lock()
        self._lanes, self._most = 0, 0  # now, and ever
        self._area, self._since = 0.0, time.monotonic()  # ∫ lanes dt until then
        self._threads = numerics.fixed_threads()  # for good, since lanes begin and end in any order
        self._threads.__enter__()

    def describe(self) -> About:
        """What it is."""
        if missing := self._card.missing():
            return About(node(), {}, 0, missing)
        return About(node(), self._card.describe(), self._card.free(), "")

    def run(self, job: Job, shard: Shard) -> Reply:
        """An attempt. Where the GPU is lost to this process, the process ends."""
        began, before = time.monotonic(), self._change(1)
        try:
            with self._card.lane():
                reply = attempted(job, shard)
            if reply.fault is Fault.MEMORY:
                self._card.forget()
            elif reply.fault is not None and not self._card.answers():
                os._exit(1)
        finally:
            area = self._change(-1) - before
        seconds = max(time.monotonic() - began, 1e-9)
        ran = Ran(seconds, area / seconds, self._most, self._card.peak())
        return reply._replace(ran=ran)

    def _change(self, by: int) -> float:
        """So many lanes more; ∫ lanes dt until now."""
        with self._lock:
            now = time.monotonic()
            self._area += self._lanes * (now - self._since)
            self._lanes, self._since = self._lanes + by, now
            self._most = max(self._most, self._lanes)
            return self._area


@dataclass(eq=False)
class _Gpu:
    """An actor, as the driver sees it; it has said nothing yet as long as `about` is None."""

    actor: Any  # a handle of Ray's
    answer: Future[About]
    about: About | None = None
    running: list["_Call"] = field(default_factory=list)


@dataclass(eq=False)
class _Call:
    """An attempt, on a GPU or before its door."""

    job: Job
    shard: Shard
    avoiding: str
    gpu: _Gpu | None = None

    @property
    def kind(self) -> str:
        """Shards that need alike much of a GPU."""
        return "chains" if self.shard.kind in SAMPLED else "regression"


class GpuExecutor(RayExecutor):
    """Runs lanes on all GPUs of a Ray cluster, several on each."""

    def __init__(self, cluster: RayExecutor, card: Callable[[], Card] = Gpu) -> None:
        """CampaignError for a cluster without GPUs: Ray would wait for one for ever."""
        super().__init__(cluster.nodes_elsewhere, cluster.watch)
        if not any(_counted(self._ray)):
            raise CampaignError(
                "chains are to run on GPUs, and the Ray cluster has none; start its nodes where "
                f"GPUs are (ray start --num-gpus=N where Ray finds none by itself), {ADVICE}"
            )
        self._card = card
        self._runner = self._ray.remote(num_gpus=1, num_cpus=0, max_restarts=0)(LaneRunner)
        self._gpus: list[_Gpu] = []
        self._unfit: list[str] = []  # why GPUs are of no use
        self._stillborn = 0
        self._waiting: deque[_Call] = deque()
        self._suspects: set[str] = set()  # shards that were on an actor that died, with others
        self._wanted: dict[str, str] = {}
        self._packings: dict[tuple[str, str], Packing] = {}
        self._place: Objects | None = None
        self._seconds: Seconds = alike

    def describe(self, device: str) -> dict[str, str]:
        """What the first GPU that answers computes with."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.size()
            for gpu in self._gpus:
                if gpu.about is not None:
                    return gpu.about.numerics
            time.sleep(LOOK)
        raise CampaignError(
            f"--device {device}: no GPU of the Ray cluster was free for {PATIENCE:.0f} seconds; "
            f"run the same command later, {ADVICE}"
        )

    def run(
        self,
        job: Job,
        lanes: Iterable[Lane],
        seconds: Seconds = alike,
        began: Began = unheard,
    ) -> Iterator[Outcome]:
        """Outcomes as they come; GPUs that would compute other bits are left alone."""
        self._wanted, self._place, self._seconds = job.numerics, job.place, seconds
        self._welcome()
        return super().run(job, lanes, seconds, began)

    # -- what the pool asks for -----------------------------------------------------------------

    def size(self) -> Size:
        """Lanes of the GPUs that have answered; actors are made for those that have none."""
        self.watch()  # as for tasks: Ray would wait for a head that has ended, and exit
        there, most = _counted(self._ray)
        wanted = min(max(most, there), max(there + len(self._waiting), 1))
        while len(self._gpus) + len(self._unfit) < wanted:
            actor: Any = self._runner.options(max_concurrency=MOST_LANES + 1).remote(self._card)
            self._gpus.append(_Gpu(actor, actor.describe.remote().future()))
        self._welcome()
        return Size(sum(self._most_lanes(gpu) for gpu in self._gpus), 1)

    def submit(self, job: Job, shard: Shard, request: Request) -> Hashable:
        """An attempt on the GPU that has most room, once one has."""
        call = _Call(job, shard, request.avoiding)
        self._running[call] = job, shard
        self._waiting.append(call)
        self._fill()
        return call

    def ended(self, timeout: float) -> list[tuple[Hashable, Ending]]:
        """The attempts that have ended."""
        self._welcome()
        self._fill()
        found = super().ended(timeout)
        self._fill()
        return found

    def cancel(self, attempt: Hashable) -> None:
        """Hear no more of an attempt; one that runs ends with the run."""
        assert isinstance(attempt, _Call)
        self._running.pop(attempt, None)
        with suppress(ValueError):
            self._waiting.remove(attempt)

    # -- GPUs -----------------------------------------------------------------------------------

    def _welcome(self) -> None:
        """Hear those that have answered; CampaignError where none is of any use."""
        for gpu in [gpu for gpu in self._gpus if gpu.about is None and gpu.answer.done()]:
            if gpu.answer.exception() is not None:
                self._bury(gpu)
                self._stillborn += 1
                if self._stillborn > STILLBORN:
                    reason = str(gpu.answer.exception()).partition("\n")[0]
                    raise failed(f"actors on GPUs die as they start: {reason}")
            else:
                gpu.about = gpu.answer.result()
        for gpu in [gpu for gpu in self._gpus if gpu.about is not None]:
            assert gpu.about is not None
            unlike = numerics.difference(self._wanted, gpu.about.numerics)
            if why := gpu.about.missing or unlike:
                self._unfit.append(why)
                self._bury(gpu)
        if self._unfit and not self._gpus:
            raise CampaignError(
                f"no GPU of the Ray cluster is fit for this campaign: {self._unfit[0]}; use the "
                "same versions and kind of GPU, or start the campaign in another store"
            )

    def _bury(self, gpu: _Gpu) -> None:
        """An actor that does not answer may live on: it must not keep its GPU."""
        if gpu in self._gpus:
            self._gpus.remove(gpu)
            self._ray.kill(gpu.actor)

    def _packing(self, gpu: _Gpu, kind: str) -> Packing:
        assert gpu.about is not None
        device = gpu.about.numerics["device"]
        if (device, kind) not in self._packings:
            known = self._kept().get(device, {}).get(kind)
            self._packings[device, kind] = Packing(gpu.about.free, known)
        return self._packings[device, kind]

    def _most_lanes(self, gpu: _Gpu) -> int:
        """Of the kind of shards that is packed most densely; none before it has answered."""
        if gpu.about is None:
            return 0
        kinds = {kind for device, kind in self._packings if device == gpu.about.numerics["device"]}
        return max((self._packing(gpu, kind).lanes for kind in kinds), default=1)

    def _kept(self) -> dict[str, dict[str, dict[str, int]]]:
        """What earlier runs have learned; nothing where it cannot be read."""
        assert self._place is not None
        try:
            return unseal(self._place.get(NAME) or b"{}")
        except ValueError:
            return {}

    def _keep(self) -> None:
        learned = self._kept()
        for (device, kind), packing in self._packings.items():
            learned.setdefault(device, {})[kind] = packing.kept
        assert self._place is not None
        self._place.put(NAME, seal(learned))

    # -- attempts -------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Begin what waits, first come, first served."""
        while self._waiting and (gpu := self._free(self._waiting[0])) is not None:
            call = self._waiting.popleft()
            call.gpu = gpu
            gpu.running.append(call)
            found = gpu.actor.run.remote(call.job, call.shard).future()
            found.add_done_callback(lambda found, call=call: self._done.put((call, found)))

    def _free(self, call: _Call) -> _Gpu | None:
        """The GPU with fewest lanes that takes one more, rather not on a node to be avoided."""
        ready = [gpu for gpu in self._gpus if gpu.about is not None]
        able = [
            gpu
            for gpu in ready
            if len(gpu.running) < min(self._lanes(gpu, each) for each in [*gpu.running, call])
        ]
        others = [gpu for gpu in able if gpu.about and gpu.about.node != call.avoiding]
        return min(others or able, key=lambda gpu: len(gpu.running), default=None)

    def _lanes(self, gpu: _Gpu, call: _Call) -> int:
        """How many lanes there may be where this one is."""
        alone = call.shard.name in self._suspects
        return 1 if alone else self._packing(gpu, call.kind).lanes

    def _ending(self, attempt: Hashable, found: "Future[Reply]") -> Ending:
        assert isinstance(attempt, _Call)
        gpu, error = attempt.gpu, found.exception()
        assert gpu is not None
        assert gpu.about is not None
        if isinstance(error, self._deaths) and gpu in self._gpus:
            self._bury(gpu)
            if len(gpu.running) > 1:
                self._suspects |= {call.shard.name for call in gpu.running}
        elif error is None:
            self._suspects.discard(attempt.shard.name)
        gpu.running.remove(attempt)
        ending = super()._ending(attempt, found)._replace(node=gpu.about.node)
        if error is not None or (ran := found.result().ran) is None:
            return ending
        return ending._replace(roomier=self._learn(gpu, attempt, ending.outcome, ran))

    def _learn(self, gpu: _Gpu, call: _Call, outcome: Outcome, ran: Ran) -> bool:
        """Of an attempt that came back; whether it lacked memory, and will have more."""
        packing = self._packing(gpu, call.kind)
        before, roomier = packing.kept, False
        if outcome.fault is Fault.MEMORY:
            roomier = packing.short(math.ceil(ran.lanes - 0.01))
        elif outcome.receipt is not None:
            packing.ran(ran, self._seconds(call.shard))
        if packing.kept != before:
            self._keep()
        return roomier


def _counted(ray: ModuleType) -> tuple[int, int]:
    """GPUs that are there, and those that there would be if the cluster grew as far as it may."""
    alive = [each for each in ray.nodes() if each["Alive"]]
    there = sum(int(each["Resources"].get("GPU", 0)) for each in alive)
    grown = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return there, int(grown.get("GPU", 0))
