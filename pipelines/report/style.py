"""How figures look: a size for phone and slide and one for journals, fonts, fixed colours."""

import textwrap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from pipelines.text.rounding import plain
from storage.campaign.theories import record


class Size(NamedTuple):
    """How wide figures are, and how large their text."""

    width: float  # inches
    text: float  # points, of titles and labels


PAGE = Size(6.0, 11.2)  # on a phone of 390 px this text is 9 px high
COLUMN = Size(3.4, 8.0)  # of a journal that has two
_size = ContextVar("size", default=PAGE)  # of the figures that are drawn now

# Lengths below are in inches and characters of a figure of the page.
ROOM = 54  # characters of a title or a name in a legend along the width
BESIDE = 3  # characters that a title leaves free beside its neighbours
MOST_LINES = 3  # of a title or a name in a legend
KEPT = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"  # a setting and its value stay on one line
Place = Literal["outside upper center", "outside lower center"]  # of a legend
MOST_COLUMNS = 3  # of a legend
FREE_LINES = 2  # of a legend, for which a figure has room
LINE = 0.2  # inches of another
ROOM_OF_TICKS = 42  # characters of numbers between the first and the last tick
BETWEEN = 1.5  # characters between two numbers
MOST_TICKS = 9  # with numbers along the width
MOST_RESIDUALS = 6  # with numbers along the height of a panel of residuals, beside zero

INK = "#1f2328"
MEASURED = INK
MUTED = "#6e7781"
GRID = "#e6e8eb"

# Okabe and Ito (2008): told apart by colour-blind readers.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, YELLOW, SKY = "#CC79A7", "#E69F00", "#56B4E9"

COLOURS = {
    "blue": BLUE, "orange": ORANGE, "green": GREEN, "purple": PURPLE, "yellow": YELLOW, "sky": SKY,
    "grey": MUTED,
}  # fmt: skip
SPARE = (PURPLE, SKY, YELLOW)  # of theories whose records have none
MARKERS = ("o", "s", "^", "D", "v", "P")

LOOK = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # glyphs as outlines: the same on every machine
    "svg.hashsalt": "finitewidth",  # the same picture is the same file
    "pdf.fonttype": 42,
}
SCALED = {  # points, on a page; in proportion to the text elsewhere
    "font.size": 11.2,
    "axes.labelsize": 11.2,
    "axes.titlesize": 11.2,
    "xtick.labelsize": 10.2,
    "ytick.labelsize": 10.2,
    "legend.fontsize": 10.2,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "errorbar.capsize": 2.5,
}


@contextmanager
def look(size: Size = PAGE) -> Iterator[None]:
    """Draw and save figures in the look of this package, whatever the user's own settings are."""
    before = _size.set(size)
    try:
        with mpl.rc_context():
            mpl.rcdefaults()
            scaled = {name: value * _scale() for name, value in SCALED.items()}
            mpl.rcParams.update(LOOK | scaled)  # pyright: ignore[reportArgumentType, reportCallIssue]
            yield
    finally:
        _size.reset(before)


def _scale() -> float:
    """How large text and heights are, compared with those of the page."""
    return _size.get().text / PAGE.text


def _breadth() -> float:
    """How many characters a line has, compared with one of the page."""
    return _size.get().width / PAGE.width / _scale()


def figure(height: float) -> Figure:
    """An empty figure, which is so high on a page, without any state of pyplot."""
    return Figure(figsize=(_size.get().width, height * _scale()), layout="constrained")


def grid(axes: Axes, axis: str = "both") -> None:
    """Faint lines at the major ticks."""
    axes.grid(True, axis=axis, color=GRID, linewidth=0.8)  # pyright: ignore[reportArgumentType]


def theory_colour(name: str) -> str:
    """The colour of a theory, everywhere the same; without its own one by the name."""
    return COLOURS.get(record(name).colour, SPARE[zlib.crc32(name.encode()) % len(SPARE)])


def theory_line(name: str) -> object:
    """The dashes of a theory."""
    return record(name).line


def theory_title(name: str) -> str:
    """The name of a theory in legends and tables."""
    return record(name).title or name


def marker(place: int) -> str:
    """The marker of a dataset or a quantity, by its place."""
    return MARKERS[place % len(MARKERS)]


def sequence(count: int) -> list[str]:
    """Colours for an ordered quantity, dark for the first and never too light for white paper."""
    places = np.linspace(0.0, 0.86, count) if count > 1 else np.array([0.0])
    return [to_hex(mpl.colormaps["viridis"](place)) for place in places]


def columns(names: list[str]) -> int:
    """How many columns a legend across the figure has, so that its names have room."""
    longest = max((len(line) for name in names for line in name.split("\n")), default=1)
    return max(1, min(MOST_COLUMNS, room() // (longest + 6)))


def room() -> int:
    """Characters along the width of a figure."""
    return int(ROOM * _breadth())


def wrapped(text: str, length: int = 0, most: int = MOST_LINES) -> str:
    """Words of a campaign in lines of so many characters, cut short beyond so many lines.

    By default lines are as long as the figure is wide.
    """
    length = length or room()
    whole = text.replace(" = ", KEPT)
    if max(map(len, whole.split(" "))) > length:
        whole = text  # a value on the next line is read more easily than half a number
    lines = textwrap.wrap(whole, length)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][: length - 1]}…"]
    found = "\n".join(lines).replace(KEPT, " = ")
    return found.replace("$", r"\$")  # words are never formulas


def taken(grid: np.ndarray, count: int, words: str = "") -> None:
    """Hide all but the first so many axes of a grid, and label the lowest in each column."""
    for place, axes in enumerate(grid.flat):
        axes.set_visible(place < count)
        if words and place < count <= place + grid.shape[1]:
            axes.set_xlabel(words)
            axes.tick_params(labelbottom=True)


def title(axes: Axes, text: str, columns: int = 1) -> None:
    """The title of one of so many axes side by side."""
    axes.set_title(wrapped(text, room() // columns - BESIDE * (columns > 1)))


def legend(
    figure: Figure, axes: Axes, where: Place = "outside upper center", most: int = MOST_COLUMNS
) -> None:
    """The names of what these axes show, once each, across the figure, which grows with them."""
    handles, names = axes.get_legend_handles_labels()
    unique = {wrapped(name): handle for name, handle in zip(names, handles, strict=True)}
    if unique:
        count = min(most, columns(list(unique)))
        lines = sum(name.count("\n") + 1 for name in unique) / count
        more = LINE * _scale() * max(lines - FREE_LINES, 0)
        figure.set_figheight(figure.get_figheight() + more)
        figure.legend(list(unique.values()), list(unique), loc=where, ncols=count)


def ticks_at(axes: Axes, values: np.ndarray, columns: int = 1) -> None:
    """Ticks at what was measured, as far as one of so many axes side by side has room."""
    found = np.unique(values[np.isfinite(values)])
    places = np.log(found) if axes.get_xscale() == "log" else found
    names = [f"{value:g}" for value in found]
    kept = [len(found) - 1]
    for place in range(len(found) - 2, -1, -1):
        between = (len(names[kept[-1]]) + len(names[place])) / 2 + BETWEEN
        wanted = columns * max(between / ROOM_OF_TICKS, 1 / MOST_TICKS) / _breadth()
        if places[kept[-1]] - places[place] >= np.ptp(places) * wanted:
            kept.append(place)
    axes.set_xticks(found[kept], [names[place] for place in kept])
    axes.minorticks_off()


def decades(axes: Axes) -> None:
    """Plain numbers along a logarithmic vertical axis, powers of ten where it is long."""
    low, high = axes.get_ylim()
    subs = (1, 2, 3, 5) if high < 1e3 * low else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def linear_part(values: xr.DataArray, errors: xr.DataArray) -> float | None:
    """Where an axis of residuals becomes logarithmic: at a few errors, None if all are within."""
    if not values.size:
        return None
    typical, largest = float(errors.median()), float(np.abs(values).max())
    if not (np.isfinite(typical) and np.isfinite(largest) and typical > 0):
        return None
    linear = float(10 ** np.ceil(np.log10(2 * typical)))
    return linear if largest > 3 * linear else None


def wide_range(axes: Axes, values: xr.DataArray, errors: xr.DataArray, linear: float) -> None:
    """A vertical axis that is linear up to `linear` and logarithmic beyond."""
    axes.set_yscale("symlog", linthresh=linear, linscale=0.8)
    low, high = float((values - errors).min()), float((values + errors).max())
    axes.set_ylim(min(1.6 * low, -0.4 * linear), max(1.6 * high, 0.4 * linear))
    axes.yaxis.set_major_locator(FixedLocator(_ticks(linear, *axes.get_ylim())))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def _ticks(linear: float, low: float, high: float) -> list[float]:
    """0 and numbers that are as good as evenly spaced beyond `linear`, not too many of them."""
    decades = linear * 10.0 ** np.arange(np.ceil(np.log10(max(-low, high) / linear)) + 1)
    kept = np.zeros(0)
    for ticks in (np.concatenate([decades, 3 * decades]), decades, decades[::2], decades[::3]):
        both = np.concatenate([-ticks, ticks])
        kept = both[(low <= both) & (both <= high)]
        if len(kept) <= MOST_RESIDUALS:
            break
    return [0.0, *kept]
