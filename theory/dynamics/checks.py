"""What is refused before anything is computed."""

import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

STABLE_STEP = 1.0  # over the fastest time: twice the step is taken, too, and 2 is the end
SHARE = 0.1  # of the fastest time, where no step is given


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


def check_neurons(x: Tensor, y: Tensor, width: float) -> None:
    """ValueError unless x (n, d) and y (n,) fit each other and there are neurons."""
    if x.ndim != 2 or y.shape != x.shape[:1] or len(y) == 0:
        raise ValueError(
            f"inputs are {tuple(x.shape)} and targets {tuple(y.shape)}; give (n, d) and (n,), "
            "for a network of one output"
        )
    if not (bool(x.isfinite().all()) and bool(y.isfinite().all())):
        raise ValueError("inputs and targets are not all finite; leave those points out")
    if not 1 <= width < math.inf:
        raise ValueError(f"width is {width}; give a number of neurons, at least 1")


def checked_step(step: float | None, fastest: float) -> float:
    """A step at which modes up to the fastest rate are stable; ValueError for another.

    Also where that rate is zero, so that nothing would ever be learned.
    """
    if not fastest > 0:
        raise ValueError(
            "the tangent kernel of the training points is zero; give other inputs or variances"
        )
    if step is None:
        return SHARE / fastest
    if not 0 < step * fastest <= STABLE_STEP:
        raise ValueError(
            f"step is {step:g}; give a positive one of at most {STABLE_STEP / fastest:.3g}, beyond "
            "which the fastest mode is not stable"
        )
    return float(step)


def check_memory(needed: int, purpose: str) -> None:
    """ValueError where so many bytes are more than half of what this machine has in all."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory / 2:
        raise ValueError(
            f"{purpose} need {needed / 1e9:.1f} GB, and this machine has {memory / 1e9:.1f} GB in "
            "all; give fewer times or points"
        )
