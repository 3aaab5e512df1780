"""What a regression has found about its theories, in sentences with numbers and p-values."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.analysis.verdicts import KINDS, Kind, digits, joined, kind_of, percent
from pipelines.report.figures.cells import group, label
from pipelines.report.theory_names import in_words
from pipelines.report.words import listed
from pipelines.rounding import plain, uncertain
from theory.statistics import bonferroni

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

FIRST = "pool_error"
OBSERVABLES = {
    FIRST: "the error over the pool",
    "train_error": "the training error",
    "posterior_variance": "the posterior variance",
    "quartic_error": "the error over the pool",
    "quartic_residual": "the mean square residual",
}
SAID: dict[Kind, str] = {
    "rejected": "rejected",
    "doubtful": "in doubt",
    "unresolved": "not resolved",
    "agrees": "in agreement",
    "missing": "not compared",
}
TIMES = 3.0  # relative deviations above that are said as factors
DECIDES = 10.0  # a difference of Akaike's criterion


def curve_lines(tree: "DataTree") -> Iterator[str]:
    """Whether each theory describes the whole learning curve, and what its exponents are."""
    curves, found = group(tree, "learning_curve"), group(tree, "exponents")
    exponents = iter(()) if found is None else _exponents(found)
    if curves is not None:
        for observable in curves["observable"].values:
            one = curves.sel(observable=observable)
            for theory in curves["theory"].values:
                if bool(one["predicted"].sel(theory=theory).notnull().any()):
                    yield _theory(one.sel(theory=theory), curves)
            if observable == FIRST:
                yield from _ranking(one)
                yield from _distances(tree)
                yield from exponents
    yield from exponents


# -- verdicts -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """One theory and observable at one cell and ridge."""

    name: str
    kind: Kind
    p_value: float
    sizes: int
    t: float  # the largest, in standard errors
    relative: float  # the largest
    error: float
    seen: float
    left_out: list[int]


def _theory(one: "Dataset", curves: "Dataset") -> str:
    tests = max(int(curves["joint_p_value"].notnull().sum()), 1)
    single = curves.sizes["cell"] * curves.sizes["ridge"] == 1
    places = [
        _place(one.isel(cell=cell, ridge=ridge), _name(curves, cell, ridge), tests)
        for cell in range(one.sizes["cell"])
        for ridge in range(one.sizes["ridge"])
    ]
    theory, observable = str(one["theory"].values), str(one["observable"].values)
    about = f"{in_words(theory)} on {_words(observable)}"
    if single:
        return f"{about}, {places[0].name}: {_alone(places[0])}."
    parts = []
    for kind in KINDS:
        alike = [place for place in places if place.kind == kind]
        if alike:
            parts.append(_together(kind, alike, len(places)))
    return f"{about}: {'; '.join(parts)}."


def _words(observable: str) -> str:
    name, _, coupling = observable.partition(" ")
    quartic = f" with the quartic coupling u = {plain(float(coupling))}" if coupling else ""
    return f"{OBSERVABLES[name]}{quartic}"


def _name(curves: "Dataset", cell: int, ridge: int) -> str:
    at = f"T = {plain(float(curves['ridge'][ridge]))}"
    return ", ".join(filter(None, [label(curves, cell), at]))


def _place(one: "Dataset", name: str, tests: int) -> _Place:
    joint, seen = float(one["joint_p_value"]), float(one["joint_seen"])
    tested = (one["tested"].values > 0) & np.isfinite(one["t"].values)
    kind = kind_of(float(bonferroni(joint, tests)), seen) if tested.any() else "missing"
    left = [int(size) for size in one["train"].values[~tested]]
    if kind == "missing":
        return _Place(name, kind, joint, 0, np.nan, np.nan, np.nan, seen, left)
    size = np.abs(one["predicted"].values[tested])
    relative = one["residual"].values[tested] / size
    worst = int(np.argmax(np.abs(relative)))
    return _Place(
        name,
        kind,
        joint,
        int(tested.sum()),
        float(np.abs(one["t"].values[tested]).max()),
        float(relative[worst]),
        float((one["residual_error"].values[tested] / size)[worst]),
        seen,
        left,
    )


def _off(place: _Place) -> str:
    """`at most 3.1(4) % off`, or how many times the prediction was measured."""
    if place.relative > TIMES:
        return f"up to {uncertain(1 + place.relative, place.error)} times what is predicted"
    return f"at most {uncertain(100 * place.relative, 100 * place.error)} % off"


def _alone(place: _Place) -> str:
    if place.kind == "missing":
        return "not compared (too few finished repeats, or no size within 0.3 of the pool)"
    sizes = f"{place.sizes} size{'' if place.sizes == 1 else 's'}"
    numbers = [
        f"Hotelling p = {digits(place.p_value)} over {sizes}",
        f"at most {place.t:.1f} standard errors, {_off(place)}",
    ]
    if place.kind == "agrees":
        numbers.append(f"{percent(place.seen)} at every size would have been seen")
    left = ", ".join(map(str, place.left_out))
    return f"{SAID[place.kind]} ({'; '.join(numbers)})" + (
        f", not tested at n = {left}" if left else ""
    )


def _together(kind: Kind, alike: list[_Place], total: int) -> str:
    names = [place.name for place in alike]
    where = " everywhere" if len(alike) == total else f" at {joined(names)}"
    if kind == "missing":
        return f"not compared{where} (too few finished repeats, or sizes within 0.3 of the pool)"
    worst = max(alike, key=lambda place: abs(place.relative))
    at = f" at {worst.name}" if len(alike) > 1 else ""
    least = min(place.p_value for place in alike)
    numbers = [f"measured {_off(worst)}{at}", f"Hotelling p from {digits(least)}"]
    if kind == "agrees":
        seen = max(place.seen for place in alike)
        numbers.append(f"{percent(seen)} at every size would have been seen")
    return f"{SAID[kind]}{where} ({'; '.join(numbers)})"


def _ranking(one: "Dataset") -> Iterator[str]:
    """Akaike's criterion of the theories, summed over cells and ridges."""
    known = one["criterion"].dropna("theory", how="any")
    if known.sizes["theory"] < 2 or not known.size:
        return
    total = known.sum(("cell", "ridge")).sortby(known.sum(("cell", "ridge")))
    best, *rest = (in_words(str(theory)) for theory in total["theory"].values)
    above = (total - total[0]).values[1:]
    gaps = [f"{plain(gap, 3)} for {name}" for gap, name in zip(above, rest, strict=True)]
    close = f"; below {plain(DECIDES)} nothing is decided" if above[0] < DECIDES else ""
    yield (
        f"Akaike's criterion of the error over the pool is least for {best}, and higher by "
        f"{listed(gaps)}{close}."
    )


def _distances(tree: "DataTree") -> Iterator[str]:
    """How much closer the ridge of each point brings the mean predictor to the whole kernel's."""
    one, each = group(tree, "theory/rg_gpr"), group(tree, "theory/rg_gpr_position")
    if one is None or each is None:
        return
    for cell in range(one.sizes["cell"]):
        uniform, position = _square(one.isel(cell=cell)), _square(each.isel(cell=cell))
        if not np.isfinite([*uniform, *position]).all():
            continue
        where = f"at {name}, " if (name := label(one, cell)) else ""
        text = (
            f"{where}the mean predictor over draws is {_root(uniform)} from that with the whole "
            f"kernel with one ridge T(Λ), and {_root(position)} with the ridge T(x) of each point"
        )
        most = position[0] + 2 * position[1]
        if uniform[0] > 5 * uniform[1] and uniform[0] > most:
            text += f", at least {plain(np.sqrt(uniform[0] / most), 2)} times closer"
        yield f"{text}."


def _square(found: "Dataset") -> tuple[float, float]:
    """Mean over sizes and ridges of the squared distance, and its error."""
    error = np.square(found["distance_square_error"].values)
    return float(found["distance_square"].mean()), float(np.sqrt(error.sum()) / error.size)


def _root(square: tuple[float, float]) -> str:
    """A root mean square, or what it is below."""
    value, error = square
    if value < 2 * error:
        return f"less than {plain(np.sqrt(max(value, 0) + 2 * error), 2)}"
    return uncertain(np.sqrt(value), error / (2 * np.sqrt(value)))


# -- exponents ------------------------------------------------------------------------------


def _exponents(found: "Dataset") -> Iterator[str]:
    for cell in range(found.sizes["cell"]):
        one = found.isel(cell=cell)
        where = f"at {name}, " if (name := label(found, cell)) else ""
        law = one.sel(law="power")
        if float(law["spectral_exponent"]) > 0:  # a spectrum that can be summed
            yield (
                f"{where}kernel eigenvalues fall as k to minus 1 + α with α = "
                f"{_value(law, 'spectral_exponent')}, squared coefficients of the target with β = "
                f"{_value(law, 'target_exponent')}."
            )
        for ridge in range(found.sizes["ridge"]):
            yield from _slope(one.isel(ridge=ridge), where)


def _slope(one: "Dataset", where: str) -> Iterator[str]:
    if bool(one["slope"].isnull()):
        return
    text = (
        f"{where}the error over the pool falls as n to minus {_value(one, 'slope')} at T = "
        f"{plain(float(one['ridge']))}"
    )
    if "effective_ridge" in one["theory"].values:
        predicted = float(one["slope_predicted"].sel(theory="effective_ridge"))
        text += f", {plain(predicted, 3)} by the effective ridge"
    factor = one.sel(parameter="ridge_factor")
    low, high = float(factor["fitted_low"]), float(factor["fitted_high"])
    if np.isfinite(low) and np.isfinite(high):
        value = uncertain(float(factor["fitted"]), (high - low) / 2)
        text += f"; left free, the effective ridge is {value} of what is predicted"
    yield f"{text}."


def _value(one: "Dataset", name: str) -> str:
    return uncertain(float(one[name]), float(one[f"{name}_error"]))
