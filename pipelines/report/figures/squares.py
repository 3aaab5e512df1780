"""Tables of standard errors as coloured squares, white where nothing is seen."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from pipelines.report import style
from pipelines.text.rounding import plain

LINEAR_ERROR, LARGEST_ERROR = 3.0, 300.0  # standard errors
COLOURS = "RdBu_r"
DARK = 30  # standard errors, beyond which ink cannot be read on the colour
TICKS = (-100, -10, -3, 0, 3, 10, 100)
MOST_NAMES = 8  # along a side


def squares(axes: Axes, table: np.ndarray, numbers: bool) -> None:
    """The table (row, column) with its first row below, and the numbers in it if they have room."""
    axes.pcolormesh(np.ma.masked_invalid(table), norm=_norm(), cmap=COLOURS, edgecolors="white")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if not numbers:
        return
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            axes.text(
                column + 0.5,
                row + 0.5,
                _short(float(value)),
                ha="center",
                va="center",
                fontsize="small",
                color="white" if abs(value) > DARK else style.INK,
            )


def named(count: int, most: int = MOST_NAMES) -> list[int]:
    """The places along a side that have room for their names, the last among them."""
    step = -(-count // most)
    return list(range(count - 1, -1, -step))[::-1]


def colour_bar(figure: Figure, axes: Sequence[Axes]) -> None:
    """What the colours are, below the axes."""
    bar = figure.colorbar(
        ScalarMappable(_norm(), COLOURS),
        ax=list(axes),
        location="bottom",
        aspect=40,
        pad=0.02,
        extend="both",
    )
    bar.set_label("measured minus predicted (std. errors)")
    bar.set_ticks(list(TICKS), labels=[plain(tick) for tick in TICKS])


def _norm() -> SymLogNorm:
    """A new one each time, since axes and colour bars may change what they are given."""
    return SymLogNorm(LINEAR_ERROR, vmin=-LARGEST_ERROR, vmax=LARGEST_ERROR)


def _short(value: float) -> str:
    """At most four characters and a sign."""
    text = f"{round(value, 1) + 0.0:.1f}" if abs(value) < 9.95 else f"{value:.0f}"  # no -0.0
    return text.replace("-", "−") if abs(value) < 9999.5 else plain(value, 1)
