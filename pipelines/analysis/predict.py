"""Theories of a campaign: read what is stored, evaluate them, write the groups `theory/<name>`.

A prediction has the shape of the measurement and the names of its variables. Theories that are
given the data keep `dataset`; those that average over data drop `repeat`. The groups are derived:
they are written anew each time, for every cell of the campaign.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pipelines.analysis import ensemble_theories
from pipelines.analysis.ensemble_theories import Prediction, Problem
from storage.data_spec import PLUGIN
from storage.errors import CampaignError
from storage.plan import Cell, Plan
from storage.plugins import Plugins, named
from storage.results import (
    create_group,
    ensemble_grid,
    regression_grid,
    remove_groups,
    stored_plan,
)
from storage.schema import (
    Variable,
    ensemble_sizes,
    ensemble_variables,
    regression_sizes,
    regression_variables,
)
from storage.spec import Campaign
from storage.store import Store
from theory.spectrum import LearningCurve, learning_curve
from workers.data.dataset import Dataset
from workers.datasets import content_digests, dataset

BEYOND_POOL = 0.3  # n/M above which a learning curve feels that its pool is finite

_DATASET = ("cell", "dataset")
_LAYER = (*_DATASET, "layer", "direction")
SUMMARY = {
    "learnability": Variable(
        (*_DATASET, "component"), "f8", "coefficient of the mean output on each part of the target"
    ),
    "output_mean": Variable((*_DATASET, "test"), "f8", "mean output over the ensemble"),
    "predictive_variance": Variable((*_DATASET, "test"), "f8", "variance of the output"),
    "mse_mean": Variable(_DATASET, "f8", "mean squared error of the mean output"),
    "mse_sample": Variable(_DATASET, "f8", "mean squared error of one member of the ensemble"),
}
PRE_ACTIVATIONS = {
    "density": Variable((*_LAYER, "bin"), "f8", "probability of a pre-activation in the bin"),
    "pre_activation_variance": Variable(_LAYER, "f8", "variance of z, in units of the prior's"),
}
REGIME = {
    "degrees_of_freedom": Variable(_DATASET, "f8", "Tr K(K + T)⁻¹ of the NNGP kernel"),
    "coupling_times_width": Variable(_DATASET, "f8", "effective coupling U = n²σ²/(T²dN) times N"),
}
SCALE = {
    "scale": Variable(_DATASET, "f8", "factor Q of the NNGP kernel"),
    "residual": Variable(_DATASET, "f8", "what is left of the equation for Q"),
}


def predict(store: Store, plugins: Plugins = Plugins()) -> None:  # noqa: B008  frozen and empty
    """Write `theory/<name>` for every theory of the newest spec.

    Raises CampaignError for a plug-in that is not allowed or returns something else than its
    documentation says, for files that have changed, and for equations that are not solved.
    """
    plugins.load()
    planned = stored_plan(store)
    remove_groups(store, "theory")
    _check_names(planned.spec)
    if planned.cells:
        _check_sources(planned, plugins)
        _predict_ensemble(store, planned, plugins)
    if "effective_ridge" in planned.spec.theories:
        _predict_regression(store, planned)
    store.publish()


def group_name(theory: str) -> str:
    """The group of a theory; a plug-in's is my_mod_predict for my.mod:predict."""
    return f"theory/{theory.replace('.', '_').replace(':', '_')}"


def _check_names(spec: Campaign) -> None:
    taken: dict[str, str] = {}
    for theory in spec.theories:
        if (other := taken.setdefault(group_name(theory), theory)) != theory:
            raise CampaignError(
                f"theories: {other} and {theory} would share the group {group_name(theory)}; "
                "rename one of them"
            )


def _check_sources(planned: Plan, plugins: Plugins) -> None:
    """Refuse files and modules that the ensemble was sampled with and that are others now."""
    spec = planned.spec
    sampled = {name.partition(":")[0] for name in named(spec) if name not in spec.theories}
    of_theories = {f"plug-in {module}" for module, _ in plugins.digests if module not in sampled}
    for name, found in content_digests(spec, plugins).items():
        if name not in of_theories and planned.sources.get(name, found) != found:
            raise CampaignError(
                f"{name} has changed since the campaign began; bring back the one that it ran with"
            )


# -- theories of an ensemble ----------------------------------------------------------------


def _predict_ensemble(store: Store, planned: Plan, plugins: Plugins) -> None:
    groups = {
        theory: _ensemble_group(store, planned, theory)
        for theory in planned.spec.theories
        if theory != "effective_ridge"
    }
    if not groups:
        return
    datasets = planned.most("ensemble", "datasets")
    together: dict[str, list[Cell]] = defaultdict(list)
    for cell in planned.cells:
        together[ensemble_theories.key(cell.spec)].append(cell)
    for cells in together.values():
        for index in range(datasets):
            data = dataset(cells[0].spec, index, plugins, planned.sources)
            problem = Problem(cells[0].spec, data, plugins)
            for theory, group in groups.items():
                with _explained(theory, cells[0], index):
                    predictions = _evaluate(theory, problem, cells)
                    for cell, values in zip(cells, predictions, strict=True):
                        _write(group, (cell.index, index), values)


def _ensemble_group(store: Store, planned: Plan, theory: str) -> Any:
    coordinates, grid = ensemble_grid(planned)
    sizes = ensemble_sizes(planned)
    variables = dict(SUMMARY)
    if not PLUGIN.fullmatch(theory):
        variables |= _layer_variables(planned.spec)
    if theory == "kernel_scaling":
        variables |= SCALE
    if theory == "nngp":
        variables |= REGIME
    return create_group(store, group_name(theory), variables, sizes, coordinates, grid)


def _layer_variables(spec: Campaign) -> dict[str, Variable]:
    variables = dict(PRE_ACTIVATIONS) if spec.observe.histograms else {}
    if spec.observe.kernels:
        measured = ensemble_variables(spec)["kernel"]
        dims = (*_DATASET, "layer", "probe", "probe_2")
        variables["kernel"] = replace(measured, dims=dims, long_name="kernel σ²·φφ'/width")
    return variables


def _evaluate(theory: str, problem: Problem, cells: list[Cell]) -> Iterable[Prediction]:
    """The prediction for each of the cells, which differ in width alone."""
    if theory == "nngp":
        return [ensemble_theories.nngp(problem)] * len(cells)
    if theory == "kernel_scaling":
        widths = [cell.spec.network.width for cell in cells if cell.spec.network is not None]
        return ensemble_theories.kernel_scaling(problem, widths)
    return (_users(theory, cell.spec, problem) for cell in cells)


def _users(theory: str, spec: Campaign, problem: Problem) -> Prediction:
    """predict(spec, dataset) -> numbers by name, checked: any of those in `SUMMARY`."""
    made = problem.plugins.get(theory)(spec, problem.data)
    if not isinstance(made, Mapping) or not made:
        raise CampaignError(f"{theory} must return a dict with any of {', '.join(SUMMARY)}")
    return {str(name): _checked(theory, str(name), made[name], problem.data) for name in made}


def _checked(theory: str, name: str, value: Any, data: Dataset) -> np.ndarray:
    shapes = {
        "learnability": data.components.shape[1:],
        "output_mean": data.y_test.shape,
        "predictive_variance": data.y_test.shape,
        "mse_mean": (),
        "mse_sample": (),
    }
    if name not in shapes:
        raise CampaignError(f"{theory} returned {name}; choose from {', '.join(SUMMARY)}")
    array = np.asarray(value, dtype=np.float64)
    if array.shape != shapes[name] or not np.isfinite(array).all():
        raise CampaignError(
            f"{theory}: {name} has shape {array.shape}; wanted {shapes[name]} and finite numbers"
        )
    return array


@contextmanager
def _explained(theory: str, cell: Cell, index: int) -> Iterator[None]:
    """Turn whatever a theory raises into the line that a user sees."""
    try:
        yield
    except CampaignError:
        raise
    except Exception as error:  # a plug-in may raise anything
        settings = ", ".join(f"{path} {value}" for path, value in cell.settings.items())
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise CampaignError(
            f"{theory} failed for dataset {index} of the cell {settings or cell.key}: {problem}; "
            "put it right, or take it out of theories"
        ) from error


def _write(group: Any, place: tuple[int, int], values: Prediction) -> None:
    """Write what is predicted for one dataset of a cell, broadcast over directions."""
    for name, value in values.items():
        array = group[name]
        if value.ndim == 0:
            array[place] = value
        elif array.metadata.dimension_names[2] == "layer":  # a cell may be less deep than others
            shape = (len(value), *array.shape[3:])
            array[(*place, slice(0, len(value)))] = np.broadcast_to(value, shape)
        else:
            array[place] = value


# -- theories of a regression ---------------------------------------------------------------


def _predict_regression(store: Store, planned: Plan) -> None:
    """The effective ridge, from the spectrum of the pool that the regression stored."""
    regression = planned.spec.regression
    assert regression is not None
    coordinates, grid = regression_grid(planned)
    variables = _curve_variables(planned.spec)
    group = create_group(
        store,
        group_name("effective_ridge"),
        variables,
        regression_sizes(planned),
        coordinates,
        grid,
    )
    train = np.asarray(regression.train)
    group["beyond_pool"][...] = train > BEYOND_POOL * regression.pool
    spectra = store.root["regression"]
    for cell in planned.regressions:
        eigenvalues, coefficients = (
            torch.as_tensor(np.asarray(spectra[name][cell.index]), dtype=torch.float64)
            for name in ("eigenvalue", "coefficient")
        )
        if not bool(eigenvalues.isfinite().all()):
            continue
        with _explained("effective_ridge", cell, 0):
            curve = _curve(cell.spec, eigenvalues, coefficients)
        for name, value in _stored(curve).items():
            group[name][cell.index] = value


def _curve(spec: Campaign, eigenvalues: torch.Tensor, coefficients: torch.Tensor) -> LearningCurve:
    """All sizes and ridges, (train, ridge)."""
    assert spec.regression is not None
    return learning_curve(
        eigenvalues,
        coefficients.square(),
        torch.tensor(spec.regression.train, dtype=torch.float64)[:, None],
        torch.tensor(spec.regression.ridges, dtype=torch.float64)[None, :],
        spec.data.label_noise,
    )


def _stored(curve: LearningCurve) -> Prediction:
    found = {
        "pool_error": curve.error,
        "train_error": curve.train_error,
        "posterior_variance": curve.posterior_variance,
        "effective_ridge": curve.effective_ridge,
        "learnability": curve.learnability,
    }
    return {name: value.numpy() for name, value in found.items()}


def _curve_variables(spec: Campaign) -> dict[str, Variable]:
    dims = ("cell", "train", "ridge")
    measured = regression_variables(spec)
    variables = {
        name: replace(measured[name], dims=dims) for name in ("train_error", "posterior_variance")
    }
    return variables | {
        "pool_error": Variable(dims, "f8", "mean squared error over the whole pool"),
        "effective_ridge": Variable(dims, "f8", "effective ridge, the temperature renormalized"),
        "learnability": replace(measured["learnability"], dims=(*dims, "mode")),
        "beyond_pool": Variable(
            ("train",),
            "u1",
            f"whether the training points are more than {BEYOND_POOL:g} of the pool",
            attrs={"flag_values": [0, 1], "flag_meanings": "within_pool beyond_pool"},
        ),
    }
