"""What a panel is: a picture, the words under it and the numbers behind it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import xarray as xr
from matplotlib.figure import Figure

from pipelines.report import style


def one_facet(data: xr.Dataset) -> Mapping[str, xr.Dataset]:
    """The whole, of a panel whose axes stand over one abscissa."""
    return {"": data}


@dataclass(frozen=True)
class Panel:
    """The numbers of a figure with its title and caption, and how it is drawn from them alone.

    `facets` are the numbers of each part that stands alone, by what it shows; each is drawn as
    the whole is. `room` is the end of the caption where the whole has room for some facets only.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[xr.Dataset], Figure]
    data: xr.Dataset
    facets: Callable[[xr.Dataset], Mapping[str, xr.Dataset]] = one_facet
    room: str = ""

    @cached_property
    def figure(self) -> Figure:
        """The picture on a page, drawn when it is first asked for."""
        return drawn(self.draw, self.data, style.PAGE)


def drawn(draw: Callable[[xr.Dataset], Figure], data: xr.Dataset, size: style.Size) -> Figure:
    """A figure of this size, laid out once, so that every format has the same layout."""
    with style.look(size):
        figure = draw(data)
        layout = figure.get_layout_engine()
        if layout is not None:
            layout.execute(figure)
        figure.set_layout_engine(None)  # a placeholder would have every format drawn twice
    return figure
