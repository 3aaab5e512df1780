"""What a neuron φ(w·x) has in common with functions of w*·x, for x ~ N(0, I).

With q = w·w*, |w|² = q² + s and ρ = q/|w|,

    g_k = <he_k(w*·x) φ(w·x)> = ρ^k E[he_k(u) φ(|w| u)],  u ~ N(0, 1),

in closed form for erf, relu and linear φ. he_k = He_k/√k! are the normalised Hermite polynomials.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from theory.activations.records import RECORDS
from theory.words import check_word


@dataclass(frozen=True)
class Overlap:
    """What is known of a neuron."""

    overlap: Callable[[Tensor, Tensor, int], Tensor]  # g_k of q, |w|² and k
    slope: Callable[[Tensor], Tensor]  # E[φ'(|w| u)] of |w|²
    stretch: float  # s of the grid of its order parameter, theory.single_index.order_grid


def overlaps(activation: str, q: Tensor, perpendicular: Tensor, orders: Sequence[int]) -> Tensor:
    """g_k(q), (..., mode, point), of q (..., point) and s = |w|² - q², (..., 1).

    erf: (2/√π) (-1)^m [(2m)!/m!] q^k D^(-m - 1/2)/√k! with k = 2m + 1 and D = 1 + 2|w|².
    relu: c_k |w| ρ^k/√k! with c_0 = 1/√(2π), c_1 = 1/2, c_2m = (-1)^(m+1) (2m - 3)!!/√(2π).
    linear: q for k = 1. All others vanish. Raises ValueError for another activation.
    """
    _check(activation)
    square = perpendicular + q.square()
    rows = [OVERLAPS[activation].overlap(q, square, order) for order in orders]
    return torch.stack(rows, -2)


def slope(activation: str, square: Tensor) -> Tensor:
    """E[φ'(|w| u)] of |w|² = `square`, so that <x_j φ(w·x)> = w_j E[φ'(|w| u)] for every j."""
    _check(activation)
    return OVERLAPS[activation].slope(square)


def stretch_of(activation: str) -> float:
    """s of the grid of x = q/√(σ_w²/d)."""
    return OVERLAPS[activation].stretch


def is_odd(activation: str) -> bool:
    """Whether φ is odd; then patches, which have no constant in common, stay independent."""
    _check(activation)
    return RECORDS[activation].odd


def _relu(q: Tensor, square: Tensor, order: int) -> Tensor:
    size = relu_coefficient(order) / math.sqrt(math.factorial(order))
    norm = square.sqrt()
    cosine = q / norm.clamp_min(torch.finfo(norm.dtype).tiny)  # no weight is along nothing
    return size * norm * cosine**order


def _linear(q: Tensor, square: Tensor, order: int) -> Tensor:
    return q if order == 1 else torch.zeros_like(q)


def _erf(q: Tensor, square: Tensor, order: int) -> Tensor:
    if order % 2 == 0:
        return torch.zeros_like(q)
    half = order // 2
    size = math.factorial(2 * half) / math.factorial(half) / math.sqrt(math.factorial(order))
    scale = 0.5 / (0.5 + square)
    sign = 1 - 2 * (half % 2)
    return (sign * size * 2 / math.sqrt(math.pi)) * q * scale.sqrt() * (q.square() * scale) ** half


def _erf_slope(square: Tensor) -> Tensor:
    return (2 / math.pi**0.5) * torch.sqrt(0.5 / (0.5 + square))


def relu_coefficient(order: int) -> float:
    """E[He_k(u) relu(u)]."""
    if order % 2:
        return 0.5 if order == 1 else 0.0
    half = order // 2
    sign = -1 if half % 2 == 0 and half else 1
    return sign * math.prod(range(2 * half - 3, 0, -2)) / math.sqrt(2 * math.pi)


OVERLAPS = {
    "erf": Overlap(_erf, _erf_slope, math.inf),
    "linear": Overlap(_linear, torch.ones_like, 8.0),
    "relu": Overlap(_relu, lambda square: torch.full_like(square, 0.5), 8.0),
}


def _check(activation: str) -> None:
    check_word("activation", activation, OVERLAPS)
