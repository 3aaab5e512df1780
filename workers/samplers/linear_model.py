"""The Gaussian linear model of one layer given the others: evidence, its gradient, exact draws.

In whitened coordinates every layer after which the network is linear in the labels has

    y = F z + √T ξ,   z ~ N(0, 1),   ξ ~ N(0, 1):

z are p weights and F (n, p) the features that they read, times the width of the prior. All that
follows comes from the Cholesky factor of the smaller of F Fᵀ + T (n, n) and FᵀF + T (p, p), in
float64 whatever the network's precision.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CPU_ELEMENTS = 1 << 20  # of an array at a time: 8 MiB
DEVICE_ELEMENTS = 1 << 27  # all chains of a block, as far as memory goes: 1 GiB


@dataclass(frozen=True)
class LinearModel:
    """A linear model of each chain, and its posterior N(mean, (1 + FᵀF/T)⁻¹)."""

    features: Tensor  # F, (chain, n, p)
    labels: Tensor  # y, (chain, n)
    temperature: float
    factor: Tensor  # lower Cholesky factor of F Fᵀ + T, (chain, n, n), or FᵀF + T, (chain, p, p)
    mean: Tensor  # E[z|y] = Fᵀ t, (chain, p)
    discrepancy: Tensor  # t = (F Fᵀ + T)⁻¹ y = (y - F E[z|y])/T, (chain, n)

    @property
    def energy(self) -> Tensor:
        """yᵀM⁻¹y/2 + ln det M/2 with M = F Fᵀ + T, (chain,): -ln p(y) less (n/2) ln 2π."""
        n, side = self.features.shape[1], self.factor.shape[1]
        log_det = self.factor.diagonal(dim1=1, dim2=2).log().sum(1)  # half of it
        log_det += (n - side) / 2 * math.log(self.temperature)
        return torch.linalg.vecdot(self.labels, self.discrepancy) / 2 + log_det

    @property
    def slope(self) -> Tensor:
        """The energy's gradient in F, (M⁻¹ - t tᵀ) F = F (FᵀF + T)⁻¹ - t E[z|y]ᵀ: (chain, n, p)."""
        if _wide(*self.features.shape[1:]):
            spread = torch.cholesky_solve(self.features, self.factor)
        else:
            spread = torch.cholesky_solve(self.features.mT, self.factor).mT
        return torch.baddbmm(spread, self.discrepancy[:, :, None], self.mean[:, None], alpha=-1)

    def draw(self, normals: Tensor) -> Tensor:
        """z from its posterior, (chain, p), of `normals_needed(n, p)` normals for each chain.

        If n ≤ p it is z_0 + Fᵀ M⁻¹ (y - F z_0 - √T ξ) with z_0, ξ ~ N(0, 1) (Matheron's rule),
        otherwise E[z|y] + √T L⁻ᵀ ξ with L Lᵀ = FᵀF + T. Normals all zero give E[z|y].
        """
        normals = normals.double()[:, :, None]
        root = math.sqrt(self.temperature)
        n, p = self.features.shape[1:]
        if not _wide(n, p):
            upper = self.factor.mT
            return (
                self.mean + root * torch.linalg.solve_triangular(upper, normals, upper=True)[..., 0]
            )
        start, spread = normals.split([p, n], 1)
        label = torch.baddbmm(root * spread, self.features, start)
        back = torch.cholesky_solve(label, self.factor)
        return self.mean + torch.baddbmm(start, self.features.mT, back, alpha=-1)[..., 0]


def regress(features: Tensor, labels: Tensor, temperature: float) -> LinearModel:
    """The posterior of the linear model with features (chain, n, p) and labels (n,) or (chain, n).

    A chain whose matrix has no Cholesky factor, because it has diverged, becomes NaN; the others
    go on.
    """
    features = features.double()
    chains, n, p = features.shape
    y = labels.double().expand(chains, n)
    wide = _wide(n, p)
    gram = features @ features.mT if wide else features.mT @ features
    gram.diagonal(dim1=1, dim2=2).add_(temperature)
    factor, failed = torch.linalg.cholesky_ex(gram)
    factor.masked_fill_(failed[:, None, None] != 0, math.nan)
    if wide:
        discrepancy = torch.cholesky_solve(y[:, :, None], factor)[..., 0]
        mean = (features.mT @ discrepancy[:, :, None])[..., 0]
    else:
        mean = torch.cholesky_solve(features.mT @ y[:, :, None], factor)[..., 0]
        discrepancy = (y - (features @ mean[:, :, None])[..., 0]) / temperature
    return LinearModel(features, y, temperature, factor, mean, discrepancy)


def normals_needed(n: int, p: int) -> int:
    """How many normals a draw of p weights given n labels takes."""
    return n + p if _wide(n, p) else p


def chains_at_a_time(x: Tensor, p: int) -> int:
    """How many chains' features (n, p) of points x (n, d) are best worked on at a time."""
    elements = CPU_ELEMENTS if x.is_cpu else DEVICE_ELEMENTS
    return max(1, elements // (len(x) * p))


def check_labels(x: Tensor, y: Tensor) -> None:
    """Raise ValueError unless inputs are (n, d) and labels (n,)."""
    if y.shape != x.shape[:1]:
        raise ValueError(
            f"labels have shape {tuple(y.shape)} and inputs {tuple(x.shape)}; "
            "give y as (n,) and x as (n, d)"
        )


def _wide(n: int, p: int) -> bool:
    """Whether the matrix of the labels is not larger than that of the weights."""
    return n <= p
