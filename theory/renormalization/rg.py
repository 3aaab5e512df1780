"""Wilsonian renormalisation of Gaussian process regression: unlearnable modes integrated out.

Modes of the kernel beyond a cutoff Λ are averaged over their prior. At the first cumulant, exact
for one mode at given φ_k(x), they leave the data term as it is with a ridge that depends on the
position, T(x) = T + Σ_{k>Λ} λ_k φ_k(x)²; where features self-average that is one coupling,
T(Λ) = T + Σ_{k>Λ} λ_k. Their share of the target acts as label noise Σ_{k>Λ} w_k² in training,
but stays an error at test points. Howard et al. (2024, arXiv:2405.06008).

Three predictions follow from the same decimation and are kept apart by name: `rg_gpr` is exact
regression with the truncated kernel, `rg_ridge` the effective ridge on the truncated spectrum,
`rg_ek` the equivalent kernel on it. Conventions are those of theory.spectrum.learning_curves;
spectra are sorted, largest first, and a cutoff is the number of modes kept.

In campaigns: `rg_ridge`, `rg_ek`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from theory.regression.exact import Posterior, posterior
from theory.spectrum.learning_curves import (
    LearningCurve,
    Numbers,
    effective_ridge,
    equivalent_kernel,
    learning_curve,
)


class Decimation(NamedTuple):
    """A kernel on a pool without its modes beyond the cutoff."""

    kernel: Tensor  # K_<, (M, M)
    tail: Tensor  # v(x) = K(x, x) - K_<(x, x), (M,): prior variance of the modes removed


def cutoff(eigenvalues: Tensor, train: Numbers, ridge: Numbers, *, learnability: float) -> Tensor:
    """Number of modes with L_k = λ_k/(λ_k + κ) of at least `learnability`, and at least one.

    κ is the effective ridge of the whole spectrum, whose shape and errors are those of
    `theory.spectrum.effective_ridge`.
    """
    if not 0 < learnability < 1:
        raise ValueError(f"learnability is {learnability}; give a number between 0 and 1")
    spectrum = _sorted(eigenvalues)
    least = effective_ridge(spectrum, train, ridge) * learnability / (1 - learnability)
    return torch.searchsorted(-spectrum, -least, right=True).clamp_min(1)


def hard_flow(eigenvalues: Tensor, ridge: Numbers) -> Tensor:
    """T(Λ) = T + Σ_{k>Λ} λ_k for Λ = 0, ..., modes: (..., modes + 1)."""
    spectrum = _sorted(eigenvalues)
    return _number(ridge, spectrum)[..., None] + _tails(spectrum)


def soft_flow(eigenvalues: Tensor, train: Numbers, ridge: Numbers) -> Tensor:
    """T(Λ) = T + Σ_{k>Λ} λ_k (1 - L_k) for Λ = 0, ..., modes: (..., modes + 1).

    A mode gives its posterior variance only, with L_k at the effective ridge n κ, where the flow
    ends at Λ = 0: the equation of the effective ridge is the self-consistent soft decimation.
    """
    spectrum = _sorted(eigenvalues)
    kappa = effective_ridge(spectrum, train, ridge)[..., None]
    return _number(ridge, spectrum)[..., None] + _tails(spectrum * kappa / (spectrum + kappa))


def sequential_flow(eigenvalues: Tensor, train: Numbers, ridge: Numbers) -> Tensor:
    """T(Λ - 1) = T(Λ) + λ_Λ / (1 + n λ_Λ / T(Λ)) from T(modes) = T > 0: (..., modes + 1).

    Soft decimation one mode after another, each with the ridge that has run up to it. It stays
    below the effective ridge, since a mode does not see the modes kept.
    """
    spectrum = _sorted(eigenvalues)
    size, start = torch.broadcast_tensors(_number(train, spectrum), _number(ridge, spectrum))
    if not bool((start > 0).all()):
        raise ValueError(
            f"ridge is {float(start.min()):g}; the flow starts from it, give a positive number"
        )
    running = [start]
    for eigenvalue in spectrum.flip(0).tolist():
        last = running[-1]
        running.append(last + eigenvalue * last / (last + size * eigenvalue))
    return torch.stack(running[::-1], dim=-1)


def decimate(kernel: Tensor, kept: int) -> Decimation:
    """Keep the leading modes of the kernel of a pool, (M, M).

    The tail needs no mode beyond the cutoff: it is what the diagonal of the kernel lacks.
    """
    if not 1 <= kept <= len(kernel):
        raise ValueError(f"cutoff is {kept} of {len(kernel)} modes; keep 1 at least, all at most")
    values, vectors = torch.linalg.eigh(kernel.double())
    weighted = vectors[:, -kept:] * values[-kept:].clamp_min(0).sqrt()
    truncated = weighted @ weighted.T
    return Decimation(truncated, (kernel.diagonal() - truncated.diagonal()).clamp_min(0))


def rg_gpr(
    kernel_train: Tensor,
    kernel_cross: Tensor,
    kernel_test_diagonal: Tensor,
    y: Tensor,
    ridge: float,
    tail_train: float | Tensor,
    tail_test: float | Tensor,
) -> Posterior:
    """Exact regression with truncated kernels and ridge T(x_μ) = T + v(x_μ).

    Kernels as in `theory.regression.exact.posterior`, but K_<; the tail v is a number for the
    uniform ridge T(Λ), or one for each point. The modes removed keep their prior: the variance at a
    test point is that of the modes kept plus v(x).
    """
    mean, variance = posterior(
        kernel_train, kernel_cross, kernel_test_diagonal, y, ridge + tail_train
    )
    return Posterior(mean, variance + tail_test)


def rg_ridge(
    eigenvalues: Tensor,
    coefficients_squared: Tensor,
    train: Numbers,
    ridge: Numbers,
    kept: int | Tensor,
    noise_variance: Numbers = 0.0,
) -> LearningCurve:
    """Effective ridge on the modes kept, with ridge T(Λ) and noise s² + Σ_{k>Λ} w_k².

    error = E_0 (Σ_{k≤Λ} (1 - L)² w² + s² + Σ_{k>Λ} w²) - s². Arguments as in
    `theory.spectrum.learning_curve`, and the number of modes kept, which broadcasts with them.
    """
    return _decimated(
        learning_curve, eigenvalues, coefficients_squared, train, ridge, kept, noise_variance
    )


def rg_ek(
    eigenvalues: Tensor,
    coefficients_squared: Tensor,
    train: Numbers,
    ridge: Numbers,
    kept: int | Tensor,
    noise_variance: Numbers = 0.0,
) -> LearningCurve:
    """Equivalent kernel on the modes kept, with ridge T(Λ): L = λ/(λ + T(Λ)/n).

    error = Σ_{k≤Λ} (1 - L)² w² + Σ_{k>Λ} w². It misses what learned modes add to the ridge.
    Arguments as in `rg_ridge`.
    """
    return _decimated(
        equivalent_kernel, eigenvalues, coefficients_squared, train, ridge, kept, noise_variance
    )


def _decimated(
    theory: Callable[..., LearningCurve],
    eigenvalues: Tensor,
    coefficients_squared: Tensor,
    train: Numbers,
    ridge: Numbers,
    kept: int | Tensor,
    noise_variance: Numbers,
) -> LearningCurve:
    """A theory on the modes kept, with the modes removed as ridge, as noise and as error."""
    spectrum = _sorted(eigenvalues)
    count = torch.as_tensor(kept, device=spectrum.device)
    least, most = int(count.min()), int(count.max())
    if not 1 <= least <= most <= len(spectrum):
        wrong = least if least < 1 else most
        raise ValueError(
            f"cutoff is {wrong} of {len(spectrum)} modes; keep 1 at least, all at most"
        )
    power, bare, noise = (
        _number(value, spectrum) for value in (coefficients_squared, ridge, noise_variance)
    )
    removed_variance, removed_power = _tails(spectrum)[count], _tails(power)[count]
    ones = (torch.arange(most, device=spectrum.device) < count[..., None]).double()
    curve = theory(
        spectrum[:most],
        power[:most] * ones,
        train,
        bare + removed_variance,
        noise + removed_power,
        ones,
    )
    error = curve.error + removed_power
    posterior_variance = curve.posterior_variance + removed_variance
    learned = curve.learnability * ones
    return curve._replace(
        error=error,
        bias=curve.bias + removed_power,
        posterior_variance=posterior_variance,
        sample_error=error + posterior_variance,
        train_error=(bare / curve.effective_ridge).square() * (error + noise),
        learnability=torch.nn.functional.pad(learned, (0, len(spectrum) - most)),
    )


def _sorted(eigenvalues: Tensor) -> Tensor:
    spectrum = torch.as_tensor(eigenvalues, dtype=torch.float64)
    if spectrum.ndim != 1 or not bool((spectrum.diff() <= 0).all()):
        raise ValueError(
            f"eigenvalues of shape {tuple(spectrum.shape)} are not in order; "
            "give one row, largest first"
        )
    return spectrum


def _number(value: Numbers, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64, device=like.device)


def _tails(terms: Tensor) -> Tensor:
    """Σ_{k>Λ} of the terms for Λ = 0, ..., modes."""
    return torch.nn.functional.pad(terms.flip(-1).cumsum(-1).flip(-1), (0, 1))
