"""What a regression has found about its theories, in sentences with numbers and p-values."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis.verdicts import KINDS, REJECTED, Kind, digits, joined, kind_of, percent
from pipelines.report.figures.cells import group, label
from pipelines.report.sentences.law_conclusions import free_lines, law_lines, quartic_lines
from pipelines.report.theory_names import in_words
from pipelines.report.words import listed
from pipelines.text.rounding import plain, uncertain
from storage.campaign.regression_spec import DECIMATED_THEORIES
from theory.statistics import bonferroni, paired_scatter

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

Array = NDArray[np.float64]

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
DECIDES = 10.0  # a difference of Akaike's criterion: the right theory is so far behind in < 1 %
SCATTERS = 3.0  # standard deviations of it between theories that come equally close: 0.3 %


def curve_lines(tree: "DataTree") -> Iterator[str]:
    """What decides between theories, then whether each describes the whole learning curve."""
    curves = group(tree, "learning_curve")
    yield from _distances(tree)
    yield from quartic_lines(tree)
    if curves is not None and FIRST in curves["observable"].values:
        yield from _ranking(curves.sel(observable=FIRST))
    yield from law_lines(tree)
    if curves is not None:
        yield from _verdicts(curves)
    yield from free_lines(tree)


def _verdicts(curves: "Dataset") -> Iterator[str]:
    """Each theory on each observable, those of the error over the pool first."""
    for observable in curves["observable"].values:
        one = curves.sel(observable=observable)
        for theory in curves["theory"].values:
            if bool(one["predicted"].sel(theory=theory).notnull().any()):
                yield _theory(one.sel(theory=theory), curves)
    if (tests := _tests(curves)) > 1:
        yield (
            f"a theory counts as rejected where its p-value is below {REJECTED:g} after the "
            f"correction for {tests} tests of learning curves; those given are not corrected."
        )


# -- verdicts -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """One theory and observable at one cell and ridge."""

    name: str
    kind: Kind
    p_value: float
    sizes: int
    worst: int  # the size that is farthest off
    t: float  # the largest, in standard errors
    relative: float  # there
    error: float
    seen: float
    left_out: list[int]


def _theory(one: "Dataset", curves: "Dataset") -> str:
    tests = max(_tests(curves), 1)
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


def _tests(curves: "Dataset") -> int:
    return int(curves["joint_p_value"].notnull().sum())


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
        return _Place(name, kind, joint, 0, 0, np.nan, np.nan, np.nan, seen, left)
    size = np.abs(one["predicted"].values[tested])
    relative = one["residual"].values[tested] / size
    worst = int(np.argmax(np.abs(relative)))
    return _Place(
        name,
        kind,
        joint,
        int(tested.sum()),
        int(one["train"].values[tested][worst]),
        float(np.abs(one["t"].values[tested]).max()),
        float(relative[worst]),
        float((one["residual_error"].values[tested] / size)[worst]),
        seen,
        left,
    )


def _off(place: _Place) -> str:
    """`at most 3.1(4) % above what is predicted at n = 320`, or how many times it."""
    times, where = 1 + place.relative, f"what is predicted at n = {place.worst}"
    if times > TIMES:
        return f"up to {uncertain(times, place.error)} times {where}"
    if times < 1 / TIMES:
        return f"down to {_part(times, place.error)} of {where}"
    side = "above" if place.relative > 0 else "below"
    percents = uncertain(100 * abs(place.relative), 100 * place.error)
    return f"at most {percents} % {side} {where}"


def _part(times: float, error: float) -> str:
    """A small factor, as a part of one where it is very small."""
    if times > 0.01:
        return uncertain(times, error)
    return f"1/{1 / times:.0f}" if times > 1e-4 else f"1/({plain(1 / times, 2)})"


def _alone(place: _Place) -> str:
    if place.kind == "missing":
        return "not compared (too few repeats with a result, or no size within 0.3 of the pool)"
    sizes = f"{place.sizes} size{'' if place.sizes == 1 else 's'}"
    numbers = [
        f"Hotelling p = {digits(place.p_value)} over {sizes}",
        f"at most {place.t:.1f} standard errors, measured {_off(place)}",
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
        why = "too few repeats with a result, or sizes within 0.3 of the pool"
        return f"not compared{where} ({why})"
    worst = max(alike, key=lambda place: abs(place.relative))
    at = f", {worst.name}" if len(alike) > 1 else ""
    least = min(place.p_value for place in alike)
    numbers = [f"measured {_off(worst)}{at}", f"Hotelling p from {digits(least)}"]
    if kind == "agrees":
        seen = max(place.seen for place in alike)
        numbers.append(f"{percent(seen)} at every size would have been seen")
    return f"{SAID[kind]}{where} ({'; '.join(numbers)})"


def _ranking(one: "Dataset") -> Iterator[str]:
    """Akaike's criterion of theories averaged over the draws, then of those given them.

    The two kinds are never compared: an average, however right, cannot know the scatter of draws.
    """
    given = np.isin(one["theory"].values, DECIMATED_THEORIES)
    yield from _ranked(one.isel(theory=~given), "averaged over the draws", DECIDES)
    if given.any():
        paired = one.isel(theory=given)
        yield from _ranked(paired, "given the draws", _decides_of_pairs(paired))


def _decides_of_pairs(one: "Dataset") -> float:
    """Theories given the draws are all a little wrong: what equally close ones do not differ by.

    Of the cell that asks for most. Fewer repeats may have been evaluated, which scatter less.
    """
    sizes = one["tested"].sum("train").max("theory")
    shapes = zip(one["repeats"].values.tolist(), sizes.values.tolist(), strict=True)
    scatters = [paired_scatter(units, int(count)) for units, count in shapes if count]
    return max([DECIDES, *(SCATTERS * scatter for scatter in scatters)])


def _ranked(one: "Dataset", kind: str, decides: float) -> Iterator[str]:
    """Each cell and ridge by itself, since ridges share their draws: where which theory is best."""
    criteria = one["criterion"].transpose("theory", "cell", "ridge").values
    names = [_name(one, cell, ridge) for cell, ridge in np.ndindex(criteria.shape[1:])]
    criteria = criteria.reshape(len(criteria), len(names))
    speaking = np.isfinite(criteria).any(1)
    known = np.flatnonzero(np.isfinite(criteria[speaking]).all(0))
    if speaking.sum() < 2 or not len(known):
        return
    criteria = criteria[speaking][:, known]
    theories = [in_words(str(theory)) for theory in one["theory"].values[speaking]]
    above, best = criteria - criteria.min(0), criteria.argmin(0)
    parts = []
    for first in dict.fromkeys(best.tolist()):
        there = np.flatnonzero(best == first)
        where = _at([names[place] for place in known[there]], len(names))
        parts.append(f"{where}for {theories[first]}, {_behind(above[:, there], first, theories)}")
    if np.sort(above, axis=0)[1].min() < decides:  # the second best, where it is nearest
        parts.append(f"below {plain(decides, 2)} nothing is decided")
    yield (
        f"Akaike's criterion of the error over the pool, among theories {kind}, is least "
        f"{'; '.join(parts)}."
    )


def _at(names: list[str], total: int) -> str:
    if len(names) == total:
        return "everywhere " if total > 1 else ""
    return f"at {joined(names)} "


def _behind(above: Array, first: int, theories: list[str]) -> str:
    """`and higher by 12.0 to 31.5 for rg and 40.1 for ek`, over places, the nearest first."""
    low, high = above.min(1), above.max(1)
    gaps = [
        f"{low[i]:.1f}{f' to {high[i]:.1f}' if high[i] - low[i] >= 0.1 else ''} for {theories[i]}"
        for i in low.argsort()
        if i != first
    ]
    return f"and higher by {listed(gaps)}"


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
