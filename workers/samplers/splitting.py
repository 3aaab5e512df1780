"""A BAOAB step up to its new force, for the schemes that take their forces in their own way."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Splitting(NamedTuple):
    """ε/2, c = exp(-γ ε) and √(1 - c²): numbers, or one per chain (chain, 1)."""

    half: float | Tensor
    decay: float | Tensor
    kick: float | Tensor


def splitting(step_size: float | Tensor, friction: float) -> Splitting:
    """The numbers of a step of size ε at friction γ."""
    if isinstance(step_size, Tensor):
        decay = torch.exp(-friction * step_size)
        return Splitting(step_size / 2, decay, torch.sqrt(1 - decay.square()))
    decay = math.exp(-friction * step_size)
    return Splitting(step_size / 2, decay, math.sqrt(1 - decay**2))


def drifted(
    position: Tensor, momentum: Tensor, gradient: Tensor, normals: Tensor, by: Splitting
) -> tuple[Tensor, Tensor]:
    """z and p after half a kick, half a drift, the exact p ← c p + √(1 - c²) ξ and half a drift.

    What is left of the step is the half kick p ← p - (ε/2) ∇U at the new z. Leimkuhler and
    Matthews (2013, arXiv:1203.5428).
    """
    before = momentum - by.half * gradient
    after = by.decay * before + by.kick * normals
    return position + by.half * (before + after), after
