"""Power laws in a spectrum, in a target and in a learning curve, with errors. float64, numpy.

Kernel eigenvalues λ_k = A k^-(1+α) and squared target coefficients w_k² = B k^-(1+β), k = 1, 2, ...
fix how the error of Gaussian process regression falls with the number of points n: modes up to k*
are learned, and with p = 1 + α

    without ridge       k* ~ n              error ~ n^-min(β, 2p)
    equivalent kernel   k* = (nA/T)^(1/p)   error ~ n^-min(β/p, 2)

for β > 0. Bordelon, Canatar and Pehlevan (2020, arXiv:2002.02561); Spigler, Geiger and Wyart (2020,
arXiv:1905.10843); Cui, Loureiro, Krzakala and Zdeborová (2021, arXiv:2105.15004).
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from theory.statistics import jackknife_error

Array = NDArray[np.float64]

RISE = 3  # standard errors of a step of a learning curve
BINS = 24  # of a window, evenly spaced in ln k
LEADING_MODES = 3  # leading modes are not yet on a law
FLATTEST, STEEPEST = 1e-3, 50.0  # exponents of a fit
SPECTRUM_SHARE, TARGET_SHARE = 20, 10  # a window ends at this part of the pool


class PowerLaw(NamedTuple):
    """A (k + b)^-p with standard errors; b = 0 and without error where it was not free."""

    exponent: float  # p
    exponent_error: float
    amplitude: float  # A
    offset: float  # b
    offset_error: float
    window: tuple[int, int]  # first and last rank k, from 1


class Slope(NamedTuple):
    """-d ln(error)/d ln n."""

    exponent: float
    error: float


def spectral_law(
    eigenvalues: ArrayLike,
    points: int | None = None,
    window: tuple[int, int] | None = None,
    *,
    offset: bool = False,
) -> PowerLaw:
    """λ_k = A (k + b)^-p through eigenvalues, largest first; α = p - 1.

    Bins of a window are weighted equally, so that every e-fold of k counts alike; the errors are
    those of a jackknife over bins. With `offset` b is free, as Mandelbrot (1953) has it. With
    `points`, the eigenvalues are those of a pool of M points and the law is that of the
    population: for Gaussian features λ_k of the pool is higher by the factor
    1 - (k/M) (π/p) cot(π/p), the principal value of 1 + (1/M) Σ_j λ_j/(λ_k - λ_j). By default the
    window goes from rank 3 to a twentieth of the modes. Raises ValueError for a window with fewer
    than 4 bins of positive numbers, and where no power law is in it: values that do not fall, and
    exponentials, which have b beyond its end and p without bound.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    chosen = window or (LEADING_MODES, len(values) // SPECTRUM_SHARE)
    return _law(values, chosen, offset, points, by_mode=False)


def target_law(
    coefficients_squared: ArrayLike,
    window: tuple[int, int] | None = None,
    *,
    offset: bool = False,
) -> PowerLaw:
    """w_k² = B (k + b)^-p through squared coefficients in the order of the modes; β = p - 1.

    Coefficients scatter from mode to mode, so that bins are averages of w², count as many times as
    they have modes, and are fitted by the likelihood of a gamma distribution. By default the window
    goes from rank 3 to a tenth of the modes. Standard errors and ValueErrors as in `spectral_law`.
    """
    values = np.asarray(coefficients_squared, dtype=np.float64)
    chosen = window or (LEADING_MODES, len(values) // TARGET_SHARE)
    return _law(values, chosen, offset, None, by_mode=True)


def learning_slope(sizes: ArrayLike, errors: ArrayLike) -> Slope:
    """Slope of the mean of errors (repeats, sizes) in a log-log plot, its sign turned.

    Unweighted least squares, with the jackknife over repeats: sizes of one repeat share their
    points. The error is nan for a single repeat. Both are nan for a curve that rises somewhere, by
    more than RISE standard errors of that step: it has no exponent.
    """
    table = np.atleast_2d(np.asarray(errors, dtype=np.float64))
    if _rises(table):
        return Slope(math.nan, math.nan)
    x = np.log(np.asarray(sizes, dtype=np.float64))
    direction = -(x - x.mean()) / np.square(x - x.mean()).sum()
    slope = float(np.log(table.mean(0)) @ direction)
    if len(table) < 2:
        return Slope(slope, math.nan)
    left_out = (table.sum(0) - table) / (len(table) - 1)
    return Slope(slope, float(jackknife_error(np.log(left_out) @ direction)))


def _rises(table: Array) -> bool:
    """Whether the mean of (repeats, sizes) goes up from one size to the next."""
    steps, repeats = np.diff(table, axis=1), len(table)
    scatter = steps.std(axis=0, ddof=1) / math.sqrt(repeats) if repeats > 1 else 0.0
    return bool((steps.mean(axis=0) > RISE * scatter).any())


def learning_exponent(alpha: float, beta: float, dimension: float) -> float:
    """min(β, 2(1 + α))/D: the error falls as n to minus this where k* ~ n^(1/D).

    What is not learned is Σ_{k>k*} w_k² ~ k*^-β, but not less than what the leading modes keep,
    k*^-2(1+α). D = 1 without a ridge and D = 1 + α where T is far above the posterior variance.
    nan for β ≤ 0.
    """
    return min(beta, 2 * (1 + alpha)) / dimension if beta > 0 else math.nan


def ridgeless_effective_ridge(alpha: float, amplitude: float, train: ArrayLike) -> Array:
    """T_eff = n A [π/(p sin(π/p))/n]^p ~ n^-α at T = 0, p = 1 + α: where the two laws cross in T.

    The sum of λ_k/(λ_k + κ) over all modes is (A/κ)^(1/p) π/(p sin(π/p)).
    """
    n, p = np.asarray(train, dtype=np.float64), 1 + alpha
    return n * amplitude * (math.pi / (p * math.sin(math.pi / p)) / n) ** p


def learned_modes(alpha: float, amplitude: float, train: ArrayLike, ridge: ArrayLike) -> Array:
    """k* = (n A/T)^(1/(1 + α)): the mode with L = 1/2 of the equivalent kernel."""
    return (amplitude * np.asarray(train) / np.asarray(ridge)) ** (1 / (1 + alpha))


class _Bins(NamedTuple):
    ranks: list[Array]
    means: Array  # ln of the mean of the values
    weights: Array  # square roots


def _law(
    values: Array, window: tuple[int, int], offset: bool, points: int | None, *, by_mode: bool
) -> PowerLaw:
    bins = _binned(values, window, by_mode)
    whole = _fit(bins, np.ones(len(bins.means), dtype=bool), offset, points)
    if whole[1] < 1.01 * FLATTEST:
        raise ValueError(f"modes {window[0]} to {window[1]} do not fall; give another window")
    if whole[1] > 0.99 * STEEPEST or (offset and whole[2] > 0.99 * window[1]):
        raise ValueError(
            f"modes {window[0]} to {window[1]} fall like an exponential, not a power law; give "
            "another window"
        )
    left_out = ~np.eye(len(bins.means), dtype=bool)
    parts = [_fit(bins, kept, offset, points, whole) for kept in left_out]
    errors = jackknife_error(np.stack(parts))
    return PowerLaw(
        exponent=float(whole[1]),
        exponent_error=float(errors[1]),
        amplitude=math.exp(whole[0]),
        offset=float(whole[2]) if offset else 0.0,
        offset_error=float(errors[2]) if offset else math.nan,
        window=window,
    )


def _binned(values: Array, window: tuple[int, int], by_mode: bool) -> _Bins:
    first, last = window
    if not 1 <= first < last <= len(values):
        raise ValueError(
            f"window is {first} to {last} of {len(values)} modes; give two ranks among them"
        )
    edges = np.unique(np.geomspace(first, last + 1, BINS + 1).round().astype(int))
    ranks = [np.arange(low, high, dtype=np.float64) for low, high in itertools.pairwise(edges)]
    means = np.array([values[low - 1 : high - 1].mean() for low, high in itertools.pairwise(edges)])
    if len(means) < 4 or not (means > 0).all():
        raise ValueError(
            f"window {first} to {last} has {int((means > 0).sum())} bins of positive numbers; "
            "give one with at least 4"
        )
    weights = np.array([len(rank) if by_mode else 1.0 for rank in ranks])
    return _Bins(ranks, np.log(means), np.sqrt(weights))


def _fit(
    bins: _Bins,
    kept: NDArray[np.bool_],
    offset: bool,
    points: int | None,
    start: Array | None = None,
) -> Array:
    """ln A, p and, where it is free, b."""
    chosen = np.flatnonzero(kept)
    lowest = bins.ranks[chosen[0]][0]

    def residual(parameters: Array) -> Array:
        b = parameters[2] if offset else 0.0
        predicted = np.array([_mean(bins.ranks[i], parameters[1], b, points) for i in chosen])
        logs = bins.means[chosen] - parameters[0] - predicted
        # ln of the ratio, but for a mean of few scattered values without the bias of its logarithm.
        deviance = 2 * (np.expm1(logs) - logs)
        return bins.weights[chosen] * np.copysign(np.sqrt(np.maximum(deviance, 0)), logs)

    if start is None:
        x = np.log([rank.mean() for rank in bins.ranks])
        slope, constant = np.polyfit(x, bins.means, 1, w=bins.weights)
        start = np.array([constant, max(-slope, 0.05), 0.0][: 3 if offset else 2])
    bounds = ([-np.inf, FLATTEST, -0.99 * lowest], [np.inf, STEEPEST, bins.ranks[-1][-1]])
    count = len(start)
    found = optimize.least_squares(
        residual, start, bounds=(bounds[0][:count], bounds[1][:count]), x_scale="jac"
    )
    return np.asarray(found.x, dtype=np.float64)


def _mean(ranks: Array, exponent: float, offset: float, points: int | None) -> float:
    """ln of the mean of (k + b)^-p over the ranks of a bin, as a pool of so many points has it."""
    law = (ranks + offset) ** -exponent
    if points is not None and exponent > 1:
        angle = math.pi / exponent
        law = law * np.maximum(1 - ranks / points * angle / math.tan(angle), 0.1)
    return math.log(law.mean())
