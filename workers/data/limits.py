"""How large inputs and targets may be in a precision."""

import math

import numpy as np

from storage.errors import CampaignError
from workers.data.dataset import Array, Origin


def check_sizes(x: Array, y: Array, precision: str, origin: Origin) -> None:
    """Raise CampaignError, naming the point, for |x|⁴ or Σ y² beyond the largest number.

    Kernels multiply two |x|², and losses add the squares of all targets. x (n, d), y (n, ...).
    """
    largest = float(np.finfo(precision).max)
    entries = np.abs(x).max(axis=1, initial=0.0)
    with np.errstate(over="ignore"):
        squares = np.sum(x * x, axis=1)
    point = int(entries.argmax()) if np.isinf(squares).any() else int(squares.argmax())
    advice = "scale the data" + ", or take precision: float64" * (precision == "float32")
    if not squares[point] <= math.sqrt(largest):  # or not a number
        raise CampaignError(
            f"{origin.name(point)} has |x|² = {squares[point]:.3g} (inputs up to "
            f"{entries[point]:.3g}), and kernels multiply two of these: more than "
            f"{math.sqrt(largest):.2g} is too large for {precision}; {advice}"
        )
    targets = np.abs(y).reshape(len(y), -1).max(axis=1)
    point, most = int(targets.argmax()), math.sqrt(largest / y.size)
    if not targets[point] <= most:
        raise CampaignError(
            f"{origin.name(point)} has a target of size {targets[point]:.3g}, and losses add the "
            f"squares of {y.size}: more than {most:.2g} is too large for {precision}; {advice}"
        )
