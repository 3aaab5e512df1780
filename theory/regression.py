"""Exact Gaussian process regression. Rasmussen and Williams (2006), chapters 2 and 5.

Kernels are symmetric positive semi-definite, the ridge T is the variance of the observation noise,
and everything is computed in float64. Nothing is added to a diagonal but the ridge: a matrix that
is not positive definite to rounding is refused.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Posterior(NamedTuple):
    """Mean and variance of the latent function at the test points."""

    mean: Tensor  # (test,) or (test, outputs)
    variance: Tensor  # (test,): without the noise of an observation


class LearningCurve(NamedTuple):
    """Errors of one order of the pool at each (size, ridge): mean squares over points and outputs.

    Pool and held-out errors are against the targets without noise; the training error is against
    the labels as they were drawn.
    """

    pool_error: Tensor
    heldout_error: Tensor  # nan if there is no held-out point
    train_error: Tensor
    posterior_variance: Tensor  # of the latent function, mean over the pool
    log_evidence: Tensor
    learnability: Tensor  # (sizes, ridges, mode)


class Heldout(NamedTuple):
    """Points outside the pool: their kernel with the pool (held out, M), their targets."""

    kernel: Tensor
    y: Tensor


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
    factor = _factor(kernel_train, ridge)
    return _posterior(factor, kernel_cross.double(), kernel_test_diagonal.double(), y.double())


def log_evidence(kernel_train: Tensor, y: Tensor, ridge: float | Tensor) -> Tensor:
    """ln N(y; 0, K + T) = -yᵀ(K + T)⁻¹y/2 - ln det(K + T)/2 - (n/2) ln 2π, summed over outputs.

    Arguments and errors as in `posterior`.
    """
    return _log_evidence(_factor(kernel_train, ridge), y.double())


def learning_curve(
    kernel: Tensor,
    y: Tensor,
    order: Tensor,
    sizes: Sequence[int],
    ridges: Sequence[float],
    *,
    label_noise: Tensor | None = None,
    heldout: Heldout | None = None,
    modes: Tensor | None = None,
) -> LearningCurve:
    """Regression on the first points of one order of a pool, for every size and ridge.

    kernel is that of the pool, (M, M), y its targets without noise, (M,) or (M, outputs). `order`
    names the points drawn, one after another; a point may be drawn more than once. `label_noise`
    is added to the labels of the draws: (draws,) or (draws, outputs). Held out are the points
    given as such, or else those of the pool that were not drawn. `modes` are unit vectors over
    the pool, (M, mode), and the learnability of v is that of a target v: vᵀK*(K + T)⁻¹v restricted
    to the drawn points. The results are (sizes, ridges). Raises ValueError as `posterior` does,
    and for sizes beyond the order.
    """
    _check_draws(kernel, y, order, sizes, label_noise)
    drawn = order[: max(sizes)]
    cross = kernel.double()[:, drawn]  # shared by all sizes and ridges
    train, diagonal, targets = cross[drawn], kernel.diagonal().double(), y.double()
    labels = targets[drawn] + (0 if label_noise is None else label_noise[: len(drawn)].double())
    vectors = cross.new_empty(len(kernel), 0) if modes is None else modes.double()
    projected = vectors.T @ cross  # vᵀK* of every draw
    rows, learnabilities = [], []
    for size in sizes:
        for ridge in ridges:
            factor = _factor(train[:size, :size], ridge)
            mean, variance = _posterior(factor, cross[:, :size], diagonal, labels[:size])
            solved = torch.cholesky_solve(_columns(labels[:size]), factor)
            rows.append(
                torch.stack(
                    [
                        (mean - targets).square().mean(),
                        _heldout_error(heldout, drawn[:size], solved, mean, targets),
                        (ridge * solved).square().mean(),
                        variance.mean(),
                        _log_evidence(factor, labels[:size]),
                    ]
                )
            )
            answered = torch.cholesky_solve(vectors[drawn[:size]], factor)
            learnabilities.append((projected[:, :size].T * answered).sum(0))
    shape = (len(sizes), len(ridges), -1)
    table = torch.stack(rows).reshape(shape)
    learnability = torch.stack(learnabilities).reshape(shape)
    return LearningCurve._make([*table.unbind(-1), learnability])


def _heldout_error(
    heldout: Heldout | None, drawn: Tensor, solved: Tensor, mean: Tensor, targets: Tensor
) -> Tensor:
    """Mean square at the held-out points; `solved` is (K + T)⁻¹y of the drawn ones."""
    if heldout is not None:
        predicted = heldout.kernel.double()[:, drawn] @ solved
        return (predicted - _columns(heldout.y.double())).square().mean()
    rest = torch.ones(len(mean), dtype=torch.bool, device=mean.device)
    rest[drawn] = False
    return (mean - targets)[rest].square().mean()


def _posterior(factor: Tensor, cross: Tensor, diagonal: Tensor, y: Tensor) -> Posterior:
    weights = torch.cholesky_solve(_columns(y), factor).reshape(y.shape)
    whitened = torch.linalg.solve_triangular(factor, cross.T, upper=False)
    variance = diagonal - whitened.square().sum(0)
    return Posterior(cross @ weights, variance.clamp_min(0))


def _log_evidence(factor: Tensor, y: Tensor) -> Tensor:
    whitened = torch.linalg.solve_triangular(factor, _columns(y), upper=False)
    log_determinant = 2 * factor.diagonal().log().sum() + len(y) * math.log(2 * math.pi)
    return -(whitened.square().sum() + whitened.shape[1] * log_determinant) / 2


def _columns(y: Tensor) -> Tensor:
    return y.reshape(len(y), -1)


def _factor(kernel: Tensor, ridge: float | Tensor) -> Tensor:
    """Cholesky factor of K + T, whose pivots must stand out of the rounding of K."""
    noise = torch.as_tensor(ridge, dtype=torch.float64, device=kernel.device)
    least, most = float(noise.min()), float(noise.max())
    named = f"{least:g}" if noise.ndim == 0 else f"from {least:g} to {most:g}"
    if not 0 <= least <= most < math.inf:
        raise ValueError(f"ridge is {named}; give a finite number, zero or positive")
    matrix = kernel.double().clone()
    matrix.diagonal().add_(noise)
    largest = float(matrix.diagonal().max())
    factor, info = torch.linalg.cholesky_ex(matrix)
    rounding = len(kernel) * torch.finfo(torch.float64).eps * largest
    if int(info) or not float(factor.diagonal().square().min()) > rounding:
        raise ValueError(
            f"kernel of {len(kernel)} points with ridge {named} is not positive definite in "
            "float64; raise the ridge or leave out repeated points"
        )
    return factor


def _check_draws(
    kernel: Tensor, y: Tensor, order: Tensor, sizes: Sequence[int], label_noise: Tensor | None
) -> None:
    if kernel.ndim != 2 or kernel.shape != (len(y), len(y)):
        raise ValueError(
            f"kernel is {tuple(kernel.shape)} for {len(y)} targets; give that of the whole pool"
        )
    if not 1 <= min(sizes) <= max(sizes) <= len(order):
        raise ValueError(
            f"sizes run from {min(sizes)} to {max(sizes)} with {len(order)} points in the order; "
            "give sizes from 1 to the length of the order"
        )
    if label_noise is not None and len(label_noise) < max(sizes):
        raise ValueError(
            f"label noise for {len(label_noise)} draws; give it for all {max(sizes)} draws"
        )
