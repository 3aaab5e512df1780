"""Kernel scaling of a hidden layer whose activations have a mean: relu, gelu and the like.

Activations are taken as Gaussian with their true mean and covariance, so that the outputs given
the readout a see the mean through Σ_i a_i and the rest through |a|². Of the kernel K of infinite
width M = m mᵀ is the part of the mean m = σ_a E[φ]; it becomes Q (K - M) + P M at

    min_Q max_P  N [Q - Q/P - ln P] + ln det(T + Q (K - M) + P M) + yᵀ(same)⁻¹ y.

For every Q there is one P. Without mean P = Q, and it is the action of
`theory.finite_width.kernel_scaling`. Pacelli et al. (2023, arXiv:2209.04882) and the authors'
package deepbays, which has 1/P - 1 for an order parameter.

In campaigns: `kernel_scaling`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from theory.numerics.bracket import root

STEP = 0.05  # of the search grid, in ln Q
BISECTIONS = 60


class MeanScale(NamedTuple):
    """The factors of the two parts of the kernel at each width."""

    fluctuation: Tensor  # Q, (widths,)
    mean: Tensor  # P, (widths,)
    residual: Tensor  # what is left of Q = Q/P - (1/N) dA/d ln Q, (widths,)


@dataclass(frozen=True)
class _Spectrum:
    """Targets and mean in the eigenbasis of K - M."""

    eigenvalues: Tensor  # c_k, (n,)
    targets: Tensor  # (n,)
    mean: Tensor  # (n,)
    ridge: float

    def at(self, log_scale: Tensor, width: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ln P, the action and its derivative in ln Q, each in the shape of ln Q."""
        scale = log_scale.exp()
        signal = scale[..., None] * self.eigenvalues
        total = self.ridge + signal
        by_mean = (self.mean.square() / total).sum(-1)  # mᵀG m, with G without mean
        by_both = (self.mean * self.targets / total).sum(-1)  # mᵀG y
        log_mean = _mean_factor(scale, width, by_mean, by_both.square())
        share = log_mean.exp() / (1 + log_mean.exp() * by_mean)
        data = (total.log() + self.targets.square() / total).sum(-1)
        data = data + torch.log1p(log_mean.exp() * by_mean) - share * by_both.square()
        ratio = (log_scale - log_mean).exp()
        action = width * (scale - ratio - log_mean) + data
        # G changes by -G C G; with the mean it is G - share G m mᵀG.
        left = (self.targets - share[..., None] * by_both[..., None] * self.mean) / total
        freedom = (signal / total).sum(-1) - share * (signal * (self.mean / total).square()).sum(-1)
        slope = width * (scale - ratio) + freedom - (signal * left.square()).sum(-1)
        return log_mean, action, slope


def mean_kernel_scale(
    kernel: Tensor, mean: Tensor, y: Tensor, ridge: float, widths: Tensor
) -> MeanScale:
    """The global minimum over Q for each of several widths N > 1.

    kernel is that of the training points at infinite width, with the variance of the readout,
    (n, n); mean is m = σ_a E[φ], (n,), of `theory.activations.kernel_map.KernelMap.mean`; y is
    (n,), ridge T > 0 physical. Raises ValueError for arguments that do not fit.
    """
    if y.ndim != 1 or kernel.shape != (len(y), len(y)) or mean.shape != y.shape:
        raise ValueError(
            f"kernel is {tuple(kernel.shape)}, mean {tuple(mean.shape)} and targets "
            f"{tuple(y.shape)}; give (n, n), (n,) and (n,)"
        )
    width = torch.as_tensor(widths, dtype=torch.float64, device=kernel.device).reshape(-1)
    if not 0 < ridge < math.inf or not bool((width > 1).all()):
        raise ValueError(
            f"ridge is {ridge} and the least width {float(width.min()):g}; give a positive ridge "
            "and widths above 1"
        )
    m, targets = mean.double(), y.double()
    values, vectors = torch.linalg.eigh(kernel.double() - torch.outer(m, m))
    spectrum = _Spectrum(values.clamp_min(0), vectors.T @ targets, vectors.T @ m, float(ridge))
    log_scale = _minimise(spectrum, width)
    log_mean, _, slope = spectrum.at(log_scale, width)
    return MeanScale(log_scale.exp(), log_mean.exp(), slope / width)


def mean_scaled(kernel: Tensor, left: Tensor, right: Tensor, scale: tuple[float, float]) -> Tensor:
    """Q K + (P - Q) m mᵀ between two sets of points of means (n1,) and (n2,), scale = (Q, P).

    Of one kernel (n1, n2), or elementwise of a diagonal (n,) with two equal means (n,).
    """
    fluctuation, mean = scale
    outer = torch.outer(left, right) if kernel.ndim == 2 else left * right
    return fluctuation * kernel + (mean - fluctuation) * outer


def _minimise(spectrum: _Spectrum, width: Tensor) -> Tensor:
    """ln Q of the lowest point of a grid, then the root of the slope between its neighbours."""
    least = float(width.min())
    data = float(spectrum.targets.square().sum()) / (least * spectrum.ridge)
    # Q (1 + Tr C/NT) ≥ 1 - 1/N, and Q ≤ 1 + |y|²/2NT, as in `_mean_factor`.
    low = math.log1p(-1 / least)
    low -= math.log1p(float(spectrum.eigenvalues.sum()) / (least * spectrum.ridge))
    high = math.log1p(data / 2)
    count = 3 + math.ceil((high - low) / STEP)
    grid = torch.linspace(low - STEP, high + STEP, count, dtype=torch.float64).to(width.device)
    _, action, _ = spectrum.at(grid[:, None].expand(-1, len(width)), width)
    lowest = action.argmin(0).clamp(1, len(grid) - 2)
    return root(lambda x: spectrum.at(x, width)[2], grid[lowest - 1], grid[lowest + 1])


def _mean_factor(scale: Tensor, width: Tensor, by_mean: Tensor, both_squared: Tensor) -> Tensor:
    """ln P from N (Q - P)(1 + P α)² + α P² (1 + P α) = β P², whose positive root is the only one.

    α = mᵀG m and β = (mᵀG y)². By bisection between Q/(1 + β/4αN) and Q N/(N - 1).
    """
    pressure = both_squared / (4 * width * by_mean.clamp_min(torch.finfo(torch.float64).tiny))
    low = scale.log() - torch.log1p(pressure)
    high = scale.log() - torch.log1p(-1 / width)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        mean = middle.exp()
        whole = 1 + mean * by_mean
        excess = width * (scale - mean) / mean + mean * by_mean / whole
        below = excess > both_squared * mean / whole.square()
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
