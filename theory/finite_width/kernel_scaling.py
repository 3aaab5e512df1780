"""Kernel scaling: a network of finite width as a Gaussian process whose kernel is rescaled.

Integrating out a hidden layer of width N of a network with one output leaves the kernel K of
infinite width times a scale Q, which data determine:

    Q minimises  Q - ln Q + (1/N) [ln det(T + Q K) + yᵀ(T + Q K)⁻¹ y],

and predictions are those of regression with Q K and ridge T. With L layers of width N, one q each,
it is Σ_l (q_l - ln q_l) and Q = Π_l q_l. For activations that are odd functions. Li and Sompolinsky
(2021, arXiv:2012.04030), Pacelli et al. (2023, arXiv:2209.04882).

In campaigns: `kernel_scaling`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from theory.numerics.bracket import root
from theory.regression.exact import Posterior, posterior

STEP = 0.05  # of the search grid, in ln Q


class KernelScale(NamedTuple):
    """The factor of the kernel at each width."""

    scale: Tensor  # Q, (widths,): the product over layers
    residual: Tensor  # what is left of the stationarity condition q = 1 - (1/N) dA/d ln Q


class Eigenbasis(NamedTuple):
    """Kernel and targets in the eigenbasis of the kernel: all that Q depends on."""

    eigenvalues: Tensor  # λ_k of K, (n,)
    vectors: Tensor  # v_k in columns, (n, n)
    targets: Tensor  # v_k·y, (n,)
    ridge: float

    def action(self, log_scale: Tensor) -> Tensor:
        """A = ln det(T + Q K) + yᵀ(T + Q K)⁻¹ y, in the shape of ln Q."""
        total = self.ridge + log_scale.exp()[..., None] * self.eigenvalues
        return (total.log() + self.targets.square() / total).sum(-1)

    def slope(self, log_scale: Tensor) -> Tensor:
        """dA/d ln Q = Σ_k [1 - (v_k·y)²/(T + Q λ_k)] Q λ_k/(T + Q λ_k)."""
        signal = log_scale.exp()[..., None] * self.eigenvalues
        total = self.ridge + signal
        return ((1 - self.targets.square() / total) * signal / total).sum(-1)

    def range_of_minima(self, width: float) -> tuple[float, float]:
        """Bounds on ln q at widths from `width` up: 1/(1 + Tr K/NT) ≤ q ≤ 1 + |y|²/4NT."""
        low = -torch.log1p(self.eigenvalues.sum() / (width * self.ridge))
        high = torch.log1p(self.targets.square().sum() / (4 * width * self.ridge))
        return float(low), float(high)


def kernel_scale(
    kernel: Tensor, y: Tensor, ridge: float, widths: Tensor, *, depth: int = 1
) -> KernelScale:
    """The global minimum Q of the action for each of several widths N.

    kernel is that of the training points at infinite width, with the variance of the readout,
    (n, n); y is (n,); ridge T > 0 is physical; depth is the number of hidden layers, all of one
    width. Raises ValueError for arguments that do not fit.
    """
    basis = in_eigenbasis(kernel, y, ridge)
    width = torch.as_tensor(widths, dtype=torch.float64, device=kernel.device).reshape(-1)
    if depth < 1 or not bool((width > 0).all()):
        raise ValueError(
            f"depth is {depth} and the least width {float(width.min()):g}; give positive numbers"
        )
    log_scale = _minimise(basis, width, depth)
    # All q_l are equal at a stationary point, each being 1 - (1/N) dA/d ln Q.
    residual = (log_scale / depth).exp() - 1 + basis.slope(log_scale) / width
    return KernelScale(log_scale.exp(), residual)


def prediction(
    kernel_train: Tensor,
    kernel_cross: Tensor,
    kernel_test_diagonal: Tensor,
    y: Tensor,
    ridge: float,
    scale: float,
) -> Posterior:
    """Mean and variance at the test points: regression with every kernel times Q = `scale`.

    Arguments as in `theory.regression.exact.posterior`.
    """
    return posterior(
        scale * kernel_train, scale * kernel_cross, scale * kernel_test_diagonal, y, ridge
    )


def in_eigenbasis(kernel: Tensor, y: Tensor, ridge: float) -> Eigenbasis:
    """Diagonalise the kernel (n, n) of the training points and turn the targets (n,)."""
    if y.ndim != 1 or kernel.shape != (len(y), len(y)):
        raise ValueError(
            f"kernel is {tuple(kernel.shape)} and targets {tuple(y.shape)}; "
            "give (n, n) and (n,), for a network of one output"
        )
    if not 0 < ridge < float("inf"):
        raise ValueError(f"ridge is {ridge}; give a positive number")
    eigenvalues, vectors = torch.linalg.eigh(kernel.double())
    return Eigenbasis(eigenvalues.clamp_min(0), vectors, vectors.T @ y.double(), float(ridge))


def _minimise(basis: Eigenbasis, width: Tensor, depth: int) -> Tensor:
    """ln Q of the lowest point of a grid, then the root of the slope between its neighbours."""

    def slope(log_scale: Tensor) -> Tensor:
        return (log_scale / depth).exp() - 1 + basis.slope(log_scale) / width

    low, high = basis.range_of_minima(float(width.min()))
    count = 3 + math.ceil((high - low) * depth / STEP)
    layer = torch.linspace(low - STEP, high + STEP, count, dtype=torch.float64)  # ln q
    grid = depth * layer.to(width.device)
    action = depth * (layer.exp() - layer).to(width.device) + basis.action(grid) / width[:, None]
    lowest = action.argmin(1).clamp(1, count - 2)
    return root(slope, grid[lowest - 1], grid[lowest + 1])
