"""Grids of the order parameter x = q/√(σ_w²/d), uniform in a coordinate t(x).

Averages are sums over midpoints of t, which for analytic densities converge exponentially. Wells of
erf neurons are as narrow at any x, and t = x. Densities of relu and linear neurons, whose action
grows as x² everywhere, have tails that are the smoother the longer they are: x = s sinh(t/s).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


def coordinate(x: Tensor, stretch: float) -> Tensor:
    """t(x)."""
    return x if math.isinf(stretch) else stretch * torch.asinh(x / stretch)


def place(t: Tensor, stretch: float) -> tuple[Tensor, Tensor]:
    """x(t) and ln dx/dt."""
    if math.isinf(stretch):
        return t, torch.zeros_like(t)
    return stretch * torch.sinh(t / stretch), torch.cosh(t / stretch).log()


class Grid(NamedTuple):
    """Midpoints t = ±h/2, ±3h/2, ... up to the reach in x."""

    spacing: float  # h
    reach: float
    stretch: float

    @property
    def size(self) -> float:
        """Points of both halves."""
        return 2 * float(coordinate(torch.tensor(self.reach), self.stretch)) / self.spacing

    def points(self, *, even: bool) -> tuple[Tensor, Tensor]:
        """x and the logarithm of its prior probability, which is that of one half if p is even."""
        end = float(coordinate(torch.tensor(self.reach), self.stretch))
        half = torch.arange(self.spacing / 2, end, self.spacing, dtype=torch.float64)
        x, measure = place(half if even else torch.cat([-half.flip(0), half]), self.stretch)
        return x, torch.log_softmax(measure - x.square() / 2, 0)
