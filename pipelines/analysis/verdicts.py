"""What a comparison says: rejected, in doubt, unresolved, or in agreement.

A theory is rejected where its corrected p-value is below 10⁻³, and in doubt below 0.05. Agreement
is claimed only where a deviation of a tenth of the prediction would have been seen, which is to
say rejected in 19 cases of 20. A theory is silent where it predicts nothing, and missing is what
it predicts and nothing is known of.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

REJECTED_P = 1e-3
DOUBTED = 0.05
ROUNDING = 1e-4
RESOLUTION = 0.1  # of the prediction
SEEN_ERRORS = 1.645  # standard errors above the threshold: 19 cases of 20

Kind = Literal["rejected", "doubtful", "unresolved", "agrees", "missing", "silent"]
KINDS: tuple[Kind, ...] = ("rejected", "doubtful", "unresolved", "agrees", "missing", "silent")

Array = NDArray[np.float64]


def kinds_of(p_value: ArrayLike, seen: ArrayLike) -> NDArray[np.object_]:
    """What corrected p-values say, where relative deviations of `seen` would have been found."""
    p, found = np.broadcast_arrays(np.asarray(p_value, float), np.asarray(seen, float))
    conditions = [~np.isfinite(p), p < REJECTED_P, p < DOUBTED, found < RESOLUTION]
    return np.select(
        conditions, ["missing", "rejected", "doubtful", "agrees"], "unresolved"
    ).astype(object)


def size_of(predicted: ArrayLike, residual: ArrayLike) -> Array:
    """What a residual is relative to: |predicted|, nan where it is zero but for rounding."""
    size = np.abs(np.asarray(predicted, dtype=np.float64))
    return np.where(size > ROUNDING * np.abs(residual), size, np.nan)


def seen_of(error: ArrayLike, degrees: ArrayLike, comparisons: int) -> Array:
    """The deviation that would have been rejected in 19 cases of 20, in the units of the error.

    Where so many comparisons are made, and the error has so many degrees of freedom.
    """
    threshold = stats.t.isf(REJECTED_P / comparisons / 2, degrees)
    return np.asarray(threshold + SEEN_ERRORS) * np.asarray(error, dtype=np.float64)
