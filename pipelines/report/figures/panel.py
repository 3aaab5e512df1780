"""What a panel is: a picture, the words under it and the numbers behind it."""

from dataclasses import dataclass

import xarray as xr
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """A figure with its title and caption, and the dataset from which it can be drawn again."""

    name: str
    title: str
    caption: str
    figure: Figure
    data: xr.Dataset
