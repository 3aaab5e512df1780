"""What a regression has found about its theories, in sentences with numbers and p-values."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.report.figures.cells import group, label
from pipelines.report.sentences.law_conclusions import free_lines, law_lines, quartic_lines
from pipelines.report.sentences.verdict_sentences import Line, joined, of_curves
from pipelines.report.theory_names import in_words
from pipelines.report.words import listed
from pipelines.text.rounding import plain, uncertain
from storage.campaign.regression_spec import DECIMATED_THEORIES
from theory.statistics import paired_scatter

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

Array = NDArray[np.float64]

FIRST_ERROR = "pool_error"
DECIDES = 10.0  # a difference of Akaike's criterion: the right theory is so far behind in < 1 %
SCATTERS = 3.0  # standard deviations of it between theories that come equally close: 0.3 %


def curve_lines(tree: "DataTree") -> Iterator[str | Line]:
    """What decides between theories, then whether each describes the whole learning curve."""
    curves = group(tree, "learning_curve")
    yield from _distances(tree)
    yield from quartic_lines(tree)
    if curves is not None and FIRST_ERROR in curves["observable"].values:
        yield from _ranking(curves.sel(observable=FIRST_ERROR))
    yield from law_lines(tree)
    yield from of_curves(tree)
    yield from free_lines(tree)


def _name(curves: "Dataset", cell: int, ridge: int) -> str:
    at = f"T = {plain(float(curves['ridge'][ridge]))}"
    return ", ".join(filter(None, [label(curves, cell), at]))


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
