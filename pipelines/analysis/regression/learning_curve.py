"""The measured learning curve of a regression against its theories: `learning_curve`.

Both describe the same pool; the independent unit is the repeat, a random order of it. Sizes are
nested, so that errors at different sizes of one repeat are correlated: whether the whole curve is
as predicted is one Hotelling test over the sizes, of at most a third as many sizes as there are
repeats. Sizes beyond 0.3 of the pool, where the theories do not hold for a finite pool, are shown
and not tested.

With a quartic term in the loss there are two more observables for each coupling u,
`quartic_error u` and `quartic_residual u`. The effective ridge, which knows nothing of the term,
predicts for them what it does without it.

A theory that keeps `repeat` was evaluated on the very points that a repeat drew: its residual is
that of one repeat, and `predicted` is what it would give on average over all of them.

Akaike's criterion compares theories averaged over the draws with each other, and theories given the
draws with each other, never the two kinds: an average, however right, cannot know the scatter of
the draws. Ridges share their draws, so that criteria at several of them are not to be added.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis.chains import Arrays
from pipelines.analysis.verdicts import REJECTED_P
from pipelines.theories.regression_theories import beyond_pool
from pipelines.theories.theory_groups import group_name
from storage.arrays.schema import Variable
from storage.campaign.observables import CURVES, QUARTIC, Observed, observed
from storage.campaign.regression_spec import QUARTIC_THEORY, REGRESSION_THEORIES
from storage.campaign.resolved import regressed
from storage.errors import CampaignError
from storage.planning.plan import Plan
from storage.store.hierarchy import Group
from storage.store.results import labels, regression_grid, write_group
from storage.store.store import Store
from theory.spectrum.curve_fit import criterion, relative_deviation
from theory.statistics import (
    FEWEST_UNITS,
    UNITS_PER_OBSERVABLE,
    detectable,
    hotelling,
    p_value,
    paired_criterion,
)

Array = NDArray[np.float64]

WITHOUT = "effective_ridge"  # what a quartic loss is held against that knows nothing of it
ROUNDING = 1e-6  # relative deviations below that are of the arithmetic

_MEASURED = ("observable", "cell", "train", "ridge")
_CURVE = ("theory", *_MEASURED)
_JOINT = ("theory", "observable", "cell", "ridge")
VARIABLES = {
    "measured": Variable(_MEASURED, "f8", "mean over the repeats"),
    "standard_error": Variable(_MEASURED, "f8", "standard error, from independent repeats"),
    "predicted": Variable(_CURVE, "f8", "what the theory predicts, mean over the repeats"),
    "residual": Variable(_CURVE, "f8", "measured minus predicted"),
    "residual_error": Variable(_CURVE, "f8", "standard error of the residual"),
    "t": Variable(_CURVE, "f8", "residual in standard errors"),
    "p_value": Variable(_CURVE, "f8", "two-sided p-value, uncorrected"),
    "tested": Variable(
        ("theory", "cell", "train"),
        "u1",
        "whether the size is part of the joint test",
        attrs={"flag_values": [0, 1], "flag_meanings": "not_tested tested"},
    ),
    "joint_statistic": Variable(_JOINT, "f8", "Hotelling's F over the sizes tested"),
    "joint_p_value": Variable(_JOINT, "f8", "p-value of the joint test"),
    "joint_seen": Variable(
        _JOINT,
        "f8",
        "relative deviation, the same at every size, that the joint test finds 19 times in 20",
    ),
    "deviation": Variable(_JOINT, "f8", "relative residual, mean over the sizes tested"),
    "deviation_low": Variable(_JOINT, "f8", "lower end of its interval of 95 %"),
    "deviation_high": Variable(_JOINT, "f8", "upper end of its interval of 95 %"),
    "criterion": Variable(
        _JOINT,
        "f8",
        "Akaike's criterion up to a constant of the cell and the ridge, of the mean over the "
        "repeats, or of each repeat by a theory given its draws (rg_gpr, rg_gpr_position): only "
        "theories of one kind can be compared",
    ),
    "repeats": Variable(("cell",), "i4", "finished repeats"),
}


def write(store: Store, planned: Plan) -> None:
    """Write the group `learning_curve` from `regression` and the theories that are predicted."""
    theories = predicted_theories(store, planned)
    measured = store.root.group("regression")
    entries = observables(measured, planned)
    names = [entry.name for entry in entries]
    finished = np.asarray(measured["finished"][...]) > 0  # (cell, repeat)
    cells, ridges = len(finished), len(measured_ridges(planned))
    level = REJECTED_P / max(len(theories) * len(names) * cells * ridges, 1)
    shape = {
        "theory": len(theories),
        "observable": len(names),
        "cell": cells,
        "train": len(beyond_pool(regressed(planned.spec))),
        "ridge": ridges,
    }
    values = {
        name: np.full(
            [shape[dim] for dim in variable.dims], np.nan if variable.dtype == "f8" else 0
        )
        for name, variable in VARIABLES.items()
    }
    values["repeats"] = finished.sum(1)
    allowed = np.flatnonzero(~beyond_pool(regressed(planned.spec)))
    groups = [_current(store, theory, finished.shape) for theory in theories]
    for (i, entry), cell in ((pair, cell) for pair in enumerate(entries) for cell in range(cells)):
        sample = _values(measured, entry, cell)[finished[cell]]  # (repeat, train, ridge)
        if len(sample) < 2:
            continue
        values["measured"][i, cell] = sample.mean(0)
        values["standard_error"][i, cell] = _error(sample)
        for j, group in enumerate(groups):
            if (predicted := _predicted(theories[j], group, entry, cell, planned)) is None:
                continue
            if predicted.ndim == sample.ndim:
                predicted = predicted[finished[cell]]
            found = _compared(sample, predicted, allowed, level)
            values["tested"][j, cell, found.pop("sizes")] = 1
            for key, value in found.items():
                values[key][j, i, cell] = value
    coordinates, grid = regression_grid(planned)
    coordinates["observable"] = labels("observable", names, "what is compared")
    coordinates["theory"] = labels("theory", theories, "theory")
    write_group(store, "learning_curve", VARIABLES, values, coordinates, grid)


def predicted_theories(store: Store, planned: Plan) -> list[str]:
    """Theories of the regression whose groups are stored, in the order of the spec."""
    return [
        theory
        for theory in planned.spec.theories
        if theory in REGRESSION_THEORIES and group_name(theory) in store.root
    ]


def _current(store: Store, theory: str, shape: tuple[int, ...]) -> Group:
    """The group of a theory, which must know all cells and repeats."""
    group = store.root.group(group_name(theory))
    error = group["quartic_error" if theory == QUARTIC_THEORY else "pool_error"]
    found = error.shape[: 2 if "repeat" in error.dims else 1]
    if found != shape[: len(found)]:
        raise CampaignError(
            f"{theory} was predicted for {found} cells and repeats, the store has {shape}; run "
            "`finitewidth predict` on it"
        )
    return group


def measured_ridges(planned: Plan) -> tuple[float, ...]:
    """The ridges of the regression."""
    return regressed(planned.spec).regression.ridges


def observables(measured: Arrays, planned: Plan) -> list[Observed]:
    """What is compared; of a quartic loss once for each coupling."""
    labels = {"coupling": [f"{u:g}" for u in _couplings(planned)]}
    records = [record for record in CURVES if record.kind in measured]
    return [entry for record in (*records, *QUARTIC) for entry in observed(record, labels)]


def words(store: Store, planned: Plan) -> dict[str, str]:
    """What the observables are called in a sentence, by their names."""
    entries = observables(store.root.group("regression"), planned)
    return {entry.name: entry.words for entry in entries}


def _couplings(planned: Plan) -> tuple[float, ...]:
    quartic = regressed(planned.spec).regression.quartic
    return () if quartic is None else quartic.couplings


def _values(group: Arrays, entry: Observed, cell: int) -> Array:
    """Of one cell, ([repeat,] train, ridge)."""
    found = np.asarray(group[entry.kind][cell], dtype=np.float64)
    return found[(..., *entry.places)]


def _predicted(
    theory: str, group: Arrays, entry: Observed, cell: int, planned: Plan
) -> Array | None:
    """The same of a theory; None where it does not speak of the observable."""
    if entry.kind in group:
        return _values(group, entry, cell)
    if theory != WITHOUT:
        return None
    error, fitted, variance, effective = (
        np.asarray(group[name][cell], dtype=np.float64)
        for name in ("pool_error", "train_error", "posterior_variance", "effective_ridge")
    )
    if entry.kind == "quartic_error":
        return error
    return fitted + np.asarray(measured_ridges(planned)) * variance / effective


def _error(sample: Array) -> Array:
    return sample.std(0, ddof=1) / np.sqrt(len(sample))


def _compared(
    sample: Array, predicted: Array, allowed: NDArray[np.intp], level: float
) -> dict[str, np.ndarray]:
    """One observable, cell and theory: (train, ridge), (ridge,), and the sizes of the test."""
    mean, ridges = sample.mean(0), range(sample.shape[2])  # the mean over all repeats
    residuals = sample - predicted
    paired = predicted.ndim == sample.ndim
    if paired:
        evaluated = np.isfinite(predicted).any((1, 2))  # repeats
        residuals, sample = residuals[evaluated], sample[evaluated]
    found: dict[str, np.ndarray] = {"sizes": np.empty(0, np.intp)}
    if len(residuals) < 2:
        return found
    residual, error = residuals.mean(0), _error(residuals)
    mean_predicted = mean - residual
    with np.errstate(divide="ignore", invalid="ignore"):
        t = residual / error
    found |= {
        "predicted": mean_predicted,
        "residual": residual,
        "residual_error": error,
        "t": t,
    }
    if len(residuals) < FEWEST_UNITS:
        return found
    found["p_value"] = p_value(residual, error, len(residuals) - 1)
    sizes = spread_out(allowed, len(residuals) // UNITS_PER_OBSERVABLE)
    if not len(sizes):
        return found
    joints = [
        _joint(residuals[:, sizes, ridge], mean_predicted[sizes, ridge], level) for ridge in ridges
    ]
    for key in _Joint.__dataclass_fields__:
        found[key] = np.array([getattr(joint, key) for joint in joints])
    criteria = [
        _criterion(sample[:, sizes, ridge], residuals[:, sizes, ridge], paired) for ridge in ridges
    ]
    found["criterion"] = np.array(criteria)
    return found | {"sizes": sizes}


@dataclass(frozen=True)
class _Joint:
    """The joint test of one theory, cell and ridge."""

    joint_statistic: float = np.nan
    joint_p_value: float = np.nan
    joint_seen: float = np.nan
    deviation: float = np.nan
    deviation_low: float = np.nan
    deviation_high: float = np.nan


def _joint(residuals: Array, predicted: Array, level: float) -> _Joint:
    known = np.isfinite(residuals).all(0)
    residuals, predicted = residuals[:, known], predicted[known]
    if not known.any() or not (residuals.std(0) > 0).all():
        return _Joint()
    deviation = relative_deviation(residuals + predicted, predicted)
    if (np.abs(residuals.mean(0)) < ROUNDING * np.abs(predicted)).all():
        return _Joint(0.0, 1.0, ROUNDING, *deviation)
    test = hotelling(residuals, np.zeros_like(predicted))
    seen = detectable([residuals], predicted, level)
    return _Joint(test.statistic, test.p_value, seen, *deviation)


def _criterion(sample: Array, residuals: Array, paired: bool) -> float:
    """nan for a theory that is silent at a size that was measured: others speak of more."""
    known = np.isfinite(sample).all(0)
    sample, residuals = sample[:, known], residuals[:, known]
    if not known.any() or not np.isfinite(residuals).all() or not (sample.std(0) > 0).all():
        return np.nan
    predicted = (sample - residuals).mean(0)
    if paired:
        return paired_criterion(sample, residuals, ROUNDING * np.abs(predicted))
    return criterion(sample, predicted)


def spread_out(places: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most `most` of the places, evenly spread, the last among them."""
    if len(places) <= most:
        return places
    chosen = np.linspace(len(places) - 1, 0, most).round().astype(np.intp)
    return places[np.sort(chosen)]
