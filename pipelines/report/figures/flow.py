"""The Wilsonian flow of a regression: the ridge and the pull of the data, mode after mode."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import chosen, group, label, shown_of, spread
from pipelines.report.figures.panel import Panel
from pipelines.report.words import listed
from pipelines.text.rounding import plain

MOST_RIDGES = 4  # ridges
DECADES = 12  # of the ridge, below its largest value


def panel(tree: DataTree) -> Panel | None:
    """T(Λ), r' and, with a quartic loss, u' against the cutoff, of one cell."""
    found = group(tree, "flow")
    if found is None:
        return None
    data = found.isel(cell=chosen(found, 1))
    data = data.isel(ridge=spread(data.sizes["ridge"], MOST_RIDGES))
    if bool(data["hard_ridge"].isnull().all()):
        return None
    room = shown_of(1, found.sizes["cell"], "cells")
    room += shown_of(data.sizes["ridge"], found.sizes["ridge"], "ridges")
    return Panel("flow", "Flow of the couplings", _caption(data), _draw, data, room=room)


def _draw(data: xr.Dataset) -> Figure:
    one = data.isel(cell=0)
    rows = ["ridge T(Λ)", "pull r'"] + ["quartic u'"] * ("quartic" in one)
    figure = style.figure(1.1 + 2.3 * len(rows))
    axes = figure.subplots(len(rows), 1, sharex=True)
    colours = style.sequence(one.sizes["ridge"])
    for place, colour in enumerate(colours):
        at = one.isel(ridge=place)
        hard, soft = _ridges(at)
        axes[0].plot(at["flow_cutoff"], hard, color=colour, label=_name(at))
        axes[0].plot(at["flow_cutoff"], soft, color=colour, ls=(0, (4, 2)))
        _pull(axes[1], at, colour)
        if "quartic" in at:
            strongest = at["quartic"].isel(coupling=-1)
            axes[2].plot(at["flow_cutoff"], strongest, color=colour)
    axes[0].set_ylim(*_frame(one))
    axes[1].axhline(1, color=style.MUTED, lw=0.8)
    for each, name in zip(axes, rows, strict=True):
        each.set_yscale("log")
        each.set_ylabel(name)
        style.decades(each)
        style.grid(each)
    style.legend(figure, axes[0])
    axes[-1].set_xscale("log")
    axes[-1].invert_xaxis()  # the flow goes from left to right
    axes[-1].set_xlabel("cutoff Λ, modes that are left")
    figure.align_ylabels()
    return figure


def _name(at: xr.Dataset) -> str:
    return f"T = {plain(float(at['ridge']))}"


def _ridges(at: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """T(Λ) as it is drawn: modes removed with their prior variance, and their posterior one."""
    return at["hard_ridge"], at["soft_ridge"].isel(train=-1)


def _frame(one: xr.Dataset) -> tuple[float, float]:
    """The ends of the axis of T(Λ); its top is above all curves, since modes add to the ridge."""
    top = float(one["hard_ridge"].max())
    return max(float(one["soft_ridge"].min()), top / 10**DECADES) / 2, 2 * top


def _outside(one: xr.Dataset) -> str:
    """Which curves of T(Λ) are below the axis as a whole."""
    low, _ = _frame(one)
    names = []
    for place in range(one.sizes["ridge"]):
        at = one.isel(ridge=place)
        hard, soft = (bool(curve.max() < low) for curve in _ridges(at))
        if hard or soft:  # the dashed curve is never above the other
            names.append(_name(at) if hard else f"{_name(at)} (dashed)")
    return f" Off the axis, below: {listed(names)}." if names else ""


def _pull(axes: Axes, at: xr.Dataset, colour: str) -> None:
    """r' of the largest size, and a dot where it ends the flow of each size."""
    whole = at.isel(train=-1)
    axes.plot(at["flow_cutoff"], whole["mass"], color=colour)
    ends = at["last_learned"].values
    known = ends >= 1
    logs = np.log(whole["mass"].values)
    finite = np.isfinite(logs)
    values = np.interp(np.log(ends[known]), np.log(at["flow_cutoff"].values[finite]), logs[finite])
    axes.plot(ends[known], np.exp(values), "o", color=colour, ms=4.5)


def _caption(data: xr.Dataset) -> str:
    where = f" at {name}" if (name := label(data, 0)) else ""
    size = int(data["train"].values[-1])
    text = (
        f"The flow{where}, from all modes of the pool to few. Above: the ridge as modes are "
        "removed with their prior variance, and dashed with their posterior variance at n = "
        f"{size}, which ends at the effective ridge. Below: the pull of the data r' = n λ/T(Λ) on "
        f"the mode at the cutoff, for n = {size}; with n points it is n/{size} of that, and dots "
        "mark the last mode learned k* of each size, where it has come down to 1."
        f"{_outside(data.isel(cell=0))}"
    )
    if "quartic" in data:
        text += (
            " Last: the quartic coupling u' in units of the prior at the largest u. Where the "
            "ridge dominates it grows until the flow ends: the more points, the more modes are "
            "left there, and the less it matters."
        )
    return text
