"""Priors of networks at finite width: kernels that fluctuate, and outputs that are not Gaussian.

Given the layer before, pre-activations of one input are Gaussian of a variance that is itself
random, k_{l+1} = σ_b² + (σ_w²/N) Σ_i φ(z_i)². At order 1/N its mean is K + G/N, its variance V/N.

In campaigns: `width_corrections`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.records import Activation
from theory.signal.arguments import (
    Number,
    broadcast,
    check_depth,
    check_not_negative,
    check_positive,
)
from theory.signal.elementwise import Shape
from theory.signal.gaussian import expectations


class WidthCorrections(NamedTuple):
    """Layer by layer, (depth + 1, ...); layer 0 is the inputs', which knows no width."""

    variance: Tensor
    """K, of the infinite network."""
    mean: Tensor
    """G: the mean of the kernel is K + G/N."""
    fluctuation: Tensor
    """V: the variance of the kernel is V/N."""
    excess_kurtosis: Tensor
    """3V/K²: the excess kurtosis of a pre-activation over networks is this over N."""


def width_corrections(
    activation: Activation,
    *,
    weight_variance: Number,
    bias_variance: Number,
    variance: Number,
    depth: int,
) -> WidthCorrections:
    """Coefficients of 1/N of the prior at one input, all hidden layers being N wide.

    V_{l+1} = σ_w⁴ (E[φ⁴] - E[φ²]²) + χ_∥² V_l and G_{l+1} = χ_∥ G_l + (σ_w²/2) V_l d²E[φ²]/dK²,
    from V_0 = G_0 = 0, with Gaussian u of variance K_l, χ_∥ = σ_w² dE[φ²]/dK, and
    d²E[φ²]/dK² = E[φ² (u⁴ - 6Ku² + 3K²)]/(4K⁴). Arguments after the first broadcast; K_0 is the
    variance of the pre-activations of the first layer. Yaida (2020), arXiv:1910.00019; Roberts,
    Yaida and Hanin (2022), arXiv:2106.10165, section 4.

    Raises ValueError as `flow`.
    """
    check_depth(depth)
    return layered_corrections(
        activation,
        weight_variance=[weight_variance] * depth,
        bias_variance=[bias_variance] * depth,
        variance=variance,
    )


def layered_corrections(
    activation: Activation,
    *,
    weight_variance: Sequence[Number],
    bias_variance: Sequence[Number],
    variance: Number,
) -> WidthCorrections:
    """The same with σ_w² and σ_b² of each layer above a hidden one, the first hidden one first.

    Raises ValueError as `flow`.
    """
    check_depth(len(weight_variance))
    named = {f"weight_variance of layer {n}": w for n, w in enumerate(weight_variance, 2)}
    weights = named | {f"bias_variance of layer {n}": b for n, b in enumerate(bias_variance, 2)}
    *numbers, variance = broadcast(**weights, variance=variance)
    for name, number in zip(weights, numbers, strict=True):
        (check_positive if name in named else check_not_negative)(**{name: number})
    check_positive(variance=variance)
    shape, k = Shape.of(activation), variance.flatten()
    rows = [(k, torch.zeros_like(k), torch.zeros_like(k))]
    flat = [number.flatten() for number in numbers]
    pairs = zip(flat[: len(named)], flat[len(named) :], strict=True)
    for layer, (w, b) in enumerate(pairs):
        k, g, v = rows[-1]
        second, fourth, slope, curvature = _moments(shape, k)
        if not bool(fourth.isfinite().all()):
            raise ValueError(f"moments leave what float64 holds in layer {layer + 1}")
        chi = w * slope
        following = (
            b + w * second,
            chi * g + w / 2 * curvature * v,
            w.square() * (fourth - second.square()) + chi.square() * v,
        )
        if not bool((following[0] > 0).all()):
            raise ValueError(f"the variance leaves what float64 holds in layer {layer + 1}")
        rows.append(following)
    found = (torch.stack(some).reshape(-1, *variance.shape) for some in zip(*rows, strict=True))
    k, g, v = found
    return WidthCorrections(k, g, v, 3 * v / k.square())


def _moments(shape: Shape, variance: Tensor) -> Tensor:
    """E[φ²], E[φ⁴], and the first two derivatives of E[φ²] in K, (4, n)."""
    if shape.rays is not None:
        below, above = shape.rays
        second, fourth = (below**2 + above**2) / 2, 3 * (below**4 + above**4) / 2
        one = torch.ones_like(variance)
        return torch.stack([second * variance, fourth * variance**2, second * one, 0 * one])

    def integrands(u: Tensor, z: Tensor, root: Tensor) -> Tensor:
        value, slope = shape.value(u), shape.slope(u)
        square, half = value.square(), value * slope / root
        # dE[h]/dK = E[h' z]/(2√K), once and twice more by parts on h = φ²: of lower powers of z.
        return torch.stack(
            [square, square.square(), half * z, half * (z**3 - 3 * z) / (2 * root.square())]
        )

    return expectations(shape, variance, integrands)
