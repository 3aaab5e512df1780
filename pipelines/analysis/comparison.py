"""Measured and predicted observables of an ensemble, side by side on the same datasets.

The independent unit is the chain where a theory is given the data, and the dataset where it
averages over them: then the scatter between datasets is part of the error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines import doing
from pipelines.analysis.chains import sound_chains
from pipelines.analysis.measured import kurtosis, measure, observable_names
from pipelines.analysis.theory_groups import group_name
from storage.errors import CampaignError
from storage.plan import Plan
from storage.regression_spec import REGRESSION_THEORIES
from storage.results import ensemble_grid
from storage.schema import PARTS
from storage.store import Store
from storage.theory_spec import AVERAGED_THEORIES
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
    components = [str(part) for part in coordinates["component"].values]
    names = observable_names(group, components, [str(d) for d in directions])
    shape = (len(planned.cells), group["finished"].shape[1], len(names))
    measured, error = np.full(shape, np.nan), np.full(shape, np.nan)
    units = np.full((*shape[:2], group["status"].shape[2], len(names)), np.nan)
    chains = np.zeros(shape[:2], dtype=np.int64)
    for number, place in enumerate(np.ndindex(*shape[:2])):
        doing.tell("dataset", number, shape[0] * shape[1])
        found = sound_chains(group, planned, *place)
        chains[place] = len(found.chains)
        if found.enough:
            values = measure(found)
            measured[place], error[place] = values.estimate, values.error
            units[place][: len(values.units)] = values.units
    theories = [
        theory
        for theory in planned.spec.theories
        if theory not in REGRESSION_THEORIES and group_name(theory) in root
    ]
    predicted = np.full((len(theories), *shape), np.nan)
    for index, theory in enumerate(theories):
        found = Predicted(root[group_name(theory)], components, [str(d) for d in directions])
        _check(theory, found.group, shape)
        for place, name in enumerate(names):
            predicted[index, ..., place] = found.observable(name)
    return Comparison(
        tuple(theories),
        tuple(names),
        np.array([theory in AVERAGED_THEORIES for theory in theories], dtype=bool),
        measured,
        error,
        units,
        chains,
        np.asarray(root["progress"]["converged"][...]) > 0,
        predicted,
    )


def _check(theory: str, group: Any, shape: tuple[int, ...]) -> None:
    known = group["learnability"].shape[:-1]
    if known != shape[: len(known)]:
        raise CampaignError(
            f"{theory} was predicted for {known} cells and datasets, the store has {shape[:2]}; "
            "run `finitewidth predict` on it"
        )


@dataclass(frozen=True)
class Predicted:
    """The group of a theory, read by the names of observables."""

    group: Any
    components: Sequence[str]
    directions: Sequence[str]

    def observable(self, name: str) -> Array:
        """(cell, dataset), or (cell, 1) where a theory averages over data; nan if it is silent."""
        kind, _, rest = name.partition(" ")
        if kind == "overlap_kurtosis":
            if "overlap_density" not in self.group:
                return np.full((1, 1), np.nan)
            density = np.asarray(self.group["overlap_density"][...])
            return self._datasets(kurtosis(density.sum(-1)))
        if kind not in self.group:
            return np.full((1, 1), np.nan)
        values = np.asarray(self.group[kind][...])
        match kind:
            case "learnability":
                values = values[..., self.components.index(rest)]
            case "hidden_variance":
                values = values[..., PARTS.index(rest)]
            case "pre_activation_variance":
                layer, _, direction = rest.partition(" ")
                values = values[..., int(layer) - 1, self.directions.index(direction)]
            case "predictive_variance" if "test" in self.group[kind].metadata.dimension_names:
                values = values.mean(axis=-1)
        return self._datasets(values)

    def _datasets(self, values: Array) -> Array:
        return values if values.ndim == 2 else values[:, None]


def averages(
    residual: Array,
    error: Array,
    predicted: Array,
    chains: NDArray[np.int64],
    *,
    averaged: bool = False,
) -> Averages:
    """Over the first axis, the datasets, of those whose residual and error are known.

    residual, error, predicted and chains are (dataset, ...) and broadcast. The error of the mean is
    √(Σ se²)/datasets; its degrees of freedom are Satterthwaite's with chains - 1 for each dataset.
    For a theory that averages over data it is the scatter of the datasets over √datasets.
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
    p = np.where(units >= FEWEST_UNITS, p_value(mean, deviation, degrees), np.nan)
    return Averages(mean, deviation, expected, degrees, p)
