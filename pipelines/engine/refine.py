"""Choosing the next cells of a campaign that refines itself: between the cells that it has.

Along the axis that is refined, cells that agree in everything else form a line. Every line offers
the middle of its most telling interval; the best offers that the budget has room for are a round.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis.chains import sound_chains
from storage.campaign.refine_spec import Refine
from storage.planning.excluded import excludes
from storage.planning.plan import Cell, Plan, Round
from storage.planning.sweep import between, number, order_parameters
from storage.store.hierarchy import Group
from storage.store.store import Store

FINEST = 1e-3  # of the axis: intervals below it are not halved any more

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Offer:
    """The middle of an interval, and how telling the interval is."""

    score: float
    point: dict[str, object]


def next_round(store: Store, planned: Plan) -> Round | None:
    """The next cells; None where rounds or budget are spent or nothing is left to halve."""
    refine = planned.spec.refine
    if refine is None or len(planned.rounds) >= refine.rounds:
        return None
    offers = sorted(_offers(store, planned, refine), key=lambda offer: -offer.score)
    points = tuple(offer.point for offer in offers[: planned.room])
    return Round(len(planned.specs), points) if points else None


def _offers(store: Store, planned: Plan, refine: Refine) -> Iterator[_Offer]:
    values = _scores(store, planned, refine)
    paths = list(planned.spec.sweep[refine.axis])
    for line in _lines(planned, paths):
        pairs = list(itertools.pairwise(line))
        widths = [_width(line, pair, paths) for pair in pairs]
        offers = [
            (_interval(values, pair, refine), width, middle)
            for pair, width in zip(pairs, widths, strict=True)
            if width > FINEST
            and (middle := between(pair[0].settings, pair[1].settings, paths)) is not None
            and not excludes(planned.spec, middle)
        ]
        known = [offer for offer in offers if math.isfinite(offer[0]) and offer[0] > 0]
        if known:
            score, _, point = max(known, key=lambda offer: offer[:2])
            yield _Offer(score, point)


def _lines(planned: Plan, paths: Sequence[str]) -> list[list[Cell]]:
    """Cells that differ in the refined settings alone, in the order of the first of these."""
    lines: dict[str, list[Cell]] = defaultdict(list)
    for cell in planned.cells:
        rest = {path: value for path, value in cell.settings.items() if path not in paths}
        lines[repr(sorted(rest.items()))].append(cell)
    return [sorted(line, key=lambda cell: _place(cell, paths)) for line in lines.values()]


def _place(cell: Cell, paths: Sequence[str]) -> float:
    return number(cell.settings, paths[0])


def _width(line: Sequence[Cell], pair: tuple[Cell, Cell], paths: Sequence[str]) -> float:
    """Of an interval, as a share of the line."""
    first, last, low, high = (float(_place(cell, paths)) for cell in (line[0], line[-1], *pair))
    return (high - low) / (last - first) if last > first else 0.0


def _interval(values: Array, pair: tuple[Cell, Cell], refine: Refine) -> float:
    low, high = (values[cell.index] for cell in pair)
    if refine.by == "gradient":
        return abs(float(high - low))
    return float(np.nanmax([low, high])) if np.isfinite([low, high]).any() else math.nan


# -- what makes a cell telling ----------------------------------------------------------------


def _scores(store: Store, planned: Plan, refine: Refine) -> Array:
    """One number for each cell, (cell,); NaN where nothing is known of it."""
    if refine.by == "disagreement":
        return _disagreement(store.root.group("fits"))
    assert refine.observable is not None
    group, datasets = store.root.group("ensemble"), planned.most("ensemble", "datasets")
    found = np.full((len(planned.cells), datasets), np.nan)
    for cell, dataset in np.ndindex(found.shape):
        chains = sound_chains(group, planned, cell, dataset)
        if chains.enough:
            name, places = order_parameters(planned.spec)[refine.observable]
            draws = chains.draws(name)[(..., *places)]
            found[cell, dataset] = draws.mean() if refine.by == "gradient" else bimodality(draws)
    known = np.isfinite(found)
    with np.errstate(invalid="ignore"):
        return np.where(known, found, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)


def bimodality(draws: Array) -> float:
    """(g₁² + 1)/κ with skewness g₁ and kurtosis κ: 1/3 of a normal law, 1 of two points; at most 1.

    Pearson's inequality κ ≥ g₁² + 1 is sharp for two points. NaN where nothing varies.
    """
    deviation = draws.ravel() - draws.mean()
    second = np.mean(deviation**2)
    if not second > 0:
        return math.nan
    skewness = np.mean(deviation**3) / second**1.5
    return float((skewness**2 + 1) / (np.mean(deviation**4) / second**2))


def _disagreement(fits: Group) -> Array:
    """The largest distance, in standard errors, of a theory from the measurement or another."""
    residual, error = (np.asarray(fits[name][...]) for name in ("mean_residual", "mean_error"))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.abs(residual[:, None] - residual[None]) / error[None]
        largest = np.concatenate([np.abs(residual / error)[None], apart])
    largest = np.where(np.isfinite(largest), largest, -1.0).max(axis=(0, 1, 3))
    return np.where(largest > 0, largest, np.nan)
