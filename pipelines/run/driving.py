"""Driving a campaign on an executor: Ray, or this process.

Regressions are imported where they are used: other campaigns need none.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial

from pipelines.engine import blocks, devices, stages
from pipelines.engine.engine import Choice, Drive, Inline, Prepared, drive
from pipelines.engine.waves import Line, lines
from pipelines.estimates.costs import Costs, costs
from pipelines.estimates.gpus import on_a_gpu
from pipelines.estimates.speeds import Speeds
from pipelines.progress import doing
from pipelines.progress.pace import ENDED, SIMULATING, Pace
from pipelines.progress.progress import Progress
from pipelines.run.draining import Drained, draining
from pipelines.run.listening import listening
from storage.errors import CampaignError
from storage.store import archive
from workers.cluster.actors import GpuExecutor
from workers.cluster.pool import Seconds
from workers.cluster.remote import RayExecutor, check, cluster
from workers.devices.placement import CUDA, TORCH, placement_of
from workers.machine.cores import available_cores
from workers.numerics import why_torch


@dataclass(frozen=True)
class Options:
    """Where the shards of a run are computed."""

    executor: str = "ray"  # or inline
    address: str | None = None  # of a Ray cluster; by default a local one of the run's own
    workers: int | None = None  # of the local cluster; by default one per core
    plugins: tuple[str, ...] = ()
    only: tuple[str, ...] = ()  # AXIS=VALUE of the cells that are wanted
    retry: bool = False  # also what failed in an earlier run, and would fail again
    durable: bool = False  # what is stored survives a power cut
    folder: str = ""  # where plug-ins may lie; by default the current one
    device: str = devices.AUTO  # of chains and regressions: auto, cpu or cuda
    metrics: str | None = None  # [host:]port where Prometheus may ask
    log_json: bool = False  # what the run says is for programs

    @property
    def choice(self) -> Choice:
        """What of the campaign is computed."""
        return Choice(tuple(self.only), self.retry)


@contextmanager
def driving(prepared: Prepared, options: Options) -> Iterator[tuple[Drive, Progress]]:
    """Drive a campaign on the executor of the options, telling how it goes."""
    known = archive.numerics(prepared.store.objects)
    device = devices.wanted(known, options.device)
    if options.executor == "inline":
        blocks.require(prepared, 1, device)
        computed = devices.decided(known, options.device)
        with drive(prepared, Inline(), options.choice, computed) as driven:
            with _progress(driven, 1, options) as progress:
                _warn(driven, progress)
                yield driven, progress
            _ended(driven, progress)
        return
    on_gpus = device == CUDA
    computed = known if on_gpus else devices.decided(known, options.device)
    check(options.address)
    if options.address is None:  # workers elsewhere look for themselves
        blocks.require(prepared, options.workers, device)
    with (_on_gpus if on_gpus else _on_cpus)(prepared, options, computed) as driven:
        yield driven


@contextmanager
def _on_cpus(
    prepared: Prepared, options: Options, computed: Mapping[str, str]
) -> Iterator[tuple[Drive, Progress]]:
    """A cluster for the shards that are left, if there are any."""
    cores = options.workers or available_cores()
    with drive(prepared, Inline(), options.choice, computed) as driven:
        with _progress(driven, cores, options) as progress, ExitStack() as stack:
            if driven.left:
                _warn(driven, progress)
                progress.say("starting Ray")
                executor = stack.enter_context(cluster(options.address, options.workers))
                driven.executor = executor
                stack.enter_context(_files_elsewhere(driven, executor))
            yield driven, progress
        _ended(driven, progress)


@contextmanager
def _on_gpus(
    prepared: Prepared, options: Options, known: Mapping[str, str]
) -> Iterator[tuple[Drive, Progress]]:
    """The cluster comes first, since its GPUs say what a new campaign computes with."""
    with cluster(options.address, options.workers) as attached:
        executor = GpuExecutor(attached)
        computed = known or executor.describe(CUDA)
        with drive(prepared, executor, options.choice, computed) as driven:
            with _progress(driven, 1, options) as progress, _files_elsewhere(driven, executor):
                _warn(driven, progress)
                yield driven, progress
            _ended(driven, progress)


@contextmanager
def _files_elsewhere(driven: Drive, executor: RayExecutor) -> Iterator[None]:
    """Kernels that other machines keep as files; this one's are the engine's."""
    if not driven.plan.regressions or not executor.nodes_elsewhere:
        yield
        return
    from workers.machine import node_cache
    from workers.regression import regression

    executor.everywhere(node_cache.sweep)
    try:
        yield
    finally:
        executor.everywhere(regression.forget, driven.plan.regressions)


@contextmanager
def _progress(driven: Drive, cores: int, options: Options) -> Iterator[Progress]:
    pace, objects = expected(driven, cores), driven.store.objects
    with ExitStack() as stack:
        listeners, stream = stack.enter_context(
            listening(driven, options.metrics, options.log_json)
        )
        progress = Progress(
            driven.total,
            driven.done,
            stream,
            pace,
            keep=lambda found: found.keep(objects),
            listeners=listeners,
        )
        yield stack.enter_context(progress)


def _costs(driven: Drive) -> Costs:
    found = costs(driven.prepared, driven.plan, Speeds(), measure=False)
    if placement_of(driven.job.numerics).device == CUDA:
        return on_a_gpu(found, driven.prepared, driven.plan)
    return found


def _seconds(driven: Drive) -> Seconds:
    """What each shard is expected to take, looked up when an executor asks for the first one."""
    known = cache(partial(_costs, driven))
    return lambda shard: known().seconds(shard)


def expected(driven: Drive, cores: int) -> Pace:
    """What there is to do and how long it may take, by what is known of this machine so far."""
    costing = _costs(driven)
    finished = driven.plan.of(driven.finished)
    lanes = {place: of for place, of in costing.lanes.items() if place[1] in driven.chosen}
    return Pace(
        began=time.time(),
        cores=cores,
        simulation=replace(costing, lanes=lanes).clock(finished, cores),
        work={"/".join(place): (of.seconds, of.shards) for place, of in lanes.items()},
        before={"/".join(place): finished[place] for place in lanes},
        stages=dict(costing.stages),
    )


def _ended(driven: Drive, progress: Progress) -> None:
    if progress.pace is not None:
        progress.pace.at(ENDED, time.time()).keep(driven.store.objects)


def _warn(driven: Drive, progress: Progress) -> None:
    """Say why gradients will be slow, where they will."""
    placement = placement_of(driven.job.numerics)
    if driven.plan.cells and placement.backend == TORCH:
        why = why_torch(placement.device) or "so it was decided at the start"
        progress.say(f"gradients by torch alone: {why}")


def simulate(
    driven: Drive,
    progress: Progress,
    began: Callable[[Line], object] = lambda _: None,
) -> None:
    """Run all that is left, side by side, and then the cells that are added, round by round.

    `began` hears of each wave that begins. Drained where a signal ends it.
    """
    _round(driven, progress, began)
    while driven.refine():
        grow(driven, progress)
        _round(driven, progress, began)
    tell_others(driven, progress)


def _round(
    driven: Drive,
    progress: Progress,
    began: Callable[[Line], object],
) -> None:
    if not driven.left:
        return
    progress.stage(SIMULATING)
    stop = driven.executor.stop
    with draining(stop), lines(driven.left, began) as shown:
        for outcome in driven.run(*driven.left, began=shown.begin, seconds=_seconds(driven)):
            progress.count(outcome)
            line = shown.count(outcome)
            if line.complete:
                progress.wave(line.wave.name)
    if stop.is_set():
        raise Drained(f"{driven.done} of {driven.total} shards are finished")


def grow(driven: Drive, progress: Progress) -> None:
    """There are more cells than before."""
    cores = progress.pace.cores if progress.pace else 1
    progress.grow(driven.total, expected(driven, cores))


def analyze(
    driven: Drive, progress: Progress, stage: Callable[[str], object] | None = None
) -> None:
    """The stages after the simulation, telling what they do; then what has failed is raised.

    Shards that failed come first: what a stage has to say may follow from them.
    """

    def run(name: str) -> None:
        stages.run_if_changed(name, driven.store, driven.prepared.plugins)

    try:
        with doing.heard(progress.detail):
            stages.all_in_order(stage or run, tell=progress.stage)
    except CampaignError as error:
        if not driven.broken:
            raise
        progress.say(f"then {error}")
    driven.check()


def tell_others(driven: Drive, progress: Progress) -> None:
    """Say what a run with --only has left, and that what follows is from what there is."""
    if driven.others:
        progress.say(f"{driven.others} shards of other cells are left; without --only they are run")
