"""Measured against predicted, on the same datasets: the group `fits`.

Where a theory is given the data the chain is the independent unit: a residual is that of one
dataset, its error comes from the chains, and errors of different datasets add in squares. Where it
averages over data the unit is the dataset. Only datasets that have converged are compared, of
cells whose step is not seen to bias them. p-values are two-sided and of Student's t; a comparison
of fewer than 4 units has none.
"""

import numpy as np

from pipelines.analysis import free_energy, joint_tests, nuisance, scaling, verdict_rows
from pipelines.analysis.comparison import Averages, Comparison, compare, over_datasets
from pipelines.analysis.convergence import assess
from pipelines.analysis.regression import exponents, flow, learning_curve
from storage.arrays.schema import Variable
from storage.campaign.plugins import Plugins
from storage.planning.plan import Plan
from storage.store.results import (
    FITTED,
    ensemble_grid,
    labels,
    remove_groups,
    stored_plan,
    write_group,
)
from storage.store.store import Store

_MEASURED = ("cell", "dataset", "observable")
_PREDICTED = ("theory", *_MEASURED)
_CELL = ("theory", "cell", "observable")
VARIABLES = {
    "measured": Variable(_MEASURED, "f8", "mean over the chains of a dataset"),
    "standard_error": Variable(_MEASURED, "f8", "standard error, from independent chains"),
    "compared": Variable(
        ("cell", "dataset"),
        "u1",
        "whether the dataset is compared: it has converged, and its step is not seen to bias it",
        attrs={"flag_values": [0, 1], "flag_meanings": "not_compared compared"},
    ),
    "predicted": Variable(_PREDICTED, "f8", "what the theory predicts for the dataset"),
    "residual": Variable(_PREDICTED, "f8", "measured minus predicted"),
    "t": Variable(_PREDICTED, "f8", "residual in standard errors, that of the theory among them"),
    "mean_residual": Variable(_CELL, "f8", "mean of the residual over the datasets compared"),
    "mean_error": Variable(_CELL, "f8", "standard error of mean_residual"),
    "mean_predicted": Variable(_CELL, "f8", "mean prediction over the datasets compared"),
    "degrees": Variable(_CELL, "f8", "degrees of freedom of mean_error"),
    "p_value": Variable(_CELL, "f8", "two-sided p-value of mean_residual, uncorrected"),
}


def fit(store: Store, plugins: Plugins = Plugins()) -> None:  # noqa: B008  frozen and empty
    """Write `fits` and the groups that follow from it, as far as there is anything."""
    plugins.load()
    planned, words = stored_plan(store), dict[str, str]()
    remove_groups(store, *FITTED)
    if planned.cells:
        if not _assessed(store, planned):
            assess(store)
        comparison = compare(store, planned, plugins)
        words |= comparison.words
        _write(store, planned, comparison)
        scaling.write(store, planned, comparison)
        free_energy.write(store, planned, comparison)
    if planned.regressions:
        exponents.write(store, planned)
        flow.write(store, planned)
        if learning_curve.predicted_theories(store, planned):
            learning_curve.write(store, planned)
            words |= learning_curve.words(store, planned)
    store.publish()
    store.change()
    verdict_rows.write(store, words)  # of what is published
    store.publish()


def _assessed(store: Store, planned: Plan) -> bool:
    """Whether the convergence and the step checks of all cells and datasets are stored."""
    wanted = (len(planned.cells), planned.most("ensemble", "datasets"))
    known = "progress" in store.root and "biased" in store.root.group("progress")
    return known and store.root["progress/converged"].shape == wanted


def _write(store: Store, planned: Plan, comparison: Comparison) -> None:
    over = _over_datasets(comparison)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = comparison.residual / np.hypot(comparison.error, comparison.own)
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
    values |= joint_tests.evaluate(comparison, over)
    variables = VARIABLES | joint_tests.VARIABLES
    coordinates, grid = ensemble_grid(planned)
    coordinates["observable"] = labels("observable", comparison.observables, "what is compared")
    coordinates["theory"] = labels("theory", comparison.theories, "theory")
    if comparison.averaged.any():
        variables |= nuisance.VARIABLES
        values |= nuisance.evaluate(planned, comparison)
        coordinates["parameter"] = labels("parameter", nuisance.PARAMETERS, "what is fitted")
    write_group(store, "fits", variables, values, coordinates, grid)


def _over_datasets(comparison: Comparison) -> Averages:
    """Every theory averaged over the datasets, (theory, cell, observable)."""
    cells, datasets, observables = comparison.measured.shape
    shape = (len(comparison.theories), cells, observables)
    found = Averages(*(np.full(shape, np.nan) for _ in Averages.__dataclass_fields__))
    for theory, observable in np.ndindex(shape[0], observables):
        column = over_datasets(
            comparison, theory, observable, np.arange(cells), np.arange(datasets)
        )
        for name in Averages.__dataclass_fields__:
            getattr(found, name)[theory, :, observable] = getattr(column, name)
    return found
