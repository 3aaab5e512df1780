"""The evidence of the data, measured by thermodynamic integration: the group `free_energy`.

At fixed prior Z(T) = <exp(-L/T)>_prior has d(-ln Z)/d(1/T) = <L>, the training loss of the ensemble
at T. Where an axis of the sweep moves the temperature, and with it nothing but the sampler, its
integral over ln(1/T) is

    Γ(T) - Γ(T_0) = ∫ <L>/T' d ln(1/T') + (n/2) ln(T/T_0),   Γ = -ln N(y | f + noise of variance T),

of every dataset, from the highest temperature T_0 that is compared. The integrand is a cubic spline
through the temperatures; how far the trapezoidal rule is from it tells whether they are enough.
Theories that store Γ, as `nngp`, are held beside it on the same data. Kirkwood (1935,
doi:10.1063/1.1749657).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from pipelines.analysis.chains import Arrays, sound_chains
from pipelines.analysis.comparison import Comparison
from pipelines.analysis.scaling import points
from pipelines.theories.theory_groups import group_name
from storage.arrays.coordinates import physical_temperature, setting_name
from storage.arrays.schema import Variable
from storage.planning.plan import Plan
from storage.planning.sweep import number
from storage.store.results import labels, points_grid, write_group
from storage.store.store import Store

Array = NDArray[np.float64]

PATH = "sampler.temperature"
TEMPERATURE = setting_name(PATH)
FEWEST_TEMPERATURES = 3  # temperatures

_MEASURED = ("cell", "dataset", TEMPERATURE)
VARIABLES = {
    "evidence": Variable(
        _MEASURED, "f8", "Γ, minus the log evidence, less that at the highest temperature"
    ),
    "evidence_error": Variable(_MEASURED, "f8", "its standard error, from independent chains"),
    "quadrature_error": Variable(_MEASURED, "f8", "Γ by the trapezoidal rule, less Γ"),
    "evidence_predicted": Variable(
        ("theory", *_MEASURED), "f8", "the same difference as the theory has it"
    ),
}


def write(store: Store, planned: Plan, comparison: Comparison) -> None:
    """Write the group `free_energy`, where the sweep has an axis of temperatures alone."""
    sampler = planned.spec.sampler
    axis = next((a for a, s in planned.spec.sweep.items() if _of_temperatures(s)), None)
    if axis is None or sampler is None or not sampler.record.learns:
        return
    grid = [cell for cell in planned.cells if not cell.refined]
    temperatures = np.unique([number(cell.settings, PATH) for cell in grid])[::-1]
    if len(temperatures) < FEWEST_TEMPERATURES:
        return
    together = list(planned.spec.sweep[axis])
    found = points(planned, -temperatures, lambda cell: -number(cell.settings, PATH), together)
    theories = [
        theory
        for theory in comparison.theories
        if "free_energy" in store.root.group(group_name(theory))
        and store.root.group(group_name(theory))["free_energy"].ndim == 2
    ]
    shape = (len(found), comparison.compared.shape[1], len(temperatures))
    values: dict[str, np.ndarray] = {name: np.full(shape, np.nan) for name in VARIABLES}
    values["evidence_predicted"] = np.full((len(theories), *shape), np.nan)
    stored = {t: np.asarray(store.root.group(group_name(t))["free_energy"][...]) for t in theories}
    for place, point in enumerate(found):
        for dataset in range(shape[1]):
            kept = [
                position
                for position, cell in enumerate(point.cells)
                if cell >= 0 and comparison.compared[cell, dataset]
            ]
            if len(kept) < FEWEST_TEMPERATURES:
                continue
            cells = point.cells[kept]
            at = (place, dataset, kept)
            losses = [_losses(store.root.group("ensemble"), planned, c, dataset) for c in cells]
            physical = [physical_temperature(planned.cells[c].spec) for c in cells]
            train = planned.cells[cells[0]].spec.data.train
            for name, value in integrated(np.array(physical), losses, train).items():
                values[name][at] = value
            for row, theory in enumerate(theories):
                energy = stored[theory][cells, dataset]
                values["evidence_predicted"][(row, *at)] = energy - energy[0]
    coordinates, axes = points_grid(planned.spec, [point.settings for point in found], axis)
    coordinates["theory"] = labels("theory", theories, "theory")
    coordinates["dataset"] = labels("dataset", np.arange(shape[1]), "independent draw of the data")
    coordinates[TEMPERATURE] = labels(TEMPERATURE, temperatures, PATH)
    write_group(store, "free_energy", VARIABLES, values, coordinates, axes)


def _of_temperatures(settings: Mapping[str, object]) -> bool:
    """Whether nothing but the temperature changes, and how it is sampled."""
    return PATH in settings and all(path.startswith("sampler.") for path in settings)


def _losses(group: Arrays, planned: Plan, cell: int, dataset: int) -> Array:
    """Mean loss of each sound chain."""
    return sound_chains(group, planned, cell, dataset).draws("loss").mean(axis=1)


def integrated(temperatures: Array, losses: Sequence[Array], train: int) -> dict[str, Array]:
    """Γ at falling temperatures from the losses of the chains at each, by names of `VARIABLES`.

    Γ is linear in the mean losses, whose errors are independent: they add in squares.
    """
    place = -np.log(temperatures)
    # What each mean loss contributes: the integral of the spline through one of the integrands.
    basis = CubicSpline(place, np.eye(len(place)) / temperatures, bc_type="natural")
    weights = basis.antiderivative()(place)  # (temperature, loss)
    mean = np.array([loss.mean() for loss in losses])
    error = np.array([loss.std(ddof=1) / np.sqrt(len(loss)) for loss in losses])
    noise = train / 2 * np.log(temperatures / temperatures[0])
    integrand = mean / temperatures
    steps = np.diff(place) * (integrand[1:] + integrand[:-1]) / 2
    smooth = weights @ mean
    return {
        "evidence": smooth + noise,
        "evidence_error": np.sqrt(np.square(weights * error).sum(1)),
        "quadrature_error": np.concatenate([[0.0], np.cumsum(steps)]) - smooth,
    }
