"""Observables of the ensemble against the swept setting, with the theories and what they miss."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.interpolate import PchipInterpolator
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import (
    Abscissa,
    Series,
    abscissa,
    group,
    label,
    series,
    shown_of,
    spread,
    the_abscissa,
)
from pipelines.report.figures.panel import Panel
from pipelines.report.theory_names import observable_in_words
from pipelines.text.rounding import SUPERSCRIPTS
from pipelines.text.settings import SUBSCRIPTS

MOST_DATASETS = 3  # drawn one by one; more are averaged
MOST_SERIES = 2  # on the same axes; of more, each has its own
MOST_FACETS = 12
COLUMNS = 2  # of more facets than these
BESIDE_LABELS = 19  # characters of a title in a column, beside which labels stand
ROOM = 24  # characters of a label along the height of an observable
PERCENT = 100  # residuals are drawn in units of 10⁻²


@dataclass(frozen=True)
class Facet:
    """What stands on axes of its own: an observable, and the series that are drawn of it."""

    observable: str
    lines: list[Series]
    title: str = ""


def compare(tree: DataTree, observables: Sequence[str], name: str, title: str) -> Panel | None:
    """A panel of the observables of these names; None where nothing was measured."""
    fits = group(tree, "fits")
    if fits is None:
        return None
    names = [str(o) for o in fits["observable"].values if str(o) in observables]
    along = abscissa(fits)
    if along is None or not names:
        return None
    data = _averaged(fits.sel(observable=names))
    scaling = group(tree, "scaling")
    if scaling is not None and along.name in scaling["residual"].dims:
        data = data.merge(_laws(scaling, data), combine_attrs="override")
    if not bool(data["measured"].notnull().any()):
        return None
    count = len(facets(data, along, data.sizes["observable"] * data.sizes["cell"]))
    room = shown_of(min(count, MOST_FACETS), count, "such axes")
    title = f"{title} against the {along.short}"
    return Panel(name, title, _caption(data), _draw, data, _apart, room)


def facets(data: xr.Dataset, along: Abscissa, most: int) -> list[Facet]:
    """Axes for each observable, and for each series where these are more than axes can hold.

    Where this makes more than `most`, series are left out, the same ones of each observable.
    """
    names = [str(name) for name in data["observable"].values]
    lines = series(data, along, data.sizes["cell"])
    if len(lines) <= MOST_SERIES:
        return [Facet(name, lines) for name in names]
    lines = [lines[place] for place in spread(len(lines), max(most // len(names), 1))]
    if len(names) == COLUMNS:  # side by side
        return [Facet(name, [line], line.label) for line in lines for name in names]
    return [Facet(name, [line], line.label) for name in names for line in lines]


def _shown(data: xr.Dataset, along: Abscissa) -> list[Facet]:
    every = facets(data, along, MOST_FACETS)
    return [every[place] for place in spread(len(every), MOST_FACETS)]


def _apart(data: xr.Dataset) -> dict[str, xr.Dataset]:
    """The numbers of each facet alone."""
    found = {}
    for facet in _shown(data, the_abscissa(data)):
        words = observable_in_words(facet.observable).removeprefix("the ")
        cells = sorted(cell for line in facet.lines for cell in line.cells)
        one = data.sel(observable=[facet.observable]).isel(cell=cells)
        found[", ".join(filter(None, [words, facet.title]))] = one.sel(
            theory=one["predicted"].notnull().any(("observable", "dataset", "cell")).values
        )
    return found


def _averaged(fits: xr.Dataset) -> xr.Dataset:
    """What is drawn; more than a few datasets become their mean over those that are compared."""
    names = ["measured", "standard_error", "compared", "predicted", "residual"]
    data = fits[names].assign_attrs(averaged=0)
    if fits.sizes["dataset"] <= MOST_DATASETS:
        shape = data["residual"].dims
        spread = data["standard_error"].broadcast_like(data["residual"]).transpose(*shape)
        return data.assign(residual_error=spread)
    kept = data["compared"] > 0
    means = data[["measured", "predicted", "residual"]].where(kept).mean("dataset", keep_attrs=True)
    means = means.assign(residual_error=fits["mean_error"])
    variance = (data["standard_error"].where(kept) ** 2).sum("dataset")
    error = variance**0.5 / kept.sum("dataset").where(kept.any("dataset"))
    return (
        means.assign(
            standard_error=error.assign_attrs(data["standard_error"].attrs),
            compared=kept.any("dataset"),
        )
        .expand_dims("dataset")
        .assign_attrs(fits.attrs, averaged=fits.sizes["dataset"])
    )


def _laws(scaling: xr.Dataset, data: xr.Dataset) -> xr.Dataset:
    """The laws a + b/N + c/N² of the residuals; `point` is a point of the other axes."""
    names = ["intercept", "intercept_error", "slope", "curvature"]
    points = [label(scaling, cell) for cell in range(scaling.sizes["cell"])]
    kept = scaling[names].sel(observable=data["observable"], theory=data["theory"])
    bare = kept.drop_vars([name for name in kept.coords if name not in ("observable", "theory")])
    return bare.rename(cell="point").assign_coords(point=points)


def _draw(data: xr.Dataset) -> Figure:
    along = the_abscissa(data)
    shown = _shown(data, along)
    parts = 1 + (data.sizes["theory"] > 0)  # of a facet: the values, and their residuals
    columns = 1 if len(shown) <= COLUMNS else COLUMNS
    rows = -(-len(shown) // columns)
    heights = [2, 1.1][:parts] * rows
    figure = style.figure(0.8 + 1.15 * sum(heights))
    table = figure.subplots(
        len(heights), columns, sharex=True, height_ratios=heights, squeeze=False
    )
    for place, facet in enumerate(shown):
        row, column = divmod(place, columns)
        _facet([*table[row * parts : (row + 1) * parts, column]], data, along, facet)
    for part in range(parts):
        style.taken(table[part::parts], len(shown), along.words if part == parts - 1 else "")
    if along.logarithmic(data):
        table[0, 0].set_xscale("log")
    style.ticks_at(table[0, 0], data[along.name].values, columns)
    style.legend(figure, table[0, 0], most=2)
    figure.align_ylabels()
    return figure


def _facet(axes: Sequence[Axes], data: xr.Dataset, along: Abscissa, facet: Facet) -> None:
    """An observable of some series on axes, and its residuals on those below."""
    one = data.sel(observable=facet.observable)
    main, *below = axes
    main.set_ylabel(_words(facet.observable))
    if facet.title:
        main.set_title(style.wrapped(facet.title, BESIDE_LABELS))
    style.grid(main)
    for number, line in enumerate(facet.lines):
        name = "" if facet.title else line.label
        _theories(main, one, along, line, number)
        _measured(main, one, along, line, number, name)
        for residuals in below:
            _residuals(residuals, one, along, line, number)
    for residuals in below:
        _finish(residuals, one)


def _finish(axes: Axes, one: xr.Dataset) -> None:
    axes.axhline(0, color=style.INK, lw=0.8, zorder=1)
    axes.set_ylabel("residual\n($10^{-2}$)")
    style.grid(axes)
    residual, error = PERCENT * one["residual"], PERCENT * one["residual_error"]
    if not bool(residual.notnull().any()):
        axes.set_yticks([])
        axes.text(0.5, 0.6, "nothing is compared", ha="center", transform=axes.transAxes)
    elif (linear := style.linear_part(residual, error)) is not None:
        style.wide_range(axes, residual, error, linear)


def _words(observable: str) -> str:
    known = {
        "learnability target": "learnability",
        "mse_mean": "error of the mean",
        "predictive_variance": "predictive variance",
        "hidden_variance teacher": "variance of $w\\cdot w_*$",
        "weight_norm": "norm of the readout",
    }
    words = known.get(observable) or style.wrapped(observable.replace("_", " "), ROOM, 2)
    return re.sub(r"\b(He|z)[_^]?(\d+)$", _indexed, words)


def _indexed(found: re.Match[str]) -> str:
    """He₃ and z³ for He3 and z^3."""
    name, order = found.groups()
    return f"{name}{order.translate(SUPERSCRIPTS if name == 'z' else SUBSCRIPTS)}"


def _theories(axes: Axes, one: xr.Dataset, along: Abscissa, line: Series, number: int) -> None:
    for theory in one["theory"].values:
        for dataset in range(one.sizes["dataset"]):
            curve = one["predicted"].sel(theory=theory).isel(dataset=dataset, cell=line.cells)
            x, y = _smooth(curve[along.name].values, curve.values, along.logarithmic(one))
            colour, title = style.theory_colour(str(theory)), style.theory_title(str(theory))
            dashes = style.theory_line(str(theory))
            axes.plot(x, y, color=colour, linestyle=dashes, label=title, zorder=1.5)
            axes.plot(
                curve[along.name],
                curve,
                style.marker(dataset + number * one.sizes["dataset"]),
                color=colour,
                markersize=4,
                markerfacecolor="white",
                zorder=1.6,
            )


def _smooth(x: np.ndarray, y: np.ndarray, logarithmic: bool) -> tuple[np.ndarray, np.ndarray]:
    """A monotone curve through the predictions, made at the cells alone."""
    known = np.isfinite(y)
    x, y = x[known].astype(float), y[known]
    if len(x) < 2 or (np.diff(x) <= 0).any():
        return x, y
    places = np.log(x) if logarithmic else x
    dense = np.linspace(places[0], places[-1], 200)
    return np.exp(dense) if logarithmic else dense, PchipInterpolator(places, y)(dense)


def _measured(
    axes: Axes, one: xr.Dataset, along: Abscissa, line: Series, number: int, name: str
) -> None:
    """Error bars; open symbols are drawn first, so that the legend shows full ones."""
    for dataset in range(one.sizes["dataset"]):
        points = one.isel(dataset=dataset, cell=line.cells)
        title = f"dataset {dataset}" if one.sizes["dataset"] > 1 else "measured"
        full = (points["compared"] > 0).values
        for kept, face in ((~full, "white"), (full, style.MEASURED)):
            chosen = points.isel(cell=kept & points["measured"].notnull().values)
            if not chosen.sizes["cell"]:
                continue
            axes.errorbar(
                along.beside(one, chosen, dataset, one.sizes["dataset"]),
                chosen["measured"],
                chosen["standard_error"],
                fmt=style.marker(dataset + number * one.sizes["dataset"]),
                color=style.MEASURED,
                markerfacecolor=face,
                label=", ".join(filter(None, [title, name])),
            )


def _residuals(axes: Axes, one: xr.Dataset, along: Abscissa, line: Series, number: int) -> None:
    theories = one["theory"].values
    count = len(theories) * one.sizes["dataset"]
    for place, theory in enumerate(theories):
        for dataset in range(one.sizes["dataset"]):
            points = one.sel(theory=theory).isel(dataset=dataset, cell=line.cells)
            axes.errorbar(
                along.beside(one, points, place * one.sizes["dataset"] + dataset, count),
                PERCENT * points["residual"],
                PERCENT * points["residual_error"],
                fmt=style.marker(dataset + number * one.sizes["dataset"]),
                color=style.theory_colour(str(theory)),
            )
    if "intercept" in one and line.label in one["point"].values:
        _law(axes, one.sel(point=line.label), along)


def _law(axes: Axes, one: xr.Dataset, along: Abscissa) -> None:
    """The law of each theory's residual, and its value at infinite width as a band."""
    widths = one[along.name].values
    dense = np.geomspace(widths.min(), widths.max(), 200)
    for theory in one["theory"].values:
        law = one.sel(theory=theory)
        a, error, b = (float(law[name]) for name in ("intercept", "intercept_error", "slope"))
        if not np.isfinite(b):
            continue
        curve = a + b / dense + np.nan_to_num(float(law["curvature"])) / dense**2
        colour = style.theory_colour(str(theory))
        axes.plot(dense, PERCENT * curve, color=colour, lw=1, zorder=1.5)
        axes.axhspan(PERCENT * (a - error), PERCENT * (a + error), color=colour, alpha=0.15, lw=0)


def _caption(data: xr.Dataset) -> str:
    text = "Measured (black) with the standard error over independent chains"
    if data.attrs["averaged"]:
        text += f", averaged over {data.attrs['averaged']} datasets"
    if data.sizes["theory"]:
        text += (
            "; theories have no free parameter (curves join predictions at the cells). Below, "
            "measured minus predicted, in units of 10⁻²"
        )
    residuals = [(one["residual"], one["residual_error"]) for _, one in data.groupby("observable")]
    if any(style.linear_part(*pair) is not None for pair in residuals):
        text += ", on an axis that is linear near zero and logarithmic beyond"
    if "intercept" in data and bool(data["intercept"].notnull().any()):
        text += "; lines are the law a + b/N (+ c/N²) of that size, bands its limit a"
    if bool((data["compared"] == 0).any()):
        text += ". Open symbols have not converged and are not compared"
    return f"{text}."
