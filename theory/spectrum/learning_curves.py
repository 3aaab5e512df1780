"""Learning curves of Gaussian process regression from the spectrum of the kernel.

Eigenvalues λ_k belong to the kernel operator, ∫ dμ(x') K(x, x') φ_k(x') = λ_k φ_k(x) with
⟨φ_k φ_l⟩ = δ_kl, and the target is Σ_k w_k φ_k. On a pool of M points λ_k are the eigenvalues of
K/M and w_k = v_k·y/√M; the theory then describes draws with replacement and errors over the pool.
T is the ridge (variance of the observation noise), n the number of training points. Everything is
float64.

Sollich (2001, arXiv:cond-mat/0106475), Bordelon, Canatar and Pehlevan (2020, arXiv:2002.02561),
Simon et al. (2023, arXiv:2110.03922) for the effective ridge; Cohen, Malka and Ringel (2021,
arXiv:1906.05301) for the equivalent kernel and its next order.

In campaigns: `effective_ridge`, `equivalent_kernel`, `equivalent_kernel_next_order`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from theory.numerics import device_linear
from theory.numerics.eigen import decompose

Numbers = float | Tensor

ITERATIONS = 200
CHUNK = 2**16  # elements of a temporary: a few of them fit into the cache of a core


class LearningCurve(NamedTuple):
    """Averages over datasets, in the broadcast shape of (train, ridge, noise_variance)."""

    error: Tensor  # mean square of the mean predictor against the target without noise
    bias: Tensor  # Σ (1 - L)² w²
    variance: Tensor  # of the mean predictor over datasets: error - bias
    posterior_variance: Tensor  # mean over inputs
    sample_error: Tensor  # of one posterior sample: error + posterior_variance
    train_error: Tensor  # of the mean predictor, against the labels with their noise
    effective_ridge: Tensor  # T_eff
    overfitting: Tensor  # E_0: error / (error without the fit of other modes), at least 1
    learnability: Tensor  # (..., modes): L_k = E[f_k] / w_k


class PoolSpectrum(NamedTuple):
    """Spectrum of a kernel on a pool and the coefficients of the targets, largest first."""

    eigenvalues: Tensor  # (M,): of K / M
    coefficients: Tensor  # (M,) or (M, outputs): w_k = v_k·y / √M


def pool_spectrum(
    kernel: Tensor, y: Tensor, tell: Callable[[str], None] = lambda _: None
) -> PoolSpectrum:
    """Eigenvalues λ of K/M and coefficients w_k = v_k·y/√M of the targets of a pool of M points.

    kernel is (M, M), y (M,) or (M, outputs). A kernel on a device is decomposed there; `tell` hears
    of a decomposition that did not hold, and was done again on the CPU. Raises ValueError for a
    kernel with an eigenvalue
    that is negative beyond rounding; those that are rounding are returned as zeros.
    """
    points = len(kernel)
    values, vectors = _decomposed(kernel, tell)
    rounding = points * torch.finfo(kernel.dtype).eps * float(values[-1].abs())
    if not float(values[0]) >= -rounding:
        raise ValueError(
            f"kernel of {points} points has the eigenvalue {float(values[0]) * points:.3g}; "
            "give a positive semi-definite one"
        )
    coefficients = vectors.T @ y.double() / points**0.5
    return PoolSpectrum(values.clamp_min(0).flip(0), coefficients.flip(0))


def _decomposed(kernel: Tensor, tell: Callable[[str], None]) -> tuple[Tensor, Tensor]:
    """Eigenvalues of K/M, smallest first, and eigenvectors, where the kernel is."""
    points = len(kernel)
    if kernel.device.type != "cpu":
        values, vectors, wrong = device_linear.decompose(kernel.double() / points)
        if not wrong:
            return values, vectors
        tell(f"spectrum of {points} points: {wrong}")
    found = decompose(kernel.cpu().double().numpy() / points)
    values, vectors = (torch.from_numpy(array).to(kernel.device) for array in found)
    return values, vectors


def effective_ridge(
    eigenvalues: Tensor, train: Numbers, ridge: Numbers, multiplicities: Tensor | None = None
) -> Tensor:
    """κ > 0 that solves Σ_k m_k λ_k / (λ_k + κ) + T/κ = n.

    eigenvalues λ are (modes,), multiplicities m (modes,) or (..., modes), None for all one; train n
    and ridge T broadcast with the latter's leading dimensions, and κ has their shape. T_eff = n κ.
    Raises ValueError for arguments out of range, for T = 0 with n not below the number of positive
    eigenvalues, and if a root is not found.
    """
    return _effective_ridge(_problem(eigenvalues, 0.0, train, ridge, 0.0, multiplicities))


def learning_curve(
    eigenvalues: Tensor,
    coefficients_squared: Tensor,
    train: Numbers,
    ridge: Numbers,
    noise_variance: Numbers = 0.0,
    multiplicities: Tensor | None = None,
) -> LearningCurve:
    """Dataset averages with the effective ridge. Simon et al. (2023).

    With κ of `effective_ridge`: L_k = λ_k/(λ_k + κ), T_eff = n κ, E_0 = n/(n - Σ L²),
    error = E_0 (Σ (1 - L)² w² + s²) - s², posterior variance = T_eff - T = Σ λ (1 - L),
    training error = (T/T_eff)² (error + s²).

    coefficients_squared w_k² is (modes,) or (..., modes); with multiplicities it is the sum over
    the modes of one eigenvalue. A multiplicity of zero leaves a mode out, whose coefficient must
    then be zero. noise_variance s² is that of the training labels. Errors as in `effective_ridge`.
    """
    problem = _problem(
        eigenvalues, coefficients_squared, train, ridge, noise_variance, multiplicities
    )
    kappa = _effective_ridge(problem)
    learned, missed = _learnability(problem, kappa)
    # n - Σ L² = T/κ + Σ L (1 - L), a sum of positive terms.
    free = problem.ridge / kappa + _dot(learned * missed, problem.weight)
    return _curve(problem, kappa, problem.train * kappa, problem.train / free)


def equivalent_kernel(
    eigenvalues: Tensor,
    coefficients_squared: Tensor,
    train: Numbers,
    ridge: Numbers,
    noise_variance: Numbers = 0.0,
    multiplicities: Tensor | None = None,
) -> LearningCurve:
    """Leading order in the density of data: κ = T/n, T_eff = T, E_0 = 1.

    Silverman (1984, doi:10.1214/aos/1176346710).

    Right where the posterior variance is far below T. Arguments as in `learning_curve`; T > 0.
    """
    problem = _problem(
        eigenvalues, coefficients_squared, train, ridge, noise_variance, multiplicities
    )
    kappa = _bare(problem)
    return _curve(problem, kappa, problem.ridge, torch.ones_like(kappa))


def equivalent_kernel_next_order(
    eigenvalues: Tensor,
    coefficients_squared: Tensor,
    train: Numbers,
    ridge: Numbers,
    noise_variance: Numbers = 0.0,
    multiplicities: Tensor | None = None,
) -> LearningCurve:
    """The equivalent kernel with its first correction. Cohen, Malka and Ringel (2021).

    T_eff = T + Σ λ (1 - L) and E_0 = 1 + Σ L²/n with L of the leading order; then L = λ/(λ +
    T_eff/n). It is the first iteration of the equation of the effective ridge. Arguments as in
    `learning_curve`; T > 0.
    """
    problem = _problem(
        eigenvalues, coefficients_squared, train, ridge, noise_variance, multiplicities
    )
    learned, missed = _learnability(problem, _bare(problem))
    effective = problem.ridge + _dot(missed, problem.weight * problem.spectrum)
    overfitting = 1 + _dot(learned.square(), problem.weight) / problem.train
    return _curve(problem, effective / problem.train, effective, overfitting)


class _Problem(NamedTuple):
    spectrum: Tensor  # λ, (modes,), largest first or as given
    weight: Tensor  # m, (modes,) or (..., modes)
    coefficients: Tensor  # w², (modes,) or (..., modes)
    train: Tensor  # n, T and s² have one shape
    ridge: Tensor
    noise: Tensor


def _curve(
    problem: _Problem, kappa: Tensor, effective: Tensor, overfitting: Tensor
) -> LearningCurve:
    learned, missed = _learnability(problem, kappa)
    bias = _dot(missed.square(), problem.coefficients)
    variance = (overfitting - 1) * (bias + problem.noise)
    posterior_variance = _dot(missed, problem.weight * problem.spectrum)
    error = bias + variance
    return LearningCurve(
        error=error,
        bias=bias,
        variance=variance,
        posterior_variance=posterior_variance,
        sample_error=error + posterior_variance,
        train_error=(problem.ridge / effective).square() * (error + problem.noise),
        effective_ridge=effective,
        overfitting=overfitting,
        learnability=learned,
    )


def _learnability(problem: _Problem, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """L = λ/(λ + κ) and 1 - L, (..., modes)."""
    total = problem.spectrum + kappa[..., None]
    return problem.spectrum / total, kappa[..., None] / total


def _dot(values: Tensor, weight: Tensor) -> Tensor:
    """Σ_k over the last dimension."""
    return values @ weight if weight.ndim == 1 else torch.linalg.vecdot(values, weight)


def _bare(problem: _Problem) -> Tensor:
    """T/n."""
    if not bool((problem.ridge > 0).all()):
        raise ValueError("ridge is 0; the equivalent kernel is an expansion in 1/T, give T > 0")
    return problem.ridge / problem.train


def _effective_ridge(problem: _Problem) -> Tensor:
    spectrum, order = problem.spectrum.sort(descending=True)
    weight = problem.weight[..., order]
    rank = (weight * (spectrum > 0)).sum(-1).expand(problem.train.shape)
    bare = problem.ridge == 0
    if bool((bare & (problem.train >= rank)).any()):
        worst = torch.where(bare, problem.train - rank, -math.inf).argmax()
        raise ValueError(
            f"{float(problem.train.reshape(-1)[worst]):g} points without ridge for "
            f"{float(rank.reshape(-1)[worst]):g} modes; give fewer points or a positive ridge"
        )
    train, ridge = problem.train.reshape(-1, 1), problem.ridge.reshape(-1, 1)
    if weight.ndim > 1:
        weight = weight.expand(*problem.train.shape, -1).reshape(len(train), -1)
    weights = weight.expand(len(train), -1)
    step = max(1, CHUNK // len(spectrum))
    parts = [slice(start, start + step) for start in range(0, len(train), step)]
    roots = [_solve(spectrum, weights[part], train[part], ridge[part]) for part in parts]
    return torch.cat(roots).reshape(problem.train.shape)


def _solve(spectrum: Tensor, weight: Tensor, train: Tensor, ridge: Tensor) -> Tensor:
    """Roots of the excess F(κ), by Newton steps in ln κ on ln(1 + F/n), kept in a bracket.

    train and ridge are (problems, 1), weight is (problems, modes), the spectrum largest first. F is
    not negative at T/n, nor where the c_j largest eigenvalues alone give c_j λ_j/(λ_j + κ) = n; it
    is not positive where all λ/(λ + κ) are replaced by λ/κ.
    """
    counted = torch.nn.functional.pad(weight.cumsum(1), (1, 0))
    alone = (spectrum * (counted[:, 1:] - train) / train).amax(1, keepdim=True)
    low = torch.maximum(ridge / train, alone).log()
    high = ((ridge + (weight * spectrum).sum(1, keepdim=True)) / train).log()
    point = low
    for _ in range(ITERATIONS):
        excess, slope = _excess(spectrum, weight, counted, train, ridge, point.exp())
        low = torch.where(excess >= 0, point, low)
        high = torch.where(excess <= 0, point, high)
        newton = point - torch.log1p(excess / train) * (train + excess) / slope
        inside = (newton >= low) & (newton <= high)
        following = torch.where(inside, newton, (low + high) / 2)
        moved = (following - point).abs()
        point = following
        if bool((moved <= 1e-14 * (1 + point.abs())).all()):
            break
    excess, slope = _excess(spectrum, weight, counted, train, ridge, point.exp())
    # 1e-10 in ln κ, and the rounding of a long sum.
    if not bool((excess.abs() <= 1e-10 * slope.abs() + 1e-13 * train).all()):
        raise ValueError(
            f"effective ridge not found: residual {float((excess / train).abs().max()):.1e} of "
            "the points; rescale the eigenvalues and the ridge towards 1"
        )
    return point.exp()[:, 0]


def _excess(
    spectrum: Tensor, weight: Tensor, counted: Tensor, train: Tensor, ridge: Tensor, kappa: Tensor
) -> tuple[Tensor, Tensor]:
    """F = Σ m λ/(λ + κ) + T/κ - n and dF/d ln κ, (problems, 1).

    Modes with λ > κ enter as 1 - κ/(λ + κ), whose ones are added first: n may nearly cancel them.
    `counted` are sums of the first weights, (problems, modes + 1).
    """
    ones = counted.gather(1, torch.searchsorted(-spectrum, -kappa))
    part = torch.minimum(spectrum, kappa) / (spectrum + kappa)  # the smaller of L and 1 - L
    small = torch.linalg.vecdot(weight, torch.copysign(part, kappa - spectrum))[:, None]
    bend = torch.linalg.vecdot(weight, torch.addcmul(part, part, part, value=-1))[:, None]
    return (ones - train) + (small + ridge / kappa), -bend - ridge / kappa


def _problem(
    eigenvalues: Tensor,
    coefficients_squared: Tensor | float,
    train: Numbers,
    ridge: Numbers,
    noise_variance: Numbers,
    multiplicities: Tensor | None,
) -> _Problem:
    spectrum = torch.as_tensor(eigenvalues, dtype=torch.float64)
    ones = torch.ones_like(spectrum)
    weight = ones if multiplicities is None else _numbers(multiplicities, spectrum)
    coefficients = _numbers(coefficients_squared, spectrum) * ones
    if spectrum.ndim != 1 or not _in_range(spectrum, spectrum >= 0):
        raise ValueError(
            f"eigenvalues are {tuple(spectrum.shape)}, the least {float(spectrum.min()):.3g}; "
            "give one row of finite numbers, none negative"
        )
    if weight.shape[-1:] != spectrum.shape or not _in_range(weight, weight >= 0):
        raise ValueError(
            f"{weight.shape[-1] if weight.ndim else 1} multiplicities for {len(spectrum)} "
            "eigenvalues; give one for each, none negative"
        )
    size, temperature, noise, _, _ = torch.broadcast_tensors(
        *(_numbers(value, spectrum) for value in (train, ridge, noise_variance)),
        weight[..., 0],
        coefficients[..., 0],
    )
    if not _in_range(size, size > 0):
        raise ValueError(f"train is {float(size.min()):g} at least; give a positive number")
    for name, value in (("ridge", temperature), ("noise variance", noise)):
        if not _in_range(value, value >= 0):
            raise ValueError(f"{name} is {float(value.min()):g}; give zero or a positive number")
    return _Problem(spectrum, weight, coefficients, size, temperature, noise)


def _numbers(value: Numbers, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64, device=like.device)


def _in_range(value: Tensor, condition: Tensor) -> bool:
    return bool((condition & value.isfinite()).all())
