"""The exact posterior of a linear network with one hidden layer and one output.

Given its readout a, f(x) = Σ_i a_i w_i·x is Gaussian with kernel s K, where K is the kernel of
infinite width and s = |a|²/σ_a², so that prior and posterior are mixtures over the scale s:

    s ~ Gamma(N/2, 2/N),   p(s|y) ∝ p(s) N(y; 0, s K + T).

Exact at every width N, in one-dimensional integrals over ln s by the trapezoidal rule.
Zavatone-Veth and Pehlevan (2021, arXiv:2111.11954), Hanin and Zlokapa (2023, arXiv:2212.14457).

In campaigns: `scale_mixture`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from theory.finite_width.kernel_scaling import Eigenbasis, in_eigenbasis

NODES = 2001
NEGLIGIBLE = 45.0  # nats below the maximum
ENOUGH_NODES = 300  # nodes above that


class ScaleMixture(NamedTuple):
    """Exact posterior at the test points, and of the scale of the kernel."""

    mean: Tensor  # (test,)
    variance: Tensor  # (test,): of the latent function
    scale: Tensor  # E[s|y] = E[|a|² | y] / σ_a²


def linear_posterior(
    kernel_train: Tensor,
    kernel_cross: Tensor,
    kernel_test_diagonal: Tensor,
    y: Tensor,
    ridge: float,
    width: float,
) -> ScaleMixture:
    """Mean and variance of f at the test points and the posterior of s, at width N.

    Mean E[s k*ᵀ(s K + T)⁻¹ y]; variance E[s k** - s² k*ᵀ(s K + T)⁻¹ k*] + Var[s k*ᵀ(s K + T)⁻¹ y],
    over p(s|y). Kernels as in `theory.regression.exact.posterior`, at infinite width and with the
    variance of the readout; y is (train,), ridge T > 0 is physical. Raises ValueError for
    arguments that do not fit.
    """
    basis = in_eigenbasis(kernel_train, y, ridge)
    s, weight = _posterior_of_scale(basis, width)
    gain = s[:, None] / (s[:, None] * basis.eigenvalues + ridge)  # (nodes, train)
    cross = kernel_cross.double() @ basis.vectors
    scale = weight @ s
    given_scale = (gain * basis.targets) @ cross.T  # (nodes, test)
    mean = weight @ given_scale
    spread = weight @ (given_scale - mean).square()
    within = scale * kernel_test_diagonal.double() - cross.square() @ (weight @ (s[:, None] * gain))
    return ScaleMixture(mean, within + spread, scale)


def hidden_covariance(
    x: Tensor, y: Tensor, ridge: float, width: float, weight_variance: tuple[float, float]
) -> Tensor:
    """(1/N) E[Σ_i w_i w_iᵀ | y] of the hidden weights, (d, d), at width N.

    ((N - 1)/N) (σ_w²/d) 1 + (1/N) E[v vᵀ/|a|²] with v = Σ_i a_i w_i, which given s is the weight
    vector of ridge regression with prior variance s σ_a² σ_w²/d. x is (n, d), y (n,);
    weight_variance is (σ_w², σ_a²).
    """
    hidden, readout = weight_variance
    dimension = x.shape[1]
    inputs = x.double()
    prior = hidden / dimension
    basis = in_eigenbasis(inputs @ inputs.T * (prior * readout), y, ridge)
    s, weight = _posterior_of_scale(basis, width)
    gain = prior / (s[:, None] * basis.eigenvalues + ridge)  # (nodes, n)
    turned = basis.vectors.T @ inputs  # (n, d)
    # Given s, E[v vᵀ]/|a|² = p - s σ_a² p² Xᵀ(s K + T)⁻¹X + s σ_a² p² Xᵀ(s K + T)⁻¹ y (same)ᵀ,
    # where p = σ_w²/d and (s K + T)⁻¹ is diagonal in the eigenbasis.
    lost = (turned.T * (readout * prior * (weight * s) @ gain)) @ turned
    signal = (gain * basis.targets) @ turned  # (nodes, d)
    learned = readout * (signal.T * (weight * s)) @ signal
    identity = torch.eye(dimension, dtype=torch.float64, device=x.device)
    return prior * identity + (learned - lost) / width


def _posterior_of_scale(basis: Eigenbasis, width: float) -> tuple[Tensor, Tensor]:
    """Nodes s and their posterior weights, which add up to one."""
    if not 1 <= width < math.inf:
        raise ValueError(f"width is {width}; give a number of neurons, at least 1")
    low, high = basis.range_of_minima(width)
    # Beyond the range of its maxima ln p(ln s) falls by at least N/4 per unit of ln s.
    low, high = (
        low - math.log(4) - 4 * NEGLIGIBLE / width,
        high + math.log(2) + 2 * NEGLIGIBLE / width,
    )
    while True:
        log_scale = torch.linspace(low, high, NODES, dtype=torch.float64).to(basis.targets.device)
        density = width * (log_scale - log_scale.exp()) / 2 - basis.action(log_scale) / 2
        density = density - density.max()
        seen = torch.nonzero(density > -NEGLIGIBLE).flatten()
        if len(seen) >= ENOUGH_NODES:
            return log_scale.exp(), torch.softmax(density, 0)
        low, high = (
            float(log_scale[i]) for i in (max(seen[0] - 1, 0), min(seen[-1] + 1, NODES - 1))
        )
