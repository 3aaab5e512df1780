"""Interpolation by polynomials of Chebyshev through the extrema and ends of an interval."""

import math

import torch
from torch import Tensor


def points(count: int) -> Tensor:
    """Where values are wanted, from 0 to 1: x_j = (1 - cos(π j/(count - 1)))/2."""
    return (1 - torch.cos(math.pi * torch.arange(count, dtype=torch.float64) / (count - 1))) / 2


def coefficients(values: Tensor) -> Tensor:
    """a_k of Σ_k a_k T_k(1 - 2x) from values at the points, along the last dimension."""
    count = values.shape[-1]
    order = torch.arange(count, dtype=torch.float64)
    ends = torch.ones(count, dtype=torch.float64)
    ends[0] = ends[-1] = 0.5
    waves = torch.cos(math.pi / (count - 1) * torch.outer(order, order))
    return values @ (waves * ends * ends[:, None] * (2 / (count - 1)))


def basis(x: Tensor, count: int) -> Tensor:
    """T_k(1 - 2x), (..., count), for x between 0 and 1."""
    order = torch.arange(count, dtype=torch.float64)
    return torch.cos((1 - 2 * x).clamp(-1, 1).acos()[..., None] * order)


def derivative(coefficients: Tensor) -> Tensor:
    """Coefficients of the derivative in x, in the same shape."""
    turned = torch.zeros_like(coefficients)
    count = coefficients.shape[-1]
    for k in range(count - 1, 0, -1):
        beyond = turned[..., k + 1] if k + 1 < count else 0
        turned[..., k - 1] = beyond - 4 * k * coefficients[..., k]
    turned[..., 0] /= 2
    return turned
