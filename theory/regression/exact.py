"""Exact Gaussian process regression.

Rasmussen and Williams (2006, doi:10.7551/mitpress/3206.001.0001), chapters 2 and 5.

Kernels are symmetric positive semi-definite, the ridge T is the variance of the observation noise,
and everything is computed in float64. Nothing is added to a diagonal but the ridge: a matrix that
is not positive definite to rounding is refused.

In campaigns: `nngp`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from theory.numerics.cholesky import factorize, solve, whiten


class Posterior(NamedTuple):
    """Mean and variance of the latent function at the test points."""

    mean: Tensor  # (test,) or (test, outputs)
    variance: Tensor  # (test,): without the noise of an observation


def posterior(
    kernel_train: Tensor,
    kernel_cross: Tensor,
    kernel_test_diagonal: Tensor,
    y: Tensor,
    ridge: float | Tensor,
) -> Posterior:
    """Mean k*ᵀ (K + T)⁻¹ y and variance k** - k*ᵀ (K + T)⁻¹ k* at the test points.

    kernel_train K is (train, train), kernel_cross k*ᵀ (test, train), kernel_test_diagonal k**
    (test,), y (train,) or (train, outputs). The ridge is a number, or one for each training point.
    Raises ValueError for a ridge that is negative or nan and for K + T that is not positive
    definite.
    """
    factor, cross = _factor(kernel_train, ridge), kernel_cross.double()
    weights = solve(factor, _columns(y)).reshape(y.shape)
    variance = kernel_test_diagonal.double() - whiten(factor, cross.T).square().sum(0)
    return Posterior(cross @ weights, variance.clamp_min(0))


def log_evidence(kernel_train: Tensor, y: Tensor, ridge: float | Tensor) -> Tensor:
    """ln N(y; 0, K + T) = -yᵀ(K + T)⁻¹y/2 - ln det(K + T)/2 - (n/2) ln 2π, summed over outputs.

    Arguments and errors as in `posterior`.
    """
    factor = _factor(kernel_train, ridge)
    whitened = whiten(factor, _columns(y))
    log_determinant = 2 * factor.diagonal().log().sum() + len(y) * math.log(2 * math.pi)
    return -(whitened.square().sum() + whitened.shape[1] * log_determinant) / 2


def _columns(y: Tensor) -> Tensor:
    return y.double().reshape(len(y), -1)


def _factor(kernel: Tensor, ridge: float | Tensor) -> Tensor:
    """Cholesky factor of K + T, whose pivots must stand out of the rounding of K."""
    noise = torch.as_tensor(ridge, dtype=torch.float64, device=kernel.device)
    least, most = float(noise.min()), float(noise.max())
    named = f"{least:g}" if noise.ndim == 0 else f"from {least:g} to {most:g}"
    if not 0 <= least <= most < math.inf:
        raise ValueError(f"ridge is {named}; give a finite number, zero or positive")
    matrix = kernel.to(torch.float64, copy=True, memory_format=torch.contiguous_format)
    matrix.diagonal().add_(noise)
    largest = float(matrix.diagonal().max())
    bad = factorize(matrix)
    rounding = len(kernel) * torch.finfo(torch.float64).eps * largest
    if bad or not float(matrix.diagonal().square().min()) > rounding:
        raise ValueError(
            f"kernel of {len(kernel)} points with ridge {named} is not positive definite in "
            "float64; raise the ridge or leave out repeated points"
        )
    return matrix
