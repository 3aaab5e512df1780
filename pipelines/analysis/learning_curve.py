"""The measured learning curve of a regression against its effective ridge: `learning_curve`.

Both describe the same pool; the independent unit is the repeat, a random order of it. Sizes are
nested, so that errors at different sizes of one repeat are correlated: whether the whole curve is
as predicted is one Hotelling test over the sizes, of at most a third as many sizes as there are
repeats. Sizes beyond 0.3 of the pool, where the theory does not hold for a finite pool, are shown
and not tested.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis.predict import group_name
from pipelines.analysis.verdicts import REJECTED
from storage.plan import Plan
from storage.results import labels, regression_grid, write_group
from storage.schema import Variable
from storage.store import Store
from theory.statistics import (
    FEWEST_UNITS,
    UNITS_PER_OBSERVABLE,
    detectable,
    hotelling,
    p_value,
)

Array = NDArray[np.float64]

OBSERVABLES = ("pool_error", "train_error", "posterior_variance")

_CURVE = ("observable", "cell", "train", "ridge")
_JOINT = ("observable", "cell", "ridge")
VARIABLES = {
    "measured": Variable(_CURVE, "f8", "mean over the repeats"),
    "standard_error": Variable(_CURVE, "f8", "standard error, from independent repeats"),
    "predicted": Variable(_CURVE, "f8", "with the effective ridge"),
    "residual": Variable(_CURVE, "f8", "measured minus predicted"),
    "t": Variable(_CURVE, "f8", "residual in standard errors"),
    "p_value": Variable(_CURVE, "f8", "two-sided p-value, uncorrected"),
    "tested": Variable(
        _CURVE,
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
    "repeats": Variable(("cell",), "i4", "finished repeats"),
}


def write(store: Store, planned: Plan) -> None:
    """Write the group `learning_curve` from `regression` and `theory/effective_ridge`."""
    measured, theory = store.root["regression"], store.root[group_name("effective_ridge")]
    names = [name for name in OBSERVABLES if name in measured]
    beyond = np.asarray(theory["beyond_pool"][...]) > 0
    tests = len(names) * theory["pool_error"].shape[0] * theory["pool_error"].shape[2]
    parts = [_compared(measured, theory, name, beyond, REJECTED / tests) for name in names]
    values = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    values["repeats"] = (np.asarray(measured["finished"][...]) > 0).sum(axis=1)
    coordinates, grid = regression_grid(planned)
    coordinates["observable"] = labels("observable", names, "what is compared")
    write_group(store, "learning_curve", VARIABLES, values, coordinates, grid)


@dataclass(frozen=True)
class _Joint:
    """The joint test of one cell and ridge."""

    statistic: float = np.nan
    p_value: float = np.nan
    seen: float = np.nan


def _compared(
    measured: Any, theory: Any, name: str, beyond: NDArray[np.bool_], level: float
) -> dict[str, np.ndarray]:
    """One observable, (cell, train, ridge) and (cell, ridge)."""
    predicted = np.asarray(theory[name][...])
    finished = np.asarray(measured["finished"][...]) > 0  # (cell, repeat)
    mean, error, p = (np.full(predicted.shape, np.nan) for _ in range(3))
    tested = np.zeros(predicted.shape, dtype=np.uint8)
    joint = np.full((3, len(predicted), predicted.shape[2]), np.nan)
    for cell, expected in enumerate(predicted):
        sample = np.asarray(measured[name][cell])[finished[cell]]  # (repeat, train, ridge)
        if len(sample) < 2:
            continue
        mean[cell], error[cell] = sample.mean(0), sample.std(0, ddof=1) / np.sqrt(len(sample))
        if len(sample) < FEWEST_UNITS or not np.isfinite(expected).all():
            continue
        p[cell] = p_value(mean[cell] - expected, error[cell], len(sample) - 1)
        sizes = spread_out(np.flatnonzero(~beyond), len(sample) // UNITS_PER_OBSERVABLE)
        tested[cell, sizes] = 1
        for ridge in range(predicted.shape[2] if len(sizes) else 0):
            found = _joint(sample[:, sizes, ridge], expected[sizes, ridge], level)
            joint[:, cell, ridge] = found.statistic, found.p_value, found.seen
    residual = mean - predicted
    with np.errstate(divide="ignore", invalid="ignore"):
        t = residual / error
    return {
        "measured": mean,
        "standard_error": error,
        "predicted": predicted,
        "residual": residual,
        "t": t,
        "p_value": p,
        "tested": tested,
        "joint_statistic": joint[0],
        "joint_p_value": joint[1],
        "joint_seen": joint[2],
    }


def _joint(sample: Array, expected: Array, level: float) -> _Joint:
    if not (sample.std(0) > 0).all():
        return _Joint()
    test = hotelling(sample, expected)
    return _Joint(test.statistic, test.p_value, detectable(sample, expected, level))


def spread_out(places: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most `most` of the places, evenly spread, the last among them."""
    if len(places) <= most:
        return places
    chosen = np.linspace(len(places) - 1, 0, most).round().astype(np.intp)
    return places[np.sort(chosen)]
