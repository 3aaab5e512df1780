"""A campaign opened in xarray: cells as points of a labelled grid, unfinished shards as NaN."""

from storage.backend.entrypoint import FinitewidthBackend

__all__ = ["FinitewidthBackend"]
