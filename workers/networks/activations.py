"""Activation functions φ, those of theory, and their derivatives φ', elementwise on tensors."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.records import RECORDS


class Activation(NamedTuple):
    """φ and φ': neither changes its argument, and φ' returns a new tensor."""

    phi: Callable[[Tensor], Tensor]
    dphi: Callable[[Tensor], Tensor]


def differentiable(phi: Callable[[Tensor], Tensor]) -> Activation:
    """φ with φ' by automatic differentiation, for an elementwise φ made of torch operations."""

    def dphi(z: Tensor) -> Tensor:
        # of a constant slope it is one number in the place of many, which nothing can be written to
        return torch.func.grad(lambda z: phi(z).sum())(z).contiguous()

    return Activation(phi, dphi)


def _erf_slope(z: Tensor) -> Tensor:
    """erf'(z) = (2/√π) exp(-z²)."""
    return z.square().neg_().exp_().mul_(2 / math.sqrt(math.pi))


def _relu_slope(z: Tensor) -> Tensor:
    """1 for z > 0, else 0."""
    return (z > 0).to(z.dtype)


def _tanh_slope(z: Tensor) -> Tensor:
    """tanh'(z) = 1 - tanh(z)²."""
    return torch.tanh(z).square_().neg_().add_(1)


def _gelu_slope(z: Tensor) -> Tensor:
    """gelu'(z) = (1 + erf(z/√2)) / 2 + z exp(-z²/2) / √(2π)."""
    density = z.square().mul_(-0.5).exp_().mul_(z).mul_(1 / math.sqrt(2 * math.pi))
    return torch.erf(z * math.sqrt(0.5)).add_(1).mul_(0.5).add_(density)


def _quadratic_slope(z: Tensor) -> Tensor:
    """The derivative 2 z of z²."""
    return 2 * z


def _sigmoid_slope(z: Tensor) -> Tensor:
    """sigmoid'(z) = sigmoid(z) (1 - sigmoid(z))."""
    value = torch.sigmoid(z)
    return value.mul_(1 - value)


def _silu_slope(z: Tensor) -> Tensor:
    """silu'(z) = s + z s (1 - s) of silu(z) = z s, s = sigmoid(z)."""
    value = torch.sigmoid(z)
    return value + z * value * (1 - value)


_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": torch.ones_like,
    "erf": _erf_slope,
    "relu": _relu_slope,
    "tanh": _tanh_slope,
    "gelu": _gelu_slope,
    "sin": torch.cos,
    "quadratic": _quadratic_slope,
    "sigmoid": _sigmoid_slope,
    "softplus": torch.sigmoid,
    "silu": _silu_slope,
}
ACTIVATIONS = {name: Activation(RECORDS[name].phi, slope) for name, slope in _SLOPES.items()}
