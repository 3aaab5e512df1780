"""How residuals vanish with the size N, χ or d, at every point of the other axes: `scaling`.

Where an axis of the sweep moves the width, χ or the input dimension over at least three values, the
residual of each theory (measured minus predicted, mean over the same datasets at every size N) is
fitted by a + b/N, or by a + b/N + c/N² where the first law is rejected at 5 % and there are at
least four sizes. Theories are asymptotic: the intercept a tells whether one holds in its limit. A
term too small for the data to demand can still move a by its standard error, so that the law with
one more term is fitted too, to confirm the intercept: the choice between the laws turns 5 % false
rejections into 7 %, and both laws reject a true intercept in 2 %. Size by size, p-values corrected
for the number of sizes (Bonferroni) tell where the theory fails.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis.comparison import Averages, Comparison, over_datasets, widened
from pipelines.analysis.verdicts import REJECTED_P, size_of
from storage.arrays.coordinates import setting_name
from storage.arrays.schema import Variable
from storage.campaign.spec import Campaign
from storage.planning.plan import Cell, Plan
from storage.planning.sweep import number
from storage.store.results import labels, points_grid, write_group
from storage.store.store import Store
from theory.statistics import WeightedFit, bonferroni, law_in_inverse, p_value

# What theories are asymptotic in: the setting of an axis that moves alone, or with others.
SIZES_ALONE = ("network.width", "network.chi", "data.dimension")
TOGETHER = ("data.dimension", "network.width", "network.chi")
FEWEST_SIZES = 3
FEWEST_FOR_CURVATURE = 4
LAW_REJECTED = 0.05  # where the law a + b/N gets another term

Array = NDArray[np.float64]

_POINT = ("theory", "cell", "observable")
_SIZE = ("theory", "cell", "size", "observable")  # under the name of the setting
VARIABLES = {
    "intercept": Variable(_POINT, "f8", "a: the residual at infinite size"),
    "intercept_error": Variable(_POINT, "f8", "standard error of a"),
    "intercept_p_value": Variable(_POINT, "f8", "two-sided p-value of a, uncorrected"),
    "intercept_degrees": Variable(_POINT, "f8", "degrees of freedom of the error of a"),
    "next_intercept": Variable(_POINT, "f8", "a in the law with one more term"),
    "next_intercept_error": Variable(_POINT, "f8", "standard error of next_intercept"),
    "next_intercept_p_value": Variable(_POINT, "f8", "two-sided p-value of next_intercept"),
    "slope": Variable(_POINT, "f8", "b: the coefficient of 1/N"),
    "slope_error": Variable(_POINT, "f8", "standard error of b"),
    "slope_p_value": Variable(_POINT, "f8", "two-sided p-value of b, uncorrected"),
    "curvature": Variable(_POINT, "f8", "c: the coefficient of 1/N²"),
    "curvature_error": Variable(_POINT, "f8", "standard error of c"),
    "order": Variable(_POINT, "u1", "highest power of 1/N in the law; 0 where none was fitted"),
    "goodness": Variable(_POINT, "f8", "p-value of the law itself"),
    "reference": Variable(_POINT, "f8", "prediction at the largest size"),
    "datasets": Variable(_POINT, "i4", "datasets compared at every size of the law"),
    "fails_below": Variable(_POINT, "f8", "largest size at which the theory is rejected"),
    "residual": Variable(_SIZE, "f8", "measured minus predicted, mean over the datasets"),
    "residual_error": Variable(_SIZE, "f8", "standard error of the residual"),
    "degrees": Variable(_SIZE, "f8", "degrees of freedom of residual_error"),
    "relative_residual": Variable(_SIZE, "f8", "residual over the size of the prediction"),
    "relative_error": Variable(_SIZE, "f8", "standard error of relative_residual"),
    "p_value": Variable(_SIZE, "f8", "two-sided p-value, corrected for the number of sizes"),
    "rejected": Variable(
        _SIZE,
        "u1",
        f"whether the corrected p-value is below {REJECTED_P:g}",
        attrs={"flag_values": [0, 1], "flag_meanings": "not_rejected rejected"},
    ),
}


@dataclass(frozen=True)
class Point:
    """A point of the other axes, and the cell of each size there (-1 for none)."""

    settings: dict[str, object]
    cells: NDArray[np.intp]  # (size,)


def size_axis(spec: Campaign) -> tuple[str, str] | None:
    """The axis of the sweep that changes a size, and the path of the size; None without one."""
    for path in SIZES_ALONE:
        for axis, settings in spec.sweep.items():
            if list(settings) == [path]:
                return axis, path
    for path in TOGETHER:
        for axis, settings in spec.sweep.items():
            if path in settings:
                return axis, path
    return None


def write(store: Store, planned: Plan, comparison: Comparison) -> None:
    """Write the group `scaling`, where the sweep has an axis of sizes and there are theories."""
    found = size_axis(planned.spec)
    if found is None or not comparison.theories:
        return
    axis, path = found
    sizes = np.unique([number(cell.settings, path) for cell in planned.cells if not cell.refined])
    if len(sizes) < FEWEST_SIZES:
        return
    size, together = setting_name(path), planned.spec.sweep[axis]
    others = points(planned, sizes, lambda cell: number(cell.settings, path), list(together))
    shape = {
        "theory": len(comparison.theories),
        "cell": len(others),
        size: len(sizes),
        "observable": len(comparison.observables),
    }
    variables = {
        name: replace(variable, dims=tuple(size if d == "size" else d for d in variable.dims))
        for name, variable in VARIABLES.items()
    }
    values = {
        name: np.full(
            [shape[dim] for dim in variable.dims],
            np.nan if variable.dtype.startswith("f") else 0,
            variable.dtype,
        )
        for name, variable in variables.items()
    }
    for theory in range(shape["theory"]):
        for place, point in enumerate(others):
            for observable in range(shape["observable"]):
                law = _fitted(comparison, theory, point.cells, observable, sizes)
                for name, value in law.items():
                    values[name][_index(VARIABLES[name], theory, place, observable)] = value
    coordinates, grid = points_grid(planned.spec, [point.settings for point in others], axis)
    coordinates["theory"] = labels("theory", comparison.theories, "theory")
    coordinates["observable"] = labels("observable", comparison.observables, "what is compared")
    coordinates[size] = labels(size, sizes, path)
    write_group(store, "scaling", variables, values, coordinates, grid)


def _index(variable: Variable, theory: int, place: int, observable: int) -> tuple[int | slice, ...]:
    middle = (slice(None),) if "size" in variable.dims else ()
    return (theory, place, *middle, observable)


def points(
    planned: Plan, sizes: Array, size_of_cell: Callable[[Cell], float], together: Sequence[str]
) -> list[Point]:
    """The points of the other axes in order of first appearance; refined cells are off the grid.

    `sizes` ascend; the settings `together` move along them.
    """
    found: dict[tuple[str, ...], Point] = {}
    for cell in planned.cells:
        if cell.refined:
            continue
        settings = {name: value for name, value in cell.settings.items() if name not in together}
        point = found.setdefault(
            tuple(map(repr, settings.values())), Point(settings, np.full(len(sizes), -1))
        )
        point.cells[np.searchsorted(sizes, size_of_cell(cell))] = cell.index
    return list(found.values())


def _fitted(
    comparison: Comparison, theory: int, cells: NDArray[np.intp], observable: int, sizes: Array
) -> dict[str, Array | float]:
    """Everything about one theory, observable and point, by the names of `VARIABLES`."""
    residual = comparison.residual[theory, cells, :, observable]  # (size, dataset)
    error = comparison.error[cells, :, observable]
    known = np.isfinite(residual) & (error > 0) & (cells >= 0)[:, None]
    present, paired = _pairing(known)
    if not present.any():
        return {}
    over = over_datasets(comparison, theory, observable, cells[present], np.flatnonzero(paired))
    return (
        _size_by_size(over, present)
        | law_of(over, sizes[present])
        | {
            "datasets": int(paired.sum()),
            "reference": over.predicted[-1],
            "fails_below": _fails_below(over, sizes[present]),
        }
    )


def _pairing(known: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Sizes and datasets such that every dataset is known at every size, from (size, dataset).

    The sizes are those of one of the datasets, and the datasets all that are known at them: the
    choice that leaves most to compare.
    """
    kept = [present.sum() * known[present].all(0).sum() for present in known.T]
    present = known[:, int(np.argmax(kept))]
    return present, np.logical_and(known[present].all(0), present.any())


def _size_by_size(over: Averages, present: NDArray[np.bool_]) -> dict[str, Array]:
    p = bonferroni(over.p_value)
    size = size_of(over.predicted, over.residual)
    found = {
        "residual": over.residual,
        "residual_error": over.error,
        "degrees": over.degrees,
        "relative_residual": over.residual / size,
        "relative_error": over.error / size,
        "p_value": p,
    }
    table = {name: _spread(value, present, np.nan) for name, value in found.items()}
    return table | {"rejected": _spread(p < REJECTED_P, present, 0)}


def _spread(values: NDArray[np.generic], present: NDArray[np.bool_], fill: float) -> Array:
    full = np.full(len(present), fill)
    full[present] = values
    return full


def _fails_below(over: Averages, sizes: Array) -> float:
    rejected = sizes[bonferroni(over.p_value) < REJECTED_P]
    return float(rejected.max()) if len(rejected) else np.nan


def law_of(over: Averages, sizes: Array) -> dict[str, float]:
    """The law in 1/N, where there are sizes enough and each has enough chains."""
    if len(sizes) < FEWEST_SIZES or not np.isfinite(over.p_value).all():
        return {}
    fit, order = _law(over, sizes, 1), 1
    if fit.goodness < LAW_REJECTED and len(sizes) >= FEWEST_FOR_CURVATURE:
        fit, order = _law(over, sizes, 2), 2
    further = _law(over, sizes, order + 1)
    return _named(fit) | {
        "order": order,
        "next_intercept": float(further.coefficients[0]),
        "next_intercept_error": float(further.errors[0]),
        "next_intercept_p_value": float(further.p_values[0]),
    }


def _law(over: Averages, sizes: Array, order: int) -> WeightedFit:
    """The law by the errors that are independent at each size; the shared one moves all alike."""
    independent = np.sqrt(np.square(over.error) - np.square(over.shared))
    fit = law_in_inverse(
        sizes.astype(np.float64), over.residual, independent, over.degrees, order=order
    )
    errors, degrees, p_values = fit.errors.copy(), fit.degrees.copy(), fit.p_values.copy()
    errors[0], degrees[0] = widened(errors[0], degrees[0], over.shared.max())
    p_values[0] = p_value(fit.coefficients[0], errors[0], degrees[0])
    return fit._replace(errors=errors, degrees=degrees, p_values=p_values)


def _named(fit: WeightedFit) -> dict[str, float]:
    names: Sequence[str] = ("intercept", "slope", "curvature")[: len(fit.coefficients)]
    found = {name: float(value) for name, value in zip(names, fit.coefficients, strict=True)}
    errors = {f"{name}_error": float(e) for name, e in zip(names, fit.errors, strict=True)}
    return (
        found
        | errors
        | {
            "intercept_p_value": float(fit.p_values[0]),
            "intercept_degrees": float(fit.degrees[0]),
            "slope_p_value": float(fit.p_values[1]),
            "goodness": fit.goodness,
        }
    )
