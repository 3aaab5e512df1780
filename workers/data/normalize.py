"""Lengths of inputs."""

from collections.abc import Callable

import numpy as np

from storage.errors import CampaignError
from workers.data.dataset import Array


def rescale(x: Array, squared_norm: float, name: Callable[[int], str] = "point {}".format) -> Array:
    """Each row of x (n, d) at |x|² = squared_norm, its direction kept.

    Rows do not mix, so that the bits of a row do not depend on how many there are.
    CampaignError where a row has no direction; `name` says which.
    """
    with np.errstate(divide="ignore", over="ignore"):
        found = np.sum(x * x, axis=1)
        factor = np.sqrt(squared_norm / found)
    bad = np.flatnonzero(~(np.isfinite(factor) & (factor > 0)))
    if bad.size:
        raise CampaignError(
            f"{bad.size} of {len(x)} points cannot be rescaled to |x|² = {squared_norm:g}: "
            f"{name(int(bad[0]))} has |x|² = {found[bad[0]]:g}; leave out normalize.squared_norm "
            "or the point"
        )
    return factor[:, None] * x
