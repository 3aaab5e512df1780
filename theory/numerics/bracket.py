"""Roots of many functions of one variable at once.

Chandrupatla (1997, doi:10.1016/S0965-9978(96)00051-8).
"""

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 100
PRECISION = 4e-15  # of the root, relative, and absolute below 1


def root(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Where functions change sign between low and high, elementwise; NaN where they do not.

    Inverse quadratic interpolation where three points lie on a monotonous parabola, else bisection.
    """
    new, old = low, high  # the best bracket; `new` is the latest point
    at_new, at_old = function(new), function(old)
    crossing = at_new * at_old <= 0
    share = torch.full_like(new, 0.5)
    for _ in range(STEPS):
        point = new + share * (old - new)
        value = function(point)
        same = value.sign() == at_new.sign()
        third, at_third = torch.where(same, new, old), torch.where(same, at_new, at_old)
        old, at_old = torch.where(same, old, new), torch.where(same, at_old, at_new)
        new, at_new = point, value
        nearest = torch.where(at_new.abs() < at_old.abs(), new, old)
        least = PRECISION * (1 + nearest.abs()) / (old - new).abs()
        exact = (at_new == 0) | (at_old == 0)
        if bool((exact | ~(least < 0.5) | ~crossing).all()):
            break
        share = _share(new, old, third, at_new, at_old, at_third)
        share = torch.minimum(torch.maximum(share, least), 1 - least).nan_to_num(0.5)
        share = torch.where(exact, 0.0, share)
    nearest = torch.where(at_new.abs() < at_old.abs(), new, old)
    return torch.where(crossing, nearest, torch.nan)


def _share(
    new: Tensor, old: Tensor, third: Tensor, at_new: Tensor, at_old: Tensor, at_third: Tensor
) -> Tensor:
    """How far to go from `new` to `old`."""
    place = (new - old) / (third - old)
    height = (at_new - at_old) / (at_third - at_old)
    parabola = (height.square() < place) & ((1 - height).square() < 1 - place)
    quadratic = at_new / (at_old - at_new) * at_third / (at_old - at_third) + (third - new) / (
        old - new
    ) * at_new / (at_third - at_new) * at_old / (at_third - at_old)
    return torch.where(parabola, quadratic, 0.5)
