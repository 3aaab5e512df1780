"""Measured against predicted, on the same datasets: the group `fits`.

The theories are given the data, so that the chain is the independent unit: a residual is that of
one dataset, its error comes from the chains, and errors of different datasets add in squares. Only
datasets that have converged are compared. p-values are two-sided and of Student's t; a comparison
of fewer than 4 chains has none.
"""

import numpy as np

from pipelines.analysis import exponents, learning_curve, scaling
from pipelines.analysis.comparison import Comparison, averages, compare
from pipelines.analysis.convergence import assess
from storage.plan import Plan
from storage.results import ensemble_grid, labels, remove_groups, stored_plan, write_group
from storage.schema import Variable
from storage.store import Store

_MEASURED = ("cell", "dataset", "observable")
_PREDICTED = ("theory", *_MEASURED)
_CELL = ("theory", "cell", "observable")
VARIABLES = {
    "measured": Variable(_MEASURED, "f8", "mean over the chains of a dataset"),
    "standard_error": Variable(_MEASURED, "f8", "standard error, from independent chains"),
    "compared": Variable(
        ("cell", "dataset"),
        "u1",
        "whether the dataset has converged, and is compared",
        attrs={"flag_values": [0, 1], "flag_meanings": "not_compared compared"},
    ),
    "predicted": Variable(_PREDICTED, "f8", "what the theory predicts for the dataset"),
    "residual": Variable(_PREDICTED, "f8", "measured minus predicted"),
    "t": Variable(_PREDICTED, "f8", "residual in standard errors"),
    "mean_residual": Variable(_CELL, "f8", "mean of the residual over the datasets compared"),
    "mean_error": Variable(_CELL, "f8", "standard error of mean_residual"),
    "mean_predicted": Variable(_CELL, "f8", "mean prediction over the datasets compared"),
    "degrees": Variable(_CELL, "f8", "degrees of freedom of mean_error"),
    "p_value": Variable(_CELL, "f8", "two-sided p-value of mean_residual, uncorrected"),
}


def fit(store: Store) -> None:
    """Write `fits`, `scaling`, `exponents` and `learning_curve`, as far as there is anything."""
    planned = stored_plan(store)
    remove_groups(store, "fits", "scaling", "exponents", "learning_curve")
    if planned.cells:
        if not _assessed(store, planned):
            assess(store)
        comparison = compare(store, planned)
        _write(store, planned, comparison)
        scaling.write(store, planned, comparison)
    if planned.regressions:
        exponents.write(store, planned)
        if learning_curve.predicted_theories(store, planned):
            learning_curve.write(store, planned)
    store.publish()


def _assessed(store: Store, planned: Plan) -> bool:
    """Whether the convergence of all cells and datasets is stored."""
    wanted = (len(planned.cells), planned.most("ensemble", "datasets"))
    return "progress" in store.root and store.root["progress/converged"].shape == wanted


def _write(store: Store, planned: Plan, comparison: Comparison) -> None:
    over = averages(
        comparison.residual.transpose(2, 0, 1, 3),  # (dataset, theory, cell, observable)
        comparison.error.transpose(1, 0, 2)[:, None],
        comparison.predicted.transpose(2, 0, 1, 3),
        comparison.chains.T[:, None, :, None],
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        t = comparison.residual / comparison.error
    values = {
        "measured": comparison.measured,
        "standard_error": comparison.error,
        "compared": comparison.compared,
        "predicted": comparison.predicted,
        "residual": comparison.residual,
        "t": t,
        "mean_residual": over.residual,
        "mean_error": over.error,
        "mean_predicted": over.predicted,
        "degrees": over.degrees,
        "p_value": over.p_value,
    }
    coordinates, grid = ensemble_grid(planned)
    coordinates["observable"] = labels("observable", comparison.observables, "what is compared")
    coordinates["theory"] = labels("theory", comparison.theories, "theory")
    write_group(store, "fits", VARIABLES, values, coordinates, grid)
