"""Kernel scaling layer by layer."""

import math

import pytest
import torch

from theory.activations.kernel_map import KernelMap
from theory.finite_width.kernel_scaling import kernel_scale
from theory.finite_width.mean_scaling import mean_kernel_scale
from theory.finite_width.nested_scaling import TOLERANCE, nested_kernel_scale
from theory.kernels.fully_connected import nngp
from theory.regression.exact import posterior

torch.set_num_threads(1)


def problem(train: int = 30, test: int = 5):
    """Inputs, targets that are not odd, and test inputs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(train + test, 5, generator=generator, dtype=torch.float64)
    return x[:train], (2 * x[:, 0] + 1.5 * x[:, 1].abs())[:train], x[train:]


def moments(activation: str, covariance):
    """E[φφ'] by the kernel of one layer, and E[φ] by its closed form; both differentiable."""
    variance = covariance.diagonal()
    if activation == "linear":
        return covariance, 0 * variance
    if activation == "erf":
        scale = torch.rsqrt(0.5 + variance)
        return (2 / math.pi) * torch.asin(covariance * scale[:, None] * scale), 0 * variance
    norm = (variance[:, None] * variance).sqrt()
    off = 1 - torch.eye(len(variance)).to(variance)
    angle = torch.acos(covariance / norm * off)
    kernel = norm * (torch.sin(angle) + (math.pi - angle) * torch.cos(angle)) / (2 * math.pi)
    return kernel * off + (variance / 2).diag(), (variance / (2 * math.pi)).sqrt()


def action(activation, x, y, ridge, widths, variances, biases, factors):
    """Σ N [Q - Q/P - ln P] + ln det(T + K_L) + yᵀ(T + K_L)⁻¹ y, as it is written."""
    layer = variances[0] * x @ x.T / x.shape[1] + biases[0]
    value = torch.zeros(()).double()
    for level, width in enumerate(widths):
        fluctuation, mean = factors[level]
        kernel, activity = moments(activation, layer)
        outer = torch.outer(activity, activity)
        layer = variances[level + 1] * (fluctuation * kernel + (mean - fluctuation) * outer)
        layer = layer + (biases[level + 1] if level + 1 < len(widths) else 0)
        value = value + width * (fluctuation - fluctuation / mean - mean.log())
    total = layer + ridge * torch.eye(len(y)).double()
    return value + torch.logdet(total) + y @ torch.linalg.solve(total, y)


@pytest.mark.parametrize("activation", ["linear", "erf", "relu"])
@pytest.mark.parametrize("biases", [(0.0, 0.0, 0.0), (0.2, 0.3, 0.1)], ids=["", "biases"])
@pytest.mark.parametrize("widths", [[20.0], [20.0, 35.0], [30.0, 30.0, 30.0]])
def test_a_stationary_point_of_the_action(activation, biases, widths):
    x, y, _ = problem()
    variances = [*[1.0, 1.2, 0.9][: len(widths)], 2.0]
    network = {"weight_variance": variances, "bias_variance": biases[: len(widths)]}
    found = nested_kernel_scale(x, y, 0.1, widths, activation=activation, **network)
    assert found.residual <= TOLERANCE
    factors = found.factors.clone().requires_grad_()
    value = action(activation, x, y, 0.1, widths, variances, biases, factors)
    (slope,) = torch.autograd.grad(value, factors)
    if activation != "relu":  # of mean zero
        torch.testing.assert_close(found.factors[:, 0], found.factors[:, 1], rtol=1e-8, atol=0)
    assert slope.abs().max() < 10 * TOLERANCE * max(widths)
    assert (found.factors - 1).abs().max() > 0.05


def test_one_layer_of_relu_is_the_scale_with_a_mean():
    x, y, _ = problem()
    kernel = nngp(x, depth=1, activation="relu", weight_variance=(1.0, 2.0), bias_variance=0.0)
    mean = math.sqrt(2) * KernelMap("relu").mean(x.square().mean(1))
    for width in (2.0, 20.0, 200.0):
        expected = mean_kernel_scale(kernel, mean, y, 0.1, torch.tensor([width]))
        found = nested_kernel_scale(
            x, y, 0.1, [width], activation="relu", weight_variance=(1.0, 2.0), bias_variance=0.0
        )
        both = torch.stack([expected.fluctuation[0], expected.mean[0]])
        torch.testing.assert_close(found.factors[0], both, rtol=1e-7, atol=0)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_linear_layers_multiply_one_kernel(depth):
    x, y, test = problem()
    variances = (1.0,) * depth + (2.0,)
    network = {"activation": "linear", "weight_variance": variances, "bias_variance": 0.0}
    found = nested_kernel_scale(x, y, 0.1, [20.0] * depth, **network)
    points = torch.cat([x, test])
    kernel = nngp(points, depth=depth, **network)
    scale = kernel_scale(kernel[:30, :30], y, 0.1, torch.tensor([20.0]), depth=depth).scale
    torch.testing.assert_close(found.factors[:, 0].prod(), scale[0], rtol=1e-7, atol=0)
    torch.testing.assert_close(
        found.kernel(test, x), scale * kernel[30:, :30], rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("activation", ["erf", "relu", "gelu", "tanh"])
def test_infinite_width_is_the_nngp(activation):
    x, y, test = problem()
    network = {"activation": activation, "weight_variance": (1.0, 1.2, 2.0), "bias_variance": 0.1}
    found = nested_kernel_scale(x, y, 0.1, [1e9, 1e9], **network)
    kernel = nngp(torch.cat([x, test]), depth=2, **network)
    expected = posterior(kernel[:30, :30], kernel[30:, :30], kernel.diagonal()[30:], y, 0.1)
    mean, variance = found.prediction(test)
    torch.testing.assert_close(mean, expected.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(variance, expected.variance, rtol=1e-5, atol=1e-6)


def test_prediction_is_regression_with_the_nested_kernel():
    x, y, test = problem()
    found = nested_kernel_scale(
        x, y, 0.1, [20.0, 10.0], activation="relu", weight_variance=(1, 1.2, 2), bias_variance=0.1
    )
    train, own = found.kernel(x, x), found.kernel(test, test)
    expected = posterior(train, found.kernel(test, x), own.diagonal(), y, 0.1)
    mean, variance = found.prediction(test)
    torch.testing.assert_close(mean, expected.mean, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(variance, expected.variance, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
def test_what_has_no_solution_is_refused():
    x, y, _ = problem()
    with pytest.raises(ValueError, match=r"residual of .* wanted 1e-09; raise the ridge"):
        nested_kernel_scale(
            x,
            1e5 * y,
            1e-6,
            [1.0] * 4,
            activation="erf",
            weight_variance=(1.0,) * 5,
            bias_variance=0.0,
        )
