"""Kernel scaling, and the exact scale mixture of linear networks of one hidden layer."""

import math

import pytest
import torch
from scipy import optimize
from torch import Tensor

from theory.finite_width.kernel_scaling import kernel_scale, prediction
from theory.finite_width.scale_mixture import hidden_covariance, linear_posterior
from theory.kernels.fully_connected import nngp
from theory.regression.exact import posterior

EPS = torch.finfo(torch.float64).eps


def problem(train: int, test: int = 4, dimension: int = 5, size: float = 2.0, seed: int = 0):
    """Inputs and targets of a linear teacher with noise; the kernels of a linear network."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(train + test, dimension, generator=generator, dtype=torch.float64)
    y = size * x[:, 0] + 0.3 * torch.randn(train + test, generator=generator, dtype=torch.float64)
    kernel = x @ x.T / dimension
    kernels = kernel[:train, :train], kernel[train:, :train], kernel.diagonal()[train:]
    return kernels, y[:train], x[:train]


def action(kernel: Tensor, y: Tensor, ridge: float, width: float, scales: Tensor) -> float:
    """Σ (q - ln q) + (1/N)[ln det(T + Π q K) + yᵀ(T + Π q K)⁻¹ y], as it is written."""
    covariance = scales.prod() * kernel + ridge * torch.eye(len(y), dtype=torch.float64)
    data = torch.logdet(covariance) + y @ torch.linalg.solve(covariance, y)
    return (scales.sum() - scales.log().sum() + data / width).item()


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("size", [0.0, 0.2, 5.0, 50.0])
def test_scale_is_the_global_minimum(depth, size):
    (kernel, _, _), y, _ = problem(12, size=size)
    y = y if size else torch.zeros_like(y)
    widths = torch.tensor([2.0, 30.0, 1000.0])
    scale, residual = kernel_scale(kernel, y, 0.1, widths, depth=depth)
    assert scale.shape == (3,)
    # Rounding of ln Q in the largest term of the condition, |y|²/4NT.
    rounding = 100 * EPS * (1 + y.square().sum().item() / (4 * 0.1 * 2))
    assert residual.abs().max() < rounding
    grid = torch.linspace(-15, 15, 301, dtype=torch.float64)
    for width, value in zip(widths.tolist(), scale, strict=True):
        found = action(kernel, y, 0.1, width, (value ** (1 / depth)).expand(depth))
        for log_scale in grid / depth:
            assert found <= action(kernel, y, 0.1, width, log_scale.exp().expand(depth)) + 1e-9


def test_layers_of_equal_width_share_one_scale():
    """Minimised over every layer's own scale, from unequal starts, the action is no lower."""
    (kernel, _, _), y, _ = problem(12)
    scale, _ = kernel_scale(kernel, y, 0.1, torch.tensor([20.0]), depth=3)
    lowest = action(kernel, y, 0.1, 20.0, (scale ** (1 / 3)).expand(3))
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        start = torch.randn(3, generator=generator, dtype=torch.float64)
        found = optimize.minimize(
            lambda z: action(kernel, y, 0.1, 20.0, torch.from_numpy(z).exp()),
            start.numpy(),
            method="Nelder-Mead",
            options={"xatol": 1e-7, "fatol": 1e-12, "maxiter": 4000},
        )
        assert found.fun == pytest.approx(lowest, abs=1e-8)
        assert float(found.x.sum()) == pytest.approx(math.log(scale.item()), abs=1e-3)


def two_scales(power: float) -> tuple[Tensor, Tensor]:
    """Thirty modes without targets and a small one with all of their power: two ways to fit."""
    kernel = torch.tensor([1.0] * 30 + [0.1], dtype=torch.float64).diag()
    return kernel, math.sqrt(power) * torch.eye(31).double()[-1]


def plain_action(power: float, log_scale: Tensor) -> Tensor:
    """Of `two_scales` with T = N = 1."""
    scale = log_scale.exp()
    small = 1 + 0.1 * scale
    return scale - log_scale + 30 * torch.log1p(scale) + small.log() + power / small


def test_the_deeper_of_two_minima_is_found():
    grid = torch.linspace(-6, 8, 100_001).double()
    jumps = []
    for power in range(100, 260, 10):
        value = plain_action(power, grid)
        kernel, y = two_scales(power)
        scale, residual = kernel_scale(kernel, y, 1.0, torch.tensor([1.0]))
        assert residual.abs() < 1e-11
        log_scale = math.log(scale.item())
        assert log_scale == pytest.approx(grid[value.argmin()].item(), abs=2e-4)
        minima = int(((value[1:-1] < value[:-2]) & (value[1:-1] < value[2:])).sum())
        jumps.append((minima, log_scale > 0))
    assert (2, False) in jumps  # both branches are taken while the other minimum exists
    assert (2, True) in jumps


def test_infinite_width_keeps_the_kernel():
    """Q - 1 → -(1/N) dA/d ln Q at Q = 1."""
    (kernel, cross, diagonal), y, _ = problem(12)
    widths = torch.tensor([1e5, 1e7]).double()
    scale, _ = kernel_scale(kernel, y, 0.1, widths)
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    covariance = log_scale.exp() * kernel + 0.1 * torch.eye(12)
    data = torch.logdet(covariance) + y @ torch.linalg.solve(covariance, y)
    (slope,) = torch.autograd.grad(data, log_scale)
    expected = -slope.expand(2)
    torch.testing.assert_close(widths * (scale - 1), expected, rtol=1e-2, atol=0)
    mean, variance = prediction(kernel, cross, diagonal, y, 0.1, scale[1].item())
    limit = posterior(kernel, cross, diagonal, y, 0.1)
    torch.testing.assert_close(mean, limit.mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(variance, limit.variance, rtol=1e-3, atol=1e-4)


def test_prediction_is_regression_with_the_scaled_kernel():
    """f = √Q g: regression of y/√Q with ridge T/Q, scaled back."""
    kernels, y, _ = problem(12)
    scale = 1.7
    mean, variance = prediction(*kernels, y, 0.1, scale)
    expected = posterior(*kernels, y / math.sqrt(scale), 0.1 / scale)
    torch.testing.assert_close(mean, math.sqrt(scale) * expected.mean)
    torch.testing.assert_close(variance, scale * expected.variance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ridge": 0.0}, "ridge is 0"),
        ({"ridge": math.nan}, "ridge is nan"),
        ({"y": torch.ones(12, 2)}, "network of one output"),
        ({"widths": torch.tensor([0.0])}, "least width 0"),
        ({"depth": 0}, "depth is 0"),
    ],
)
def test_what_a_user_can_get_wrong(change, message):
    (kernel, _, _), y, _ = problem(12)
    arguments = {"kernel": kernel, "y": y, "ridge": 0.1, "widths": torch.tensor([5.0]), **change}
    with pytest.raises(ValueError, match=message):
        kernel_scale(**arguments)


def weighted(value: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Self-normalised mean over the first axis and its standard error."""
    share = (weight / weight.sum()).reshape(-1, *[1] * (value.ndim - 1))
    mean = (share * value).sum(0)
    return mean, (share * (value - mean)).square().sum(0).sqrt()


@pytest.mark.parametrize("width", [1, 2, 7])
def test_posterior_of_networks_weighted_by_their_likelihood(width):
    """Prior networks f = Σ a_i w_i·x, weighted by exp(-L/T)."""
    ridge, variances, networks = 2.0, (1.5, 0.8), 400_000
    _, y, x = problem(4, dimension=2, size=1.5)
    train, probe, y = x[:3], x[2:], y[:3]
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(networks, width, 2, generator=generator, dtype=torch.float64)
    hidden = hidden * math.sqrt(variances[0] / 2)
    readout = torch.randn(networks, width, generator=generator, dtype=torch.float64)
    readout = readout * math.sqrt(variances[1] / width)
    vector = torch.einsum("ni,nid->nd", readout, hidden)
    loss = (vector @ train.T - y).square().sum(1) / 2
    weight = torch.exp(-loss / ridge)
    output = vector @ probe.T

    kernel = nngp(x, depth=1, activation="linear", weight_variance=variances, bias_variance=0.0)
    exact = linear_posterior(kernel[:3, :3], kernel[2:, :3], kernel.diagonal()[2:], y, ridge, width)
    mean, error = weighted(output, weight)
    assert ((mean - exact.mean).abs() < 5 * error).all()
    spread, error = weighted((output - exact.mean).square(), weight)
    assert ((spread - exact.variance).abs() < 5 * error).all()
    scale, error = weighted(readout.square().sum(1) / variances[1], weight)
    assert (scale - exact.scale).abs() < 5 * error
    covariance, error = weighted(hidden.transpose(1, 2) @ hidden / width, weight)
    predicted = hidden_covariance(train, y, ridge, width, variances)
    assert ((covariance - predicted).abs() < 5 * error).all()


@pytest.mark.parametrize("size", [0.0, 2.0, 100.0])
@pytest.mark.parametrize("width", [1, 30, 10_000])
def test_moments_of_the_scale_against_a_plain_sum(width, size):
    """p(ln s | y) ∝ e^{(N/2)(ln s - s)} N(y; 0, s K + T), summed where it is not negligible."""
    kernels, y, _ = problem(12, size=size)
    exact = linear_posterior(*kernels, y, 0.1, width)
    log_scale = torch.linspace(-90, 12, 400_001, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(kernels[0])
    total = 0.1 + log_scale.exp()[:, None] * values.clamp_min(0)
    density = -(total.log() + (vectors.T @ y).square() / total).sum(1) / 2
    density = density + width / 2 * (log_scale - log_scale.exp())
    scale = torch.softmax(density, 0) @ log_scale.exp()
    assert exact.scale.item() == pytest.approx(scale.item(), rel=1e-7)
    assert (exact.variance > 0).all()


def test_without_data_power_the_prior_remains():
    """At a ridge far above the signal: f has variance k**, s has mean 1."""
    kernels, y, _ = problem(12)
    mean, variance, scale = linear_posterior(*kernels, y, 1e12, 5)
    assert scale.item() == pytest.approx(1, rel=1e-9)
    torch.testing.assert_close(variance, kernels[2], rtol=1e-9, atol=0)
    assert mean.abs().max() < 1e-9


def test_scale_with_two_peaks():
    for power in (140.0, 150.0, 160.0):
        kernel, y = two_scales(power)
        log_scale = torch.linspace(-90, 10, 400_001, dtype=torch.float64)
        share = torch.softmax(-plain_action(power, log_scale) / 2, 0)
        exact = linear_posterior(kernel, kernel, kernel.diagonal(), y, 1.0, 1)
        expected = share @ log_scale.exp()
        assert exact.scale.item() == pytest.approx(expected.item(), rel=1e-9)


def test_differences_from_kernel_scaling_fall_with_width():
    """The mixture concentrates on the scale of kernel scaling, 1/N apart in mean and variance.

    Q is the mode of ln s, whose distance from E[s] vanishes under the prior: it is of order 1/N².
    """
    kernels, y, _ = problem(12)
    widths = torch.tensor([2000.0, 4000.0, 8000.0]).double()
    scales, _ = kernel_scale(kernels[0], y, 0.1, widths)
    rows = []
    for width, scale in zip(widths.tolist(), scales.tolist(), strict=True):
        exact = linear_posterior(*kernels, y, 0.1, width)
        scaled = prediction(*kernels, y, 0.1, scale)
        gap = [exact.mean - scaled.mean, exact.variance - scaled.variance]
        rows.append(torch.cat([*gap, (exact.scale - scale)[None]]))
    table = torch.stack(rows)
    expected = torch.tensor([[2.0] * 8 + [4.0]] * 2).double()
    # Neglected: the next order in |y|²/NT, at most a few per cent here.
    torch.testing.assert_close(table[:-1] / table[1:], expected, rtol=0.1, atol=0)


def test_infinite_width_is_regression():
    kernels, y, x = problem(12)
    mean, variance, scale = linear_posterior(*kernels, y, 0.1, 1e9)
    expected = posterior(*kernels, y, 0.1)
    torch.testing.assert_close(mean, expected.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(variance, expected.variance, rtol=1e-5, atol=1e-6)
    assert scale.item() == pytest.approx(1, abs=1e-6)
    hidden = hidden_covariance(x, y, 0.1, 1e9, (1.0, 1.0))
    torch.testing.assert_close(hidden, torch.eye(5).double() / 5, rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", [0.5, math.nan, math.inf])
def test_width_of_a_network(width):
    kernels, y, _ = problem(12)
    with pytest.raises(ValueError, match="width is"):
        linear_posterior(*kernels, y, 0.1, width)
