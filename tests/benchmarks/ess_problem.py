"""The posterior that is sampled, what is seen of its draws, and what is known of it.

Only numpy is imported, so that every contestant's environment can read this.
"""

from typing import NamedTuple

import numpy as np

Array = np.ndarray

TEMPERATURES = (0.1, 0.01)  # κ
CHAINS, INPUTS, WIDTH, POINTS = 8, 20, 200, 200
PROBES, NEURONS = 32, 16  # outputs and neurons that are looked at
COEFFICIENTS = {1: 1.0, 3: 0.3}  # of the target's Hermite polynomials

# The order of what is seen of a draw, by `observed` of each library.
OUTPUTS = slice(0, PROBES)
TRAIN_ERROR, OVERLAP = PROBES, PROBES + 1  # mean over points of (f - y)², over neurons of (w·w*)²
NEURON = slice(PROBES + 2, PROBES + 2 + NEURONS)  # w·w*


class Known(NamedTuple):
    """An expectation and its standard error."""

    value: float
    error: float


# By HMC, which has no bias, in four and eight CPU minutes: python tests/benchmarks/ess_reference.py
# 0.1 20000, and 0.01 12000.
REFERENCE: dict[float, dict[str, Known]] = {
    0.1: {
        "train error": Known(0.1453227, 0.0000495),
        "<(w·w*)²>": Known(0.0575914, 0.0000235),
    },
    0.01: {
        "train error": Known(0.0113801, 0.0000051),
        "<(w·w*)²>": Known(0.0793223, 0.0000348),
    },
}


def data() -> tuple[Array, Array]:
    """x (POINTS + PROBES, INPUTS) and y (POINTS + PROBES,), float32; the last points are probes.

    y = He_1(u) + 0.3 He_3(u) of u = w*·x, where the inputs are N(0, I) and w* is their first axis.
    """
    x = np.random.default_rng(0).standard_normal((POINTS + PROBES, INPUTS))
    u = x[:, 0]
    y = COEFFICIENTS[1] * u + COEFFICIENTS[3] * (u**3 - 3 * u)
    return x.astype(np.float32), y.astype(np.float32)
