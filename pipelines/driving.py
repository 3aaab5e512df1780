"""Driving a campaign on an executor: Ray, or this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipelines import blocks
from pipelines.engine import Choice, Drive, Inline, Prepared, drive
from pipelines.progress import Progress
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
        with drive(prepared, Inline(), options.choice) as driven, _progress(driven) as progress:
            _warn(driven, progress)
            yield driven, progress
        return
    check(options.address)
    if options.address is None:  # workers elsewhere look for themselves
        blocks.require(prepared, options.workers)
    with drive(prepared, Inline(), options.choice) as driven, _progress(driven) as progress:
        if not driven.left:
            yield driven, progress
            return
        _warn(driven, progress)
        progress.say("starting Ray")
        with cluster(options.address, options.workers) as executor:
            driven.executor = executor
            with _files_elsewhere(driven, executor):
                yield driven, progress


@contextmanager
def _files_elsewhere(driven: Drive, executor: RayExecutor) -> Iterator[None]:
    """Kernels that other machines keep as files; this one's are the engine's."""
    if not driven.plan.regressions or not executor.nodes_elsewhere:
        yield
        return
    from workers import node_cache, regression

    executor.everywhere(node_cache.sweep)
    try:
        yield
    finally:
        executor.everywhere(regression.forget, driven.plan.regressions)


def _progress(driven: Drive) -> Progress:
    return Progress(driven.total, driven.done)


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
        progress.grow(driven.total)


def tell_others(driven: Drive, progress: Progress) -> None:
    """Say what a run with --only has left, and that what follows is from what there is."""
    if driven.others:
        progress.say(f"{driven.others} shards of other cells are left; without --only they are run")
