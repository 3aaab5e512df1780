"""Driving a campaign on an executor: Ray, or this process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pipelines.engine import blocks, stages
from pipelines.engine.engine import Choice, Drive, Inline, Prepared, drive
from pipelines.estimates.costs import costs
from pipelines.estimates.speeds import Speeds
from pipelines.progress import doing
from pipelines.progress.pace import ENDED, Pace
from pipelines.progress.progress import Progress
from workers.machine.cores import available_cores
from workers.numerics import PLAIN, why_plain
from workers.remote import RayExecutor, check, cluster


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

    @property
    def choice(self) -> Choice:
        """What of the campaign is computed."""
        return Choice(tuple(self.only), self.retry)

    @property
    def waves_at_once(self) -> int:
        """Two, so that the last shards of a wave leave no core idle; inline has one thread."""
        return 1 if self.executor == "inline" else 2


@contextmanager
def driving(prepared: Prepared, options: Options) -> Iterator[tuple[Drive, Progress]]:
    """Drive a campaign on the executor of the options, telling how it goes."""
    if options.executor == "inline":
        blocks.require(prepared, workers=1)
        with drive(prepared, Inline(), options.choice) as driven:
            with _progress(driven, cores=1) as progress:
                _warn(driven, progress)
                yield driven, progress
            _ended(driven, progress)
        return
    check(options.address)
    if options.address is None:  # workers elsewhere look for themselves
        blocks.require(prepared, options.workers)
    with drive(prepared, Inline(), options.choice) as driven:
        cores = options.workers or available_cores()
        with _progress(driven, cores) as progress, _on_ray(driven, progress, options):
            yield driven, progress
        _ended(driven, progress)


@contextmanager
def _on_ray(driven: Drive, progress: Progress, options: Options) -> Iterator[None]:
    """A cluster for the shards that are left, if there are any."""
    if not driven.left:
        yield
        return
    _warn(driven, progress)
    progress.say("starting Ray")
    with cluster(options.address, options.workers) as executor:
        driven.executor = executor
        with _files_elsewhere(driven, executor):
            yield


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


def _progress(driven: Drive, cores: int) -> Progress:
    pace, objects = expected(driven, cores), driven.store.objects
    return Progress(driven.total, driven.done, pace=pace, keep=lambda found: found.keep(objects))


def expected(driven: Drive, cores: int) -> Pace:
    """What there is to do and how long it may take, by what is known of this machine so far."""
    costing = costs(driven.prepared, driven.plan, Speeds(), measure=False)
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
    if driven.plan.cells and driven.job.numerics["kernel"] == PLAIN:
        progress.say(f"gradients by torch alone: {why_plain() or 'so it was decided at the start'}")


def simulate(driven: Drive, progress: Progress) -> None:
    """Run all waves that are left, one after another, and those of the cells that are added."""
    while True:
        for wave in driven.left:
            progress.stage(wave.name)
            for outcome in driven.run(wave):
                progress.count(outcome)
        driven.check()
        if not driven.refine():
            tell_others(driven, progress)
            return
        grow(driven, progress)


def grow(driven: Drive, progress: Progress) -> None:
    """There are more cells than before."""
    cores = progress.pace.cores if progress.pace else 1
    progress.grow(driven.total, expected(driven, cores))


def analyze(driven: Drive, progress: Progress) -> None:
    """The stages after the simulation, telling what they do."""
    with doing.heard(progress.detail):
        store, plugins = driven.store, driven.prepared.plugins
        stages.all_in_order(
            lambda name: stages.run_if_changed(name, store, plugins), tell=progress.stage
        )


def tell_others(driven: Drive, progress: Progress) -> None:
    """Say what a run with --only has left, and that what follows is from what there is."""
    if driven.others:
        progress.say(f"{driven.others} shards of other cells are left; without --only they are run")
