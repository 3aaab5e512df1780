"""What a panel is: a picture, the words under it and the numbers behind it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import xarray as xr
from matplotlib.figure import Figure

from pipelines.report import style


@dataclass(frozen=True)
class Panel:
    """The numbers of a figure with its title and caption, and how it is drawn from them alone."""

    name: str
    title: str
    caption: str
    draw: Callable[[xr.Dataset], Figure]
    data: xr.Dataset

    @cached_property
    def figure(self) -> Figure:
        """The picture, drawn when it is first asked for.

        It is laid out once, so that every format has the same layout.
        """
        with style.look():
            figure = self.draw(self.data)
            layout = figure.get_layout_engine()
            if layout is not None:
                layout.execute(figure)
            figure.set_layout_engine(None)  # a placeholder would have every format drawn twice
        return figure
