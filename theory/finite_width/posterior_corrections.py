"""The posterior of a finite network to first order in 1/N, N being the width of its hidden layers.

Given its hidden layers a network is a Gaussian process with a kernel k, which has the mean K and
fluctuates, Cov(k, k) = V/N. The evidence Z of the labels weighs it, so that

    <F(k) | y> = F(K) + (1/N) V:(F' (ln Z)' + F''/2),    (ln Z)' = A/2,   A = t tᵀ - G,

with G = (K + T)⁻¹ and t = G y. For one hidden layer, k = (σ_a²/N) Σ_i φ_i φ_iᵀ, V is
σ_a⁴ E[φφφφ] - K K in an average over one neuron, and with φ̃* = φ* - K* G φ and K̃* = K* - K* G K

    <k> = K + (1/N) [σ_a⁴ E[φφᵀ (φᵀAφ)] - K Tr(K A)]/2,

    <f*> = K* t + (1/N) [σ_a⁴ E[φ̃* (φ·t) (φᵀAφ/2 - φᵀGφ)] - K̃* t Tr(K A)/2 + K̃* G K t].

For linear networks of L hidden layers, by Wick's theorem,

    <k> = K + (L/N) K A K,      <f*> = K* t + (L/N) K̃* [A K - Tr(G K) - G K] t.

The order holds where N is large against these coefficients in units of the leading order.
Zavatone-Veth, Canatar, Ruben and Pehlevan (2021, arXiv:2106.00651).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.records import Activation, function_of
from theory.kernels.all_points import all_points
from theory.kernels.fully_connected import nngp
from theory.kernels.whitening import check_problem, whitened


class FirstOrder(NamedTuple):
    """Posterior means at all points, those of training first, and what multiplies 1/N in them."""

    output: Tensor  # K* t, (point,)
    output_slope: Tensor
    kernel: Tensor  # K of the output, (point, point)
    kernel_slope: Tensor

    def at(self, width: float) -> tuple[Tensor, Tensor]:
        """Output and kernel at a width, to first order."""
        return self.output + self.output_slope / width, self.kernel + self.kernel_slope / width

    @property
    def least_width(self) -> float:
        """Where the first order is as large as the leading one: it holds for N far above."""
        pairs = ((self.output_slope, self.output), (self.kernel_slope, self.kernel))
        return max(float(slope.abs().max() / value.abs().max()) for slope, value in pairs)


def deep_linear_corrections(
    x: Tensor,
    y: Tensor,
    ridge: float,
    *,
    x_test: Tensor | None = None,
    weight_variance: Sequence[float],
    bias_variance: float = 0.0,
) -> FirstOrder:
    """Linear networks of as many hidden layers as there are variances but one, all of one width.

    x is (n, d), y (n,), x_test (m, d). Biases are those of the first hidden layer alone. Ridge T
    and σ_a² are physical. Raises ValueError for arguments that do not fit.
    """
    depth = len(weight_variance) - 1
    biases = (bias_variance, *[0.0] * (depth - 1))
    problem = _problem(x, y, ridge, x_test, "linear", weight_variance, biases)
    prior, train, t = problem.prior, problem.train, problem.discrepancy
    across, gain = prior[:, :train], problem.response
    force = torch.outer(t, t) - gain
    inner = prior[:train, :train]
    moved = force @ inner @ t - gain @ inner @ t - (gain * inner).sum() * t
    return FirstOrder(
        across @ t,
        depth * problem.left(across) @ moved,
        prior,
        depth * across @ force @ across.T,
    )


def shallow_corrections(
    x: Tensor,
    y: Tensor,
    ridge: float,
    normals: Tensor,
    *,
    x_test: Tensor | None = None,
    activation: Activation,
    weight_variance: tuple[float, float],
    bias_variance: float = 0.0,
) -> FirstOrder:
    """Networks of one hidden layer and any activation.

    Averages over a neuron are over fixed standard normals (draws, d), or (draws, d + 1) with
    biases, as of `theory.activations.neurons.quasi_normals`. Other arguments as above;
    weight_variance is (σ_w², σ_a²). Raises ValueError for arguments that do not fit.
    """
    if len(weight_variance) != 2:
        raise ValueError(f"weight variances are {weight_variance}; give those of w and of a")
    problem = _problem(x, y, ridge, x_test, activation, weight_variance, (bias_variance,))
    points = whitened(problem.points, weight_variance[0], bias_variance)
    if normals.ndim != 2 or normals.shape[1] != points.shape[1]:
        raise ValueError(
            f"normals are {tuple(normals.shape)}; give (draws, {points.shape[1]}), one for each "
            "input and one more with biases"
        )
    if not bool(normals.isfinite().all()):
        raise ValueError("normals are not all finite; give draws of a standard normal")
    prior, train, t = problem.prior, problem.train, problem.discrepancy
    across, inner, gain = prior[:, :train], prior[:train, :train], problem.response
    # Activations in units in which their kernel is that of the output.
    phi = function_of(activation)(points @ normals.double().T) * weight_variance[1] ** 0.5
    along = t @ phi[:train]  # φ·t of each draw
    fluctuation = ((gain @ phi[:train]) * phi[:train]).sum(0)  # φᵀGφ
    evidence = (along.square() - fluctuation) / 2  # φᵀAφ/2
    known = (t @ inner @ t - (gain * inner).sum()) / 2  # Tr(K A)/2
    draws = phi.shape[1]
    moved = (phi * (along * (evidence - fluctuation))).sum(1) / draws
    left = problem.left(across)
    output = moved - across @ (gain @ moved[:train]) - left @ (known * t - gain @ inner @ t)
    kernel = (phi * evidence) @ phi.T / draws - known * prior
    return FirstOrder(across @ t, output, prior, kernel)


class _Problem(NamedTuple):
    points: Tensor  # those of training first
    prior: Tensor  # K, (p, p)
    response: Tensor  # G, (n, n)
    discrepancy: Tensor  # t, (n,)

    @property
    def train(self) -> int:
        return len(self.discrepancy)

    def left(self, across: Tensor) -> Tensor:
        """K̃* = K* - K* G K."""
        return across - across @ self.response @ self.prior[: self.train, : self.train]


def _problem(
    x: Tensor,
    y: Tensor,
    ridge: float,
    x_test: Tensor | None,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: Sequence[float],
) -> _Problem:
    depth = len(weight_variance) - 1
    if depth < 1:
        raise ValueError(
            f"weight variances are {tuple(weight_variance)}; give two at least, the last for the "
            "readout"
        )
    check_problem(x, y, ridge, (1.0,) * depth, weight_variance, bias_variance)
    points = all_points(x, x_test)
    prior = nngp(
        points,
        depth=depth,
        activation=activation,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
    )
    train = len(x)
    identity = torch.eye(train, dtype=torch.float64, device=prior.device)
    response = torch.linalg.inv(prior[:train, :train] + ridge * identity)
    return _Problem(points, prior, response, response @ y.double())
