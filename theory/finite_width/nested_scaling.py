"""Kernel scaling layer by layer: every hidden layer rescales what the next one sees.

A layer of width N_l multiplies the covariance of its activations by Q_l and the part of their mean
m = E[φ] by P_l,

    K_0 = σ_0² x·x'/d + σ_b²,   K_l = σ_l² [Q_l κ(K_{l-1}) + (P_l - Q_l) m mᵀ] + σ_b²,

σ_b² not being added to K_L, that of the outputs. The factors are stationary points of

    Σ_l N_l [Q_l - Q_l/P_l - ln P_l] + ln det(T + K_L) + yᵀ(T + K_L)⁻¹ y,

least in Q_l and greatest in P_l. Odd activations have m = 0 and P_l = Q_l (Pacelli et al. 2023,
arXiv:2209.04882); where κ is homogeneous, as of linear and relu, and without biases the Q_l
multiply the kernel of infinite width. The solution is the one that infinite width goes over into;
for a single layer `theory.finite_width.mean_scaling` finds the global one.

In campaigns: `kernel_scaling`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.kernel_map import KernelMap
from theory.activations.records import Activation
from theory.kernels.whitening import check_problem, whitened
from theory.numerics.newton_krylov import Residual, continued
from theory.regression.exact import Posterior, posterior

TOLERANCE = 1e-9


@dataclass(frozen=True)
class _Network:
    inputs: Tensor
    y: Tensor
    ridge: float
    widths: Tensor
    kernel_map: KernelMap
    variances: tuple[float, ...]  # σ_1², ..., σ_a²
    biases: tuple[float, ...]  # σ_b² of K_0, ..., K_{L-1}, and none of the outputs

    def layers(self, factors: Tensor) -> list[Tensor]:
        """K_0, ..., K_L at the training points for (Q_l, P_l), (layers, 2)."""
        found = [self.inputs @ self.inputs.T]
        for level, (fluctuation, mean) in enumerate(factors.tolist()):
            activity = self.kernel_map.mean(found[-1].diagonal())
            kernel = fluctuation * self.kernel_map(found[-1])
            kernel = kernel + (mean - fluctuation) * torch.outer(activity, activity)
            found.append(self.variances[level] * kernel + self.biases[level + 1])
        return found

    def slopes(self, factors: Tensor) -> Tensor | None:
        """d/d(ln Q_l, ln P_l) of the last two terms of the action, (layers, 2)."""
        layers = self.layers(factors)
        total = layers[-1] + self.ridge * torch.eye(len(self.y)).to(self.y)
        factor, failed = torch.linalg.cholesky_ex(total)
        if int(failed):
            return None
        t = torch.cholesky_solve(self.y[:, None], factor)[:, 0]
        pull = torch.cholesky_inverse(factor) - torch.outer(t, t)
        found = []
        for level in range(len(factors) - 1, -1, -1):
            covariance, variance = layers[level], layers[level].diagonal()
            fluctuation, mean = factors[level].tolist()
            activity = self.kernel_map.mean(variance)
            pulled = self.variances[level] * pull
            by_mean = pulled @ activity
            whole, part = (pulled * self.kernel_map(covariance)).sum(), activity @ by_mean
            found.append(torch.stack([fluctuation * (whole - part), mean * part]))
            pull = fluctuation * self.kernel_map.pullback(covariance, pulled)
            bend = 2 * (mean - fluctuation) * by_mean * self.kernel_map.mean_slope(variance)
            pull.diagonal().add_(bend)
        return torch.stack(found[::-1])

    def between(self, x1: Tensor, x2: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
        """K_L at two sets of whitened inputs, (n1, n2), and its diagonal at the first, (n1,)."""
        covariance = x1 @ x2.T
        rows, columns = x1.square().sum(1), x2.square().sum(1)
        for level, (fluctuation, mean) in enumerate(factors.tolist()):
            left, right = self.kernel_map.mean(rows), self.kernel_map.mean(columns)
            scale, bent = self.variances[level] * fluctuation, self.variances[level] * mean
            offset = self.biases[level + 1]
            kernel = self.kernel_map.cross(rows, covariance, columns)
            covariance = scale * kernel + (bent - scale) * torch.outer(left, right) + offset
            rows, columns = (
                scale * self.kernel_map.diagonal(old) + (bent - scale) * activity**2 + offset
                for old, activity in ((rows, left), (columns, right))
            )
        return covariance, rows


class NestedScale(NamedTuple):
    """A solution, and the network that it belongs to."""

    factors: Tensor  # (Q_l, P_l), (layers, 2)
    residual: float  # of the conditions on Q_l and P_l, over N_l
    network: _Network
    first_variance: float  # σ_0²

    def kernel(self, x1: Tensor, x2: Tensor) -> Tensor:
        """K_L between two sets of points (n1, d) and (n2, d): (n1, n2)."""
        return self.network.between(self._whitened(x1), self._whitened(x2), self.factors)[0]

    def prediction(self, x: Tensor) -> Posterior:
        """Regression with K_L and ridge T: mean and variance at the points x (m, d)."""
        network = self.network
        train = network.layers(self.factors)[-1]
        cross, own = network.between(self._whitened(x), network.inputs, self.factors)
        return posterior(train, cross, own, network.y, network.ridge)

    def _whitened(self, x: Tensor) -> Tensor:
        return whitened(x, self.first_variance, self.network.biases[0])


def nested_kernel_scale(
    x: Tensor,
    y: Tensor,
    ridge: float,
    widths: Sequence[float],
    *,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
) -> NestedScale:
    """The scales of all hidden layers of a network of one output.

    x is (n, d), y (n,); widths are N_1, ..., N_L; other arguments as in
    `theory.kernels.fully_connected`, ridge T and the readout's variance physical. Raises ValueError
    for arguments that do not fit and where no solution is found.
    """
    weights, biases = check_problem(x, y, ridge, widths, weight_variance, bias_variance)
    network = _Network(
        whitened(x, weights[0], biases[0]),
        y.double(),
        float(ridge),
        torch.tensor([float(width) for width in widths]).to(y.double()),
        KernelMap(activation),
        weights[1:],
        (*biases, 0.0),
    )

    def residual_at(strength: float) -> Residual:
        def residual(logarithms: Tensor) -> Tensor | None:
            factors = logarithms.unflatten(0, (-1, 2)).exp()
            slopes = network.slopes(factors)
            if slopes is None:
                return None
            data = slopes * (strength / network.widths[:, None])
            fluctuation, ratio = factors[:, 0], factors[:, 0] / factors[:, 1]
            # The two conditions, combined so that each is about ln Q or ln P - ln Q at small data.
            return torch.stack([fluctuation - 1 + data.sum(1), 1 - ratio - data[:, 1]], 1).flatten()

        return residual

    root = continued(residual_at, network.y.new_zeros(2 * len(widths)), TOLERANCE)
    if not root.residual <= TOLERANCE:
        raise ValueError(
            f"scales of {len(widths)} layers at widths {tuple(widths)} are left with a residual of "
            f"{root.residual:.1e}, wanted {TOLERANCE:.0e}; raise the ridge or the widths"
        )
    factors = root.position.unflatten(0, (-1, 2)).exp()
    return NestedScale(factors, root.residual, network, weights[0])
