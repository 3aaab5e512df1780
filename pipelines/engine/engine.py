"""The campaign engine: plain Python over an executor. Prefect and the command line are shells.

A campaign goes prepare (nothing is written), simulate, predict, fit, report; one that refines
itself adds cells and goes back, within its budget. All of it may be repeated: what has a receipt is
never computed again. A shard that fails ends its lane; the others go on, what they give is
analyzed, and the failure is told at the end.

Numerical modules, xarray and the stages are imported where they are used: a plan needs few of them.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pipelines.shadow  # noqa: F401  before any of the packages that may be hidden
from pipelines.engine import devices, needs, selection
from pipelines.engine.provenance import provenance
from pipelines.engine.waves import Wave, merged
from storage.campaign.data_spec import PLUGIN
from storage.campaign.messages import rounded
from storage.campaign.plugins import ALLOWED, Plugins, allow, named
from storage.campaign.resolved import Sampled
from storage.campaign.spec import Campaign, is_trajectory
from storage.campaign.theory_record import own
from storage.errors import IncompleteError
from storage.files.compaction import Compaction
from storage.files.lease import Lease
from storage.files.objects import Objects
from storage.files.sealed import seal
from storage.planning.identity import digest
from storage.planning.plan import SAMPLED, AnyCell, Lane, Plan, plan
from storage.store import archive, kept
from storage.store.holding import held
from storage.store.store import Store
from workers.cluster.pool import Began, Seconds, alike, unheard
from workers.data.datasets import absolute, check_dataset, check_pool, content_digests
from workers.ensemble.plugin_checks import check_network
from workers.ensemble.signal_checks import check_signal
from workers.ensemble.trajectory_checks import check_step
from workers.faults import Fault
from workers.shard import ADVICE, AGAIN, Job, Outcome, attempt

if TYPE_CHECKING:
    from xarray import DataTree


ROOT = "results"


class Executor(Protocol):
    """Where shards run: the shards of a lane one after another, lanes side by side."""

    stop: threading.Event  # set by whoever wants the run to end early

    def run(
        self,
        job: Job,
        lanes: Sequence[Lane],
        seconds: Seconds = alike,
        began: Began = unheard,
    ) -> Iterator[Outcome]:
        """Outcomes in the order in which they come; `began` hears of shards as they are begun.

        Where an order may be chosen, `seconds` says what each shard is expected to take.
        """
        ...


class Inline:
    """Runs every shard in this process, one after another."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def run(
        self,
        job: Job,
        lanes: Sequence[Lane],
        seconds: Seconds = alike,
        began: Began = unheard,
    ) -> Iterator[Outcome]:
        """Outcomes in the order of the lanes; a lane ends at its first failure."""
        for lane in lanes:
            for shard in lane:
                if self.stop.is_set():
                    return
                began(shard)
                outcome = attempt(job, shard)
                yield outcome
                if outcome.receipt is None:
                    break


@dataclass(frozen=True)
class Prepared:
    """A campaign that has passed every check and of which nothing is written yet."""

    spec: Campaign
    plugins: Plugins
    sources: dict[str, str]
    root: str
    durable: bool = False  # whether what is stored survives a power cut

    @cached_property
    def plan(self) -> Plan:
        """What the spec asks for by itself, whatever its store has seen."""
        return plan(self.spec, sources=self.sources)

    @property
    def store(self) -> Store:
        """Where the campaign is kept, or will be."""
        return Store(Objects(self.root, self.durable).child(self.plan.directory))


@dataclass(frozen=True)
class Choice:
    """What of a campaign a run computes."""

    only: tuple[str, ...] = ()  # AXIS=VALUE of the cells that are wanted
    retry: bool = False  # also what failed in an earlier run, and would fail again


EVERYTHING = Choice()


def allowed_plugins(named: Sequence[str]) -> list[str]:
    """Modules allowed by name on the command line or in the environment."""
    return [*named, *filter(None, os.environ.get(ALLOWED, "").split(","))]


def prepare(
    spec: Campaign,
    root: str = ROOT,
    plugins: Sequence[str] = (),
    durable: bool = False,
    folder: str = "",
) -> Prepared:
    """Check all that can be checked before anything is written.

    Plug-ins that are not installed are looked for in `folder`, by default the current one.
    Raises CampaignError for plug-ins that are not allowed, data that are missing or too few.
    """
    found = allow(spec, allowed_plugins(plugins), Path(folder or Path.cwd()))
    for name in named(spec):
        found.get(name)
    for name in filter(PLUGIN.fullmatch, spec.theories):
        own(name, found.get(name))
    spec = absolute(spec)
    prepared = Prepared(spec, found, content_digests(spec, found), root, durable)
    _check_data(prepared)
    return prepared


def _check_data(prepared: Prepared) -> None:
    """Draw the first dataset and the pool of all data that the cells have, and look at them.

    What fails here would fail in every shard. Cells that differ in how many points they take of
    the same data are looked at once, at the largest.
    """
    planned, plugins, sources = prepared.plan, prepared.plugins, prepared.sources
    for cells in _by_data(planned.cells):
        data = check_dataset(cells[0].spec, plugins, sources)
        for spec in {digest([*_networks(cell.spec)]): cell.spec for cell in cells}.values():
            check_network(spec, data, plugins)
            check_step(spec, data, plugins)
            check_signal(spec, data, plugins)
    for cells in _by_data(planned.regressions):
        points = check_pool(cells[0].spec, plugins, sources)
        for cell in cells:
            needs.check_kernel(cell, points)


def _networks(spec: Sampled) -> Iterator[object]:
    """What a network is made of, and what its numbers are."""
    yield spec.network.model_dump(mode="json")
    yield spec.sampler.precision
    if is_trajectory(spec):
        yield spec.sampler.temperature


def _by_data(cells: Sequence[AnyCell]) -> list[list[AnyCell]]:
    """Cells together whose data differ in the number of training points or in noise alone."""
    together: dict[str, list[AnyCell]] = {}
    for cell in sorted(cells, key=lambda cell: -cell.spec.data.train):
        data = cell.spec.data.model_dump(mode="json", exclude={"train"})
        data["label_noise"] = bool(data["label_noise"])
        together.setdefault(digest(data), []).append(cell)
    return [*together.values()]


class Drive:
    """A campaign that this process holds the lease of."""

    def __init__(
        self,
        prepared: Prepared,
        store: Store,
        epoch: int,
        executor: Executor,
        choice: Choice,
        computed: Mapping[str, str],
    ) -> None:
        self.prepared = prepared
        self.choice = choice
        self.store = store
        self.executor = executor
        self.store.add_spec(prepared.spec, prepared.sources)
        objects = self.store.objects
        decided = archive.decide_numerics(objects, computed)
        self.job = Job(objects, epoch, decided, prepared.plugins, prepared.sources)
        self._record_run(epoch)
        self.finished = self.store.ledger.finished()
        self._compaction = Compaction(objects, self.finished)
        self.failed: list[Outcome] = []
        self.given_up = {} if choice.retry else self._certain()
        self._plan()

    def _plan(self) -> None:
        """What there is to do, with places for it in the store and for the cells of later rounds.

        Room is kept until nothing is left to do, so that no array changes its shape on the way.
        """
        prepared, store = self.prepared, self.store
        self.plan: Plan = plan(prepared.spec, store.specs(), prepared.sources, store.rounds())
        self.chosen = selection.chosen(self.plan, self.choice.only)
        finished = self.plan.of(self.finished)
        counts = {place: n for place, n in self.plan.work.items() if place[1] in self.chosen}
        self.total, self.done = sum(counts.values()), sum(finished[place] for place in counts)
        self.others = sum(self.plan.work.values()) - finished.total() - (self.total - self.done)
        self.left = self._waves()
        store.allocate(self.plan, self.plan.room if self.left or self.others else 0)

    def _certain(self) -> dict[str, str]:
        """Shards that failed in an earlier run and would fail again, and why."""
        failures = self.store.ledger.last_failures(self.finished)
        return {name: str(each["error"]) for name, each in failures.items() if each.get("certain")}

    def refine(self) -> bool:
        """Add the next cells of a campaign that refines itself; whether there are any.

        It is asked when all that there was to do is done; what is left of the room goes with the
        last round. Where shards failed there is none: which cells are next would hang on that.
        """
        if self.prepared.spec.refine is None or self.others or self.broken:
            return False
        from pipelines.engine import stages
        from pipelines.engine.refine import next_round

        stages.analyze(self.store, self.prepared.plugins, stages.COMPARING)
        found = next_round(self.store, self.plan)
        if found is None:
            self.store.allocate(self.plan)
            return False
        self.store.add_round(found)
        self._plan()
        return True

    def _record_run(self, epoch: int) -> None:
        content = seal({**provenance(), **self.job.numerics}, indent=1)
        kept.keep(self.store.objects, f"provenance/run-{epoch:04d}.json", content)

    def _waves(self) -> list[Wave]:
        """The work that is left, in waves of whole cells; a lane ends before what was given up."""
        left: dict[str, list[Lane]] = {}
        self.told: list[Outcome] = []
        for lane in self.plan.lanes():
            if lane[0].cell.key not in self.chosen:
                continue
            todo = tuple(shard for shard in lane if shard.name not in self.finished)
            for place, shard in enumerate(todo):
                if shard.name in self.given_up:
                    self.told.append(Outcome(shard, None, self.given_up[shard.name], Fault.BUG))
                    todo = todo[:place]
                    break
            if todo:
                left.setdefault(_wave_name(todo[0].kind, todo[0].cell.settings), []).append(todo)
        return merged([Wave(name, tuple(lanes)) for name, lanes in left.items()])

    def run(
        self, *waves: Wave, began: Began = unheard, seconds: Seconds = alike
    ) -> Iterator[Outcome]:
        """Run waves side by side; each outcome is counted before it is handed on."""
        lanes = [lane for wave in waves for lane in wave.lanes]
        for outcome in self.executor.run(self.job, lanes, seconds, began):
            if outcome.receipt is None:
                self.failed.append(outcome)
            else:
                self.finished.add(outcome.shard.name)
                self._compaction.add(outcome.shard.name, outcome.receipt)
                self.done += 1
            yield outcome

    @property
    def broken(self) -> list[Outcome]:
        """What has failed; where nothing has in this run, what failed earlier and would again."""
        return self.failed or self.told

    def check(self) -> None:
        """Raise IncompleteError where shards failed; what is finished stays."""
        if failed := self.broken:
            first, count = failed[0], len(failed)
            before = "" if self.failed else " in an earlier run, and would again"
            faults = {each.fault or Fault.MACHINE for each in failed}
            advice = ADVICE[faults.pop()] if len(faults) == 1 else AGAIN
            raise IncompleteError(
                f"{count} shard{'s' * (count > 1)} failed{before}, "
                f"first {first.shard.name}: {first.reason}; "
                f"see {self.store.url}/ledger/failures; {advice}"
            )


def _wave_name(kind: str, settings: dict[str, object]) -> str:
    if kind not in SAMPLED:
        return "regression"
    named = ", ".join(f"{path.split('.')[-1]} {rounded(value)}" for path, value in settings.items())
    return f"ensemble {named}".strip()


@contextmanager
def drive(
    prepared: Prepared,
    executor: Executor,
    choice: Choice = EVERYTHING,
    computed: Mapping[str, str] | None = None,
) -> Iterator[Drive]:
    """Hold the campaign's lease, and drive it.

    A new campaign is `computed` with that, by default with what this process has on a CPU.
    """
    selection.chosen(prepared.plan, choice.only)  # before anything is written
    if computed is None:
        computed = devices.decided(archive.numerics(prepared.store.objects), devices.AUTO)
    with held(prepared.store) as (store, lease):
        driven = Drive(prepared, store, lease.epoch, executor, choice, computed)
        with _shared_files(driven.plan, lease):
            yield driven


@contextmanager
def _shared_files(planned: Plan, lease: Lease) -> Iterator[None]:
    """Files of kernels on this machine: those of killed runs go before, those of this one after.

    A driver that was taken over leaves them to its successor.
    """
    if not planned.regressions:
        yield
        return
    from workers.machine import node_cache
    from workers.regression import regression

    node_cache.sweep()
    try:
        yield
    finally:
        if not lease.lost.is_set():
            regression.forget(planned.regressions)


def run(
    spec: Campaign,
    root: str = ROOT,
    plugins: Sequence[str] = (),
    watch: Callable[[Outcome], None] | None = None,
    device: str = devices.AUTO,
) -> "DataTree":
    """Run a campaign in this process to its end and open it as a labelled grid.

    The same as `finitewidth run --executor inline`, without Prefect and Ray: for notebooks.
    `device` is auto, cpu or cuda.
    """
    from pipelines.engine import blocks, stages
    from storage.backend.reader import open_campaign

    prepared = prepare(spec, root, plugins)
    computed = devices.decided(archive.numerics(prepared.store.objects), device)
    blocks.require(prepared, 1, devices.device_type(computed["device"]))
    with drive(prepared, Inline(), computed=computed) as driven:
        while True:
            for outcome in driven.run(*driven.left):
                if watch is not None:
                    watch(outcome)
            if not driven.refine():
                break
        stages.analyze(driven.store, prepared.plugins)
        driven.check()
    return open_campaign(driven.store.url)
