"""What the mean field by particles takes: a few of its steps are timed on the first dataset."""

import time
from collections.abc import Sequence

from pipelines.engine.engine import Prepared
from pipelines.estimates.speeds import Speeds
from pipelines.theories.ensemble_theories import Problem
from pipelines.theories.theory_groups import reasons_of
from pipelines.theories.trajectory_theories import PARTICLES, solved
from storage.arrays.coordinates import physical_temperature
from storage.planning.identity import digest
from storage.planning.plan import EnsembleCell
from theory.dynamics.mean_field import REPLICAS, pairs_of_steps
from workers import numerics
from workers.data.datasets import dataset

FEW, PAIRS = 4096, 8  # particles and pairs of steps that are timed
WORK = 3e7  # particles × inputs × training points of what is timed at most
MAX_POINTS = 2000  # more of them take too long to be tried


def seconds(
    prepared: Prepared, speeds: Speeds, measure: bool, cell: EnsembleCell, times: Sequence[float]
) -> float | None:
    """Of one core for a dataset, until the last of the times; None where it is not to be known."""
    if cell.spec.data.train > MAX_POINTS or reasons_of("mean_field", [cell])[0]:
        return None
    problem = [each.model_dump(mode="json") for each in (cell.spec.data, cell.spec.network)]
    temperature = cell.spec.sampler.temperature
    name = f"mean field {digest([problem, temperature, prepared.sources])[:32]}"
    if not measure and speeds.known(name) is None:
        return None
    try:
        step, pair = speeds.measure(name, lambda: _few(prepared, cell))
    except ValueError:  # of its equations, which the prediction will tell
        return None
    physical = [time / physical_temperature(cell.spec) for time in times]
    return REPLICAS * pair * sum(pairs_of_steps(physical, step))


def _few(prepared: Prepared, cell: EnsembleCell) -> tuple[float, float]:
    """The step, and seconds of a pair of steps of all particles of a replica."""
    data = dataset(cell.spec, 0, prepared.plugins, prepared.sources)
    problem = Problem(cell.spec, data, prepared.plugins)
    width, entries = cell.spec.network.width, data.x_train.size
    particles = min(FEW, 2 * max(1, int(WORK / entries / 2)))
    with numerics.fixed_threads():
        step = solved(problem, width, [0.0], particles=2, replicas=2).step
        began = time.process_time()
        solved(problem, width, [2 * PAIRS * step], particles=particles, replicas=2)
        took = time.process_time() - began
    return step, took / (2 * PAIRS) * PARTICLES / particles
