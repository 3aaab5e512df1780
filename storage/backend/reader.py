"""Opening campaigns: as a labelled grid, or as they are stored.

xarray is imported where it is used: it takes long, and the store itself needs none.
"""

import os
from typing import TYPE_CHECKING

from storage.backend.snapshot import find

if TYPE_CHECKING:
    from xarray import DataTree


def open_campaign(path: str | os.PathLike[str]) -> "DataTree":
    """A campaign as a labelled grid: sweep axes as dimensions, values of unfinished shards NaN.

    Nothing is read before it is asked for. While the campaign grows, the tree stays as it was when
    it was opened, and a shard as it was when it was first looked at. CampaignError where no
    campaign is stored, or one that a newer version has written.
    """
    from xarray import open_datatree

    from storage.backend.entrypoint import FinitewidthBackend

    return open_datatree(path, engine=FinitewidthBackend)


def open_cells(path: str | os.PathLike[str]) -> "DataTree":
    """The same with the cells along `cell`, in the order of the grid, the last axis fastest.

    Each setting of the sweep is a coordinate along `cell`. To put the axes of a labelled grid after
    one another takes indices as many as values, of every variable; here cells are read as they are.
    """
    from xarray import open_datatree

    from storage.backend.entrypoint import CellsBackend

    return open_datatree(path, engine=CellsBackend)


def open_raw(path: str | os.PathLike[str]) -> "DataTree":
    """A campaign as it is stored: all cells along `cell`, fill values where nothing is finished.

    One that refines itself has room behind them until it ends: places where `refined` is 2.

    The same as `xr.open_datatree(f"{path}/data.zarr", engine="zarr")`, also in a bucket.
    CampaignError as by `open_campaign`.
    """
    from xarray import open_datatree

    snapshot = find(path)
    with snapshot.explained():
        store: object = snapshot.store  # of which the engine knows more than xarray says
        return open_datatree(store, engine="zarr", consolidated=True)  # pyright: ignore[reportArgumentType]
