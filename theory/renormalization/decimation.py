"""Regression with the decimated kernel of a pool, on the points that a learning curve draws.

The modes of a pool of M points are orthonormal over it, so that errors over the whole pool are sums
over modes: no matrix of the size of the pool is needed beside its eigenvectors. With n points drawn
and Λ modes kept one call costs 2n²Λ + n³/3 + n²Λ products, or 2nΛ² + 2Λ³/3 where fewer modes are
kept than points drawn; what the whole kernel predicts costs n³/3 + nΛ. Conventions are those of
`rg`: T(Λ) = T + Σ_{k>Λ} λ_k, or the ridge of each point T(x) = T + K(x, x) - K_<(x, x); modes
beyond Λ keep their prior.

In campaigns: `rg_gpr`, `rg_gpr_position`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from theory.numerics.cholesky import factorize, solve
from theory.numerics.eigen import decompose


class PoolModes(NamedTuple):
    """Kernel modes of a pool in ascending order, as an eigendecomposition gives them."""

    eigenvalues: Tensor  # λ, (M,): of K/M
    vectors: Tensor  # (M, M): unit vectors over the pool, one a column; φ_k = √M v_k
    coefficients: Tensor  # w_k = v_k·y/√M, (M,) or (M, outputs)
    diagonal: Tensor  # K(x, x), (M,)


class Decimated(NamedTuple):
    """One regression, in averages over the pool; errors are means over outputs, too."""

    pool_error: Tensor  # Σ_{k≤Λ} (w_k - f_k)² + Σ_{k>Λ} w_k²
    train_error: Tensor  # mean of (Tα)², α = (K_< + T(x))⁻¹ y
    posterior_variance: Tensor
    learnability: Tensor  # (M,), largest eigenvalue first: of a target that is the mode
    predicted: Tensor  # f_k, (M,) or (M, outputs), in the same order: of the mean predictor


def pool_modes(kernel: Tensor, y: Tensor) -> PoolModes:
    """Modes of the kernel (M, M) of a pool with targets y (M,) or (M, outputs), and no kernel:
    it is lost.
    """
    points, diagonal = len(kernel), kernel.diagonal().double().clone()
    values, vectors = (torch.from_numpy(part) for part in decompose(kernel.double().numpy()))
    coefficients = vectors.T @ y.double() / points**0.5
    return PoolModes(values.clamp_min(0) / points, vectors, coefficients, diagonal)


def removed_variance(modes: PoolModes, kept: int) -> Tensor:
    """v(x) = K(x, x) - K_<(x, x) at the points of the pool, (M,): Σ_{k>Λ} λ_k φ_k(x)²."""
    points = len(modes.vectors)
    first = points - _checked(modes, kept)
    if first < kept:  # the shorter of the two sums
        return points * modes.vectors[:, :first].square() @ modes.eigenvalues[:first]
    kept_part = points * modes.vectors[:, first:].square() @ modes.eigenvalues[first:]
    return (modes.diagonal - kept_part).clamp_min(0)


def decimated_regression(
    modes: PoolModes,
    drawn: Tensor,
    labels: Tensor,
    ridge: float,
    kept: int,
    tail: Tensor | None = None,
) -> Decimated:
    """Regression on the points drawn (n,) and their labels, with leading modes of the pool.

    Labels are (n,) or (n, outputs), as the targets of the modes are.

    The ridge is T(Λ), or T + tail(x) with the `removed_variance` (M,) of the same cutoff. Raises
    ValueError for a cutoff out of range.
    """
    points = len(modes.vectors)
    first = points - _checked(modes, kept)
    removed = modes.eigenvalues[:first].sum()
    noise = ridge + (removed.expand(len(drawn)) if tail is None else tail[drawn])
    eigenvalues = modes.eigenvalues[first:]
    # K_< = B Bᵀ between the points drawn.
    factor = modes.vectors[drawn, first:] * (points * eigenvalues).sqrt()
    answer = _by_points if len(drawn) <= kept else _by_modes
    amplitudes, residual, learned = answer(factor, _columns(labels), noise)
    predicted = eigenvalues.sqrt()[:, None] * amplitudes
    coefficients = _columns(modes.coefficients)
    missed = coefficients[first:] - predicted
    beyond = coefficients[:first].square().sum()
    return Decimated(
        pool_error=(missed.square().sum() + beyond) / coefficients.shape[1],
        train_error=(ridge * residual).square().mean(),
        posterior_variance=(eigenvalues * (1 - learned)).sum() + removed,
        learnability=torch.nn.functional.pad(learned.flip(0), (0, first)),
        predicted=torch.nn.functional.pad(predicted.flip(0), (0, 0, 0, first)).reshape(
            modes.coefficients.shape
        ),
    )


def whole_prediction(
    modes: PoolModes, kernel: Tensor, drawn: Tensor, labels: Tensor, ridge: float, kept: int
) -> Tensor:
    """f_k = √M λ_k v_k·α with α = (K + T)⁻¹ y: the mean predictor with the whole kernel.

    It is (kept,) or (kept, outputs), as the labels are (n,) or (n, outputs), the largest eigenvalue
    first. kernel is that of the points drawn, (n, n), and is lost. Raises ValueError where K + T is
    not positive definite.
    """
    points = len(modes.vectors)
    first = points - _checked(modes, kept)
    kernel.diagonal().add_(ridge)
    if bad := factorize(kernel):
        raise ValueError(
            f"kernel of {len(kernel)} points with ridge {ridge:g} is not positive definite at "
            f"point {bad}; give a larger ridge"
        )
    amplitudes = modes.vectors[drawn, first:].T @ solve(kernel, _columns(labels))
    predicted = points**0.5 * modes.eigenvalues[first:, None] * amplitudes
    return predicted.flip(0).reshape(kept, *labels.shape[1:])


def _columns(values: Tensor) -> Tensor:
    """(n, outputs), whether there is one output or more."""
    return values.double().reshape(len(values), -1)


def _by_points(factor: Tensor, labels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f_k/√λ_k and α of each output, and L_k, from the Cholesky factor of B Bᵀ + T(x)."""
    matrix = factor @ factor.T
    matrix.diagonal().add_(noise)
    cholesky = torch.linalg.cholesky(matrix)
    residual = torch.cholesky_solve(labels, cholesky)
    whitened = torch.linalg.solve_triangular(cholesky, factor, upper=False)
    return factor.T @ residual, residual, whitened.square().sum(0)


def _by_modes(factor: Tensor, labels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same, from the Cholesky factor of 1 + Bᵀ T(x)⁻¹ B."""
    weighted = factor / noise[:, None]
    matrix = factor.T @ weighted
    matrix.diagonal().add_(1)
    cholesky = torch.linalg.cholesky(matrix)
    amplitudes = torch.cholesky_solve(weighted.T @ labels, cholesky)
    variance = torch.cholesky_inverse(cholesky).diagonal()
    return amplitudes, (labels - factor @ amplitudes) / noise[:, None], 1 - variance


def _checked(modes: PoolModes, kept: int) -> int:
    if not 1 <= kept <= len(modes.eigenvalues):
        raise ValueError(
            f"cutoff is {kept} of {len(modes.eigenvalues)} modes; keep 1 at least, all at most"
        )
    return kept
