"""How much longer a run takes: what was expected of it, corrected by how it has gone so far.

The driver keeps this in the store, so that `status` says the same as the run itself.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from storage.files.objects import Objects
from storage.files.sealed import seal, unseal

NAME = "ledger/pace.json"
TELLING = 0.02  # of a simulation: less says nothing of its pace
SIMULATING, ENDED = "simulate", "finished"  # what a run is at, beside the stages by their names

Finished = Mapping[str, int]  # shards by kind and cell, `ensemble/0a1b...`


@dataclass(frozen=True)
class Pace:
    """What a run expects; times are seconds, moments those of `time.time`."""

    began: float
    cores: int  # workers side by side
    simulation: float  # by the clock
    work: dict[str, tuple[float, int]]  # core-seconds and shards, by kind and cell
    before: dict[str, int]  # shards that were finished when the run began
    stages: dict[str, float]  # those after the simulation, in their order
    stage: str = SIMULATING
    since: float = 0.0  # when it began

    def at(self, stage: str, now: float) -> "Pace":
        """The same as another stage begins."""
        return replace(self, stage=stage, since=now)

    def left(self, finished: Finished, now: float, part: float | None = None) -> float:
        """Seconds that are left, when so many shards are finished, or that part of a stage."""
        if self.stage == ENDED:
            return 0.0
        if self.stage not in self.stages:
            return self._simulation(finished, now) + sum(self.stages.values())
        names = list(self.stages)
        later = sum(self.stages[name] for name in names[names.index(self.stage) + 1 :])
        expected, spent = self.stages[self.stage], elapsed(self.since, now)
        if part is not None and part > TELLING:
            expected = spent / part
        return max(expected - spent, 0.0) + later

    def done(self, finished: Finished, now: float, part: float | None = None) -> float:
        """The part of the whole campaign that is done, its stages among it, by what each takes."""
        if self.stage == ENDED:
            return 1.0
        cores = max(self.cores, 1)
        simulation = sum(s for s, _ in self.work.values()) / cores
        done = sum(s * finished.get(name, 0) / n for name, (s, n) in self.work.items()) / cores
        if self.stage in self.stages:
            names, expected = list(self.stages), self.stages[self.stage]
            done = simulation + sum(self.stages[n] for n in names[: names.index(self.stage)])
            spent = elapsed(self.since, now) / expected if expected else 1.0
            done += expected * min(spent if part is None else part, 1.0)
        whole = simulation + sum(self.stages.values())
        return done / whole if whole else 1.0

    def _simulation(self, finished: Finished, now: float) -> float:
        """As expected, corrected by how long what is done has taken.

        The expectation weighs as much as half of what is left, since the first shards also wait
        for what is begun once: workers, and a compiler.
        """
        left = sum(s * (1 - finished.get(name, 0) / n) for name, (s, n) in self.work.items())
        at_first = sum(s * (1 - self.before.get(name, 0) / n) for name, (s, n) in self.work.items())
        if not at_first:
            return 0.0
        share = 1 - left / at_first
        if share < TELLING:
            return max(self.simulation - elapsed(self.began, now), 0.0)
        rest = self.simulation * (1 - share)
        done, took = self.simulation * share, elapsed(self.began, now)
        return rest * (took + rest / 2) / (done + rest / 2)

    def keep(self, objects: Objects) -> None:
        """Write it down for `status`."""
        objects.put(NAME, seal(asdict(self)))


def elapsed(since: float, now: float) -> float:
    """Seconds between two moments of `time.time`; none where the clock was set back meanwhile."""
    return max(now - since, 0.0)


def kept(objects: Objects) -> Pace | None:
    """What the last run wrote down; None where there is nothing that can be read."""
    try:
        return Pace(**unseal(objects.get(NAME) or b""))
    except (ValueError, TypeError):
        return None
