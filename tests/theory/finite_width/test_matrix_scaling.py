"""Kernel scaling with several outputs: a matrix of scales."""

import math

import pytest
import torch
from torch import Tensor

from theory.finite_width.kernel_scaling import kernel_scale
from theory.finite_width.matrix_scaling import matrix_prediction, matrix_scale
from theory.regression.exact import posterior

torch.set_num_threads(1)


def problem(train: int = 20, test: int = 4, outputs: int = 2):
    """The kernels of a linear network, and targets of unequal size that share a direction."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(train + test, 5, generator=generator, dtype=torch.float64)
    mix = torch.randn(5, outputs, generator=generator, dtype=torch.float64)
    noise = torch.randn(train, outputs, generator=generator, dtype=torch.float64)
    kernel = x @ x.T / 5
    sizes = torch.linspace(2, 0.5, outputs).double()
    y = x[:train] @ mix * sizes + 0.3 * noise
    return (kernel[:train, :train], kernel[train:, :train], kernel.diagonal()[train:]), y


def action(kernel: Tensor, y: Tensor, ridge: float, widths, ratios) -> Tensor:
    """Σ N [Tr R - ln det R] + ln det(T + Q ⊗ K) + yᵀ(T + Q ⊗ K)⁻¹ y, Q = ½(Π R + its transpose)."""
    scale = torch.linalg.multi_dot(ratios) if len(ratios) > 1 else ratios[0]
    total = torch.kron((scale + scale.T) / 2, kernel) + ridge * torch.eye(y.numel()).double()
    flat = y.T.flatten()
    value = torch.logdet(total) + flat @ torch.linalg.solve(total, flat)
    for width, ratio in zip(widths, ratios, strict=True):
        value = value + width * (ratio.trace() - torch.logdet(ratio))
    return value


@pytest.mark.parametrize("widths", [[6.0], [20.0, 50.0]], ids=["one layer", "two"])
def test_a_stationary_point_of_the_action_and_no_lower_nearby(widths):
    (kernel, _, _), y = problem()
    found = matrix_scale(kernel, y, 0.1, widths)
    ratios = [ratio.clone().requires_grad_() for ratio in found.layers]
    value = action(kernel, y, 0.1, widths, ratios)
    assert found.action == pytest.approx(value.item(), rel=1e-12)
    for slope in torch.autograd.grad(value, ratios):
        assert (slope + slope.T).abs().max() < 1e-7 * abs(value.item())
    assert (found.scale - torch.eye(2)).abs().max() > 0.1
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        near = []
        for ratio in found.layers:
            turn = torch.randn(2, 2, generator=generator, dtype=torch.float64)
            root = torch.linalg.cholesky(ratio)
            near.append(root @ torch.matrix_exp(0.05 * (turn + turn.T)) @ root.T)
        assert action(kernel, y, 0.1, widths, near) > value


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_one_output_is_the_scalar_of_kernel_scaling(depth):
    kernels, y = problem(outputs=1)
    found = matrix_scale(kernels[0], y, 0.1, [20.0] * depth)
    expected = kernel_scale(kernels[0], y[:, 0], 0.1, torch.tensor([20.0]), depth=depth).scale
    torch.testing.assert_close(found.scale[0], expected, rtol=1e-8, atol=0)


def test_outputs_may_be_turned():
    """Targets Y O have the scale O'Q O, the mean of Y turned, and its covariance."""
    kernels, y = problem(outputs=3)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2)))
    turn = turn.double() @ torch.diag(torch.tensor([1.0, 1.0, -1.0]).double())
    turn, _ = torch.linalg.qr(turn)
    plain, turned = (matrix_scale(kernels[0], targets, 0.1, [10.0]) for targets in (y, y @ turn))
    torch.testing.assert_close(turned.scale, turn.T @ plain.scale @ turn, rtol=1e-6, atol=1e-7)
    one = matrix_prediction(*kernels, y, 0.1, plain.scale)
    other = matrix_prediction(*kernels, y @ turn, 0.1, turned.scale)
    torch.testing.assert_close(other.mean, one.mean @ turn, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(
        other.covariance, turn.T @ one.covariance @ turn, rtol=1e-6, atol=1e-7
    )


def test_prediction_is_regression_with_the_kronecker_product():
    kernels, y = problem()
    scale = torch.tensor([[1.5, 0.4], [0.4, 0.7]], dtype=torch.float64)
    found = matrix_prediction(*kernels, y, 0.1, scale)
    total = torch.kron(scale, kernels[0]) + 0.1 * torch.eye(40).double()
    cross = torch.kron(scale, kernels[1])
    mean = cross @ torch.linalg.solve(total, y.T.flatten())
    torch.testing.assert_close(found.mean, mean.unflatten(0, (2, 4)).T)
    explained = cross @ torch.linalg.solve(total, cross.T)
    for point in range(4):
        rows = [point, 4 + point]
        expected = scale * kernels[2][point] - explained[rows][:, rows]
        torch.testing.assert_close(found.covariance[point], expected, rtol=1e-9, atol=1e-10)


def test_infinite_width_keeps_the_kernel():
    """Q - 1 → -(1/N) d/dQ of the data at Q = 1, and every output is regressed alone."""
    kernels, y = problem()
    width = 1e7
    found = matrix_scale(kernels[0], y, 0.1, [width])
    scale = torch.eye(2, dtype=torch.float64, requires_grad=True)
    total = torch.kron(scale, kernels[0]) + 0.1 * torch.eye(40).double()
    flat = y.T.flatten()
    data = torch.logdet(total) + flat @ torch.linalg.solve(total, flat)
    (slope,) = torch.autograd.grad(data, scale)
    shift = width * (found.scale - torch.eye(2))
    torch.testing.assert_close(shift, -(slope + slope.T) / 2, rtol=1e-4, atol=1e-4)
    both = matrix_prediction(*kernels, y, 0.1, found.scale)
    for output in range(2):
        alone = posterior(*kernels, y[:, output], 0.1)
        torch.testing.assert_close(both.mean[:, output], alone.mean, rtol=1e-4, atol=1e-5)
        variance = both.covariance[:, output, output]
        torch.testing.assert_close(variance, alone.variance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ridge": math.nan}, "ridge is nan"),
        ({"y": torch.ones(20)}, r"give \(n, n\) and \(n, outputs\)"),
        ({"widths": []}, "widths are"),
        ({"widths": [1.0]}, "none below the number of outputs"),
    ],
)
def test_what_a_user_can_get_wrong(change, message):
    kernels, y = problem()
    arguments = {"kernel": kernels[0], "y": y, "ridge": 0.1, "widths": [5.0], **change}
    with pytest.raises(ValueError, match=message):
        matrix_scale(**arguments)
