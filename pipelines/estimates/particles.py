"""What the mean field by particles takes: a few of its steps are timed on the first dataset."""

import math
import time
from collections.abc import Sequence

from pipelines.engine import blocks
from pipelines.engine.engine import Prepared
from pipelines.estimates.speeds import PATIENCE, Speeds
from pipelines.theories.ensemble_theories import Problem
from pipelines.theories.trajectory_theories import PARTICLES, solved
from storage.arrays.coordinates import physical_temperature
from storage.planning.identity import digest
from storage.planning.plan import EnsembleCell
from theory.dynamics.mean_field import REPLICAS, pairs_of_steps
from workers import numerics
from workers.data.datasets import dataset

FEW_PARTICLES, PAIRS = 4096, 8  # particles and pairs of steps that are timed
WORK = 3e7  # particles × inputs × training points of what is timed at most
MAX_POINTS = 2000  # more of them take too long to be tried


class MeanField:
    """Seconds of one core for a dataset of a cell, until the last of the times that are stored.

    A few steps of a cell are timed while there is patience for it; any other takes as many as the
    nearest in size of those that are known, in proportion to its points and inputs. None without
    any.
    """

    def __init__(self, prepared: Prepared, speeds: Speeds, measure: bool) -> None:
        self._prepared, self._speeds, self._measure = prepared, speeds, measure
        self._spent = 0.0
        self._known: dict[int, list[float]] = {}  # the step and seconds of a pair, by size

    def __call__(self, cell: EnsembleCell, times: Sequence[float]) -> float | None:
        """Of this cell."""
        size = cell.spec.data.train * blocks.inputs_of(cell.spec, self._prepared)
        if (found := self._found(cell)) is not None:
            self._known[size] = found
        if not self._known:
            return None
        nearest = min(self._known, key=lambda other: abs(math.log(other / size)))
        step, pair = self._known[nearest]
        physical = [time / physical_temperature(cell.spec) for time in times]
        return REPLICAS * pair * size / nearest * sum(pairs_of_steps(physical, step))

    def _found(self, cell: EnsembleCell) -> list[float] | None:
        """The step and seconds of a pair, known or timed now."""
        problem = [each.model_dump(mode="json") for each in (cell.spec.data, cell.spec.network)]
        named = [problem, cell.spec.sampler.temperature, self._prepared.sources]
        name = f"mean field {digest(named)[:32]}"
        patient = self._spent < PATIENCE and cell.spec.data.train <= MAX_POINTS
        if self._speeds.known(name) is None and not (self._measure and patient):
            return None
        began = time.process_time()
        try:
            return self._speeds.measure(name, lambda: _few(self._prepared, cell))
        except ValueError:  # of its equations, which the prediction will tell
            return None
        finally:
            self._spent += time.process_time() - began


def _few(prepared: Prepared, cell: EnsembleCell) -> tuple[float, float]:
    """The step, and seconds of a pair of steps of all particles of a replica."""
    data = dataset(cell.spec, 0, prepared.plugins, prepared.sources)
    problem = Problem(cell.spec, data, prepared.plugins)
    width, entries = cell.spec.network.width, data.x_train.size
    particles = min(FEW_PARTICLES, 2 * max(1, int(WORK / entries / 2)))
    with numerics.fixed_threads():
        step = solved(problem, width, [0.0], particles=2, replicas=2).step
        began = time.process_time()
        solved(problem, width, [2 * PAIRS * step], particles=particles, replicas=2)
        took = time.process_time() - began
    return step, took / (2 * PAIRS) * PARTICLES / particles
