"""Wilsonian flow with rescaling: running couplings, their scaling intervals, and what they predict.

Modes that the data do not reach are integrated out from the highest down. After each step the
cutoff Λ is taken back to where it was, k = k'/b with b = e^l, and the field is rescaled so that its
prior Σ k^(1+α) f_k² keeps its form. What runs then, for λ_k = k^-(1+α) and w_k² ~ k^-(1+β), is

    r' = n λ_Λ/T(Λ)         d ln r'/dl = 1 + α - ν r' + u'
    u' = 6u(Λ) Λ λ_Λ        d ln u'/dl = α - 3ν r' - u'
    y'² = w_Λ²/λ_Λ          d ln y'²/dl = β - α
    ν = Λ/n                 d ln ν/dl = -1

r' is the pull of the data on a mode at the cutoff and u' the quartic term of a loss (h² + u h⁴)/2T,
both in units of the prior; ν counts modes, which stay discrete. At r' = u' = 0 all is Gaussian. r'
is relevant and ends the flow where it reaches 1, at the last mode learned k*; u' has then grown to
~ u k*^-α, the less the more data there are: an irrelevant coupling, and regression is universal at
large n. Dimensions are constant on intervals of scales, not at all of them: r' ~ Λ^-D with
D = 1 + α where the ridge dominates T(Λ), and D = 1 where the modes integrated out do. In the spirit
of Wilson and Kogut (1974, doi:10.1016/0370-1573(74)90023-4); for spectra of kernels compare Howard
et al. (2024, arXiv:2405.06008) and Peraza Coppola, Helias and Ringel (2025,
arXiv:2510.25553).
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from theory.renormalization.rg import hard_flow
from theory.spectrum.learning_curves import Numbers

Array = NDArray[np.float64]


class Couplings(NamedTuple):
    """Running couplings at the cutoffs Λ = 1, ..., modes."""

    ridge: Tensor  # T(Λ), (..., modes)
    mass: Tensor  # r', (..., modes)
    quartic: Tensor  # u', (..., modes)
    target: Tensor  # y'², (modes,)
    spacing: Tensor  # ν, (..., modes)


class Interval(NamedTuple):
    """Cutoffs between which a coupling is a power Λ^-D."""

    first: float  # the higher cutoff: the flow goes down
    last: float
    dimension: float  # D
    error: float  # standard error over the bins of the interval


def running_couplings(
    eigenvalues: Tensor,
    coefficients_squared: Tensor,
    train: Numbers,
    ridge: Numbers,
    coupling: Numbers = 0.0,
) -> Couplings:
    """Couplings after all modes beyond Λ have been integrated out: `integrated` at their variance.

    eigenvalues are positive and (modes,), largest first; train n, ridge T > 0 and coupling u ≥ 0
    broadcast. Raises ValueError for arguments out of range.
    """
    spectrum = torch.as_tensor(eigenvalues, dtype=torch.float64)
    if spectrum.ndim != 1 or not bool((spectrum.diff() <= 0).all() & (spectrum > 0).all()):
        raise ValueError(
            f"eigenvalues of shape {tuple(spectrum.shape)} are not positive and in order; "
            "give one row, largest first, without zeros"
        )
    n, bare, u = (
        torch.as_tensor(value, dtype=torch.float64, device=spectrum.device)[..., None]
        for value in (train, ridge, coupling)
    )
    running, quartic = integrated(bare, u, hard_flow(spectrum, 0.0)[1:])
    rank = torch.arange(1, len(spectrum) + 1, device=spectrum.device).double()
    return Couplings(
        ridge=running,
        mass=n * spectrum / running,
        quartic=6 * quartic * rank * spectrum,
        target=torch.as_tensor(coefficients_squared, dtype=torch.float64) / spectrum,
        spacing=rank / n,
    )


def integrated(ridge: Tensor, coupling: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """T and u once a Gaussian part of h of variance v has been averaged over.

    exp(-V) obeys the heat equation in v. Cut to V = (h² + u h⁴)/2T it is

        dT/dv = 1 - 6uT,    du/dv = -3u/T - 6u²

    with R = (uT)^(-1/2), which is R_0 + Cv with C = (R_0² + 6)/(R_0 T_0), and

        T = (R² + 6)/(C R),    u = C/(R (R² + 6)).

    Without u this is T + v. All arguments broadcast. Raises ValueError for T ≤ 0 or u < 0.
    """
    if not bool((ridge > 0).all() & (coupling >= 0).all()):
        raise ValueError(
            f"ridge is {float(ridge.min()):g} and the quartic coupling {float(coupling.min()):g}; "
            "give a positive and a non-negative number"
        )
    # In ρ = R/R_0 = 1 + (1 + 6 uT) v/T and g = u_0 T_0 nothing diverges as u goes to zero.
    g = coupling * ridge
    grown = 1 + (1 + 6 * g) * variance / ridge
    weight = (grown.square() + 6 * g) / (1 + 6 * g)
    return ridge * weight / grown, coupling / (grown * weight)


def last_learned(mass: Tensor) -> Tensor:
    """k*, where the flow ends: the modes up to the first with r' < 1. (...,)."""
    return (mass >= 1).cumprod(-1).sum(-1)


def local_dimensions(values: ArrayLike, ratio: float = 1.5) -> tuple[Array, Array]:
    """-d ln(value)/d ln Λ in bins of Λ with this ratio of their ends: cutoffs and slopes.

    values are positive, one for each Λ = 1, 2, ...; a slope is that between the geometric means of
    neighbouring bins.
    """
    table = np.asarray(values, dtype=np.float64)
    count = max(2, round(math.log(len(table)) / math.log(ratio)))
    edges = np.unique(np.geomspace(1, len(table) + 1, count + 1).round().astype(int))
    logs = np.log(table)
    x = np.array([np.log(np.arange(a, b)).mean() for a, b in itertools.pairwise(edges)])
    y = np.array([logs[a - 1 : b - 1].mean() for a, b in itertools.pairwise(edges)])
    return np.exp((x[1:] + x[:-1]) / 2), -np.diff(y) / np.diff(x)


def scaling_intervals(
    values: ArrayLike, tolerance: float = 0.1, span: float = 4.0, ratio: float = 1.5
) -> list[Interval]:
    """Ranges of Λ of at least this ratio where a coupling scales, from the highest down.

    In an interval every local dimension is within the tolerance of the mean of them. Arguments and
    bins as in `local_dimensions`.
    """
    cutoffs, slopes = (found[::-1] for found in local_dimensions(values, ratio))
    intervals, start = [], 0
    while start < len(slopes):
        stop = start + 1
        while stop < len(slopes) and np.ptp(slopes[start : stop + 1]) <= 2 * tolerance:
            stop += 1
        part = slopes[start:stop]
        if len(part) > 1 and cutoffs[start] >= span * cutoffs[stop - 1]:
            error = float(part.std(ddof=1) / math.sqrt(len(part)))
            intervals.append(
                Interval(float(cutoffs[start]), float(cutoffs[stop - 1]), float(part.mean()), error)
            )
            start = stop
        else:
            start += 1
    return intervals
