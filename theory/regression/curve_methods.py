"""What a measured learning curve costs, and the cheapest way to it.

The choice fixes the bits of what is computed, so that it is made of sizes and ridges alone, with
the speeds of a machine that stands for all.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from theory.regression.learning_curve import Method

DOUBLE, SINGLE = 4.5e10, 9e10  # flop per second of one core in large products
SKINNY = 2.5e10  # in products with a few columns, double precision
EIGEN = 9.0  # flop of a symmetric eigendecomposition with its vectors, times points³
STEP = 5e-4  # seconds that a path of a few leaps takes at least

WORTH = 10.0  # seconds an order: digits are given up for no less
SINGLE_RIDGE = 1e-6  # of the kernel's diagonal: below, single precision would be tried in vain
ROUNDS: dict[Method, int] = {"double": 2, "single": 4}  # of refinement


class Choice(NamedTuple):
    """A method for each ridge, and what one order costs."""

    methods: tuple[Method, ...]
    seconds: float  # of one core
    bytes: int  # beside the kernel of the pool


def choose(
    points: int,
    sizes: Sequence[int],
    ridges: Sequence[float],
    *,
    scale: float,
    replacement: bool,
    outputs: int = 1,
    modes: int = 0,
) -> Choice:
    """The cheapest methods for a pool of so many points.

    `scale` is about the size of the kernel's diagonal. Single precision is taken only where it
    saves WORTH seconds, since posterior variances, evidences and learnabilities then have six
    digits. Each order costs with `double` n³/3 flop for a factor, as much for its inverse, and n²
    for every point of the pool that is not drawn.
    """
    largest, wide = max(sizes), max(len(sizes), len(ridges)) * outputs
    room = 8 * 8 * (points + largest) * (wide + modes)  # for weights, predictions and modes
    each: dict[Method, float] = {
        method: _nested_seconds(points, sizes, replacement, len(sizes) * outputs, method)
        for method in ROUNDS
    }
    able = [ridge >= SINGLE_RIDGE * scale for ridge in ridges]
    worth = (each["double"] - each["single"]) * sum(able) > WORTH
    methods: list[Method] = ["single" if worth and one else "double" for one in able]
    nested = sum(each[method] for method in methods)
    spectrum = _spectrum_seconds(points, sizes, replacement, len(ridges) * outputs)
    if spectrum < nested:
        methods = ["spectrum" for _ in ridges]
        return Choice(tuple(methods), spectrum, 3 * 8 * largest**2 + room)
    return Choice(tuple(methods), nested, 8 * largest**2 + room)  # single may need double after all


def eigen_seconds(points: int) -> float:
    """An eigendecomposition of the whole pool."""
    return EIGEN * points**3 / DOUBLE


def products_seconds(products: float) -> float:
    """Multiplications with their additions, in large products."""
    return 2 * products / DOUBLE


def quartic_seconds(sizes: Sequence[int], chains: int, steps: int, leaps: int) -> float:
    """Hamiltonian sampling of a quartic loss at every size, for one ridge and coupling.

    Each of the steps is a path of so many leaps, with two products each.
    """
    each = (
        EIGEN * size**3 / DOUBLE + steps * (STEP + 4 * leaps * chains * size**2 / SKINNY)
        for size in sizes
    )
    return sum(each)


def eigen_bytes(points: int) -> int:
    """Of the same: the kernel, its vectors, and what it is put together from."""
    return 3 * 8 * points**2


def _nested_seconds(
    points: int, sizes: Sequence[int], replacement: bool, wide: int, method: Method
) -> float:
    """One ridge."""
    largest = max(sizes)
    rest = _never_drawn(points, largest, replacement)
    cubic = (2 / 3 * largest + rest) * largest**2
    rounds = 2 * wide * (points**2 + largest**2) * ROUNDS[method]
    return cubic / (SINGLE if method == "single" else DOUBLE) + rounds / SKINNY


def _spectrum_seconds(points: int, sizes: Sequence[int], replacement: bool, wide: int) -> float:
    """All ridges."""
    total = 0.0
    for size in sizes:
        rest = _never_drawn(points, size, replacement)
        total += (EIGEN * size + 2 * rest) * size**2 / DOUBLE
        total += 2 * wide * (points**2 + 2 * size**2) * ROUNDS["double"] / SKINNY
    return total


def _never_drawn(points: int, draws: int, replacement: bool) -> float:
    """How many points of the pool are not among the draws, on average."""
    if replacement:
        return points * math.exp(draws * math.log1p(-1 / points)) if points > 1 else 0.0
    return float(points - draws)
