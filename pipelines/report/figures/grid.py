"""Where over two swept settings each theory holds: residuals of the ensemble as a map."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import group, path, shown_of, swept, swept_axes
from pipelines.report.figures.panel import Panel
from pipelines.report.figures.squares import colour_bar, named, squares
from pipelines.report.theory_names import observable_in_words
from pipelines.text.rounding import plain
from pipelines.text.settings import named as setting_in_words

MOST_MAPS = 12
COLUMNS = 2
FEW_COLUMNS = 5  # columns of squares up to which numbers stand in them
HIGHEST = 2.0  # inches of a map
MOST_NAMES = 5  # of values below a map, and twice as many beside it
LETTERS = 9  # along an inch
ROOM = 22  # letters below a map


def panel(tree: DataTree) -> Panel | None:
    """A map for each observable and theory; None unless two numbers are swept, one over several.

    With two values of each the comparison along one of them shows all there is.
    """
    fits = group(tree, "fits")
    if fits is None or (sides := _sides(fits)) is None:
        return None
    t = fits["mean_residual"] / fits["mean_error"].where(fits["mean_error"] > 0)
    stacked = t.stack(map=("observable", "theory")).transpose("map", "cell")
    known = stacked.isel(map=stacked.notnull().any("cell").values)
    if not known.sizes["map"]:
        return None
    kept = _worst(np.nanmax(np.abs(known.values), axis=1))
    chosen = known.isel(map=kept)
    titles = [
        f"{observable_in_words(str(o)).removeprefix('the ')}: {style.theory_title(str(theory))}"
        for o, theory in chosen["map"].values
    ]
    data = xr.Dataset(
        {"t": (("map", "cell"), chosen.values, {"long_name": "mean residual in standard errors"})},
        {"map": titles} | {side: fits[side] for side in sides},
    ).assign_attrs(sides=sides)
    caption = (
        "Measured minus predicted, the mean over datasets in standard errors, over two swept "
        "settings. White is within the errors; a cell without a square is not compared."
    )
    room = shown_of(len(kept), known.sizes["map"], "maps, those with the largest residuals")
    return Panel("grid", "Where theories hold", caption, _draw, data, _facets, room)


def _facets(data: xr.Dataset) -> dict[str, xr.Dataset]:
    return {str(title): data.isel(map=[place]) for place, title in enumerate(data["map"].values)}


def _sides(fits: xr.Dataset) -> tuple[str, str] | None:
    """The settings along the two axes of the sweep, the one with more values first."""
    several = swept(fits)
    sides = [
        next((n for n in names if n in several and np.issubdtype(fits[n].dtype, np.number)), None)
        for names in swept_axes(fits).values()
        if any(name in several for name in names)
    ]
    if len(sides) != 2 or sides[0] is None or sides[1] is None:
        return None
    counts = {side: len(np.unique(fits[side].values)) for side in sides if side is not None}
    if max(counts.values()) < 3:
        return None
    along, across = sorted(counts, key=counts.__getitem__, reverse=True)
    return along, across


def _worst(largest: np.ndarray) -> list[int]:
    """The places of the largest, in their order."""
    return sorted(np.argsort(-largest, kind="stable")[:MOST_MAPS].tolist())


def _draw(data: xr.Dataset) -> Figure:
    along, across = data.attrs["sides"]
    x, column = np.unique(data[along].values, return_inverse=True)
    y, row = np.unique(data[across].values, return_inverse=True)
    count = data.sizes["map"]
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    height = 1.4 + rows * (0.75 + min(0.22 * len(y), HIGHEST))
    figure = style.figure(height)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, (one, title) in enumerate(zip(data["t"].values, data["map"].values, strict=True)):
        here = axes.flat[place]
        table = np.full((len(y), len(x)), np.nan)
        table[row, column] = one
        squares(here, table, len(x) <= FEW_COLUMNS)
        style.title(here, str(title), columns)
    style.taken(axes, count, style.wrapped(setting_in_words(path(data, along)), ROOM))
    words = style.wrapped(setting_in_words(path(data, across)), int(LETTERS * height))
    figure.supylabel(words, fontsize="medium", multialignment="center")
    _names(axes[0, 0], x, y)
    colour_bar(figure, list(axes.flat[:count]))
    return figure


def _names(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Values along both sides, as far as there is room."""
    for values, ticks in ((x, axes.set_xticks), (y, axes.set_yticks)):
        places = named(len(values), MOST_NAMES if values is x else 2 * MOST_NAMES)
        ticks([place + 0.5 for place in places], [plain(float(values[place])) for place in places])
