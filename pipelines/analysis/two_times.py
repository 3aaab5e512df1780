"""Covariance of outputs between two times, from pairs of networks with opposite readouts.

The outputs of a pair are e ± o, `output` and `output_odd` as they are stored. Over single networks,
of which each pair is two, the covariance between t and t' is, averaged over points,

    C_f(t, t') = ⟨E[e(t) e(t')] - E[e(t)] E[e(t')] + E[o(t) o(t')]⟩,

E[o] being zero. The product of means is taken between different pairs, so that there is no bias.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis.measured import pairs_without_each, without_each

Array = NDArray[np.float64]


def output_covariance(even: Array, odd: Array, place: int, lag: int) -> Array:
    """C_f between a time and the one `lag` before: over all pairs, then without each, (1 + pair,).

    even and odd are (pair, time, point). NaN where there is no time so much before.
    """
    if lag > place:
        return np.full(len(even) + 1, np.nan)
    here, before = even[:, place], even[:, place - lag]
    products = here @ before.T / here.shape[1]
    second = here * before + odd[:, place] * odd[:, place - lag]
    return without_each(second.mean(1)) - pairs_without_each((products + products.T) / 2)
