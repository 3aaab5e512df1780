"""Learning curves against predictions: effect sizes, a criterion, one free parameter. numpy.

A sample is (units, observables): the repeats of a regression, whose errors at different sizes are
correlated since the sizes are nested. The covariance is never known, only estimated, so that every
statement goes through Hotelling's T² = n (x̄ - μ)ᵀ S⁻¹ (x̄ - μ) and its exact distribution. It
needs at least 4 units, and 3 for each observable (`theory.statistics.hotelling`).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import interpolate, stats
from torch import Tensor

from theory.statistics import FEWEST_UNITS, UNITS_PER_OBSERVABLE

Array = NDArray[np.float64]

DENSE = 4001  # points on which a profile is read off


class Deviation(NamedTuple):
    """A mean with its interval of 95 %."""

    value: float
    low: float
    high: float


class Profile(NamedTuple):
    """One free parameter, fitted."""

    value: float
    low: float  # interval of 68 %; infinite where the candidates do not bound it
    high: float
    p_value: float  # of the law at the best value; nan for a single observable
    criterion: float


def relative_deviation(sample: Array, predicted: Array) -> Deviation:
    """(x - μ)/|μ| averaged over the observables, with Student's interval over the units."""
    each = ((sample - predicted) / np.abs(predicted)).mean(1)
    value = float(each.mean())
    half = stats.t.isf(0.025, len(each) - 1) * each.std(ddof=1) / math.sqrt(len(each))
    return Deviation(value, value - float(half), value + float(half))


def criterion(sample: Array, predicted: Array, parameters: int = 0) -> float:
    """n ln(1 + T²/(n - 1)) + 2 parameters, up to a constant that all theories share.

    The first term is -2 ln of the Gaussian likelihood, maximal in the unknown covariance: the
    criterion of Akaike (1974, doi:10.1109/TAC.1974.1100705). Lower is better; a difference of 10
    decides.
    """
    squared = float(_squared(sample, predicted[None])[0])
    return len(sample) * math.log1p(squared / (len(sample) - 1)) + 2 * parameters


def profile(sample: Array, candidates: Array, predictions: Array) -> Profile:
    """Fit one parameter of a law: the candidate, (candidates,) ascending, of the least T².

    predictions are (candidates, observables), nan where a candidate predicts nothing; between them
    they are cubic splines, in their logarithms where all are positive. With k observables, and a
    law that is linear in the parameter, (T² - T²_min)(n - k)/(n - 1 + T²_min) is F with 1 and
    n - k degrees of freedom, which gives the interval, and T²_min (n - k + 1)/((k - 1)(n - 1)) is F
    with k - 1 and n - k + 1, which tests the law.
    """
    units, observables = sample.shape
    known = np.isfinite(predictions).all(1)
    dense = np.linspace(candidates[known][0], candidates[known][-1], DENSE)
    values = _squared(sample, _between(candidates[known], predictions[known], dense))
    best = int(values.argmin())
    least = float(values[best])
    width = stats.f.isf(0.32, 1, units - observables) * (units - 1 + least) / (units - observables)
    inside = np.flatnonzero(values - least <= width)
    first, last = int(inside[0]), int(inside[-1])
    free = observables - 1
    statistic = least * (units - free) / (free * (units - 1)) if free else math.nan
    return Profile(
        value=float(dense[best]),
        low=float(dense[first]) if first > 0 else -math.inf,
        high=float(dense[last]) if last < DENSE - 1 else math.inf,
        p_value=float(stats.f.sf(statistic, free, units - free)) if free else math.nan,
        criterion=units * math.log1p(least / (units - 1)) + 2,
    )


def _between(candidates: Array, predictions: Array, dense: Array) -> Array:
    if (predictions > 0).all():
        return np.exp(interpolate.CubicSpline(candidates, np.log(predictions))(dense))
    return np.asarray(interpolate.CubicSpline(candidates, predictions)(dense), dtype=np.float64)


def errors_at(
    eigenvalues: Tensor,
    coefficients_squared: Tensor,
    train: Tensor,
    kappa: Tensor,
    noise_variance: float = 0.0,
) -> Tensor:
    """E_0 (Σ (1 - L)² w² + s²) - s² at any κ, not only at the effective ridge; (...,).

    L = λ/(λ + κ) and E_0 = n/(n - Σ L²), nan where that is not positive. train and κ broadcast.
    """
    size, at = torch.broadcast_tensors(train, kappa)
    learned = eigenvalues / (eigenvalues + at[..., None])
    free = size - learned.square().sum(-1)
    bias = (1 - learned).square() @ coefficients_squared
    error = size / free * (bias + noise_variance) - noise_variance
    return torch.where(free > 0, error, math.nan)


def _squared(sample: Array, predictions: Array) -> Array:
    """T² of each row of predictions, (rows,)."""
    units, observables = sample.shape
    least = max(FEWEST_UNITS, UNITS_PER_OBSERVABLE * observables)
    scale = sample.std(0, ddof=1)
    if units < least or not np.all(scale > 0):
        raise ValueError(
            f"{units} units for {observables} observables, {int((scale > 0).sum())} of which vary; "
            f"give at least {least} units, and only what varies"
        )
    correlation = np.cov((sample / scale).T, ddof=1).reshape(observables, observables)
    deviation = (sample.mean(0) - predictions) / scale
    return units * (deviation * np.linalg.solve(correlation, deviation.T).T).sum(1)
