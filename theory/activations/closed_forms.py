"""Averages over Gaussian pre-activations that are known in closed form.

Throughout (u, v) ~ N(0, [[k11, k12], [k12, k22]]); formulas act elementwise and their arguments
broadcast. `theory.activations.records` says which activation has which.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from theory.numerics.precision import in_range

TINY = torch.finfo(torch.float64).tiny  # so that nothing divided by no variance is nothing
SATURATED = 1e3  # variance from which on erf is near ±1 so often that arcsin loses digits
GAUSS = math.sqrt(2 * math.pi)

# -- E[φ(u) φ(v)] and E[φ'(u) φ'(v)] ------------------------------------------------------------


def linear_expectation(k11: Tensor, k12: Tensor, k22: Tensor) -> Tensor:
    """E[u v] = k12."""
    return k12


def linear_derivative_expectation(k11: Tensor, k12: Tensor, k22: Tensor) -> Tensor:
    """E[1] = 1, in the shape of k12."""
    return torch.ones_like(k12)


def erf_expectation(k11: Tensor, k12: Tensor, k22: Tensor) -> Tensor:
    """E[erf(u) erf(v)] = (2/π) arcsin(2 k12 / √((1 + 2 k11)(1 + 2 k22))). Williams (1997)."""
    sine = k12 * _erf_scale(k11) * _erf_scale(k22)
    if saturates(k11, k22):
        _, sine, cosine = half_angle(k11, k12, k22)
        return erf_at_half_angle(k11, sine, cosine, k22)[0]
    return torch.asin(sine) * (2 / math.pi)


def erf_derivative_expectation(k11: Tensor, k12: Tensor, k22: Tensor) -> Tensor:
    """E[erf'(u) erf'(v)] = (4/π) / √((1 + 2 k11)(1 + 2 k22) - 4 k12²)."""
    if saturates(k11, k22):
        _, sine, cosine = half_angle(k11, k12, k22)
        return erf_at_half_angle(k11, sine, cosine, k22)[1]
    rows, columns = _erf_scale(k11), _erf_scale(k22)
    sine = k12 * rows * columns
    return torch.rsqrt(1 - sine * sine) * ((2 / math.pi) * rows) * columns


def saturates(*variances: Tensor) -> bool:
    """Whether the sine of erf comes so close to ±1 that its cosine is wanted as well."""
    return any(bool((variance > SATURATED).any()) for variance in variances)


def _erf_scale(variance: Tensor) -> Tensor:
    """√(2/(1 + 2k)), up to the largest k that there is."""
    return torch.sqrt(1 / (0.5 + variance))


def erf_at_half_angle(
    k11: Tensor, sine: Tensor, cosine: Tensor, k22: Tensor
) -> tuple[Tensor, Tensor]:
    """E[erf(u) erf(v)] and E[erf'(u) erf'(v)] of half of the angle θ whose cosine is ρ.

    With p = 1/(1 + 2 k11) and q = 1/(1 + 2 k22) they are (2/π) arctan(s/c) and (4/π) √(pq)/c, where
    s = ρ √((1-p)(1-q)) and c² = 1 - s² = p + q - pq + sin²θ (1-p)(1-q), a sum of positive terms.
    """
    p, q = 0.5 / (0.5 + k11), 0.5 / (0.5 + k22)
    rows, columns = (k11 / (0.5 + k11)).sqrt(), (k22 / (0.5 + k22)).sqrt()  # √(1-p) and √(1-q)
    above = (cosine - sine) * (cosine + sine) * rows * columns
    across = 2 * sine * cosine * rows * columns
    below = torch.sqrt(p + q * (1 - p) + across.square())
    slope = (2 / math.pi) * _erf_scale(k11) / below * _erf_scale(k22)
    return torch.atan2(above, below) * (2 / math.pi), slope


def relu_expectation(k11: Tensor, k12: Tensor, k22: Tensor) -> Tensor:
    """E[relu(u) relu(v)] = √(k11 k22) (sin θ + (π - θ) cos θ) / 2π. Cho and Saul (2009).

    θ is the angle of u and v: cos θ = k12 / √(k11 k22). Its functions are computed from halves of
    angles, which keep their digits near 0 and π.
    """
    norm, sine, cosine = half_angle(k11, k12, k22)
    angle = 2 * torch.atan2(sine, cosine)
    below = sine * sine - (2 * sine * cosine - angle * (1 - 2 * sine * sine)) / (2 * math.pi)
    return norm * (0.5 - below)  # `below` is (1 - cos of the next layer's angle)/2


def relu_derivative_expectation(k11: Tensor, k12: Tensor, k22: Tensor) -> Tensor:
    """E[relu'(u) relu'(v)] = (π - θ) / 2π, with cos θ = k12 / √(k11 k22). Cho and Saul (2009)."""
    _, sine, cosine = half_angle(k11, k12, k22)
    return torch.atan2(cosine, sine) / math.pi


def half_angle(k11: Tensor, k12: Tensor, k22: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """√(k11 k22), sin(θ/2) and cos(θ/2); both are zero where a variance is.

    Powers of two are divided out, so that k11 k22 is in range wherever k11 and k22 are.
    """
    first, second = _power_of_four(k11), _power_of_four(k22)
    norm = torch.sqrt((k11 / first / first) * (k22 / second / second))
    along = k12 / first / second
    half = 0.5 / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    sine, cosine = (
        (difference * half).clamp_(0, 1).sqrt_() for difference in (norm - along, norm + along)
    )
    return norm * first * second, sine, cosine


def _power_of_four(variance: Tensor) -> Tensor:
    """The root of a power of four that is near each variance."""
    _, exponent = torch.frexp(variance.detach())
    return torch.ldexp(torch.ones_like(variance), exponent // 2)


def sin_expectation(k11: Tensor, k12: Tensor, k22: Tensor) -> Tensor:
    """E[sin u sin v] = e^{-(k11 + k22)/2} sinh k12."""
    size = k12.abs()
    envelope = torch.exp((size - (k11 / 2 + k22 / 2)).clamp_max(0))
    return -torch.sign(k12) * envelope * torch.expm1(-2 * size) / 2


def sin_derivative_expectation(k11: Tensor, k12: Tensor, k22: Tensor) -> Tensor:
    """E[cos u cos v] = e^{-(k11 + k22)/2} cosh k12."""
    decay = k11 / 2 + k22 / 2
    return (torch.exp((k12 - decay).clamp_max(0)) + torch.exp((-k12 - decay).clamp_max(0))) / 2


def quadratic_expectation(k11: Tensor, k12: Tensor, k22: Tensor) -> Tensor:
    """E[u² v²] = k11 k22 + 2 k12²."""
    return in_range(k11 * k22 + 2 * k12 * k12, k11, k22)


def quadratic_derivative_expectation(k11: Tensor, k12: Tensor, k22: Tensor) -> Tensor:
    """E[2u 2v] = 4 k12."""
    return in_range(4 * k12, k11, k22)


# -- ½ E[φ''(u) φ(v)], from k11, k12, E[φφ] as a function and E[φ'φ'] ----------------------------

Value = Callable[[], Tensor]


def linear_curvature(k11: Tensor, k12: Tensor, value: Value, slope: Tensor) -> Tensor:
    """0, in the shape of k12."""
    return torch.zeros_like(k12)


def erf_curvature(k11: Tensor, k12: Tensor, value: Value, slope: Tensor) -> Tensor:
    """The derivative of arcsin s in k11: ∂s/∂k12 gives E[φ'φ'], and ∂s/∂k11 = -s/(1 + 2 k11)."""
    return -slope * (k12 / (0.5 + k11)) / 2


def relu_curvature(k11: Tensor, k12: Tensor, value: Value, slope: Tensor) -> Tensor:
    """E[φφ] is of degree ½ in k11 at fixed correlation (Euler)."""
    return (value() - k12 * slope) / k11.clamp_min(TINY) / 2


def sin_curvature(k11: Tensor, k12: Tensor, value: Value, slope: Tensor) -> Tensor:
    """-½ E[φφ]."""
    return -value() / 2


# -- the mean m = E[φ(u)] and dm/dk -------------------------------------------------------------


def relu_mean(k: Tensor) -> Tensor:
    """√(k/2π)."""
    return (k / (2 * math.pi)).sqrt()


def relu_mean_slope(k: Tensor) -> Tensor:
    """1/√(8πk)."""
    return k.clamp_min(TINY).rsqrt() / (2 * GAUSS)


def gelu_mean(k: Tensor) -> Tensor:
    """E[u Φ(u)] = k E[Φ'(u)] (Stein)."""
    return k / (1 + k).sqrt() / GAUSS


def gelu_mean_slope(k: Tensor) -> Tensor:
    """(2 + k)/(1 + k)^(3/2)/√(8π)."""
    return ((2 + k) / (1 + k)) / (1 + k).sqrt() / (2 * GAUSS)


def quadratic_mean(k: Tensor) -> Tensor:
    """E[u²] = k."""
    return k
