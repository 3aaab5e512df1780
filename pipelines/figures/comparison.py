"""Observables of the ensemble against the swept setting, with the theories and what they miss."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.interpolate import PchipInterpolator
from xarray import DataTree

from pipelines import style
from pipelines.figures.cells import Abscissa, Series, abscissa, group, label, series
from pipelines.figures.panel import Panel

MOST_DATASETS = 3  # drawn one by one; more are averaged
MOST_SERIES = 2
MOST_OBSERVABLES = 2
PERCENT = 100  # residuals are drawn in units of 10⁻²


def compare(tree: DataTree, prefixes: tuple[str, ...], name: str, title: str) -> Panel | None:
    """A panel of the observables whose names begin so; None where nothing was measured."""
    fits = group(tree, "fits")
    if fits is None:
        return None
    names = [str(o) for o in fits["observable"].values if str(o).startswith(prefixes)]
    along = abscissa(fits)
    if along is None or not names:
        return None
    data = _averaged(fits.sel(observable=names[:MOST_OBSERVABLES]))
    if along.is_width and (scaling := group(tree, "scaling")) is not None:
        data = data.merge(_laws(scaling, data), combine_attrs="override")
    if not bool(data["measured"].notnull().any()):
        return None
    figure = _draw(data, along)
    return Panel(name, f"{title} against the {along.short}", _caption(data), figure, data)


def _averaged(fits: xr.Dataset) -> xr.Dataset:
    """What is drawn; more than a few datasets become their mean over those that are compared."""
    names = ["measured", "standard_error", "compared", "predicted", "residual"]
    data = fits[names].assign_attrs(averaged=0)
    if fits.sizes["dataset"] <= MOST_DATASETS:
        return data
    kept = data["compared"] > 0
    means = data[["measured", "predicted", "residual"]].where(kept).mean("dataset", keep_attrs=True)
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


def _draw(data: xr.Dataset, along: Abscissa) -> Figure:
    count = data.sizes["observable"]
    figure = style.figure(0.8 + 3.6 * count)
    rows = figure.subplots(2 * count, 1, sharex=True, height_ratios=[2, 1.1] * count)
    lines = series(data, along, MOST_SERIES)
    for place, observable in enumerate(data["observable"].values):
        main, below = rows[2 * place : 2 * place + 2]
        one = data.sel(observable=observable)
        for number, line in enumerate(lines):
            _theories(main, one, along, line)
            _measured(main, one, along, line, number)
            _residuals(below, one, along, line, number)
            if "intercept" in one and line.label in one["point"].values:
                _law(below, one.sel(point=line.label), along)
        main.set_ylabel(_words(str(observable)))
        below.axhline(0, color=style.INK, lw=0.8, zorder=1)
        below.set_ylabel("residual\n($10^{-2}$)")
        style.wide_range(below, PERCENT * one["residual"], PERCENT * one["standard_error"])
        for axes in (main, below):
            style.grid(axes)
    rows[-1].set_xlabel(along.words)
    if along.logarithmic(data):
        rows[-1].set_xscale("log")
    style.ticks_at(rows[-1], data[along.name].values)
    handles, names = rows[0].get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=2)
    figure.align_ylabels()
    return figure


def _words(observable: str) -> str:
    known = {
        "learnability target": "learnability",
        "mse_mean": "error of the mean",
        "predictive_variance": "predictive variance",
    }
    return known.get(observable, observable.replace("_", " "))


def _theories(axes: Axes, one: xr.Dataset, along: Abscissa, line: Series) -> None:
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
                style.MARKERS[dataset],
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


def _measured(axes: Axes, one: xr.Dataset, along: Abscissa, line: Series, number: int) -> None:
    for dataset in range(one.sizes["dataset"]):
        points = one.isel(dataset=dataset, cell=line.cells)
        title = f"dataset {dataset}" if one.sizes["dataset"] > 1 else "measured"
        for kept, face in (
            (points["compared"] > 0, style.MEASURED),
            (points["compared"] == 0, "white"),
        ):
            chosen = points.isel(cell=kept.values & points["measured"].notnull().values)
            if not chosen.sizes["cell"]:
                continue
            axes.errorbar(
                along.beside(one, chosen, dataset, one.sizes["dataset"]),
                chosen["measured"],
                chosen["standard_error"],
                fmt=style.MARKERS[dataset + number],
                color=style.MEASURED,
                markerfacecolor=face,
                label=", ".join(filter(None, [title, line.label]))
                if face != "white"
                else "not converged",
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
                PERCENT * points["standard_error"],
                fmt=style.MARKERS[dataset + number],
                color=style.theory_colour(str(theory)),
            )


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
    text += "; theories are given the same data and have no free parameter"
    text += " (curves join predictions at the cells). " if data.sizes["theory"] else ". "
    if bool((data["compared"] == 0).any()):
        text += "Open symbols have not converged and are not compared. "
    text += (
        "Below, measured minus predicted for each theory, in units of 10⁻², on an axis that is "
        "linear near zero and logarithmic beyond"
    )
    if "intercept" in data and bool(data["intercept"].notnull().any()):
        text += "; lines are the law a + b/N (+ c/N²), bands its value a at infinite width"
    return f"{text}."
