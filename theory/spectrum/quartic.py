"""Regression with a quartic term in the loss: a ridge that is renormalized by the residuals.

The likelihood of a point with residual h = f(x) - y is exp(-(h² + u h⁴)/2T). Where residuals are
Gaussian (many modes, each of which carries little of them) the Hartree average replaces both
⟨V''⟩ = (1 + 6u M)/T and the slope for the mean by one curvature, so that a regression with the
quartic term is one without it at the ridge

    T_u = T/(1 + 6u M),   M = ⟨h²⟩ = (T_u/T_eff)² (MSE + s²) + T_u (1 - T_u/T_eff)

over training points, thermal and mean part, with T_eff and MSE those at the ridge T_u. As n grows M
falls and with it the effect of u: 6uM ~ u n^(-α/(1+α)) in the range of the equivalent kernel, an
irrelevant coupling. Cohen, Malka and Ringel (2021, arXiv:1906.05301) for such terms in perturbation
theory.

In campaigns: `quartic`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from theory.spectrum.learning_curves import LearningCurve, Numbers, learning_curve

ITERATIONS = 100
PRECISION = 1e-11  # of ln T_u


class Quartic(NamedTuple):
    """Self-consistent solution, in the broadcast shape of (train, ridge, coupling, noise)."""

    ridge: Tensor  # T_u
    residual: Tensor  # M = ⟨h²⟩ at the training points
    curve: LearningCurve  # at the ridge T_u


def quartic_regression(
    eigenvalues: Tensor,
    coefficients_squared: Tensor,
    train: Numbers,
    ridge: Numbers,
    coupling: Numbers,
    noise_variance: Numbers = 0.0,
) -> Quartic:
    """Averages over datasets with the loss (h² + u h⁴)/2, by Hartree with the effective ridge.

    The coupling u ≥ 0 has the units of 1/y². Other arguments, and errors, as in
    `theory.spectrum.learning_curve`; T > 0. M grows with T_u, so that there is one solution, from
    T/(1 + 6u M(T)) to T; it is found by the secant method in ln T_u, kept in that bracket.
    """
    bare = torch.as_tensor(ridge, dtype=torch.float64, device=eigenvalues.device)
    u = torch.as_tensor(coupling, dtype=torch.float64, device=eigenvalues.device)
    if not bool(((u >= 0) & u.isfinite()).all()):
        raise ValueError(f"quartic coupling is {float(u.min()):g}; give zero or a positive number")
    if not bool((bare > 0).all()):
        raise ValueError(f"ridge is {float(bare.min()):g}; a quartic term needs T > 0")

    def at(log_ridge: Tensor) -> tuple[Tensor, Quartic]:
        """ln T_u - ln [T/(1 + 6u M(T_u))], which grows with T_u, and what belongs to it."""
        shifted = log_ridge.exp()
        curve = learning_curve(eigenvalues, coefficients_squared, train, shifted, noise_variance)
        thermal = shifted * curve.posterior_variance / curve.effective_ridge
        residual = curve.train_error + thermal
        excess = log_ridge - bare.log() + torch.log1p(6 * u * residual)
        return excess, Quartic(shifted, residual, curve)

    numbers = [torch.as_tensor(value) for value in (train, noise_variance, bare, u)]
    high = bare.log().expand(torch.broadcast_shapes(*(number.shape for number in numbers)))
    excess, _ = at(high)
    low, last, before, point = high - excess, high, excess, high - excess
    for _ in range(ITERATIONS):
        excess, found = at(point)
        if bool((excess.abs() <= PRECISION).all()):
            return found
        low, high = torch.where(excess < 0, point, low), torch.where(excess > 0, point, high)
        secant = point - excess * (point - last) / (excess - before)
        # A point that has arrived stays where it is: there the secant is 0/0.
        secant = torch.where(excess.abs() <= PRECISION, point, secant)
        inside = (secant >= low) & (secant <= high)
        last, before = point, excess
        point = torch.where(inside, secant, (low + high) / 2)
    raise ValueError(
        f"quartic ridge not found: residual {float(excess.abs().max()):.1e}; lower the coupling or "
        "raise the ridge"
    )
