"""What theories take, from the products of their equations and kernels that were timed."""

from collections.abc import Callable, Iterator, Sequence

from pipelines.engine import blocks, needs
from pipelines.theories.theory_groups import reasons_of
from storage.campaign.network_spec import Kernel
from storage.campaign.regression_spec import REGRESSION_THEORIES
from storage.campaign.resolved import Sampled
from storage.campaign.theory_spec import ADAPTIVE_THEORIES, AVERAGED_THEORIES
from storage.planning.identity import digest
from storage.planning.plan import Cell, EnsembleCell, Plan
from theory.regression.curve_methods import DOUBLE

# Seconds of one core, on the machine whose speeds are in `speeds.py`.
PREDICT = 0.9
DATASET = 0.07  # of a theory on a dataset
DIRECT_FLOP, LAYERS = 15.0, 1000.0  # n³ flop of a theory, and of one of Gaussian layers that adapt
NEURONS = 2e5  # n² flop of the adaptive kernel, which averages over draws of a neuron
DIAGONAL = 256  # kernels of as many points at a time are computed where the diagonal is wanted
AVERAGED_CELL = 0.03  # of a theory that averages over data, a cell
SPECTRAL_CELL = 0.05  # of a theory of a regression, a cell

Pairs = Callable[[Cell, Kernel], float]  # seconds for a kernel of two points
MeanField = Callable[[EnsembleCell, Sequence[float]], float | None]  # seconds until the last time


def seconds(
    planned: Plan, kernel: Pairs, mean_field: MeanField, products: float, slowness: float
) -> float:
    """Theories that are given the data take a dataset at a time, all others a cell.

    A theory takes nothing for cells that it does not fit.
    """
    total = PREDICT * slowness
    datasets = planned.most("ensemble", "datasets") if planned.cells else 0
    pairs: dict[str, float] = {}
    for cell, theories in _held(planned):
        given = [theory for theory in theories if theory not in AVERAGED_THEORIES]
        total += AVERAGED_CELL * slowness * (len(theories) - len(given))
        if not given:
            continue
        key = digest(cell.spec.data.model_dump(mode="json"))
        if (name := f"{key} {blocks.size_key(cell.spec)}") not in pairs:
            pairs[name] = kernel(cell, cell.spec.network)
        each = sum(_given(theory, cell.spec, pairs[name], products, slowness) for theory in given)
        if "mean_field" in given:
            each += mean_field(cell, planned.times) or 0.0
        total += each * datasets
    spectral = sum(theory in REGRESSION_THEORIES for theory in planned.spec.theories)
    for cell in planned.regressions:
        total += SPECTRAL_CELL * slowness * spectral
        total += products * needs.needs_of(cell.spec).decimated_seconds
    return total


def _held(planned: Plan) -> Iterator[tuple[EnsembleCell, list[str]]]:
    """Each cell of the ensemble with the theories that predict something of it."""
    theories = [name for name in planned.spec.theories if name not in REGRESSION_THEORIES]
    reasons = {theory: reasons_of(theory, planned.cells) for theory in theories}
    for place, cell in enumerate(planned.cells):
        yield cell, [theory for theory in theories if not reasons[theory][place]]


def _given(theory: str, spec: Sampled, pair: float, products: float, slowness: float) -> float:
    """Of a theory on one dataset: kernels of its points, and equations on the training points."""
    train, test = spec.data.train, spec.data.test_points
    kernels = 2 * pair * train * (train + test) + pair * DIAGONAL * test
    cubic = products * train**3 / DOUBLE
    seconds = slowness * DATASET + kernels + DIRECT_FLOP * cubic
    if theory == "kernel_scaling":
        return seconds * spec.network.depth
    if theory == "adaptive":
        return seconds + NEURONS * cubic / train
    return seconds + LAYERS * cubic * (theory in ADAPTIVE_THEORIES)
