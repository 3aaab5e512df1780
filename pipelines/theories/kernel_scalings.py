"""Kernel scaling of any fully connected network: of one layer or more, with a mean, of outputs."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipelines.theories import ensemble_theories
from pipelines.theories.ensemble_theories import (
    CONVERGED,
    Prediction,
    Problem,
    prior_layers,
    summary,
    unsolved,
)
from storage.campaign import activations
from theory.activations.kernel_map import KernelMap
from theory.finite_width.matrix_scaling import matrix_prediction, matrix_scale
from theory.finite_width.mean_scaling import mean_kernel_scale, mean_scaled
from theory.finite_width.nested_scaling import nested_kernel_scale
from theory.regression.exact import Posterior, posterior


class Scaled(NamedTuple):
    """Regression with kernels that are rescaled."""

    posterior: Posterior
    scale: float  # Q, multiplied over layers or averaged over outputs
    residual: float


def kernel_scaling(problem: Problem, widths: Sequence[int]) -> Iterable[Prediction]:
    """Regression with rescaled kernels, at each width; hidden layers as under the prior.

    Where the activation is odd and there is one hidden layer, or linear ones without biases, a
    factor multiplies the kernel of infinite width: a number, or a matrix between several outputs.
    With one hidden layer the part of the activations' mean has a factor of its own; with more each
    layer has its factors. Raises ValueError where the equations are not solved.
    """
    network = problem.network
    linear = network.activation == "linear" and not any(network.biases)
    odd = activations.record(network.activation).odd
    multiplied = odd and (network.depth == 1 or linear)
    outputs = problem.spec.data.number_of_outputs
    if outputs == 1 and (problem.prior or multiplied):
        yield from ensemble_theories.kernel_scaling(problem, widths)
        return
    scaled = _of_each_layer if network.depth > 1 else _with_mean
    if outputs > 1:
        scaled = _with_matrix
    layers = prior_layers(problem)
    for width in widths:
        found = _prior(problem) if problem.prior else scaled(problem, width)
        equations = {"scale": np.array(found.scale), "residual": np.array(found.residual)}
        yield summary(problem, found.posterior) | layers | equations


def _prior(problem: Problem) -> Scaled:
    none = torch.zeros(problem.data.y_test.shape, dtype=torch.float64)
    return Scaled(Posterior(none, problem.diagonal), 1.0, 0.0)


def _with_matrix(problem: Problem, width: int) -> Scaled:
    """The variance is averaged over outputs."""
    widths = [width] * problem.network.depth
    found = matrix_scale(problem.train, problem.y, problem.temperature, widths)
    predicted = matrix_prediction(
        problem.train,
        problem.cross,
        problem.diagonal,
        problem.y,
        problem.temperature,
        found.scale,
    )
    variance = predicted.covariance.diagonal(dim1=1, dim2=2).mean(1)
    scale = float(found.scale.diagonal().mean())
    return Scaled(Posterior(predicted.mean, variance), scale, found.residual)


def _with_mean(problem: Problem, width: int) -> Scaled:
    network, ridge = problem.network, problem.temperature
    activities = KernelMap(problem.own_activation or network.activation)

    def mean(x: Tensor) -> Tensor:
        """σ_a E[φ] at points (n, d)."""
        variance = network.weights[0] * x.square().mean(1) + network.biases[0]
        return math.sqrt(network.physical_weight_variance[-1]) * activities.mean(variance)

    train = mean(torch.as_tensor(problem.data.x_train))
    test = mean(torch.as_tensor(problem.data.x_test))
    size = torch.tensor([float(width)])
    found = mean_kernel_scale(problem.train, train, problem.y, ridge, size)
    scale, residual = (float(found.fluctuation), float(found.mean)), float(found.residual)
    if not abs(residual) < CONVERGED:
        raise ValueError(unsolved(width, residual))
    predicted = posterior(
        mean_scaled(problem.train, train, train, scale),
        mean_scaled(problem.cross, test, train, scale),
        mean_scaled(problem.diagonal, test, test, scale),
        problem.y,
        ridge,
    )
    return Scaled(predicted, scale[0], residual)


def _of_each_layer(problem: Problem, width: int) -> Scaled:
    network = problem.network
    found = nested_kernel_scale(
        torch.as_tensor(problem.data.x_train),
        problem.y,
        problem.temperature,
        [width] * network.depth,
        activation=problem.own_activation or network.activation,
        weight_variance=network.physical_weight_variance,
        bias_variance=network.bias_variance,
    )
    predicted = found.prediction(torch.as_tensor(problem.data.x_test))
    return Scaled(predicted, float(found.factors[:, 0].prod()), found.residual)
