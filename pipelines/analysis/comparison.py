"""Measured and predicted observables of an ensemble, side by side on the same datasets."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis.chains import sound_chains
from pipelines.analysis.measured import measure, observable_names
from pipelines.analysis.theory_groups import group_name
from storage.errors import CampaignError
from storage.plan import Plan
from storage.regression_spec import REGRESSION_THEORIES
from storage.results import ensemble_grid
from storage.store import Store
from theory.statistics import FEWEST_UNITS, p_value, pooled_degrees

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Observables of every dataset of every cell, measured and predicted."""

    theories: tuple[str, ...]
    observables: tuple[str, ...]
    measured: Array  # (cell, dataset, observable)
    error: Array  # (cell, dataset, observable)
    chains: NDArray[np.int64]  # (cell, dataset)
    compared: NDArray[np.bool_]  # (cell, dataset)
    predicted: Array  # (theory, cell, dataset, observable)

    @cached_property
    def residual(self) -> Array:
        """Measured minus predicted where the dataset is compared, the shape of `predicted`."""
        return np.where(self.compared[..., None], self.measured - self.predicted, np.nan)


@dataclass(frozen=True)
class Averages:
    """Means over the datasets that are compared."""

    residual: Array
    error: Array
    predicted: Array
    degrees: Array
    p_value: Array


def compare(store: Store, planned: Plan) -> Comparison:
    """Measure every dataset, and read what the theories say of it."""
    group, root = store.root["ensemble"], store.root
    coordinates, _ = ensemble_grid(planned)
    directions = coordinates["direction"].values if "direction" in coordinates else ()
    names = observable_names(group, [*coordinates["component"].values], [*directions])
    shape = (*group["finished"].shape[:2], len(names))
    measured, error = np.full(shape, np.nan), np.full(shape, np.nan)
    chains = np.zeros(shape[:2], dtype=np.int64)
    for place in np.ndindex(*shape[:2]):
        found = sound_chains(group, planned, *place)
        chains[place] = len(found.chains)
        if found.enough:
            values = measure(found)
            measured[place], error[place] = values.estimate, values.error
    theories = [
        theory
        for theory in planned.spec.theories
        if theory not in REGRESSION_THEORIES and group_name(theory) in root
    ]
    predicted = np.full((len(theories), *shape), np.nan)
    for index, theory in enumerate(theories):
        predicted[index] = _predicted(root[group_name(theory)], theory, shape)
    compared = np.asarray(root["progress"]["converged"][...]) > 0
    return Comparison(tuple(theories), tuple(names), measured, error, chains, compared, predicted)


def _predicted(group: Any, theory: str, shape: tuple[int, ...]) -> Array:
    """The observables of `measure` as a theory gives them, (cell, dataset, observable)."""
    if group["mse_mean"].shape != shape[:2]:
        raise CampaignError(
            f"{theory} was predicted for {group['mse_mean'].shape} cells and datasets, the store "
            f"has {shape[:2]}; run `finitewidth predict` on it"
        )
    parts = [
        np.asarray(group["learnability"][...]),
        np.asarray(group["mse_mean"][...])[..., None],
        np.asarray(group["predictive_variance"][...]).mean(axis=-1, keepdims=True),
    ]
    if "pre_activation_variance" in group:
        layers = np.asarray(group["pre_activation_variance"][...])
        parts.append(layers.reshape(*layers.shape[:2], -1))
    found = np.concatenate(parts, axis=-1)
    missing = shape[-1] - found.shape[-1]  # observables that this theory does not speak of
    return np.pad(found, [(0, 0), (0, 0), (0, missing)], constant_values=np.nan)


def averages(
    residual: Array, error: Array, predicted: Array, chains: NDArray[np.int64]
) -> Averages:
    """Over the first axis, the datasets, of those whose residual and error are known.

    residual, error, predicted and chains are (dataset, ...) and broadcast. The error of the mean is
    √(Σ se²)/datasets; its degrees of freedom are Satterthwaite's with chains - 1 for each dataset.
    """
    known = np.isfinite(residual) & np.isfinite(error) & (error > 0)
    count = known.sum(0)
    variance = np.where(known, np.square(error), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known, residual, 0.0).sum(0) / count
        expected = np.where(known, predicted, 0.0).sum(0) / count
        deviation = np.sqrt(variance.sum(0)) / count
        degrees = pooled_degrees(variance, np.maximum(chains - 1, 1), axis=0)
    enough = np.where(known, chains, 0).sum(0) >= FEWEST_UNITS
    p = np.where(enough, p_value(mean, deviation, degrees), np.nan)
    return Averages(mean, deviation, expected, degrees, p)
