"""The map from pre-activations to activations, and its derivative."""

import math

import pytest
import torch

from theory.activations.kernel_map import KernelMap
from theory.activations.records import function_of
from theory.kernels.fully_connected import nngp

torch.set_num_threads(1)

STEP = 1e-4


def bent(z):
    """Neither even nor odd."""
    return torch.tanh(z) + 0.3 * z.square()


ACTIVATIONS = ["linear", "erf", "relu", "sin", "quadratic", "tanh", "gelu", "silu", bent]


def some_covariance(points=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(points, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(points, points, generator=generator, dtype=torch.float64)
    return x @ x.T / 5 + 0.1 * torch.eye(points), weight + weight.T


def slope(function, step=STEP):
    """Of a function of one number at 0; error of the fourth order in the step."""
    near, far = function(step) - function(-step), function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_pullback_is_the_derivative_along_any_direction(activation):
    covariance, weight = some_covariance()
    kernel_map = KernelMap(activation)
    pulled = kernel_map.pullback(covariance, weight)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        turn = torch.randn(covariance.shape, generator=generator, dtype=torch.float64)
        turn = turn + turn.T
        expected = slope(lambda h, turn=turn: (weight * kernel_map(covariance + h * turn)).sum())
        size = (pulled * turn).abs().sum().item()
        # Differences round at ε/STEP of the terms.
        assert (pulled * turn).sum().item() == pytest.approx(expected.item(), abs=1e-10 * size)


@pytest.mark.parametrize("activation", ["erf", "relu", "tanh"])
def test_points_that_coincide_have_the_derivative_of_one_point(activation):
    """κ of twice the same point at equal weights is four times that of the point."""
    kernel_map = KernelMap(activation)
    one, twice = torch.full((1, 1), 0.7).double(), torch.full((2, 2), 0.7).double()
    alone = kernel_map.pullback(one, torch.ones_like(one)).sum()
    both = kernel_map.pullback(twice, torch.ones_like(twice)).sum()
    assert both.item() == pytest.approx(4 * alone.item(), rel=1e-10)
    assert alone.item() == pytest.approx(slope(lambda h: kernel_map(one + h).item()), rel=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_map_of_the_inputs_is_the_kernel_of_one_layer(activation):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = nngp(
        x, depth=1, activation=activation, weight_variance=(3.0, 1.0), bias_variance=0.2
    )
    covariance = x @ x.T + 0.2
    kernel_map = KernelMap(activation)
    torch.testing.assert_close(kernel_map(covariance), expected, rtol=1e-10, atol=1e-12)
    variance = covariance.diagonal()
    cross = kernel_map.cross(variance[:3], covariance[:3, 3:], variance[3:])
    torch.testing.assert_close(cross, expected[:3, 3:], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("k", [1e-3, 1.0, 30.0, 1e3, 1e5])
def test_mean_of_gelu_at_any_variance(k):
    """E[u Φ(u)] = k E[Φ'(u)] = k/√(2π(1 + k)), by Stein's identity."""
    found = KernelMap("gelu").mean(torch.tensor([k / 2, k], dtype=torch.float64))[1].item()
    assert found == pytest.approx(k / math.sqrt(2 * math.pi * (1 + k)), rel=1e-11)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mean_by_sampling_and_its_slope(activation):
    function = function_of(activation)
    variance = torch.tensor([0.3, 2.0], dtype=torch.float64)
    kernel_map = KernelMap(activation)
    draws = 200_000
    normals = torch.randn(draws, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    values = function(variance.sqrt()[:, None] * normals)
    error = values.std(1) / math.sqrt(draws)
    assert ((kernel_map.mean(variance) - values.mean(1)).abs() < 5 * error).all()
    for k, found in zip(variance, kernel_map.mean_slope(variance), strict=True):
        expected = slope(lambda h, k=k: kernel_map.mean((k + h)[None]).item())
        assert found.item() == pytest.approx(expected, abs=1e-9)
