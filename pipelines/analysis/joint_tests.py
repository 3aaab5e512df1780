"""Each theory as a whole: the observables of a cell tested at once, and theories compared.

The observables of a joint test are the first, in the order of `measured.observables`, of those
that the theory predicts, at most a third as many as there are independent units: chains pooled over
datasets where the theory is given the data, datasets where it averages over them. The choice is
made before the numbers are seen, so that p-values are calibrated.

Akaike's criterion compares theories that are silent on nothing the others speak of: those given
the data by the scatter of the chains, those that average over data by the scatter of the datasets.
The two kinds are never compared, since an average, however right, cannot know that scatter. Cells
may share their data, so that criteria of several cells are not to be added.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipelines.analysis.comparison import Averages, Comparison
from pipelines.analysis.mean_output import LINEAR, OBSERVABLE
from pipelines.analysis.verdicts import REJECTED_P, size_of
from storage.arrays.schema import Variable
from storage.campaign.observables import split
from storage.campaign.theory_spec import PARTICLE_THEORIES
from theory.statistics import (
    FEWEST_UNITS,
    UNITS_PER_OBSERVABLE,
    bonferroni,
    detectable,
    joint,
    squared_deviation,
)

Array = NDArray[np.float64]

CONFIDENCE = 0.95
ROUNDING = 1e-9  # of a unit, relative to the largest: an observable that does not vary
REPEATED = 1e-3  # of the scatter of an observable that the others leave: below that it is theirs

_PAIR = ("theory", "cell")
_CELL = ("theory", "cell", "observable")
VARIABLES = {
    "deviation": Variable(_CELL, "f8", "mean residual over the size of the prediction"),
    "deviation_low": Variable(_CELL, "f8", "lower end of its interval of 95 %"),
    "deviation_high": Variable(_CELL, "f8", "upper end of its interval of 95 %"),
    "tested": Variable(
        _CELL,
        "u1",
        "whether the observable is part of the joint test",
        attrs={"flag_values": [0, 1], "flag_meanings": "not_tested tested"},
    ),
    "joint_statistic": Variable(_PAIR, "f8", "Hotelling's F over the observables tested"),
    "joint_p_value": Variable(_PAIR, "f8", "p-value of the joint test"),
    "joint_seen": Variable(
        _PAIR,
        "f8",
        "relative deviation, the same of every observable, that the joint test finds 19 times in "
        "20",
    ),
    "criterion": Variable(
        _PAIR,
        "f8",
        "Akaike's criterion up to a constant of the cell: only theories that average over data, or "
        "only those that are given it, can be compared",
    ),
    "averaged": Variable(
        ("theory",),
        "u1",
        "whether the theory averages over data",
        attrs={"flag_values": [0, 1], "flag_meanings": "given_the_data averaged_over_data"},
    ),
    "grid_p_value": Variable(
        ("theory",), "f8", "least joint p-value of the cells, times their number"
    ),
    "score": Variable(
        ("theory", "observable"), "f8", "root mean square of deviation over the cells"
    ),
    "rank": Variable(
        ("theory", "observable"), "f8", "place of the theory by score, 1 the closest; nan if silent"
    ),
    "broken": Variable(
        ("theory", "observable"), "f8", "cells at which the corrected p-value rejects the theory"
    ),
}


def evaluate(comparison: Comparison, over: Averages) -> dict[str, Array]:
    """The values of `VARIABLES`; `over` holds (theory, cell, observable)."""
    theories, cells = comparison.predicted.shape[:2]
    values: dict[str, np.ndarray] = {
        name: np.full((theories, cells), np.nan)
        for name in ("joint_statistic", "joint_p_value", "joint_seen", "criterion")
    }
    values["tested"] = np.zeros((theories, cells, len(comparison.observables)))
    level = REJECTED_P / max(theories * cells, 1)
    for theory, cell in np.ndindex(theories, cells):
        found = tested(comparison, theory, cell)
        if found is None:
            continue
        values["tested"][theory, cell, found.observables] = 1
        test = joint(found.groups)
        values["joint_statistic"][theory, cell] = test.statistic
        values["joint_p_value"][theory, cell] = test.p_value
        values["joint_seen"][theory, cell] = detectable(found.groups, found.predicted, level)
    for cell in range(cells):
        for kind in (comparison.averaged, ~comparison.averaged):
            values["criterion"][kind, cell] = _criteria(comparison, cell, kind)
    values["averaged"] = comparison.averaged
    values["grid_p_value"] = np.array([_grid(row) for row in values["joint_p_value"]])
    effects = _effects(over)
    return values | effects | _ranking(effects["deviation"], over.p_value)


@dataclass(frozen=True)
class Tested:
    """What a joint test is made of."""

    observables: NDArray[np.intp]  # places
    groups: list[Array]  # residuals, (unit, observable) of each dataset, or of all together
    predicted: Array  # (observable,): mean over the datasets


def tested(comparison: Comparison, theory: int, cell: int) -> Tested | None:
    """The independent units and the observables of a theory at a cell; None if there are too few.

    Units are residuals: measured in a chain (a pseudo-value) minus predicted for its dataset, or of
    a whole dataset where the theory averages over them. Theories with errors of their own have no
    joint test: combinations of observables that hardly scatter would see nothing else.
    """
    used = np.flatnonzero(comparison.compared[cell])
    if not len(used) or comparison.theories[theory] in PARTICLE_THEORIES:
        return None
    predicted = comparison.predicted[theory, cell, used]  # (dataset, observable)
    if comparison.averaged[theory]:
        groups = [comparison.measured[cell, used] - predicted]
    else:
        groups = [
            _residuals(comparison, theory, (cell, int(dataset)), row)
            for dataset, row in zip(used, predicted, strict=True)
        ]
    several = np.array([len(group) > 1 for group in groups])
    groups = [group for group in groups if len(group) > 1]
    units = sum(len(group) - 1 for group in groups) + 1
    if not groups or units < FEWEST_UNITS:
        return None
    chosen = _independent(groups)[: units // UNITS_PER_OBSERVABLE]
    if not len(chosen):
        return None
    groups = [group[:, chosen] for group in groups]
    if not comparison.averaged[theory]:
        _move(comparison, (theory, cell), used[several], chosen, groups)
    return Tested(chosen, groups, predicted.mean(0)[chosen])


def _residuals(
    comparison: Comparison, theory: int, place: tuple[int, int], predicted: Array
) -> Array:
    """Measured in a chain minus predicted, (chain, observable); `mse_mean` linear at the theory.

    It is not known of a theory without a mean output.
    """
    rows = _known_rows(comparison.units[place]) - predicted
    rows[:, _errors_in_time(comparison)] = np.nan
    if OBSERVABLE in comparison.observables:
        column, output = comparison.observables.index(OBSERVABLE), comparison.output
        rows[:, column] = np.nan
        if output is not None:
            along = output.along[place][: len(rows), theory]
            rows[:, column] = along - output.gram[place][theory, theory]
    return rows


def _errors_in_time(comparison: Comparison) -> list[int]:
    """Places of `mse_mean` at the times of a trajectory, which is tested alone: it is quadratic."""
    found = enumerate(map(split, comparison.observables))
    return [place for place, (kind, time) in found if kind == OBSERVABLE and time]


def _move(
    comparison: Comparison,
    place: tuple[int, int],
    datasets: NDArray[np.intp],
    chosen: NDArray[np.intp],
    groups: list[Array],
) -> None:
    """Move `mse_mean`, in place, to the means that are measured, where that is linear enough."""
    theory, cell = place
    names = [comparison.observables[observable] for observable in chosen]
    if OBSERVABLE not in names or comparison.output is None:
        return
    column = names.index(OBSERVABLE)
    within = np.concatenate([group - group.mean(0) for group in groups])
    own, others = within[:, column], np.delete(within, column, axis=1)
    left = own - others @ np.linalg.lstsq(others, own, rcond=None)[0]
    variance = np.square(left).sum() / (len(within) - len(groups) - others.shape[1])
    direct = variance * sum(1 / len(group) for group in groups)
    if direct < LINEAR * comparison.output.quadratic(cell, datasets):
        return
    residuals = comparison.residual[theory, cell, datasets, chosen[column]]
    if not np.isfinite(residuals).all():  # a plug-in may predict the mean output, not its error
        return
    for group, residual in zip(groups, residuals, strict=True):
        group[:, column] += residual - group[:, column].mean()


def _known_rows(units: Array) -> Array:
    """Of the chains that are there, in which some observable is known."""
    return units[np.isfinite(units).any(1)]


def _varies(groups: list[Array]) -> NDArray[np.bool_]:
    """Observables that are known in every unit, and are not the same in all."""
    whole = np.concatenate(groups)
    known = np.isfinite(whole).all(0)
    spread = np.sqrt(sum(np.square(group - group.mean(0)).sum(0) for group in groups))
    size = np.abs(np.where(known, whole, 0)).max(0)
    return known & (np.nan_to_num(spread) > ROUNDING * size)


def _independent(groups: list[Array]) -> NDArray[np.intp]:
    """Observables that vary, but for those that repeat what the ones before them say."""
    varying = np.flatnonzero(_varies(groups))
    within = np.concatenate([group - group.mean(0) for group in groups])[:, varying]
    triangle = np.asarray(np.linalg.qr(within / np.linalg.norm(within, axis=0), mode="r"))
    own = np.abs(triangle.diagonal())
    return varying[: len(own)][own > REPEATED]


def _criteria(comparison: Comparison, cell: int, kind: NDArray[np.bool_]) -> Array:
    """ν ln(1 + Σ_g n_g r_gᵀ S⁻¹ r_g/ν) of theories of a kind, on the observables that all predict.

    r_g is the mean residual of a group and S the covariance of its units: the chains of a dataset,
    or all datasets for theories that average over data; there are no parameters.
    """
    found = np.full(int(kind.sum()), np.nan)
    used = np.flatnonzero(comparison.compared[cell])
    predicted = comparison.predicted[kind][:, cell, used]  # (theory, dataset, observable)
    if comparison.averaged[kind].any():
        groups, predicted = [comparison.measured[cell, used]], predicted[:, :1]
    else:
        predicted = predicted.copy()
        groups = [
            _common(comparison, (cell, int(dataset)), np.flatnonzero(kind), predicted[:, place])
            for place, dataset in enumerate(used)
        ]
        several = np.array([len(rows) > 1 for rows in groups], dtype=bool)
        groups, predicted = [rows for rows in groups if len(rows) > 1], predicted[:, several]
    free = sum(len(rows) - 1 for rows in groups)
    if not groups or free + 1 < FEWEST_UNITS:
        return found
    speaks = np.isfinite(predicted).any((1, 2))  # a theory that failed at the cell is left out
    common = np.isfinite(predicted[speaks]).all((0, 1))
    chosen = np.flatnonzero(common)
    chosen = chosen[_independent([rows[:, chosen] for rows in groups])]
    chosen = chosen[: (free + 1) // UNITS_PER_OBSERVABLE]
    if not len(chosen):
        return found
    groups = [rows[:, chosen] for rows in groups]
    for theory in np.flatnonzero(speaks):
        total = sum(
            len(rows) * squared_deviation(groups, rows.mean(0) - predicted[theory, place, chosen])
            for place, rows in enumerate(groups)
        )
        found[theory] = free * np.log1p(total / free)
    return found


def _common(
    comparison: Comparison, place: tuple[int, int], theories: NDArray[np.intp], predicted: Array
) -> Array:
    """Measured in a chain, (chain, observable); `mse_mean` is linear at the mean of the theories.

    What they predict of it, (theory, observable), is replaced in `predicted`.
    """
    rows = _known_rows(comparison.units[place]).copy()
    rows[:, _errors_in_time(comparison)] = np.nan
    if OBSERVABLE in comparison.observables:
        column, output = comparison.observables.index(OBSERVABLE), comparison.output
        rows[:, column] = predicted[:, column] = np.nan
        speaks = theories[np.isfinite(predicted).any(1)]
        if output is not None and len(speaks):
            rows[:, column] = output.along[place][: len(rows), speaks].mean(1)
            predicted[:, column] = output.gram[place][np.ix_(theories, speaks)].mean(1)
    return rows


def _grid(p_values: Array) -> float:
    known = p_values[np.isfinite(p_values)]
    return float(bonferroni(known).min()) if len(known) else np.nan


def _effects(over: Averages) -> dict[str, Array]:
    size = size_of(over.predicted, over.residual)
    with np.errstate(invalid="ignore"):
        reach = stats.t.isf((1 - CONFIDENCE) / 2, over.degrees) * over.error
    return {
        "deviation": over.residual / size,
        "deviation_low": (over.residual - reach) / size,
        "deviation_high": (over.residual + reach) / size,
    }


def _ranking(deviation: Array, p_value: Array) -> dict[str, Array]:
    """Theories by how close they come, observable by observable, where they are compared."""
    known = np.isfinite(deviation)
    count = known.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.sqrt(np.where(known, np.square(deviation), 0).sum(1) / count)
    rank = np.where(count > 0, score, np.nan).argsort(0).argsort(0) + 1.0
    p = p_value * np.isfinite(p_value).sum(1, keepdims=True)
    broken = np.where(np.isfinite(p).any(1), (p < REJECTED_P).sum(1), np.nan)
    return {"score": score, "rank": np.where(count > 0, rank, np.nan), "broken": broken}
