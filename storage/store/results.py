"""Groups that are computed from others: theories, convergence, fits. Written anew each time.

Whoever writes them takes the old ones away first and publishes the new ones last, so that a reader
finds whole groups or none.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from storage.arrays.coordinates import (
    Coordinate,
    axes,
    ensemble_axes,
    ensemble_coordinates,
    regression_axes,
    regression_coordinates,
    setting_name,
    setting_values,
)
from storage.arrays.grid import Axes
from storage.arrays.schema import Variable, ensemble_sizes, regression_sizes
from storage.campaign.resolved import regressed
from storage.campaign.spec import Campaign
from storage.planning.plan import Plan, plan
from storage.store.hierarchy import Group
from storage.store.store import Store, create_array
from storage.store.wanted import METADATA

FITTED = ("fits", "scaling", "free_energy", "exponents", "flow", "learning_curve", "verdicts")
RESULTS = ("progress", "theory", *FITTED)
SEPARATE = ("cell", "dataset")  # one chunk each, where regions are written one after another


def stored_plan(store: Store) -> Plan:
    """The plan of the newest spec, with the cells of all specs that the store has seen."""
    specs = store.specs()
    return plan(specs[-1], specs, store.sources(), store.rounds())


def remove_groups(store: Store, *names: str) -> None:
    """Take groups away, also what a killed run has left of them; they need not exist.

    Those of other stages go, too, where their metadata are missing or damaged: they are made anew.
    Readers are told before the first number goes: what is missing would be read as not known.
    """
    place = store.root.place
    store.change()
    broken = [name for name in RESULTS if not store.wanted.is_described(name)]
    for name in broken:
        place.delete_below(name)
    present = [name for name in names if name in store.root]
    for name in present:
        place.delete(f"{name}/{METADATA}")
    if present or broken:
        store.publish()
        store.change()
    for name in names:
        place.delete_below(name)


def create_group(
    store: Store,
    name: str,
    variables: Mapping[str, Variable],
    sizes: Mapping[str, int],
    coordinates: Mapping[str, Coordinate],
    grid: Axes,
    separate: Sequence[str] = SEPARATE,
) -> Group:
    """A new group, its arrays empty, with the coordinates that they use."""
    group = store.root.require_group(name)
    for key, variable in variables.items():
        shape = tuple(sizes[dim] for dim in variable.dims)
        chunk = tuple(
            1 if dim in separate else max(length, 1)
            for dim, length in zip(variable.dims, shape, strict=True)
        )
        create_array(group, key, shape, chunk, variable)
    used = {dim for variable in variables.values() for dim in variable.dims}
    kept = {key: c for key, c in coordinates.items() if used.issuperset(c.dims[:1])}
    store.write_coordinates(name, kept, grid)
    return group


def write_group(
    store: Store,
    name: str,
    variables: Mapping[str, Variable],
    values: Mapping[str, np.ndarray],
    coordinates: Mapping[str, Coordinate],
    grid: Axes,
) -> None:
    """A new small group with all its values, one chunk for each variable."""
    sizes = {
        dim: length
        for key, variable in variables.items()
        for dim, length in zip(variable.dims, values[key].shape, strict=True)
    }
    group = create_group(store, name, variables, sizes, coordinates, grid, separate=())
    for key in variables:
        group[key][...] = values[key]


def ensemble_grid(planned: Plan) -> tuple[dict[str, Coordinate], Axes]:
    """Coordinates of the group `ensemble`, and the grid that its cells form."""
    grid = axes(planned.spec, ensemble_axes(planned.spec))
    return ensemble_coordinates(planned, ensemble_sizes(planned)), grid


def regression_grid(planned: Plan) -> tuple[dict[str, Coordinate], Axes]:
    """Coordinates of the group `regression`, and the grid that its cells form."""
    grid = axes(planned.spec, regression_axes(regressed(planned.spec)))
    return regression_coordinates(planned, regression_sizes(planned)), grid


def points_grid(
    spec: Campaign, points: Sequence[Mapping[str, object]], without: str
) -> tuple[dict[str, Coordinate], Axes]:
    """Coordinates of `cell` where the cells are points of the grid without one of its axes.

    Each point is a mapping of swept paths to values.
    """
    swept = {axis: paths for axis, paths in ensemble_axes(spec).items() if axis != without}
    coordinates = {"cell": labels("cell", np.arange(len(points)), "point of the other axes")}
    for path in (path for paths in swept.values() for path in paths):
        values = setting_values([point[path] for point in points])
        coordinates[setting_name(path)] = Coordinate(
            ("cell",), values, {"long_name": path, "units": "1"}
        )
    return coordinates, axes(spec, swept)


def labels(dim: str, values: object, long_name: str) -> Coordinate:
    """The coordinate that names the places along a dimension."""
    return Coordinate((dim,), np.asarray(values), {"long_name": long_name, "units": "1"})
