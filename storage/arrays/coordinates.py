"""Coordinates of the stored groups: what every index along a dimension means."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic_core import to_jsonable_python

from storage.arrays.schema import (
    BIN_RANGE,
    BINS,
    ORDERS,
    ORIGINS,
    OVERLAP_BINS,
    OVERLAP_RANGE,
    PAIRS,
    PARTS,
    READOUT_BINS,
    READOUT_RANGE,
    direction_names,
    has_few_inputs,
)
from storage.campaign.resolved import Regressed, Sampled, regressed, sampled
from storage.campaign.schemes import AUTO
from storage.campaign.spec import Campaign, has_overlaps, is_trajectory
from storage.planning.excluded import spelling
from storage.planning.plan import Cell, Plan
from storage.planning.sweep import grid, resolve


@dataclass(frozen=True)
class Coordinate:
    """Values along dimensions, with what a reader must know of them."""

    dims: tuple[str, ...]
    values: np.ndarray
    attrs: Mapping[str, object]


def _coordinate(
    dims: Sequence[str], values: object, long_name: str, units: str = "1", **attrs: object
) -> Coordinate:
    described = {"long_name": long_name, "units": units, **attrs}
    return Coordinate(tuple(dims), np.asarray(values), described)


def ensemble_coordinates(plan: Plan, sizes: Mapping[str, int]) -> dict[str, Coordinate]:
    """Coordinates of the group `ensemble`; `refined` tells cells from room for those to come."""
    origins = np.full(sizes["cell"], ORIGINS["unused"], np.uint8)
    origins[: len(plan.cells)] = [cell.refined for cell in plan.cells]
    coordinates = _cell_coordinates(plan.cells, _swept(plan.spec), sizes["cell"]) | {
        "physical_temperature": _coordinate(
            ["cell"],
            [physical_temperature(cell.spec) for cell in plan.cells],
            "temperature after the division by chi",
        ),
        "physical_readout_variance": _coordinate(
            ["cell"],
            [cell.spec.network.physical_weight_variance[-1] for cell in plan.cells],
            "weight variance of the readout after the division by chi",
        ),
        "depth": _coordinate(
            ["cell"], [cell.spec.network.depth for cell in plan.cells], "number of hidden layers"
        ),
        "activation": _coordinate(
            ["cell"], [cell.spec.network.activation for cell in plan.cells], "activation φ"
        ),
        "width": _coordinate(
            ["cell"], [cell.spec.network.width for cell in plan.cells], "neurons in a hidden layer"
        ),
        **_schemes(plan),
        "refined": _coordinate(  # the last: a place is a cell when all else is said of it
            ["cell"],
            origins,
            "whether the cell was added off the grid",
            flag_values=[*ORIGINS.values()],
            flag_meanings=" ".join(ORIGINS),
        ),
    }
    coordinates = {key: _with_room(c, sizes["cell"]) for key, c in coordinates.items()}
    coordinates["component"] = _coordinate(
        ["component"], plan.spec.data.components, "part of the target"
    )
    long_names = {
        "dataset": "independent draw of the data",
        "chain": "chain of a dataset",
        "draw": "kept draw of a chain",
        "block": "chains that ran side by side",
        "segment": "draws between two checkpoints",
    }
    coordinates |= {
        name: _coordinate([name], np.arange(sizes[name]), long_name)
        for name, long_name in long_names.items()
    }
    if is_trajectory(plan.spec):
        coordinates["time"] = _times(sampled(plan.spec), sizes["time"])
        del coordinates["draw"]
    if plan.spec.ensemble is not None and plan.spec.ensemble.start == "both":
        starts = [("prior", "teacher")[chain % 2] for chain in range(sizes["chain"])]
        coordinates["start"] = _coordinate(["chain"], starts, "where the chain began")
    observe = plan.spec.observe
    if observe.histograms or observe.kernels or observe.correlators:
        coordinates["layer"] = _coordinate(
            ["layer"], np.arange(1, sizes["layer"] + 1), "hidden layer"
        )
    if plan.spec.observe.histograms:
        coordinates |= _histogram_coordinates(sampled(plan.spec))
    if plan.spec.data.may_have_classes:
        coordinates |= _class_coordinate(plan.spec, sizes)
    coordinates |= _target_coordinate(plan.spec)
    if observe.correlators:
        coordinates["pair"] = _coordinate(["pair"], PAIRS, "the first two probe points")
        if has_few_inputs(plan.spec):
            inputs = np.arange(sizes["input"])
            coordinates["input"] = _coordinate(["input"], inputs, "coordinate of a point")
    if plan.spec.observe.lags:
        coordinates["lag"] = _coordinate(["lag"], list(plan.spec.observe.lags), "draws", "draw")
    if has_overlaps(plan.spec) and plan.spec.observe.overlaps:
        found = _overlap_coordinates(sizes)
        coordinates |= {"part": found["part"]} if is_trajectory(plan.spec) else found
    return coordinates


def _times(spec: Sampled, count: int) -> Coordinate:
    return _coordinate(["time"], spec.sampler.moments(count), "time", "prior_relaxation_time")


def _schemes(plan: Plan) -> dict[str, Coordinate]:
    """Where the scheme is auto, the one of each cell."""
    if sampled(plan.spec).sampler.scheme != AUTO:
        return {}
    schemes = [cell.spec.sampler.scheme for cell in plan.cells]
    return {"sampler_scheme": _coordinate(["cell"], schemes, "scheme that auto has named")}


def _class_coordinate(spec: Campaign, sizes: Mapping[str, int]) -> dict[str, Coordinate]:
    values = np.arange(sizes["class_index"])
    order = "by increasing target" if spec.data.class_targets is None else "one for each output"
    return {"class_index": _coordinate(["class_index"], values, f"class, {order}")}


def _target_coordinate(spec: Campaign) -> dict[str, Coordinate]:
    """Of several outputs; those of classes have their names."""
    if spec.data.number_of_outputs == 1:
        return {}
    of_classes = spec.data.class_targets is not None
    long_name = "class of the output" if of_classes else "output of the network"
    return {"target": _coordinate(["target"], spec.data.output_names, long_name)}


def _overlap_coordinates(sizes: Mapping[str, int]) -> dict[str, Coordinate]:
    coordinates = {
        "neuron": _coordinate(["neuron"], np.arange(sizes["neuron"]), "neuron of the first layer"),
        "part": _coordinate(["part"], PARTS, "directions of a first-layer weight"),
    }
    for name, edges, long_name in (
        ("overlap_bin", overlap_edges(), "overlap w·w* of a first-layer neuron"),
        ("readout_bin", readout_edges(), "readout weight of a neuron"),
    ):
        bounds = np.stack([edges[:-1], edges[1:]], axis=1)
        middle = _coordinate(
            [name], bounds.mean(axis=1), long_name, "prior_deviation", bounds=f"{name}_bounds"
        )
        edge = "edges of the bin; the outermost bins are open to infinity"
        ends = _coordinate([name, "bound"], bounds, edge, "prior_deviation")
        coordinates |= {name: middle, f"{name}_bounds": ends}
    return coordinates


def overlap_edges() -> np.ndarray:
    """Edges of the bins of w·w*, in prior standard deviations of a weight."""
    return np.linspace(-OVERLAP_RANGE, OVERLAP_RANGE, OVERLAP_BINS + 1)


def readout_edges() -> np.ndarray:
    """Edges of the bins of the readout's weights, in their prior standard deviations."""
    return np.linspace(-READOUT_RANGE, READOUT_RANGE, READOUT_BINS + 1)


def _histogram_coordinates(spec: Sampled) -> dict[str, Coordinate]:
    edges = bin_edges()
    where = ", at the centre of each layer's grid" if spec.network.image else ""
    bounds = np.stack([edges[:-1], edges[1:]], axis=1)
    units = "prior_deviation"
    return {
        "direction": _coordinate(
            ["direction"], direction_names(spec), f"unit vector over the probe points{where}"
        ),
        "order": _coordinate(["order"], np.arange(ORDERS), "power of z"),
        "bin": _coordinate(
            ["bin"], bounds.mean(axis=1), "pre-activation z", units, bounds="bin_bounds"
        ),
        "bin_bounds": _coordinate(
            ["bin", "bound"],
            bounds,
            "edges of the bin; the outermost bins are open to infinity",
            units,
        ),
    }


def bin_edges() -> np.ndarray:
    """Edges of the histogram bins in prior standard deviations, (BINS + 1,)."""
    return np.linspace(-BIN_RANGE, BIN_RANGE, BINS + 1)


def regression_coordinates(plan: Plan, sizes: Mapping[str, int]) -> dict[str, Coordinate]:
    """Coordinates of the group `regression`."""
    spec = regressed(plan.spec)
    regression = spec.regression
    coordinates = _cell_coordinates(plan.regressions, regression_axes(spec), sizes["cell"])
    if regression.quartic is not None:
        coordinates["coupling"] = _coordinate(
            ["coupling"], list(regression.quartic.couplings), "quartic coupling u"
        )
    if plan.spec.data.may_have_classes:
        coordinates |= _class_coordinate(plan.spec, sizes)
    coordinates |= _target_coordinate(spec)
    kernels = [cell.spec.kernel for cell in plan.regressions]
    for name, long_name in (("activation", "activation φ"), ("depth", "number of hidden layers")):
        values = [getattr(kernel, name) for kernel in kernels]
        coordinates[name] = _coordinate(["cell"], values, long_name)
    return coordinates | {
        "repeat": _coordinate(["repeat"], np.arange(sizes["repeat"]), "random order of the pool"),
        "train": _coordinate(["train"], list(regression.train), "training points"),
        "pool_fraction": _coordinate(
            ["train"],
            np.asarray(regression.train) / regression.pool,
            "training points over points of the pool; theories of the pool miss above 0.3",
        ),
        "ridge": _coordinate(["ridge"], list(regression.ridges), "ridge, the physical temperature"),
        "mode": _coordinate(["mode"], np.arange(sizes["mode"]), "kernel mode, largest first"),
    }


def axes(spec: Campaign, paths: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[object]]]:
    """The grid for readers: axis -> coordinate name -> its values along the axis.

    A value of which the grid has no point has no place along the axis either.
    """
    points = list(grid(spec))
    found = {}
    for axis, wanted in paths.items():
        rows = zip(*spec.sweep[axis].values(), strict=True)
        first: dict[str, dict[str, object]] = {}
        for point in points:
            first.setdefault(spelling([point[path] for path in spec.sweep[axis]]), point)
        cells = [resolve(spec, first[name]) for name in map(spelling, rows) if name in first]
        found[axis] = {
            setting_name(path): setting_values([_setting(cell, path) for cell in cells]).tolist()
            for path in wanted
        }
    return found


def ensemble_axes(spec: Campaign) -> dict[str, list[str]]:
    """The axes of the sweep, each with the settings it moves."""
    return _swept(spec)


def regression_axes(spec: Regressed) -> dict[str, list[str]]:
    """The axes that a regression sees, each with the settings that matter to it."""
    kernel = () if spec.regression.kernel is not None else tuple(type(spec.kernel).model_fields)
    seen: dict[str, list[str]] = {}
    for axis, paths in _swept(spec).items():
        wanted = [path for path in paths if _matters(path, kernel)]
        if wanted:
            seen[axis] = wanted
    return seen


def _matters(path: str, kernel: tuple[str, ...]) -> bool:
    section, key = path.split(".")[:2]
    return (section == "data" and key != "train") or (section == "network" and key in kernel)


def _swept(spec: Campaign) -> dict[str, list[str]]:
    return {axis: list(settings) for axis, settings in spec.sweep.items()}


def _cell_coordinates(
    cells: Sequence[Cell], swept: Mapping[str, Sequence[str]], places: int
) -> dict[str, Coordinate]:
    coordinates = {
        "cell": _coordinate(["cell"], np.arange(places), "point of the grid"),
    }
    for path in (path for paths in swept.values() for path in paths):
        values = setting_values([_setting(cell.spec, path) for cell in cells])
        coordinates[setting_name(path)] = _coordinate(["cell"], values, path)
    return coordinates


def _with_room(coordinate: Coordinate, places: int) -> Coordinate:
    """So many places along `cell`: behind the cells NaN, 0 or no text, as in an empty array."""
    values = coordinate.values
    empty = np.nan if values.dtype.kind == "f" else values.dtype.type()
    room = np.full(places - len(values), empty, values.dtype)
    return replace(coordinate, values=np.concatenate([values, room]))


def setting_name(path: str) -> str:
    """The coordinate of a swept setting: data.train -> data_train."""
    return path.replace(".", "_")


def _setting(spec: Campaign, path: str) -> object:
    """The value of a setting, of the type that its field has: 1 is 1.0 where a float is wanted."""
    place: object = spec
    for key in path.split("."):
        if isinstance(place, tuple):
            place = place[int(key)]
        elif isinstance(place, dict):
            place = place[int(key) if key.isdecimal() else key]
        else:
            place = getattr(place, key)
    return to_jsonable_python(place)


def setting_values(values: Sequence[object]) -> np.ndarray:
    """Numbers as numbers, everything else as text."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numbers:
        kind = np.int64 if all(isinstance(v, int) for v in values) else np.float64
        return np.array(values, dtype=kind)
    text = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return np.array(text, dtype=str)


def physical_temperature(spec: Sampled) -> float:
    """T of the posterior: the temperature of the spec divided by chi."""
    return spec.sampler.temperature / spec.network.chi
