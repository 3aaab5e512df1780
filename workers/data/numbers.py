"""Arrays of real, finite numbers, made of whatever code of the user's returns."""

import numpy as np

from storage.errors import CampaignError, in_one_line
from workers.data.dataset import Array

REAL = "biuf"  # kinds of dtypes: booleans, whole numbers, floating point


def real_numbers(value: object, what: str) -> Array:
    """The value in float64; CampaignError that begins with `what` where it is not real numbers.

    NumPy would turn complex numbers into their real parts, and None into NaN.
    """
    try:
        array = np.asarray(value)
    except Exception as error:  # of tensors that require gradients, ragged lists, and more
        reason = in_one_line(error)
        raise CampaignError(f"{what} is no array of numbers ({reason[:160]})") from error
    if array.dtype.kind not in REAL:
        kind = type(value).__name__
        raise CampaignError(
            f"{what} has dtype {array.dtype} (a {kind}); wanted an array of real numbers"
        )
    with np.errstate(over="ignore"):
        return array.astype(np.float64)


def finite_numbers(value: object, what: str) -> Array:
    """The same, and none of them NaN or infinite."""
    array = real_numbers(value, what)
    require_finite(array, what)
    return array


def require_finite(array: Array, what: str, advice: str = "wanted finite numbers") -> None:
    """Raise CampaignError, naming the first row, where a number is NaN or infinite."""
    bad = ~np.isfinite(array)
    if bad.any():
        row = f", the first in row {np.argwhere(bad)[0][0]}" if array.ndim else ""
        raise CampaignError(
            f"{what} holds {np.count_nonzero(bad)} values that are NaN or infinite{row}; {advice}"
        )
