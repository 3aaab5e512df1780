"""Attributes that Zarr, netCDF and xarray all keep: text, numbers and JSON text for the rest."""

import json
from collections.abc import Mapping
from typing import cast

import numpy as np

from storage.arrays.grid import Axes


def encoded(attributes: Mapping[str, object]) -> dict[str, object]:
    """The same attributes, those that are neither text nor numbers as JSON text."""
    return {
        str(key): value if _is_plain(value) else json.dumps(value)
        for key, value in attributes.items()
    }


def axes_of(attributes: Mapping[str, object]) -> Axes | None:
    """The grid that the cells of a group form; None where they form none.

    Stores of earlier versions hold it as a mapping.
    """
    found = attributes.get("axes")
    return json.loads(found) if isinstance(found, str) else cast("Axes | None", found)


def _is_plain(value: object) -> bool:
    """Whether it is text, a number, or an array of numbers; truth values are none."""
    if isinstance(value, str | bytes):
        return True
    try:
        values = np.asarray(value)
    except ValueError:  # lists of different lengths
        return False
    return values.dtype.kind in "iuf" and values.size > 0
