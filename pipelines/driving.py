"""Driving a campaign on an executor: Ray, or this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipelines.engine import Drive, Inline, Prepared, drive
from pipelines.progress import Progress


@dataclass(frozen=True)
class Options:
    """Where the shards of a run are computed."""

    executor: str = "ray"  # or inline
    address: str | None = None  # of a Ray cluster; by default a local one of the run's own
    workers: int | None = None  # of the local cluster; by default one per core
    plugins: tuple[str, ...] = ()

    @property
    def waves_at_once(self) -> int:
        """Two, so that the last shards of a wave leave no core idle; inline has one thread."""
        return 1 if self.executor == "inline" else 2


@contextmanager
def driving(prepared: Prepared, options: Options) -> Iterator[tuple[Drive, Progress]]:
    """Drive a campaign on the executor of the options, telling how it goes."""
    if options.executor == "inline":
        with drive(prepared, Inline()) as driven, _progress(driven) as progress:
            yield driven, progress
        return
    from workers.remote import check, cluster

    check(options.address)
    with drive(prepared, Inline()) as driven, _progress(driven) as progress:
        if not driven.left:
            yield driven, progress
            return
        progress.say("starting Ray")
        with cluster(options.address, options.workers) as executor:
            driven.executor = executor
            yield driven, progress


def _progress(driven: Drive) -> Progress:
    return Progress(driven.total, driven.done)


def simulate(driven: Drive, progress: Progress) -> None:
    """Run all waves that are left, one after another."""
    for wave in driven.left:
        progress.stage(wave.name)
        for outcome in driven.run(wave):
            progress.count(outcome)
    driven.check()
