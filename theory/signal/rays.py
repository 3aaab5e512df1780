"""Activations made of two rays from the origin: relu, leaky relu, linear, |u|. Cho and Saul (2009).

With slopes a below and b above 0, E[φ²] = K (a² + b²)/2 at every variance, and for c = cos θ

    R = (a + b)²/4 + (b - a)²/4 (1 - (2/π)(sin θ - θ cos θ)/(1 - cos θ)),
    E[φ'φ'] = (a² + b²)/2 (1 - θ/π) + a b θ/π.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

SMALL_ANGLE = 0.02  # below which a series has the digits that the difference lacks


class RayChords(NamedTuple):
    """The chord slopes of `theory.signal.chords` of two rays, the same at every variance."""

    below: float
    above: float

    def slope(self, distance: Tensor) -> Tensor:
        """R, from 1 - c."""
        angle = _angle(distance)
        square = angle.square()
        series = angle * square * (1 / 3 - square * (1 / 30 - square / 840))
        lag = torch.where(angle < SMALL_ANGLE, series, angle.sin() - angle * angle.cos())
        tiny = torch.finfo(angle.dtype).tiny
        bend = 1 - (2 / math.pi) * lag / distance.clamp_min(tiny)
        return ((self.above + self.below) / 2) ** 2 + ((self.above - self.below) / 2) ** 2 * bend

    def derivative(self, distance: Tensor) -> Tensor:
        """E[φ'(u) φ'(v)]."""
        share = _angle(distance) / math.pi
        mean = (self.above**2 + self.below**2) / 2
        return mean * (1 - share) + self.above * self.below * share


def _angle(distance: Tensor) -> Tensor:
    return 2 * torch.asin((distance / 2).clamp(0, 1).sqrt())
