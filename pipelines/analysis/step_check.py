"""What the step size does to the numbers: a block at another step, extrapolated to none.

A scheme whose bias is of order p has m(ε) = m(0) + c ε^p. From the cell's chains at ε and those of
its step check at ε' = ε/2, on the same dataset, the bias of the cell is

    c ε^p = (m(ε) - m(ε')) ε^p / (ε^p - ε'^p),

which is twice the difference at p = 1 and 4/3 of it at p = 2. A cell is marked where that is
larger than the error bar of what it measures, and is no accident.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis.chains import Arrays, Chains, sound_chains
from pipelines.analysis.measured import measure, without_each
from storage.arrays.schema import Variable
from storage.campaign.observables import LEARNABILITY, name_of
from storage.campaign.resolved import sampled
from storage.planning.plan import EnsembleCell, Plan
from storage.store.hierarchy import Group
from theory.statistics import jackknife_error, p_value, pooled_degrees

Array = NDArray[np.float64]

SCALARS = ("loss", "weight_norm", "max_overlap")
ACCIDENT = 0.01  # how often at most a cell without bias is marked

_OBSERVABLE = ("cell", "observable")
VARIABLES = {
    "step_bias": Variable(_OBSERVABLE, "f8", "bias of the step size, extrapolated from half of it"),
    "step_bias_error": Variable(_OBSERVABLE, "f8", "standard error of the bias"),
    "biased": Variable(
        ("cell",),
        "u1",
        "whether the bias of the step size exceeds the error bars",
        attrs={"flag_values": [0, 1], "flag_meanings": "within_errors biased"},
    ),
}


@dataclass(frozen=True)
class _Estimate:
    """Observables of one dataset at one step size, with errors from independent chains."""

    step_size: float
    chains: int
    value: Array  # (observable,)
    error: Array


class Bias(TypedDict, total=False):
    """What is said of a cell, by the names of `VARIABLES`."""

    step_bias: Array  # (observable,)
    step_bias_error: Array
    biased: bool


def names(group: Arrays, components: Sequence[str]) -> list[str]:
    """The observables of a step check, in the order of `biases`."""
    scalars = [name for name in SCALARS if name in group]
    learned = [name_of(LEARNABILITY.kind, part) for part in components]
    return [*scalars, *learned, "mse_mean", "predictive_variance"]


def biases(root: Group, planned: Plan, observables: Sequence[str]) -> dict[str, np.ndarray]:
    """`VARIABLES` of every cell; where a check is missing or too short NaN, and no mark."""
    shape = (len(planned.cells), len(observables))
    values: dict[str, np.ndarray] = {
        "step_bias": np.full(shape, np.nan),
        "step_bias_error": np.full(shape, np.nan),
        "biased": np.zeros(len(planned.cells), np.uint8),
    }
    groups = {name: root.group(name) for name in ("ensemble", "step_check") if name in root}
    for cell in planned.cells:
        for name, value in bias(groups, planned, cell, observables).items():
            values[name][cell.index] = value
    return values


def bias(
    groups: Mapping[str, Arrays], planned: Plan, cell: EnsembleCell, observables: Sequence[str]
) -> Bias:
    """`VARIABLES` of one cell; empty where its check is missing or too short."""
    sampler, ensemble = cell.spec.sampler, sampled(planned.spec).ensemble
    if "step_check" not in groups or not sampler.bias_order:
        return {}
    here = _estimate(groups["ensemble"], planned, cell.index, observables)
    check = _estimate(groups["step_check"], planned, cell.index, observables)
    if here is None or check is None:
        return {}
    value, error, p = _extrapolated(here, check, sampler.bias_order)
    bar = here.error / np.sqrt(ensemble.datasets)  # of the mean over datasets
    seen = (np.abs(value) > bar) & (p < ACCIDENT / len(observables))
    return {"step_bias": value, "step_bias_error": error, "biased": bool(seen.any())}


def _extrapolated(here: _Estimate, check: _Estimate, order: int) -> tuple[Array, Array, Array]:
    """The bias at the cell's step size, its standard error and its p-value."""
    whole, part = here.step_size**order, check.step_size**order
    factor = whole / (whole - part)
    variances = np.stack([here.error, check.error]) ** 2
    error = abs(factor) * np.sqrt(variances.sum(0))
    degrees = np.array([[here.chains - 1], [check.chains - 1]])
    bias = factor * (here.value - check.value)
    return bias, error, p_value(bias, error, pooled_degrees(variances, degrees, axis=0))


def _estimate(
    group: Arrays, planned: Plan, cell: int, observables: Sequence[str]
) -> _Estimate | None:
    """Of the first dataset of a cell; None where there are too few draws or chains."""
    chains = sound_chains(group, planned, cell, 0)
    if not chains.enough:
        return None
    scalars = [without_each(_means(chains, name)) for name in observables if name in SCALARS]
    table = np.stack(scalars, axis=1)
    measured = measure(chains)
    rest = len(observables) - len(scalars)
    return _Estimate(
        float(np.nanmean(np.asarray(group["step_size"][cell, 0]))),
        len(chains.chains),
        np.concatenate([table[0], measured.estimate[:rest]]),
        np.concatenate([jackknife_error(table[1:]), measured.error[:rest]]),
    )


def _means(chains: Chains, name: str) -> Array:
    """Means over the draws of each chain, (chain,)."""
    return chains.draws(name).mean(axis=1)
