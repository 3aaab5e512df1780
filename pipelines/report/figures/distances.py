"""How far decimated kernels take the mean predictor from that with the whole kernel."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import at_ridge, by_ridge, group, pairs, shown_pairs
from pipelines.report.figures.panel import Panel

THEORIES = ("rg_gpr", "rg_gpr_position")
MOST_PAIRS = 4  # pairs of a cell and a ridge


def panel(tree: DataTree) -> Panel | None:
    """Root mean square distances with T(Λ) and with T(x), where both are predicted."""
    found = [group(tree, f"theory/{name}") for name in THEORIES]
    if found[0] is None or found[1] is None:
        return None
    names = ["distance_square", "distance_square_error", "variation"]
    data = xr.concat(
        [each[names] for each in found if each is not None],
        xr.Variable("theory", list(THEORIES)),
        coords="minimal",
        compat="override",
    )
    if bool(data["distance_square"].isnull().all()):
        return None
    room = shown_pairs(data, MOST_PAIRS)
    return Panel(
        "distances", "One ridge, or one at each point", _caption(), _draw, data, _facets, room
    )


def _facets(data: xr.Dataset) -> dict[str, xr.Dataset]:
    return by_ridge(data, MOST_PAIRS)


def _draw(data: xr.Dataset) -> Figure:
    shown = pairs(data, MOST_PAIRS)
    figure = style.figure(0.9 + 1.9 * len(shown))
    rows = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (cell, ridge) in zip(rows, shown, strict=True):
        one = data.isel(cell=cell, ridge=ridge)
        for place, theory in enumerate(THEORIES):
            value, low, high = _roots(one.sel(theory=theory))
            axes.errorbar(
                one["train"] * 1.02 ** (2 * place - 1),
                value,
                [value - low, high - value],
                fmt=style.marker(place),
                color=style.theory_colour(theory),
                label=style.theory_title(theory),
            )
        style.title(axes, at_ridge(data, cell, ridge))
        axes.set_ylabel("distance")
        style.grid(axes)
    rows[0].set_ylim(bottom=-0.06 * rows[0].get_ylim()[1])
    style.legend(figure, rows[0], most=2)
    rows[-1].set_xlabel("training points n")
    rows[-1].set_xscale("log")
    style.ticks_at(rows[-1], data["train"].values)
    return figure


def _roots(one: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """√ of the square distance and of its bounds at one standard error, zero at least."""
    square, error = one["distance_square"].values, one["distance_square_error"].values
    value, low, high = (
        np.sqrt(np.maximum(each, 0)) for each in (square, square - error, square + error)
    )
    return value, low, high


def _caption() -> str:
    return (
        "Decimated regressions and that with the whole kernel, on the same points: root mean "
        "square over the pool of the difference of their mean predictors over draws, in the modes "
        "kept, without the bias of the scatter (what is zero to within its error may come out "
        "as zero). The kernel without its unlearnable modes has one ridge T(Λ), or the ridge T(x) "
        "of each point."
    )
