"""Priors of linear and relu networks of any width, exactly.

For φ made of two rays from the origin, φ(z)² is k times a random number independent of the kernel
k, so that k_{l+1} = σ_b² + s k_l X with the mean X of N independent copies, E[X] = 1, and
s = σ_w² E[φ²]/K. Zavatone-Veth and Pehlevan (2021), arXiv:2104.11734.

In campaigns: `exact_prior`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special
import torch
from torch import Tensor

from theory.activations.records import Activation
from theory.signal.arguments import Number, broadcast, check_not_negative, check_positive
from theory.signal.elementwise import Shape

STEP = 0.05  # of ω: the integral is then the density of ln |z| and its copies 2π/STEP = 126 away
FREQUENCIES = STEP * np.arange(960)  # up to where exp(-πω/4) is rounding
LARGEST_LOG = 60.0  # of |z|, and of its inverse, in units of the prior's standard deviation
POINTS = 2048  # at a time


class PriorMoments(NamedTuple):
    """Layer by layer, (depth + 1, ...); layer 0 is the inputs'."""

    mean: Tensor
    """E[k], the variance of a pre-activation over networks."""
    variance: Tensor
    """Var k, of the kernel over networks."""
    excess_kurtosis: Tensor
    """Of a pre-activation, 3 Var k/E[k]²."""


def prior_moments(
    activation: Activation,
    *,
    weight_variance: Number,
    bias_variance: Number,
    variance: Number,
    widths: Sequence[int],
) -> PriorMoments:
    """Exact moments at one input of networks with hidden layers of these widths.

    E[k'] = σ_b² + s E[k] and E[k'²] = σ_b⁴ + 2σ_b² s E[k] + s² (1 + c/N) E[k²], with
    c = E[φ⁴]/E[φ²]² - 1, which is 5 for relu and 2 for linear. Without biases the excess kurtosis
    is 3 (Π_l (1 + c/N_l) - 1). Arguments of variances broadcast.

    Raises ValueError for an activation that is not linear on both sides of 0, and for variances or
    widths that are not positive.
    """
    below, above = _rays(activation)
    _check_widths(widths)
    weights, biases, k = broadcast(
        weight_variance=weight_variance, bias_variance=bias_variance, variance=variance
    )
    check_positive(weight_variance=weights, variance=k)
    check_not_negative(bias_variance=biases)
    half = (below**2 + above**2) / 2
    s, c = weights * half, 1.5 * (below**4 + above**4) / half**2 - 1
    means, variances = [k], [torch.zeros_like(k)]
    for width in widths:
        mean, spread = means[-1], variances[-1]
        means.append(biases + s * mean)
        variances.append(s.square() * ((1 + c / width) * spread + c / width * mean.square()))
    mean, spread = torch.stack(means), torch.stack(variances)
    return PriorMoments(mean, spread, 3 * spread / mean.square())


def prior_density(
    activation: Activation,
    z: Tensor,
    *,
    weight_variance: float,
    variance: float,
    widths: Sequence[int],
) -> Tensor:
    """Density of a pre-activation after hidden layers of these widths, without biases, at z ≠ 0.

    For "linear" and "relu", by the Fourier integral over ω of E[|z|^{iω}], the product of
    E|g|^{iω} = 2^{iω/2} Γ((1 + iω)/2)/√π of a normal g, of (s^L K)^{iω/2}, and of E[X^{iω/2}] of
    each layer, where N X is χ²_N for linear, and 2 χ²_m with m binomial (N, 1/2) for relu. A relu
    network is dead, z = 0, with the probability 1 - Π_l (1 - 2^{-N_l}) that the density lacks.
    Errors are below 1e-12 of the largest value of |z| times the density.

    Raises ValueError for other activations, z = 0, and variances or widths that are not positive.
    """
    below, above = _rays(activation)
    if (below, above) not in ((0.0, 1.0), (1.0, 1.0)):
        raise ValueError(f"the density is known for linear and relu, and not for {activation!r}")
    _check_widths(widths)
    points, weights, k = broadcast(z=z, weight_variance=weight_variance, variance=variance)
    check_positive(weight_variance=weights, variance=k)
    s = weights.flatten()[0] * (below**2 + above**2) / 2
    scale = float((s ** len(widths) * k.flatten()[0]).sqrt())
    size = points.abs() / scale
    if bool((size == 0).any()):
        raise ValueError("the density is not known at z = 0; give numbers that are not 0")
    half = FREQUENCIES / 2
    log = 1j * half * math.log(2) + scipy.special.loggamma(0.5 + 1j * half) - math.log(math.pi) / 2
    law = np.exp(log)
    law[0] /= 2  # the negative frequencies are the complex conjugate
    for width in widths:
        law = law * (_relu_power(width, half) if below == 0 else _linear_power(width, half))
    places = size.log().clamp(-LARGEST_LOG, LARGEST_LOG).flatten().split(POINTS)
    of_log = np.concatenate(
        [(np.exp(-1j * np.outer(y.numpy(), FREQUENCIES)) @ law).real for y in places]
    )
    return torch.from_numpy(of_log * STEP / math.pi).reshape(points.shape) / (2 * points.abs())


def _linear_power(width: int, half: np.ndarray) -> np.ndarray:
    """E[X^{iω/2}], N X being χ²_N."""
    return np.exp(_log_power(np.array([width / 2]), half)[0] + 1j * half * math.log(2 / width))


def _relu_power(width: int, half: np.ndarray) -> np.ndarray:
    """E[X^{iω/2}; m > 0], N X being 2 χ²_m of m active neurons."""
    active = np.arange(1, width + 1)
    choose = scipy.special.gammaln([width + 1.0]) - scipy.special.gammaln(active + 1.0)
    choose -= scipy.special.gammaln(width - active + 1.0) + width * math.log(2)
    likely = choose > math.log(1e-18)
    powers = np.exp(_log_power(active[likely] / 2, half) + choose[likely, None])
    return powers.sum(0) * np.exp(1j * half * math.log(4 / width))


def _log_power(shape: np.ndarray, half: np.ndarray) -> np.ndarray:
    """ln E[(χ²/2)^{iω/2}] of χ² with twice as many degrees: ln Γ(a + iω/2) - ln Γ(a)."""
    loggamma = scipy.special.loggamma
    return loggamma(shape[:, None] + 1j * half) - loggamma(shape[:, None])


def _rays(activation: Activation) -> tuple[float, float]:
    shape = Shape.of(activation)
    if shape.rays is None:
        raise ValueError(
            f"activation {shape.name} is not linear on both sides of 0, as exact priors want it; "
            "give relu, linear or the like"
        )
    return shape.rays


def _check_widths(widths: Sequence[int]) -> None:
    if not len(widths) or not all(isinstance(width, int) and width >= 1 for width in widths):
        raise ValueError(f"widths are {list(widths)}; give whole numbers, one per hidden layer")
