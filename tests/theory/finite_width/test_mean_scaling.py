"""Kernel scaling with a mean: its action, its limits, and the exact posterior beside it."""

import math

import pytest
import torch
from torch import Tensor

from theory.activations.kernel_map import KernelMap
from theory.finite_width.kernel_scaling import kernel_scale
from theory.finite_width.mean_scaling import mean_kernel_scale, mean_scaled
from theory.kernels.fully_connected import nngp
from theory.regression.exact import posterior

torch.set_num_threads(1)


def problem(train: int = 30, test: int = 5, seed: int = 0):
    """Inputs of training and test points, and targets that are not odd."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(train + test, 5, generator=generator, dtype=torch.float64)
    return x, (2 * x[:, 0] + 1.5 * x[:, 1].abs())[:train]


def relu(x: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel of relu at σ_w² = 1 and σ_a² = 2, and its mean."""
    kernel = nngp(x, depth=1, activation="relu", weight_variance=(1.0, 2.0), bias_variance=0.0)
    return kernel, math.sqrt(2) * KernelMap("relu").mean(x.square().mean(1))


def action(kernel, mean, y, ridge, width, fluctuation, factor) -> Tensor:
    """N [Q - Q/P - ln P] + ln det + yᵀ()⁻¹ y, as it is written."""
    outer = torch.outer(mean, mean)
    total = fluctuation * (kernel - outer) + factor * outer + ridge * torch.eye(len(y)).double()
    data = torch.logdet(total) + y @ torch.linalg.solve(total, y)
    return width * (fluctuation - fluctuation / factor - factor.log()) + data


@pytest.mark.parametrize("width", [2.0, 20.0, 2000.0])
@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_a_minimum_over_q_of_the_maximum_over_p(width, size):
    x, y = problem()
    kernel, mean = relu(x[:30])
    found = mean_kernel_scale(kernel, mean, size * y, 0.1, torch.tensor([width]))
    point = [found.fluctuation[0].requires_grad_(), found.mean[0].requires_grad_()]
    value = action(kernel, mean, size * y, 0.1, width, *point)
    slopes = torch.stack(torch.autograd.grad(value, point)) / width
    # The terms that cancel are of the size of the data, |y|²/NT.
    assert slopes.abs().max() < 1e-11 * (1 + (size * y).square().sum() / (0.1 * width))
    assert found.residual.abs().max() < 1e-10 * (1 + size**2)
    factors = torch.linspace(-4, 3, 201, dtype=torch.float64).exp()

    def highest(fluctuation: Tensor) -> float:
        return max(
            float(action(kernel, mean, size * y, 0.1, width, fluctuation, fluctuation * factor))
            for factor in factors
        )

    reached = [highest(point[0].detach() * shift) for shift in (0.3, 0.8, 1.2, 3.0)]
    assert min(reached) > float(value.detach())


def test_without_a_mean_it_is_kernel_scaling():
    x, y = problem()
    kernel, mean = relu(x[:30])
    widths = torch.tensor([2.0, 20.0, 200.0]).double()
    found = mean_kernel_scale(kernel, 0 * mean, y, 0.1, widths)
    torch.testing.assert_close(found.fluctuation, kernel_scale(kernel, y, 0.1, widths).scale)


def test_infinite_width_keeps_the_kernel():
    x, y = problem()
    kernel, mean = relu(x[:30])
    found = mean_kernel_scale(kernel, mean, y, 0.1, torch.tensor([1e9]).double())
    scale = float(found.fluctuation), float(found.mean)
    assert scale == pytest.approx((1, 1), abs=1e-5)
    torch.testing.assert_close(mean_scaled(kernel, mean, mean, scale), kernel, rtol=1e-5, atol=1e-6)
    diagonal = mean_scaled(kernel.diagonal(), mean, mean, (0.5, 2.0))
    whole = mean_scaled(kernel, mean, mean, (0.5, 2.0))
    torch.testing.assert_close(diagonal, whole.diagonal())


def exact_mean(kernel: Tensor, mean: Tensor, y: Tensor, ridge: float, width: int) -> Tensor:
    """Posterior mean at the last points of a network whose activations are Gaussian.

    Given the readout a it is Gaussian, of mean u m and covariance s C with u = Σ a_i ~ N(0, 1) and
    s = |a|², s - u²/N ~ Gamma((N - 1)/2, 2/N); summed over a grid of both.
    """
    train = len(y)
    values, vectors = torch.linalg.eigh((kernel - torch.outer(mean, mean))[:train, :train])
    turned, m = vectors.T @ y, vectors.T @ mean[:train]
    cross = (kernel - torch.outer(mean, mean))[train:, :train] @ vectors
    u = torch.linspace(-40, 40, 2001, dtype=torch.float64)[:, None]
    log_rest = torch.linspace(-4, 4, 1201, dtype=torch.float64)
    s = u.square() / width + log_rest.exp()
    log_prior = -u.square() / 2 + (width - 1) / 2 * log_rest - width / 2 * log_rest.exp()
    data, gains = 0.0, []
    for value, target, average in zip(values, turned, m, strict=True):
        total, rest = ridge + s * value, target - u * average
        data = data + total.log() + rest.square() / total
        gains.append(s * rest / total)
    density = log_prior - data / 2
    weight = torch.softmax(density.flatten(), 0)
    learned = torch.stack([weight @ gain.flatten() for gain in gains])
    return cross @ learned + mean[train:] * (weight @ u.expand_as(s).flatten())


def test_saddle_of_a_network_of_gaussian_activations():
    """Targets that grow as √N keep the scales from one: the rest is of relative order 1/N."""
    x, y = problem(3, 4)
    kernel, mean = relu(x)
    gaps, scales = [], []
    for width in (40, 80, 160):
        targets = math.sqrt(width) * (0.3 * y + 0.8 * mean[:3])
        found = mean_kernel_scale(
            kernel[:3, :3], mean[:3], targets, 0.5, torch.tensor([float(width)])
        )
        scale = float(found.fluctuation), float(found.mean)
        scaled = mean_scaled(kernel, mean, mean, scale)
        prediction = posterior(scaled[:3, :3], scaled[3:, :3], scaled.diagonal()[3:], targets, 0.5)
        exact = exact_mean(kernel, mean, targets, 0.5, width)
        gaps.append(float((prediction.mean - exact).norm() / exact.norm()))
        scales.append(scale)
    assert min(scales[-1]) > 1.1
    assert abs(scales[-1][0] - scales[-1][1]) > 0.1
    assert gaps[-1] < 0.01
    # The next order is 1/N of the first.
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.15)
    assert gaps[1] / gaps[2] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ridge": 0.0}, "ridge is 0"),
        ({"y": torch.ones(30, 2)}, r"give \(n, n\), \(n,\) and \(n,\)"),
        ({"mean": torch.ones(29)}, r"give \(n, n\), \(n,\) and \(n,\)"),
        ({"widths": torch.tensor([1.0])}, "least width 1"),
    ],
)
def test_what_a_user_can_get_wrong(change, message):
    x, y = problem()
    kernel, mean = relu(x[:30])
    arguments = {"kernel": kernel, "mean": mean, "y": y, "ridge": 0.1}
    with pytest.raises(ValueError, match=message):
        mean_kernel_scale(**{**arguments, "widths": torch.tensor([5.0]), **change})
