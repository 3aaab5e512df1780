"""What a neuron φ(w·x) has in common with functions of w*·x, for x ~ N(0, I).

With q = w·w*, |w|² = q² + s and ρ = q/|w|,

    g_k = <he_k(w*·x) φ(w·x)> = ρ^k E[he_k(u) φ(|w| u)],  u ~ N(0, 1),

in closed form for erf, relu and linear φ. he_k = He_k/√k! are the normalised Hermite polynomials.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from theory.words import check_word

ODD = frozenset({"erf", "linear"})  # activations
KNOWN = ODD | {"relu"}


def overlaps(activation: str, q: Tensor, perpendicular: Tensor, orders: Sequence[int]) -> Tensor:
    """g_k(q), (..., mode, point), of q (..., point) and s = |w|² - q², (..., 1).

    erf: (2/√π) (-1)^m [(2m)!/m!] q^k D^(-m - 1/2)/√k! with k = 2m + 1 and D = 1 + 2|w|².
    relu: c_k |w| ρ^k/√k! with c_0 = 1/√(2π), c_1 = 1/2, c_2m = (-1)^(m+1) (2m - 3)!!/√(2π).
    linear: q for k = 1. All others vanish. Raises ValueError for another activation.
    """
    _check(activation)
    square = perpendicular + q.square()
    rows = [_overlap(activation, q, square, order) for order in orders]
    return torch.stack(rows, -2)


def slope(activation: str, square: Tensor) -> Tensor:
    """E[φ'(|w| u)] of |w|² = `square`, so that <x_j φ(w·x)> = w_j E[φ'(|w| u)] for every j."""
    _check(activation)
    if activation == "erf":
        return (2 / math.pi**0.5) * torch.sqrt(0.5 / (0.5 + square))
    return torch.full_like(square, 0.5 if activation == "relu" else 1.0)


def in_patches(activation: str) -> bool:
    """Whether patches stay independent: where φ is odd, they have no constant in common."""
    _check(activation)
    return activation in ODD


def _overlap(activation: str, q: Tensor, square: Tensor, order: int) -> Tensor:
    half = order // 2
    if activation == "relu":
        size = relu_coefficient(order) / math.sqrt(math.factorial(order))
        norm = square.sqrt()
        cosine = q / norm.clamp_min(torch.finfo(norm.dtype).tiny)  # no weight is along nothing
        return size * norm * cosine**order
    if activation == "linear" or order % 2 == 0:
        return q if order == 1 else torch.zeros_like(q)
    size = math.factorial(2 * half) / math.factorial(half) / math.sqrt(math.factorial(order))
    scale = 0.5 / (0.5 + square)
    sign = 1 - 2 * (half % 2)
    return (sign * size * 2 / math.sqrt(math.pi)) * q * scale.sqrt() * (q.square() * scale) ** half


def relu_coefficient(order: int) -> float:
    """E[He_k(u) relu(u)]."""
    if order % 2:
        return 0.5 if order == 1 else 0.0
    half = order // 2
    sign = -1 if half % 2 == 0 and half else 1
    return sign * math.prod(range(2 * half - 3, 0, -2)) / math.sqrt(2 * math.pi)


def _check(activation: str) -> None:
    check_word("activation", activation, sorted(KNOWN))
