"""Gradient flow of infinitely wide networks, over all initializations.

Each weight θ̂, in units of its prior, follows dθ̂/dt = -∇L with L = ½ Σ_μ |f(x_μ) - y_μ|². At
infinite width the tangent kernel Θ stays as it is, and outputs start as f_0 ~ N(0, K):

    f(t) = y - e^{-Θt} (y - f_0),      f*(t) = f*_0 + Θ* Θ⁻¹ (1 - e^{-Θt}) (y - f_0)

<<<<<<< HEAD
at the training and at other points, linear in f_0 and so Gaussian: with f(t) = B(t) f_0 + c(t) the
covariance between two times is C(t, s) = B(t) K B(s)ᵀ. Jacot et al. (2018), Lee et al. (2019,
arXiv:1902.06720).
=======
at the training and at other points, linear in f_0 and so Gaussian. Jacot et al. (2018), Lee et al.
(2019, arXiv:1902.06720).

In campaigns: `gradient_flow`.
>>>>>>> a13
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from theory.dynamics.checks import check_memory, check_targets, check_times
from theory.kernels.fully_connected import Kernels


class GradientFlow(NamedTuple):
    """Outputs at all points, those of training first, over initializations."""

    time: Tensor  # (time,)
    output: Tensor  # mean, (time, point) or (time, point, output)
    covariance: Tensor  # of an output at one time, (time, point, point)
    loss: Tensor  # E[L], (time,)
    two_time: Tensor | None  # C(t, s), (time, time, point, point), where it was asked for


def gradient_flow(
    kernels: Kernels, y: Tensor, times: Sequence[float] | Tensor, *, two_time: bool = False
) -> GradientFlow:
    """Mean and covariance of the outputs over initializations, at any time.

    kernels are K and Θ, each (p, p), of the training points and others after them, as of
    `theory.kernels.nngp_and_ntk`; y is (n,) or (n, outputs) at the first n of them. With the modes
    Θ = U Λ Uᵀ of the training points, Θ⁻¹ (1 - e^{-Θt}) = U [(1 - e^{-λt})/λ] Uᵀ, which is U t Uᵀ
    where λ = 0: Θ may be singular. Raises ValueError for shapes that do not fit, times that do not
    increase, a Θ with eigenvalues below zero, and two-time covariances that memory has no room for.
    """
    moments, (nngp, ntk) = check_times(times), _checked(kernels)
    train = check_targets(y, len(nngp))
    if two_time:
        check_memory(
            8 * len(moments) * (len(moments) + 2) * len(nngp) ** 2,
            f"two-time covariances of {len(moments)} times and {len(nngp)} points",
        )
    rates, modes = torch.linalg.eigh(ntk[:train, :train])
    rounding = len(rates) * torch.finfo(torch.float64).eps * float(rates.abs().max())
    if float(rates[0]) < -rounding:
        raise ValueError(
            f"the tangent kernel of the training points has the eigenvalue {float(rates[0]):.3g}; "
            "give a positive semi-definite matrix"
        )
    rates = rates.clamp_min(0)
    labels = y.double().reshape(train, -1)
    forward = ntk[:, :train] @ modes  # Θ* U
    outputs, covariances, losses, starts = [], [], [], []
    for time in moments:
        left = (modes * torch.exp(-rates * time)) @ modes.T  # e^{-Θt}
        moved = (forward * _integral(rates, time)) @ modes.T  # Θ* Θ⁻¹ (1 - e^{-Θt})
        start = torch.eye(len(nngp), dtype=torch.float64, device=nngp.device)  # of f_0 in f(t)
        start[:train, :train], start[train:, :train] = left, -moved[train:]
        covariance = start @ nngp @ start.T
        outputs.append(moved @ labels)
        covariances.append((covariance + covariance.T) / 2)
        spread = labels.shape[1] * covariance[:train, :train].trace()
        losses.append(((left @ labels).square().sum() + spread) / 2)
        starts += [start] if two_time else []
    output = torch.stack(outputs).reshape(len(moments), len(nngp), *y.shape[1:])
    found = GradientFlow(moments, output, torch.stack(covariances), torch.stack(losses), None)
    return found._replace(two_time=_two_time(torch.stack(starts), nngp)) if two_time else found


def _two_time(starts: Tensor, nngp: Tensor) -> Tensor:
    """B(t) K B(s)ᵀ, (time, time, p, p)."""
    return (starts @ nngp)[:, None] @ starts.mT


def _integral(rates: Tensor, time: Tensor) -> Tensor:
    """(1 - e^{-λt})/λ, the integral of e^{-λs} up to t."""
    exponent = rates * time
    return time * torch.where(exponent > 0, -torch.expm1(-exponent) / exponent, 1.0)


def _checked(kernels: Kernels) -> Kernels:
    nngp, ntk = kernels
    if nngp.ndim != 2 or nngp.shape[0] != nngp.shape[1] or ntk.shape != nngp.shape:
        raise ValueError(
            f"kernels are {tuple(nngp.shape)} and {tuple(ntk.shape)}; give NNGP and NTK of the "
            "same points with themselves"
        )
    if not (bool(nngp.isfinite().all()) and bool(ntk.isfinite().all())):
        raise ValueError("kernels are not all finite; leave those points out")
    return Kernels(nngp.double(), ntk.double())
