"""What is refused before anything is computed."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def check_times(times: Sequence[float] | Tensor) -> Tensor:
    """The times as float64, (time,); ValueError unless they increase from zero or later."""
    found = torch.as_tensor(times, dtype=torch.float64)
    if found.ndim != 1 or len(found) == 0:
        raise ValueError(f"times have shape {tuple(found.shape)}; give a list of numbers")
    if not (float(found[0]) >= 0 and bool((found.diff() > 0).all()) and found[-1] < math.inf):
        raise ValueError("times do not increase from zero or later; give finite ones, in order")
    return found


def check_targets(y: Tensor, points: int) -> int:
    """How many training points there are; ValueError unless y (n,) or (n, outputs) fits them."""
    if y.ndim not in (1, 2) or not 1 <= len(y) <= points:
        raise ValueError(
            f"targets are {tuple(y.shape)} at {points} points; give (n,) or (n, outputs)"
        )
    if not bool(y.isfinite().all()):
        raise ValueError("targets are not all finite; leave the points of others out")
    return len(y)
