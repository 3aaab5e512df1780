"""Measured and predicted observables of an ensemble, side by side on the same datasets.

The independent unit is the chain where a theory is given the data, and the dataset where it
averages over them: then the scatter between datasets is part of the error. So is that of numbers of
the theory itself, where it has one: particles start alike for all data and sizes, so that this part
is the same everywhere, and adds up over datasets where the others add in squares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis import trajectories
from pipelines.analysis.chains import Arrays, sound_chains
from pipelines.analysis.mean_output import OBSERVABLE, MeanOutput
from pipelines.analysis.measured import kurtosis, measure, observables
from pipelines.progress import doing
from pipelines.theories.theory_groups import group_name
from storage.campaign.observables import Observable, Observed, in_plain, measured_by
from storage.campaign.plugins import Plugins
from storage.campaign.regression_spec import REGRESSION_THEORIES
from storage.campaign.spec import is_trajectory
from storage.campaign.theory_spec import AVERAGED_THEORIES
from storage.errors import CampaignError
from storage.planning.plan import Plan
from storage.store.hierarchy import Group
from storage.store.results import ensemble_grid
from storage.store.store import Store
from theory.dynamics.mean_field import REPLICAS
from theory.statistics import FEWEST_UNITS, p_value, pooled_degrees

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Observables of every dataset of every cell, measured and predicted."""

    theories: tuple[str, ...]
    observables: tuple[str, ...]
    averaged: NDArray[np.bool_]  # (theory,): whether it averages over data
    measured: Array  # (cell, dataset, observable)
    error: Array  # (cell, dataset, observable)
    units: Array  # (cell, dataset, chain, observable), nan for chains that are not there
    chains: NDArray[np.int64]  # (cell, dataset)
    compared: NDArray[np.bool_]  # (cell, dataset)
    predicted: Array  # (theory, cell, dataset, observable)
    output: MeanOutput | None = None
    entries: tuple[Observed, ...] = ()  # what the observables are
    own: Array | float = 0.0  # standard errors of `predicted`, of its shape; zero where it is exact

    @cached_property
    def residual(self) -> Array:
        """Measured minus predicted where the dataset is compared, the shape of `predicted`."""
        return np.where(self.compared[..., None], self.measured - self.predicted, np.nan)

    @property
    def words(self) -> dict[str, str]:
        """Observables in running text by their names, with their times and without."""
        each = (one for entry in self.entries for one in (entry, replace(entry, time="")))
        return {one.name: one.words for one in each}


@dataclass(frozen=True)
class Averages:
    """Means over the datasets that are compared."""

    residual: Array
    error: Array
    predicted: Array
    degrees: Array
    p_value: Array
    shared: Array  # the part of `error` that is the theory's, the same for all datasets and sizes


def _own(name: str, plugins: Plugins) -> Observable:
    """An observable of the user's; where its module is not at hand, by its name alone."""
    module, _, kind = name.partition(":")
    if module in dict(plugins.digests):
        return measured_by(name, plugins.get(name))
    return Observable(kind, in_plain(kind), variable=kind)


def compare(store: Store, planned: Plan, plugins: Plugins) -> Comparison:
    """Measure every dataset, and read what the theories say of it."""
    group, root = store.root.group("ensemble"), store.root
    coordinates, _ = ensemble_grid(planned)
    directions = coordinates["direction"].values if "direction" in coordinates else ()
    components = [str(part) for part in coordinates["component"].values]
    own = [_own(name, plugins) for name in planned.spec.observe.measure]
    times = coordinates["time"].values if is_trajectory(planned.spec) else None
    lags = planned.spec.observe.lags
    entries = (
        observables(group, components, [str(d) for d in directions], own)
        if times is None
        else trajectories.observables(group, components, times, lags)
    )
    names = [entry.name for entry in entries]
    shape = (len(planned.cells), group["finished"].shape[1], len(names))
    measured, error = np.full(shape, np.nan), np.full(shape, np.nan)
    units = np.full((*shape[:2], group["status"].shape[2], len(names)), np.nan)
    chains = np.zeros(shape[:2], dtype=np.int64)
    theories = [
        theory
        for theory in planned.spec.theories
        if theory not in REGRESSION_THEORIES and group_name(theory) in root
    ]
    for theory in theories:
        _check(theory, root.group(group_name(theory)), shape, times)
    output = MeanOutput.unknown(len(theories), *shape[:2], units.shape[2])
    for number, place in enumerate(np.ndindex(*shape[:2])):
        doing.tell("dataset", number, shape[0] * shape[1])
        found = sound_chains(group, planned, *place)
        chains[place] = len(found.chains)
        if found.enough:
            values = (
                measure(found, own) if times is None else trajectories.measure(found, times, lags)
            )
            measured[place], error[place] = values.estimate, values.error
            units[place][: len(values.units)] = values.units
            if times is None:
                output.put(place, values.errors, _predicted_errors(root, theories, group, place))
    predicted, own = (np.full((len(theories), *shape), empty) for empty in (np.nan, 0.0))
    for index, theory in enumerate(theories):
        for place, entry in enumerate(entries):
            of = root.group(group_name(theory))
            predicted[index, ..., place] = predicted_of(of, entry, [str(d) for d in directions])
            of_theory = predicted_of(of, _error_of(entry), [str(d) for d in directions])
            own[index, ..., place] = np.nan_to_num(of_theory)
    return Comparison(
        tuple(theories),
        tuple(names),
        np.array([theory in AVERAGED_THEORIES for theory in theories], dtype=bool),
        measured,
        error,
        units,
        chains,
        _comparable(root.group("progress")),
        predicted,
        output if times is None else None,
        tuple(entries),
        own,
    )


def _error_of(entry: Observed) -> Observed:
    """What a theory with errors of its own stores beside an observable, `loss_error`."""
    return replace(entry, record=replace(entry.record, kind=f"{entry.kind}_error"))


def _comparable(progress: Arrays) -> NDArray[np.bool_]:
    """Datasets that have converged, of cells whose step has no bias that is seen; (cell, dataset).

    A biased cell would have a theory rejected for what the sampler does.
    """
    converged = np.asarray(progress["converged"][...]) > 0
    return converged & (np.asarray(progress["biased"][...]) == 0)[:, None]


def _predicted_errors(
    root: Group, theories: Sequence[str], ensemble: Arrays, place: tuple[int, int]
) -> Array:
    """Mean output minus the label, (theory, test · target); nan where a theory has none."""
    label = np.asarray(ensemble["label"][place]).reshape(-1)
    errors = np.full((len(theories), len(label)), np.nan)
    for index, theory in enumerate(theories):
        if "output_mean" in root.group(group_name(theory)):
            stored = root.group(group_name(theory))["output_mean"][place]
            errors[index] = np.asarray(stored).reshape(-1) - label
    return errors


def _check(theory: str, group: Arrays, shape: tuple[int, ...], times: Array | None) -> None:
    known = group["learnability"].shape[: -1 if times is None else 2]
    if known != shape[: len(known)]:
        raise CampaignError(
            f"{theory} was predicted for {known} cells and datasets, the store has {shape[:2]}; "
            "run `finitewidth predict` on it"
        )


def predicted_of(group: Group, entry: Observed, directions: Sequence[str]) -> Array:
    """What the group of a theory says of an observable; nan if it is silent.

    (cell, dataset), or (cell, 1) where the theory averages over data.
    """
    if entry.kind == "overlap_kurtosis":
        if "overlap_density" not in group:
            return np.full((1, 1), np.nan)
        values = kurtosis(np.asarray(group["overlap_density"][...]).sum(-1))
        return values if values.ndim == 2 else values[:, None]
    if entry.kind not in group:
        return np.full((1, 1), np.nan)
    values = np.asarray(group[entry.kind][...])
    dims = list(group[entry.kind].dims)
    at = dict(zip(entry.record.along, entry.places, strict=True))
    if entry.time:
        at["time"] = entry.moment
    if entry.record.at is not None:
        dim, label = entry.record.at
        at[dim] = directions.index(label)
    for dim in reversed(dims):
        if dim in at:
            values = values.take(at[dim], axis=dims.index(dim))
        elif dim not in ("cell", "dataset"):
            values = values.mean(axis=dims.index(dim))
    return values if "dataset" in dims else values[:, None]


def over_datasets(
    comparison: Comparison,
    theory: int,
    observable: int,
    cells: NDArray[np.intp],
    datasets: NDArray[np.intp],
) -> Averages:
    """Of a theory and an observable at some cells, over some datasets of them; fields (cell,)."""
    places = np.ix_(cells, datasets)
    own = np.broadcast_to(comparison.own, comparison.predicted.shape)
    found = averages(
        comparison.residual[theory, ..., observable][places].T,
        comparison.error[..., observable][places].T,
        comparison.predicted[theory, ..., observable][places].T,
        comparison.chains[places].T,
        averaged=bool(comparison.averaged[theory]),
        own=own[theory, ..., observable][places].T,
    )
    if (
        comparison.output is None
        or comparison.averaged[theory]
        or comparison.observables[observable] != OBSERVABLE
    ):
        return found
    p_value = found.p_value.copy()
    error = comparison.error[..., observable]
    known = np.isfinite(comparison.residual[theory, ..., observable]) & (error > 0)
    for place, cell in enumerate(cells):
        used = datasets[known[cell, datasets]]
        predicted = comparison.predicted[theory, cell, used, observable]
        near = comparison.output.p_value(theory, cell, used, predicted) if len(used) else None
        p_value[place] = p_value[place] if near is None else near
    return replace(found, p_value=p_value)


def averages(
    residual: Array,
    error: Array,
    predicted: Array,
    chains: NDArray[np.int64],
    *,
    averaged: bool = False,
    own: Array | float = 0.0,
) -> Averages:
    """Over the first axis, the datasets, of those whose residual and error are known.

    residual, error, predicted, chains and own are (dataset, ...) and broadcast. The error of the
    mean is √(Σ se² + (Σ own)²)/datasets, `own` being the errors of what is predicted; its degrees
    of freedom are Satterthwaite's with chains - 1 for each dataset, and replicas - 1 for `own`. For
    a theory that averages over data it is the scatter of the datasets over √datasets.
    """
    known = np.isfinite(residual) & np.isfinite(error) & (error > 0)
    count = known.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known, residual, 0.0).sum(0) / count
        expected = np.where(known, predicted, 0.0).sum(0) / count
        if averaged:
            square = np.where(known, np.square(residual - mean), 0.0).sum(0)
            deviation = np.sqrt(square / (count - 1) / count)
            degrees, units = np.maximum(count - 1.0, 1), count
        else:
            variance = np.where(known, np.square(error), 0.0)
            deviation = np.sqrt(variance.sum(0)) / count
            degrees = pooled_degrees(variance, np.maximum(chains - 1, 1), axis=0)
            units = np.where(known, chains, 0).sum(0)
        shared = np.where(known, own, 0.0).sum(0) / count
    deviation, degrees = widened(deviation, degrees, shared)
    p = np.where(units >= FEWEST_UNITS, p_value(mean, deviation, degrees), np.nan)
    return Averages(mean, deviation, expected, degrees, p, shared)


def widened(error: Array, degrees: Array, shared: Array) -> tuple[Array, Array]:
    """√(se² + s²) and its degrees of freedom, with the error s of a theory from its replicas."""
    parts = np.square(np.stack(np.broadcast_arrays(error, shared), axis=-1))
    freedom = np.stack(np.broadcast_arrays(degrees, REPLICAS - 1.0), axis=-1)
    pooled = pooled_degrees(parts, freedom)
    exact = ~(shared > 0)
    return np.where(exact, error, np.sqrt(parts.sum(-1))), np.where(exact, degrees, pooled)
