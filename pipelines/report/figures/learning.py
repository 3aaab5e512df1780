"""Learning curves of the Gaussian process against the effective ridge."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.interpolate import PchipInterpolator
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import Abscissa, at_ridge, by_ridge, group, pairs, shown_pairs
from pipelines.report.figures.panel import Panel
from pipelines.report.figures.statistics import mean_and_error
from pipelines.text.rounding import plain

THEORY = "effective_ridge"
TRAIN = Abscissa("train", "data.train", alone=True)
MOST_CURVES = 2  # pairs of a cell and a ridge
COLOURS = {
    "test_error": style.SKY,
    "pool_error": style.INK,
    "posterior_variance": style.PURPLE,
    "train_error": style.YELLOW,
}
NAMES = {
    "test_error": "held-out error",
    "pool_error": "pool error",
    "posterior_variance": "posterior variance",
    "train_error": "training error",
}


def panel(tree: DataTree) -> Panel | None:
    """Errors and posterior variance against the training size, with residuals below."""
    measured = group(tree, "regression")
    if measured is None:
        return None
    data = curves(measured, group(tree, f"theory/{THEORY}"))
    finished = data["measured"].notnull().any(("quantity", "train", "ridge"))
    data = data.isel(cell=finished.values)
    if not data.sizes["cell"]:
        return None
    room = shown_pairs(data, MOST_CURVES)
    return Panel(
        "learning", "Learning curve of the limit", _caption(data), _draw, data, _facets, room
    )


def curves(measured: xr.Dataset, theory: xr.Dataset | None) -> xr.Dataset:
    """Measured, error, predicted and residual, (quantity, cell, train, ridge)."""
    names = [name for name in NAMES if name in measured]
    mean, error = mean_and_error(_stacked(measured, names), "repeat")
    found = {
        "measured": mean.assign_attrs(long_name="mean over repeats", units="1"),
        "error": error.assign_attrs(long_name="standard error over repeats", units="1"),
    }
    if theory is not None:
        predicted = _stacked(theory, [name for name in names if name in theory])
        predicted = predicted.reindex(quantity=names)
        found["predicted"] = predicted.assign_attrs(
            long_name="prediction of the effective ridge", units="1"
        )
        found["residual"] = ((mean - predicted) / error).assign_attrs(
            long_name="measured minus predicted", units="standard_error"
        )
        found["beyond_pool"] = theory["beyond_pool"]
    return xr.Dataset(found, attrs=measured.attrs)


def _stacked(source: xr.Dataset, names: list[str]) -> xr.DataArray:
    arrays = [source[name] for name in names]
    return xr.concat(arrays, xr.Variable("quantity", names), coords="minimal", compat="override")


def _draw(data: xr.Dataset) -> Figure:
    shown = pairs(data, MOST_CURVES)
    compared = "predicted" in data
    heights = ([3, 1.2] if compared else [3]) * len(shown)
    figure = style.figure(0.8 + 1.15 * sum(heights))
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for number, (cell, ridge) in enumerate(shown):
        one = data.isel(cell=cell, ridge=ridge)
        main = rows[number * (1 + compared)]
        _curves(main, one)
        if len(shown) > 1:
            style.title(main, at_ridge(data, cell, ridge))
        if compared:
            _residuals(rows[2 * number + 1], one)
    style.legend(figure, rows[0], most=2)
    rows[-1].set_xlabel("training points n")
    rows[-1].set_xscale("log")
    style.ticks_at(rows[-1], data["train"].values)
    figure.align_ylabels()
    return figure


def _facets(data: xr.Dataset) -> dict[str, xr.Dataset]:
    return by_ridge(data, MOST_CURVES)


def _curves(axes: Axes, one: xr.Dataset) -> None:
    if "predicted" in one:
        _theory(axes, one)
    for place, quantity in enumerate(one["quantity"].values):
        curve = one.sel(quantity=quantity)
        axes.errorbar(
            TRAIN.beside(one, curve, place, one.sizes["quantity"]),
            curve["measured"],
            curve["error"],
            fmt=style.marker(place),
            color=COLOURS[quantity],
            label=NAMES[quantity],
        )
    axes.set_yscale("log")
    axes.set_ylabel("mean square")
    style.decades(axes)
    style.grid(axes)
    shade(axes, one)


def _theory(axes: Axes, one: xr.Dataset) -> None:
    train = np.log(one["train"].values)
    dense = np.linspace(train[0], train[-1], 200)
    title: str | None = style.theory_title(THEORY)
    for quantity in one["quantity"].values:
        predicted = one["predicted"].sel(quantity=quantity).values
        if not np.isfinite(predicted).all():
            continue
        line = np.log(predicted)
        curve = PchipInterpolator(train, line)(dense) if len(train) > 1 else np.full(200, line[0])
        axes.plot(np.exp(dense), np.exp(curve), color=style.theory_colour(THEORY), label=title)
        title = None


def _residuals(axes: Axes, one: xr.Dataset) -> None:
    axes.axhspan(-2, 2, color=style.theory_colour(THEORY), alpha=0.12, lw=0)
    axes.axhline(0, color=style.theory_colour(THEORY), lw=1.2)
    count = one.sizes["quantity"]
    for place, quantity in enumerate(one["quantity"].values):
        residual = one["residual"].sel(quantity=quantity)
        axes.errorbar(
            TRAIN.beside(one, residual, place, count),
            residual,
            xr.ones_like(residual),
            fmt=style.marker(place),
            color=COLOURS[quantity],
        )
    axes.set_ylabel("residual\n(std. errors)")
    style.grid(axes)
    shade(axes, one)


def shade(axes: Axes, one: xr.Dataset) -> None:
    """Grey where the training set is a large part of its pool."""
    if "beyond_pool" not in one or not bool(one["beyond_pool"].any()):
        return
    train, beyond = one["train"].values, one["beyond_pool"].values > 0
    below = train[~beyond].max() if (~beyond).any() else train.min() / 1.5
    axes.axvspan(
        np.sqrt(below * train[beyond].min()),
        train.max() * 1.25,
        color=style.MUTED,
        alpha=0.12,
        lw=0,
    )


def _caption(data: xr.Dataset) -> str:
    shown = pairs(data, MOST_CURVES)
    text = (
        "Regression with the NNGP kernel on training sets drawn from one pool: mean over repeats "
        "with its standard error"
    )
    if len(shown) == 1:
        text += f", ridge {plain(float(data['ridge'][shown[0][1]]))}"
    text += "."
    if "predicted" not in data:
        return f"{text} No theory was asked for."
    text += (
        " Green: the effective ridge, which describes the whole pool with no free parameter. "
        "Below, measured minus predicted in standard errors; the band is ±2."
    )
    if bool(data["beyond_pool"].any()):
        text += (
            " Shaded sizes are more than 0.3 of the pool, where the theory is not expected to hold."
        )
    return text
