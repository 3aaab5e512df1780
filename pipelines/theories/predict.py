"""Theories of a campaign: read what is stored, evaluate them, write the groups `theory/<name>`.

A prediction has the shape of the measurement and the names of its variables. Theories that are
given the data keep `dataset`; those that average over data drop `repeat`. Where a theory does not
hold, or fails, its values are NaN and the reason is stored. The groups are derived: they are
written anew each time, for every cell of the campaign, with what `earlier` has of the cells that
are as they were.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from pipelines.progress import doing
from pipelines.theories import (
    averaged_theories,
    dataset_theories,
    ensemble_theories,
    kernel_scalings,
    prior_theories,
    regression_theories,
    trajectory_theories,
)
from pipelines.theories.attempts import each, explained
from pipelines.theories.earlier import Earlier, digests
from pipelines.theories.ensemble_theories import Prediction, Problem
from pipelines.theories.theory_groups import group_name, reasons_of, write_reasons
from storage.arrays.attributes import encoded
from storage.arrays.schema import Variable, ensemble_sizes, ensemble_variables
from storage.campaign.data_spec import PLUGIN
from storage.campaign.plugins import Plugins, named
from storage.campaign.regression_spec import REGRESSION_THEORIES
from storage.campaign.spec import Campaign, is_trajectory
from storage.campaign.theories import introduce, record
from storage.campaign.theory_record import described, own
from storage.campaign.theory_spec import AVERAGED_THEORIES
from storage.errors import CampaignError
from storage.planning.plan import EnsembleCell, Plan
from storage.store.hierarchy import Group
from storage.store.results import create_group, ensemble_grid, remove_groups, stored_plan
from storage.store.store import Store
from workers.data.dataset import Dataset
from workers.data.datasets import content_digests, dataset
from workers.data.numbers import real_numbers, require_finite

_DATASET = ("cell", "dataset")
_LAYER = (*_DATASET, "layer", "direction")
_OF_LAYER = (*_DATASET, "layer")
_PART = (*_DATASET, "part")
SUMMARY = {
    "learnability": Variable(
        (*_DATASET, "component"), "f8", "coefficient of the mean output on each part of the target"
    ),
    "output_mean": Variable((*_DATASET, "test"), "f8", "mean output over the ensemble"),
    "predictive_variance": Variable((*_DATASET, "test"), "f8", "variance of the output"),
    "mse_mean": Variable(_DATASET, "f8", "mean squared error of the mean output"),
    "mse_sample": Variable(_DATASET, "f8", "mean squared error of one member of the ensemble"),
}
ACCURACY = {"accuracy": Variable(_DATASET, "f8", "share of the classes that a member predicts")}
PRE_ACTIVATIONS = {
    "density": Variable((*_LAYER, "bin"), "f8", "probability of a pre-activation in the bin"),
    "pre_activation_variance": Variable(_LAYER, "f8", "variance of z, in units of the prior's"),
}
CORRELATORS = {
    "kernel_mean": Variable(_OF_LAYER, "f8", "mean over networks of the kernel at the first point"),
    "kernel_variance": Variable(_OF_LAYER, "f8", "its variance over networks"),
    "correlation": Variable(_OF_LAYER, "f8", "of the mean kernel, between the first two points"),
}
KURTOSIS = {
    "pre_activation_kurtosis": Variable(_LAYER, "f8", "excess kurtosis of z"),
}
REGIME = {
    "degrees_of_freedom": Variable(_DATASET, "f8", "Tr K(K + T)⁻¹ of the NNGP kernel"),
    "coupling_times_width": Variable(_DATASET, "f8", "effective coupling U = n²σ²/(T²dN) times N"),
}
EVIDENCE = {
    "free_energy": Variable(_DATASET, "f8", "minus the log evidence of the training targets")
}
SCALE = {
    "scale": Variable(_DATASET, "f8", "factor Q of the NNGP kernel"),
    "residual": Variable(_DATASET, "f8", "what is left of the equation for Q"),
}
READOUT = {"weight_norm": Variable(_DATASET, "f8", "mean squared norm of the readout weights")}
Predicting = Callable[..., Iterable[Prediction]]  # at each width


@dataclass(frozen=True)
class Numbers:
    """What a theory that is given the data computes: at each width, with the dataset's number."""

    evaluate: Callable[[Problem, Sequence[int], int], Iterable[Prediction]]
    beside: tuple[dict[str, Variable], ...] = ()  # what it predicts beside outputs and layers
    classes: bool = False  # whether it predicts how often the class is right
    weights: bool = False  # whether it speaks of first-layer weights
    silent: tuple[str, ...] = ()  # what other theories know of layers, and it does not


def _of_all(theory: Callable[[Problem], Prediction]) -> Predicting:
    """The same at every width."""
    return lambda problem, widths, index: [theory(problem)] * len(widths)


def _without_index(theory: Predicting) -> Predicting:
    """The same for every dataset but for its data."""
    return lambda problem, widths, index: theory(problem, widths)


# By the names of their records in `storage.campaign.theories`; those of networks in time are in
# `trajectory_theories`.
NUMBERS = {
    "nngp": Numbers(
        _of_all(ensemble_theories.nngp), (REGIME, EVIDENCE, READOUT), classes=True, weights=True
    ),
    "kernel_scaling": Numbers(
        _without_index(kernel_scalings.kernel_scaling), (SCALE,), classes=True
    ),
    "scale_mixture": Numbers(
        _without_index(ensemble_theories.scale_mixture), (READOUT,), silent=(*PRE_ACTIVATIONS,)
    ),
    "adaptive": Numbers(
        dataset_theories.adaptive_kernel, (dataset_theories.SAMPLED, READOUT), weights=True
    ),
    "vga": Numbers(dataset_theories.vga, (dataset_theories.GAUSSIAN, READOUT), weights=True),
    "equations_of_state": Numbers(
        dataset_theories.equations_of_state, (dataset_theories.GAUSSIAN, READOUT), weights=True
    ),
    "width_corrections": Numbers(_without_index(prior_theories.width_corrections)),
    "exact_prior": Numbers(_without_index(prior_theories.exact_prior)),
}


def predict(store: Store, plugins: Plugins = Plugins()) -> None:  # noqa: B008  frozen and empty
    """Write `theory/<name>` for every theory of the newest spec.

    Raises CampaignError for a plug-in that is not allowed or returns something else than its
    documentation says, and for files that have changed.
    """
    plugins.load()
    planned = stored_plan(store)
    for theory in filter(PLUGIN.fullmatch, planned.spec.theories):
        introduce(own(theory, plugins.get(theory)))
    before = Earlier(store, _given_data(planned))
    remove_groups(store, "theory")
    if planned.cells:
        _check_sources(planned, plugins)
        _predict_ensemble(store, planned, plugins, before)
        _predict_averaged(store, planned)
    if planned.regressions:
        regression_theories.predict(store, planned, plugins)
    store.publish()
    before.keep()


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


def _given_data(planned: Plan) -> list[str]:
    """The theories that predict for one dataset of a cell."""
    others = (*REGRESSION_THEORIES, *AVERAGED_THEORIES)
    return [theory for theory in planned.spec.theories if theory not in others]


def _predict_ensemble(store: Store, planned: Plan, plugins: Plugins, before: Earlier) -> None:
    groups = {theory: _ensemble_group(store, planned, theory) for theory in _given_data(planned)}
    if not groups:
        return
    datasets = planned.most("ensemble", "datasets")
    reasons = {theory: reasons_of(theory, planned.cells, datasets) for theory in groups}
    together: dict[str, list[EnsembleCell]] = defaultdict(list)
    for cell in planned.cells:
        if any(not reasons[theory][cell.index, 0] for theory in groups):
            together[ensemble_theories.key(cell.spec)].append(cell)
    for done, (cells, index) in enumerate(itertools.product(together.values(), range(datasets))):
        doing.tell("dataset", done, len(together) * datasets)
        problem = cache(partial(_problem, planned, plugins, cells[0], index))
        for theory, group in groups.items():
            known = [cell for cell in cells if not reasons[theory][cell.index, index]]
            if not known:
                continue
            wanted = digests(theory, planned, plugins, known, index)
            made = before.of(theory, wanted) or _predictions(theory, problem(), known, index)
            for cell, its_digest, found in zip(known, wanted, made, strict=True):
                place = (cell.index, index)
                if isinstance(found, str):
                    reasons[theory][place] = found
                else:
                    _write(group, place, found)
                before.note(theory, its_digest, place)
    for theory in groups:
        write_reasons(store, theory, reasons[theory])


def _problem(planned: Plan, plugins: Plugins, cell: EnsembleCell, index: int) -> Problem:
    """One dataset of cells that differ in width alone."""
    data = dataset(cell.spec, index, plugins, planned.sources)
    return Problem(cell.spec, data, plugins, planned.times)


def _predict_averaged(store: Store, planned: Plan) -> None:
    for theory in planned.spec.theories:
        if theory not in AVERAGED_THEORIES:
            continue
        with explained(theory, planned.cells[0], "all cells"):
            found, reasons = averaged_theories.attempted(theory, planned.cells)
        coordinates, grid = ensemble_grid(planned)
        sizes = ensemble_sizes(planned)
        variables = averaged_theories.variables(theory)
        group = create_group(store, group_name(theory), variables, sizes, coordinates, grid)
        for name, values in found.items():
            group[name][...] = values.numpy()
        write_reasons(store, theory, reasons)


def _ensemble_group(store: Store, planned: Plan, theory: str) -> Group:
    coordinates, grid = ensemble_grid(planned)
    sizes = ensemble_sizes(planned)
    variables = dict(SUMMARY)
    if planned.spec.data.number_of_outputs > 1:
        mean = variables["output_mean"]
        variables["output_mean"] = replace(mean, dims=(*mean.dims, "target"))
    if is_trajectory(planned.spec):
        variables = trajectory_theories.variables(
            theory, variables, ensemble_variables(planned.spec)
        )
        return create_group(store, group_name(theory), variables, sizes, coordinates, grid)
    variables |= _own(planned.spec) if theory not in NUMBERS else _beside(planned, NUMBERS[theory])
    group = create_group(store, group_name(theory), variables, sizes, coordinates, grid)
    if theory not in NUMBERS and (known := described(record(theory))):
        group.update_attributes(encoded({"record": known}))
    return group


def _beside(planned: Plan, numbers: Numbers) -> dict[str, Variable]:
    """What a theory of ours predicts beside the outputs."""
    variables = {k: v for k, v in _layer_variables(planned).items() if k not in numbers.silent}
    if numbers.classes and planned.spec.data.may_have_classes:
        variables |= ACCURACY
    for more in numbers.beside:
        variables |= more
    return variables | (_hidden_variance(planned.spec) if numbers.weights else {})


def _own(spec: Campaign) -> dict[str, Variable]:
    """What a theory of the user's may predict beside the outputs: observables of their own."""
    return {
        name: Variable(_DATASET, "f8", f"mean of {measured}")
        for measured in spec.observe.measure
        for name in [measured.partition(":")[2]]
    }


def _hidden_variance(spec: Campaign) -> dict[str, Variable]:
    measured = ensemble_variables(spec).get("hidden_variance")
    return {} if measured is None else {"hidden_variance": replace(measured, dims=_PART)}


def _layer_variables(planned: Plan) -> dict[str, Variable]:
    spec = planned.spec
    variables = dict(PRE_ACTIVATIONS) if spec.observe.histograms else {}
    if spec.observe.correlators:
        variables |= CORRELATORS | (KURTOSIS if spec.observe.histograms else {})
    networks = [cell.spec.network for cell in planned.cells]
    if spec.observe.kernels and any(n is not None and n.image is None for n in networks):
        measured = ensemble_variables(spec)["kernel"]
        dims = (*_DATASET, "layer", "probe", "probe_2")
        variables["kernel"] = replace(measured, dims=dims, long_name="kernel σ²·φφ'/width")
    return variables


def _predictions(
    theory: str, problem: Problem, cells: Sequence[EnsembleCell], index: int
) -> Iterator[Prediction | str]:
    """What is predicted for each cell, or why nothing is."""
    with explained(theory, cells[0], f"dataset {index}"):
        for values in each(lambda some: _evaluate(theory, problem, some, index), cells):
            mean = np.zeros(()) if isinstance(values, str) else values.get("output_mean", 0.0)
            yield values if np.isfinite(mean).all() else "its mean output is not finite"


def _evaluate(
    theory: str, problem: Problem, cells: Sequence[EnsembleCell], index: int
) -> Iterable[Prediction]:
    """The prediction for each of the cells, which differ in width alone."""
    widths = [cell.spec.network.width for cell in cells]
    if problem.times:
        return trajectory_theories.evaluate(theory, problem, widths)
    if theory in NUMBERS:
        return NUMBERS[theory].evaluate(problem, widths, index)
    return (_users(theory, cell.spec, problem) for cell in cells)


def _users(theory: str, spec: Campaign, problem: Problem) -> Prediction:
    """predict(spec, dataset) -> numbers by name, checked: of outputs, or of what they measure."""
    predicted = own(theory, problem.plugins.get(theory)).predict
    assert predicted is not None
    made, measured = predicted(spec, problem.data), [*_own(spec)]
    if not isinstance(made, Mapping) or not made:
        names = ", ".join([*SUMMARY, *measured])
        raise CampaignError(f"{theory} must return a dict with any of {names}")
    return {
        str(name): _checked(theory, str(name), made[name], problem.data, measured) for name in made
    }


def _checked(
    theory: str, name: str, value: object, data: Dataset, measured: Sequence[str]
) -> np.ndarray:
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(measured, ()) | {
        "learnability": data.components.shape[-1:],
        "output_mean": data.y_test.shape,
        "predictive_variance": data.y_test.shape[:1],
        "mse_mean": (),
        "mse_sample": (),
    }
    if name not in shapes:
        raise CampaignError(f"{theory} returned {name}; choose from {', '.join(shapes)}")
    array = real_numbers(value, f"{theory}: {name}")
    if array.shape != shapes[name]:
        raise CampaignError(f"{theory}: {name} has shape {array.shape}; wanted {shapes[name]}")
    wanted = array
    if name == "learnability":  # of a part that is zero it may be anything
        wanted = array[data.components.reshape(-1, *array.shape).any(0)]
    require_finite(wanted, f"{theory}: {name}")
    return array


def _write(group: Group, place: tuple[int, int], values: Prediction) -> None:
    """Write what is predicted for one dataset of a cell, broadcast over directions."""
    for name, value in values.items():
        array = group[name]
        if value.ndim == 0:
            array[place] = value
        elif "layer" in (names := array.dims):  # maybe less deep than others
            axis = names.index("layer") - 2
            layers = value.shape[axis]
            shape = (*value.shape[:axis], layers, *array.shape[axis + 3 :])
            here = (*place, *[slice(None)] * axis, slice(0, layers))
            array[here] = np.broadcast_to(value, shape)
        else:
            array[place] = value
