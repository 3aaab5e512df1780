"""Verdicts as data: the group `verdicts`, a row for each prediction that was held to a test.

Rows are made from the groups that the fits have written, and everything that speaks of a theory
reads them: `status`, the Prefect page, tables, sentences, the export. Nothing else decides.

A cell or a size is one point of the sweep; a time is one of a cell that is followed; a limit is a
residual at infinite size, from a law in 1/N; a curve is a whole learning curve; and jointly are all
observables of all cells at once. With an axis of sizes these stand in for the cells, as they
compare the same datasets at every size.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.analysis.places import group, label, swept, symbol
from pipelines.analysis.verdicts import DOUBTED, Kind, kinds_of, seen_of, size_of
from pipelines.text.rounding import plain, uncertain
from pipelines.theories.theory_groups import group_name
from storage.arrays.attributes import axes_of, encoded
from storage.arrays.schema import Variable
from storage.backend.reader import open_campaign
from storage.campaign.observables import by_times, is_in_time
from storage.store.results import write_group
from storage.store.store import Store
from theory.statistics import bonferroni

if TYPE_CHECKING:
    from xarray import DataArray, Dataset, DataTree

VERDICTS = "verdicts"  # the name of the group
TESTS = ("cell", "time", "size", "limit", "curve", "joint")
WIDTH = "network_width"
NOT_SIZES = ("theory", "cell", "observable")  # of the dimensions of `scaling`
LIMIT = "nngp"  # what a network becomes as its width alone grows
NOT_CONVERGED = "no dataset has converged"
BIASED = "biased by the step"
FEW_UNITS = "fewer than 4 chains or datasets"
NOT_REACHED = f"not reached, or {FEW_UNITS}"
FEW_ALIKE = f"not converged on the same data, {BIASED}, or {FEW_UNITS}"
FEW_FOR_ALL = "too few chains or datasets for a test of several observables"
FEW_REPEATS = "too few repeats with a result, or no size within 0.3 of the pool"

_ROW = ("verdict",)
# Not among the names that an axis of a sweep may not take: rows have no axes.
COLUMNS = (
    ("test", "T", "what was tested: cell, time, size, limit, curve or joint"),
    ("theory", "T", "theory"),
    ("observable", "T", "what was compared; empty where it is everything together"),
    ("point", "T", "settings of the other axes, where a test is along one of them"),
    ("place", "T", "where in the sweep"),
    ("kind", "T", "rejected, doubtful, unresolved, agrees, missing or silent"),
    ("size", "f8", "measured minus predicted, relative to the size of the prediction"),
    ("error", "f8", "standard error of size"),
    ("residual", "f8", "measured minus predicted"),
    ("residual_error", "f8", "standard error of residual"),
    ("p", "f8", "two-sided p-value, corrected for all tests of its kind"),
    ("seen", "f8", "relative deviation that would have been rejected in 19 cases of 20"),
    ("reason", "T", "what the kind rests on, where numbers alone do not tell"),
)

Predicted = Mapping[tuple[str, str], np.ndarray]  # by theory and observable: at which sizes
Columns = dict[str, np.ndarray | Sequence[str] | float]  # by COLUMNS; a float is for all rows


def write(store: Store, words: Mapping[str, str]) -> None:
    """Write the group `verdicts` from the groups of fits, which are published.

    `words` says what observables are called in a sentence, by their names.
    """
    found = made_of(open_campaign(store.url))
    if not len(found["kind"]):
        return
    variables = {name: Variable(_ROW, dtype, words) for name, dtype, words in COLUMNS}
    write_group(store, VERDICTS, variables, found, {}, {})
    store.root.group(VERDICTS).update_attributes(encoded({"words": dict(words)}))


class Verdict(NamedTuple):
    """A row of the group, by the names of `COLUMNS`."""

    test: str
    theory: str
    observable: str
    point: str
    place: str
    kind: Kind
    size: float
    error: float
    residual: float
    residual_error: float
    p: float
    seen: float
    reason: str


def verdicts(tree: "DataTree") -> list[Verdict]:
    """The rows that are stored; none where nothing has been compared."""
    if VERDICTS not in tree.children:
        return []
    found = tree[VERDICTS].to_dataset()
    columns = (found[name].values.tolist() for name, *_ in COLUMNS)
    return [Verdict(*row) for row in zip(*columns, strict=True)]


def made_of(tree: "DataTree") -> dict[str, np.ndarray]:
    """All rows, (verdict,) each, from a campaign opened as a labelled grid or as it is stored."""
    parts = [*_of_ensemble(tree), *_of_curves(tree)]
    return {
        name: np.concatenate([_column(part, name, dtype) for part in parts] or [_empty(dtype)])
        for name, dtype, _ in COLUMNS
    }


def _column(part: Columns, name: str, dtype: str) -> np.ndarray:
    value = part.get(name, "" if dtype == "T" else np.nan)
    return np.broadcast_to(np.asarray(value), np.shape(part["kind"])).astype(_type(dtype))


def _empty(dtype: str) -> np.ndarray:
    return np.empty(0, _type(dtype))


def _type(dtype: str) -> np.dtype[np.generic]:
    return np.dtypes.StringDType() if dtype == "T" else np.dtype(dtype)


# -- ensembles ------------------------------------------------------------------------------


def _of_ensemble(tree: "DataTree") -> Iterator[Columns]:
    fits = group(tree, "fits")
    if fits is None or not fits.sizes["theory"]:
        return
    yield from _joint(fits)
    scaling = group(tree, "scaling")
    in_time = is_in_time(fits["observable"].values)
    if scaling is None or in_time:
        yield from _cells(tree, fits)
    if scaling is None:
        return
    size = size_name(scaling)
    predicted = [_predicted(scaling, fits, size, cell) for cell in range(scaling.sizes["cell"])]
    approached = not in_time and size == WIDTH and _moves_alone(fits, size)
    yield from _limits(scaling, size, predicted, approached=approached)
    if not in_time:
        reasons = dict.fromkeys(_uncompared(tree, fits.sizes["cell"]))
        missing = FEW_ALIKE if fits["compared"].any() else "; ".join(reasons)
        yield from _sizes(scaling, size, predicted, missing)


def size_name(scaling: "Dataset") -> str:
    """The dimension of the sizes that the group `scaling` is about."""
    return next(str(dim) for dim in scaling["residual"].dims if dim not in NOT_SIZES)


def _moves_alone(fits: "Dataset", size: str) -> bool:
    return any(list(settings) == [size] for settings in (axes_of(fits.attrs) or {}).values())


def _joint(fits: "Dataset") -> Iterator[Columns]:
    """All observables of all cells; the least p-value of the cells, times their number."""
    for theory in fits["theory"].values:
        one = fits.sel(theory=theory)
        p, seen = float(one["grid_p_value"]), np.atleast_1d(one["joint_seen"].values)
        most = float(np.nanmax(seen)) if np.isfinite(seen).any() else np.nan
        kind = kinds_of([p], [most])
        reason = FEW_FOR_ALL if kind[0] == "missing" else ""
        about = {"test": "joint", "theory": theory, "kind": kind, "reason": reason}
        yield about | {"p": p, "seen": most}


def _cells(tree: "DataTree", fits: "Dataset") -> Iterator[Columns]:
    """Cell by cell, and at each of its times, of what a theory speaks of somewhere."""
    cells = np.array([label(fits, cell) for cell in range(fits.sizes["cell"])], dtype=object)
    compared = _along_cells(fits["compared"].any("dataset"))
    in_time = is_in_time(fits["observable"].values)
    uncompared = _uncompared(tree, fits.sizes["cell"])
    missing = np.where(compared, NOT_REACHED if in_time else FEW_UNITS, uncompared)
    for theory in map(str, fits["theory"].values):
        silent = _silence(tree, theory, fits.sizes["cell"])
        for observable, named in by_times(fits["observable"].values).items():
            one = fits.sel(theory=theory, observable=[*named])
            known = one["predicted"].notnull().any("dataset").transpose("cell", "observable").values
            if not known.any():
                continue
            about = {"test": "cell", "place": cells}
            if in_time:
                places = np.tile([f"t = {when}" for when in named.values()], len(cells))
                about = {"test": "time", "point": np.repeat(cells, len(named)), "place": places}
            why = np.where(known, missing[:, None], silent[:, None]).ravel()
            about |= {"theory": theory, "observable": observable}
            yield _judged(about, _means(one.transpose(..., "cell", "observable")), why, ~known)


def _means(one: "Dataset") -> Columns:
    """Residuals over datasets relative to what is predicted, of all that is tested at once."""
    size = size_of(one["mean_predicted"].values, one["mean_residual"].values)
    tested = max(int(one["p_value"].notnull().sum()), 1)
    error = one["mean_error"].values
    found = {
        "size": one["mean_residual"].values / size,
        "error": error / size,
        "residual": one["mean_residual"].values,
        "residual_error": error,
        "p": bonferroni(one["p_value"].values, tested),
        "seen": seen_of(error / size, one["degrees"].values, tested),
    }
    return {name: np.ravel(values) for name, values in found.items()}


def _uncompared(tree: "DataTree", cells: int) -> np.ndarray:
    """Why nothing of a cell is compared where nothing is."""
    progress = group(tree, "progress")
    if progress is None or progress.sizes["cell"] != cells:
        return np.full(cells, NOT_CONVERGED, dtype=object)
    converged = _along_cells(progress["converged"].any("dataset"))
    biased = converged & _along_cells(progress["biased"] > 0)
    return np.where(biased, BIASED, NOT_CONVERGED).astype(object)


def _along_cells(values: "DataArray") -> np.ndarray:
    return np.asarray(values.transpose("cell").values, dtype=bool)


def _silence(tree: "DataTree", theory: str, cells: int) -> np.ndarray:
    """Why a theory predicts nothing, for each cell: for the first dataset where it is given one."""
    found = group(tree, group_name(theory))
    if found is None or "reason" not in found or found.sizes.get("cell") != cells:
        return np.full(cells, "", dtype=object)
    reasons = found["reason"]
    return (reasons.isel(dataset=0) if "dataset" in reasons.dims else reasons).values


def _judged(about: Columns, numbers: Columns, why: np.ndarray, silent: np.ndarray) -> Columns:
    """Rows of numbers with the kind that they say; `why` stands where they say nothing."""
    kind = kinds_of(numbers["p"], numbers["seen"])
    kind[silent.ravel()] = "silent"
    reason = np.where(np.isin(kind, ["missing", "silent"]), why, "")
    return about | numbers | {"kind": kind, "reason": reason}


# -- laws in the size -----------------------------------------------------------------------


def _limits(
    scaling: "Dataset", size: str, predicted: Sequence[Predicted], *, approached: bool
) -> Iterator[Columns]:
    """What is left of residuals at infinite size: of the NNGP alone where networks go to it."""
    theories = [str(name) for name in scaling["theory"].values]
    if approached:
        theories = [name for name in theories if name == LIMIT]
    laws = scaling.sel(theory=theories)
    comparisons = int(laws["intercept_p_value"].notnull().sum())
    named = by_times(laws["observable"].values)
    each = [(kind, *one) for kind, names in named.items() for one in names.items()]
    for theory, cell in product(theories, range(laws.sizes["cell"])):
        for observable, name, when in each:
            law = laws.sel(theory=theory, observable=name).isel(cell=cell)
            if not predicted[cell][theory, name].any():
                continue
            about = {"test": "limit", "theory": theory, "observable": observable}
            place = f"t = {when}" if when else f"1/{symbol(laws, size)} → 0"
            about |= {"point": label(laws, cell), "place": place}
            yield about | _limit(law, comparisons)


def _limit(law: "Dataset", comparisons: int) -> Columns:
    """The residual at infinite size, relative to the prediction at the largest."""
    order, goodness = int(law["order"]), float(law["goodness"])
    if order == 0:
        return {"kind": ["missing"], "reason": "fewer than 3 sizes are compared"}
    if goodness < DOUBTED:
        shape = f"a + b/N{' + c/N²' if order > 1 else ''}"
        return {"kind": ["missing"], "reason": f"no law {shape} (p = {plain(goodness, 2)})"}
    value, error = float(law["intercept"]), float(law["intercept_error"])
    size = float(size_of(law["reference"].values, value))
    seen = float(seen_of(error / size, float(law["intercept_degrees"]), comparisons))
    p = float(bonferroni(float(law["intercept_p_value"]), comparisons))
    kind, reason = str(kinds_of(p, seen)), ""
    if kind in ("rejected", "doubtful") and float(law["next_intercept_p_value"]) > DOUBTED:
        further = uncertain(float(law["next_intercept"]), float(law["next_intercept_error"]))
        kind, reason = "doubtful", f"a law with one more term gives {further}"
    return {
        "kind": [kind],
        "size": value / size,
        "error": error / size,
        "residual": value,
        "residual_error": error,
        "p": p,
        "seen": seen,
        "reason": "; ".join(filter(None, [_trend(law, comparisons), reason])),
    }


def _trend(law: "Dataset", comparisons: int) -> str:
    if float(law["slope_p_value"]) * comparisons > DOUBTED:
        return "no dependence on N"
    return f"moves as 1/N{' and 1/N²' if int(law['order']) > 1 else ''}"


def _sizes(
    scaling: "Dataset", size: str, predicted: Sequence[Predicted], missing: str
) -> Iterator[Columns]:
    """Size by size, at each point of the other axes."""
    letter = symbol(scaling, size)
    places = [f"{letter} = {value:g}" for value in scaling[size].values]
    for cell in range(scaling.sizes["cell"]):
        point = label(scaling, cell)
        for observable, theory in product(scaling["observable"].values, scaling["theory"].values):
            known = predicted[cell][str(theory), str(observable)]
            if not known.any():
                continue
            one = scaling.isel(cell=cell).sel(observable=observable, theory=theory)
            p = one["p_value"].values
            tested = max(int(np.isfinite(p).sum()), 1)
            yield _judged(
                {
                    "test": "size",
                    "theory": theory,
                    "observable": observable,
                    "point": point,
                    "place": places,
                },
                {
                    "size": one["relative_residual"].values,
                    "error": one["relative_error"].values,
                    "residual": one["residual"].values,
                    "residual_error": one["residual_error"].values,
                    "p": p,
                    "seen": seen_of(one["relative_error"].values, one["degrees"].values, tested),
                },
                np.where(known, missing, ""),
                ~known,
            )


def _predicted(scaling: "Dataset", fits: "Dataset", size: str, cell: int) -> Predicted:
    """Whether a theory predicts an observable at each size, at one point of the other axes."""
    here = np.ones(fits.sizes["cell"], dtype=bool)
    for name in swept(scaling):
        here &= fits[name].values == scaling[name].values[cell]
    predicted = fits["predicted"].isel(cell=here).notnull().any("dataset")
    along = fits[size].values[here]
    return {
        (str(theory), str(observable)): np.isin(
            scaling[size].values,
            along[_along_cells(predicted.sel(theory=theory, observable=observable))],
        )
        for theory, observable in product(fits["theory"].values, fits["observable"].values)
    }


# -- learning curves ------------------------------------------------------------------------


def _of_curves(tree: "DataTree") -> Iterator[Columns]:
    """Each theory on each observable: one test of the whole curve at every cell and ridge."""
    curves = group(tree, "learning_curve")
    if curves is None:
        return
    tests = max(int(curves["joint_p_value"].notnull().sum()), 1)
    for observable, theory in product(curves["observable"].values, curves["theory"].values):
        one = curves.sel(observable=observable, theory=theory)
        if not bool(one["predicted"].notnull().any()):
            continue
        for cell, ridge in product(range(one.sizes["cell"]), range(one.sizes["ridge"])):
            at = f"T = {plain(float(curves['ridge'][ridge]))}"
            place = ", ".join(filter(None, [label(curves, cell), at]))
            about = {"test": "curve", "theory": theory, "observable": observable, "place": place}
            yield about | _curve(one.isel(cell=cell, ridge=ridge), tests)


def _curve(one: "Dataset", tests: int) -> Columns:
    """The verdict of the joint test, with the numbers of the size that is farthest off."""
    tested = (one["tested"].values > 0) & np.isfinite(one["t"].values)
    p = float(bonferroni(float(one["joint_p_value"]), tests))
    seen = float(one["joint_seen"])
    if not tested.any() or not np.isfinite(p):
        return {"kind": ["missing"], "seen": seen, "reason": FEW_REPEATS}
    size = np.abs(one["predicted"].values[tested])
    relative = one["residual"].values[tested] / size
    worst = int(np.argmax(np.abs(relative)))
    sizes = one["train"].values
    left = ", ".join(str(int(n)) for n in sizes[~tested])
    farthest, count = int(sizes[tested][worst]), tested.sum()
    alone = f"tested at n = {farthest} alone"
    most = alone if count == 1 else f"{count} sizes, the farthest off n = {farthest}"
    return {
        "kind": kinds_of([p], [seen]),
        "size": relative[worst],
        "error": one["residual_error"].values[tested][worst] / size[worst],
        "residual": one["residual"].values[tested][worst],
        "residual_error": one["residual_error"].values[tested][worst],
        "p": p,
        "seen": seen,
        "reason": most + (f"; not tested at n = {left}" if left else ""),
    }
