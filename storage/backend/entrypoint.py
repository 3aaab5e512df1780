"""`engine="finitewidth"` of xarray: a campaign as a labelled grid.

    xr.open_datatree("results/quickstart-0123456789", engine="finitewidth")
    xr.open_dataset("s3://bucket/quickstart-0123456789", engine="finitewidth", group="ensemble")

The axes of the sweep are dimensions, values of unfinished shards are NaN, and nothing is read
before it is asked for.
"""

import os
from collections.abc import Iterable

from xarray import Dataset, DataTree
from xarray.backends import BackendEntrypoint

from storage.backend.labelled import dataset
from storage.backend.snapshot import find


class FinitewidthBackend(BackendEntrypoint):
    """Opens the directory of a campaign, or its data.zarr alone, in a folder or in a bucket."""

    description = "Open campaigns of finitewidth as labelled grids"
    supports_groups = True
    folded = False

    def open_dataset(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
    ) -> Dataset:
        """One group, by default the root, which has attributes alone."""
        snapshot = find(filename_or_obj)
        with snapshot.explained():
            path = (group or "").strip("/")
            return dataset(snapshot, path, _names(drop_variables), self.folded)

    def open_groups_as_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
    ) -> dict[str, Dataset]:
        """Every group at or below `group`, by its path from there."""
        snapshot, top = find(filename_or_obj), (group or "").strip("/")
        dropped = _names(drop_variables)
        with snapshot.explained():
            snapshot.group(top)
            paths = [path for path in snapshot.groups if _is_below(path, top)]
            return {
                f"/{path[len(top) :].strip('/')}": dataset(snapshot, path, dropped, self.folded)
                for path in paths
            }

    def open_datatree(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
    ) -> DataTree:
        """Every group at or below `group`."""
        groups = self.open_groups_as_dict(
            filename_or_obj, drop_variables=drop_variables, group=group
        )
        return DataTree.from_dict(groups)

    def guess_can_open(self, filename_or_obj: object) -> bool:
        """A local folder with a data.zarr in it."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        return os.path.isfile(os.path.join(filename_or_obj, "data.zarr", "zarr.json"))


class CellsBackend(FinitewidthBackend):
    """The same with all cells along `cell`, which pictures and tables ask for."""

    folded = True


def _names(names: str | Iterable[str] | None) -> set[str]:
    return {names} if isinstance(names, str) else set(names or ())


def _is_below(path: str, top: str) -> bool:
    return not top or path == top or path.startswith(f"{top}/")
