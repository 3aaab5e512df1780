"""From a campaign with a sweep to its cells: one resolved campaign for each point of the grid."""

import copy
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic

from pydantic import ValidationError

from storage.campaign.frozen import Frozen
from storage.campaign.messages import clip, explain, nearest, short, word
from storage.campaign.observables import LEARNABILITY, observed
from storage.campaign.plain import MAXIMUM_DEPTH
from storage.campaign.spec import Campaign, has_overlaps, is_trajectory, problems
from storage.errors import CampaignError
from storage.planning.choosing import Given, settled
from storage.planning.excluded import (
    by_paths,
    check_excluded,
    entries,
    is_among,
    rows,
    spelling,
    spellings,
    written,
)

# A sweep axis becomes a dimension beside these, so it may not take one of their names.
DIMENSIONS = (
    "cell", "dataset", "chain", "draw", "block", "segment", "layer", "direction", "bin", "order",
    "probe", "probe_2", "component", "test", "target", "train", "ridge", "repeat", "mode", "lag",
    "time", "bound", "neuron", "part", "overlap_bin", "readout_bin",
    "quantity", "theory", "observable", "law", "parameter", "coupling",
    "flow_cutoff", "interval", "class_index", "pair", "input",
)  # fmt: skip
# On the labelled grid an axis is a coordinate too, so it may not take a variable's name either.
VARIABLES = (
    "class_target", "train_class_count", "test_class_count", "pool_class_count",
    "heldout_class_count",
    "loss", "weight_norm", "learnability", "output", "output_mean", "output_square", "label",
    "step_size", "status", "finished", "max_overlap", "histogram", "moment", "prior_deviation",
    "evidence", "evidence_error", "evidence_predicted", "quadrature_error",
    "refined", "residual", "refused", "start",
    "kernel", "kernel_square", "train_error", "test_error", "pool_error", "posterior_variance",
    "log_evidence", "eigenvalue", "coefficient", "bin_bounds", "physical_temperature",
    "physical_readout_variance", "overlap", "overlap_histogram", "hidden_variance", "kernel_lag",
    "overlap_bin_bounds", "readout_bin_bounds", "step_bias", "step_bias_error", "biased",
    "quartic_error", "quartic_residual", "quartic_accepted", "quartic_rhat", "effective_ridge",
    "beyond_pool",
    "cutoff", "renormalized_ridge", "distance_square", "distance_square_error", "variation",
    "quartic_ridge",
    "spectral_exponent", "spectral_exponent_error", "amplitude", "offset", "offset_error",
    "target_exponent", "target_exponent_error",
    "ridgeless_exponent", "equivalent_kernel_exponent", "slope", "slope_error",
    "slope_predicted", "ridge_ratio", "ridge_ratio_error", "fitted", "fitted_low", "fitted_high",
    "fitted_p_value", "fitted_criterion", "expected",
    "hard_ridge", "soft_ridge", "mass", "target_square", "last_learned", "dimension",
    "flow_exponent", "interval_first", "interval_last", "interval_dimension", "interval_error",
    "quartic",
    "broken", "chains", "closure_temperature", "compared", "converged", "coupling_times_width",
    "criterion", "curvature", "curvature_error", "datasets", "degrees", "degrees_of_freedom",
    "density", "deviation", "deviation_high", "deviation_low", "diverged", "effective_draws",
    "eigenvalue_ratio", "ess_bulk", "ess_tail", "fails_below", "finished_fraction",
    "free_energy", "goodness", "grid_p_value", "intercept", "intercept_degrees",
    "intercept_error", "intercept_p_value", "joint_p_value", "joint_seen", "joint_statistic",
    "mcse", "mean_error", "mean_predicted", "mean_residual", "measured", "mse_mean",
    "mse_sample", "next_intercept", "next_intercept_error", "next_intercept_p_value",
    "nuisance", "nuisance_high", "nuisance_low", "nuisance_p_value", "nuisance_predicted",
    "overlap_density", "p_value", "pre_activation_variance", "predicted", "predictive_variance",
    "rank", "reason", "reference", "rejected", "relative_error", "relative_residual", "repeats",
    "residual_error", "rhat", "scale", "score", "slope_p_value", "standard_error",
    "t", "tested", "averaged", "applies",
    "correlator", "probe_input", "kernel_mean", "kernel_variance", "correlation",
    "pre_activation_kurtosis", "accuracy", "pool_accuracy", "test_accuracy",
    "output_odd", "loss_change", "learnability_change", "output_mean_change", "numerical_error",
    "output_covariance", "loss_error", "learnability_error", "mse_mean_error",
    "weight_norm_error", "hidden_variance_error",
)  # fmt: skip
SECTIONS = ("data", "network", "sampler")
SWEPT_SAMPLER = ("temperature", "step_size", "friction", "warmup", "thin")
OF_TIMES = ("sampler.step_size", "sampler.warmup", "sampler.thin")  # which all cells share
# Of shapes, or of files.
FIXED_DATA = ("source", "test", "outputs", "classes", "folder", "file", "subset")
MAXIMUM_CELLS = 100_000
_AXIS = re.compile("[a-z][a-z0-9_]{0,39}")


def assign(raw: dict[str, object], path: str, value: object) -> None:
    """Set `path` (a.b.3) in nested mappings and lists, making sections that are missing."""
    *parents, last = _keys(path)
    place: object = raw
    for key in parents:
        place = _descend(place, key, path)
    if isinstance(place, list):
        place[_position(place, last, path)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise CampaignError(
            f"{word(path)}: found a value where a section was wanted; check the path"
        )


def _keys(path: str) -> list[str]:
    """The keys along a path; in a sweep the third is a path itself."""
    keys = path.split(".", 2) if path.startswith("sweep.") else path.split(".", MAXIMUM_DEPTH)
    if len(keys) > MAXIMUM_DEPTH:
        raise CampaignError(f"{word(path)}: deeper than any key of a campaign; check the path")
    return keys


def _descend(place: object, key: str, path: str) -> object:
    if isinstance(place, list):
        return place[_position(place, key, path)]
    if not isinstance(place, dict):
        raise CampaignError(
            f"{word(path)}: found a value where a section was wanted; check the path"
        )
    if place.get(key) is None:
        place[key] = {}
    return place[key]


def _position(place: list[object], key: str, path: str) -> int:
    positions = [str(i) for i in range(len(place))]
    if key not in positions:
        raise CampaignError(
            f"{word(path)}: {word(key)} is no position in a list of {len(place)}, counted from 0"
        )
    return positions.index(key)


def axis_lengths(spec: Campaign) -> dict[str, int]:
    """Length of every axis of the sweep, after checking that the sweep makes sense."""
    for axis, settings in spec.sweep.items():
        _check_axis(axis, settings)
        for path in settings:
            _check_path(spec, f"sweep.{axis}: {word(path)}", path)
    _check_overlaps(spec)
    _check_refine(spec)
    lengths = {axis: len(next(iter(s.values()))) for axis, s in spec.sweep.items()}
    if (cells := math.prod(lengths.values())) > MAXIMUM_CELLS:
        raise CampaignError(
            f"sweep: found {cells} cells, at most {MAXIMUM_CELLS} are allowed; make several "
            "campaigns of it"
        )
    check_excluded(spec)
    if next(grid(spec), None) is None:
        raise CampaignError("exclude leaves no point of the sweep; keep at least one")
    return lengths


def _check_axis(axis: str, settings: Mapping[str, list[object]]) -> None:
    if not _AXIS.fullmatch(axis):
        raise CampaignError(
            f"sweep: found the axis {short(axis)}, wanted at most 40 lower-case letters, digits "
            "and _, a letter first"
        )
    if axis in DIMENSIONS or axis in VARIABLES:
        kind = "dimension" if axis in DIMENSIONS else "variable"
        raise CampaignError(f"sweep: {axis} is a {kind} of the store; give the axis another name")
    if not settings:
        raise CampaignError(f"sweep.{axis}: found no setting; wanted at least one path with values")
    if len({len(values) for values in settings.values()}) > 1:
        found = clip(", ".join(f"{word(path)}: {len(v)}" for path, v in settings.items()), 200)
        raise CampaignError(
            f"sweep.{axis}: settings that move together need as many values ({found})"
        )
    names: set[str] = set()
    for row in rows(settings):
        if (name := spelling(row)) in names:
            raise CampaignError(
                f"sweep.{axis}: {written(row)} appears twice; every cell must differ"
            )
        names.add(name)


def _check_path(spec: Campaign, where: str, path: str) -> None:
    section, _, key = path.partition(".")
    if path in (meant := _paths(spec)):
        raise CampaignError(f"{where} is no path of a setting; did you mean {meant[path]}?")
    if section not in SECTIONS:
        raise CampaignError(f"{where} cannot be swept; {nearest(section, SECTIONS)}")
    if not key:
        raise CampaignError(f"{where} is a section; wanted a setting of it, such as data.train")
    if getattr(spec, section) is None:
        raise CampaignError(f"{where} cannot be swept: there is no section {section}; add it")
    if path in OF_TIMES and is_trajectory(spec):
        raise CampaignError(f"{where} fixes the times of a trajectory: make it another campaign")
    if section == "sampler" and key not in SWEPT_SAMPLER:
        raise CampaignError(f"{where} cannot be swept; {nearest(key, SWEPT_SAMPLER)}")
    if section == "data" and key.partition(".")[0] in FIXED_DATA:
        raise CampaignError(f"{where} fixes the shape of the store: make it a campaign of its own")
    if path == "network.architecture":
        raise CampaignError(f"{where} fixes what is stored: make it a campaign of its own")


def _paths(spec: Campaign) -> dict[str, str]:
    """The paths of settings by their last key alone; the network's, where the data share it."""
    sections = {name: getattr(spec, name) for name in SECTIONS}
    return {
        key: f"{name}.{key}"
        for name, section in sections.items()
        if section is not None
        for key in type(section).model_fields
    }


def _check_overlaps(spec: Campaign) -> None:
    """Refuse a setting that is swept twice, by itself or as part of a section."""
    owner: dict[str, str] = {}
    for axis, settings in spec.sweep.items():
        for path in settings:
            if path in owner:
                raise CampaignError(f"sweep.{axis}: {path} is swept by axis {owner[path]} already")
            owner[path] = axis
    for path, axis in owner.items():
        keys = _keys(path)
        for section in (".".join(keys[:n]) for n in range(1, len(keys))):
            if section in owner:
                raise CampaignError(
                    f"sweep.{axis}: {word(path)} is part of {word(section)}, which axis "
                    f"{owner[section]} sweeps"
                )


def _check_refine(spec: Campaign) -> None:
    if spec.refine is None:
        return
    axis = spec.refine.axis
    if axis not in spec.sweep:
        known = nearest(axis, spec.sweep) if spec.sweep else "the campaign sweeps nothing"
        raise CampaignError(f"refine.axis: no axis of the sweep is {word(axis)}; {known}")
    for path, values in spec.sweep[axis].items():
        if len(values) < 2 or not all(type(value) in (int, float) for value in values):
            raise CampaignError(
                f"refine.axis: {word(path)} has values {short(values)}; wanted two numbers or more"
            )
    observables = order_parameters(spec)
    if spec.refine.observable is not None and spec.refine.observable not in observables:
        raise CampaignError(f"refine.observable: {nearest(spec.refine.observable, observables)}")


def between(
    low: Mapping[str, object], high: Mapping[str, object], paths: Sequence[str]
) -> dict[str, object] | None:
    """Settings half way along the paths; None where whole numbers have nothing between them."""
    found = dict(low)
    for path in paths:
        first, second = number(low, path), number(high, path)
        whole = type(first) is int and type(second) is int
        total = first + second
        found[path] = total // 2 if whole else total / 2
    return None if found in (low, high) else found


def number(settings: Mapping[str, object], path: str) -> float:
    """The value of a setting that is a number."""
    value = settings[path]
    assert isinstance(value, int | float)
    return value


def order_parameters(spec: Campaign) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Scalars that every draw of an ensemble has: loss, weight_norm, learnability He3, ...

    By the name that a spec gives them: the stored variable, and the place along what it is along.
    """
    stored = ["loss", "weight_norm", *(["max_overlap"] if has_overlaps(spec) else [])]
    parts = observed(LEARNABILITY, {"component": spec.data.components})
    return {name: (name, ()) for name in stored} | {
        part.name: (part.kind, part.places) for part in parts
    }


def grid(spec: Campaign) -> Iterator[dict[str, object]]:
    """The swept settings of every point, path -> value, the last axis running fastest.

    Points that the campaign excludes are left out.
    """
    axes = [list(rows(settings)) for settings in spec.sweep.values()]
    left_out = by_paths(entries(spec))
    for point in itertools.product(*axes):
        settings = {path: value for part in point for path, value in part.items()}
        if not (left_out and is_among(left_out, spellings(settings))):
            yield settings


def excluded_points(spec: Campaign) -> int:
    """How many points of the grid are left out."""
    points = math.prod(len(next(iter(settings.values()))) for settings in spec.sweep.values())
    return points - sum(1 for _ in grid(spec)) if spec.exclude else 0


def resolve(spec: Given, settings: Mapping[str, object]) -> Given:
    """The campaign of one point of the grid: the settings put in, the sweep taken out.

    Where the scheme is auto, it is the one that `storage.planning.choosing` names.
    """
    return Resolver(spec).at(settings)


class Resolver(Generic[Given]):
    """The campaigns of the points of a grid, of the type of the whole.

    A section is checked once for all points that give it the same settings, since a grid of 10⁵
    points has far fewer sections; what one section needs of another is checked at each point.
    """

    def __init__(self, spec: Given) -> None:
        self._type = type(spec)
        self._names = spec.data.components
        out = {"sweep", "refine", "exclude"}
        self._raw = spec.model_dump(mode="json", exclude=out, exclude_unset=True)
        self._sections: dict[tuple[str, str], Frozen] = {}  # those checked, by name and settings
        self._whole: Given | None = None  # one that was checked, for all that is never swept

    def at(self, settings: Mapping[str, object]) -> Given:
        """The campaign of a point. Raises CampaignError for settings that do not go together."""
        keys = _keys_by_section(settings)
        found = {name: self._sections.get((name, key)) for name, key in keys.items()}
        if self._whole is not None and None not in found.values():
            made = self._whole.model_copy(update=found)
            if next(problems(made), None) is None:
                return self._named(made, settings)
        made = self._checked(settings)
        self._whole = self._whole or made
        self._sections |= {(name, key): getattr(made, name) for name, key in keys.items()}
        return self._named(made, settings)

    def _checked(self, settings: Mapping[str, object]) -> Given:
        raw = copy.deepcopy(self._raw)
        for path, value in settings.items():
            assign(raw, path, value)
        try:
            return self._type.model_validate(raw)
        except ValidationError as error:
            raise CampaignError(f"sweep at {written(settings)}: {explain(error)}") from None

    def _named(self, made: Given, settings: Mapping[str, object]) -> Given:
        if made.data.components != self._names:
            raise CampaignError(
                f"sweep at {written(settings)}: the parts of the target change from "
                f"{short(self._names)} to {short(made.data.components)}; "
                "name every order in data.teacher"
            )
        return settled(made)


def _keys_by_section(settings: Mapping[str, object]) -> dict[str, str]:
    """What the settings say of each section that they name, as a key."""
    parts: dict[str, list[tuple[str, object]]] = {}
    for path, value in settings.items():
        parts.setdefault(path.partition(".")[0], []).append((path, value))
    return {name: repr(part) for name, part in parts.items()}
