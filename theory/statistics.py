"""Tests from independent units: means, several means at once, and laws in 1/N. float64, numpy.

Every p-value here knows that its errors are estimated: Student's t, Hotelling's F and Johansen's
F, never a normal or a chi-square, which reject true theories too often at few units.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

Array = NDArray[np.float64]

FEWEST_UNITS = 4  # below that there is no verdict
UNITS_PER_OBSERVABLE = 3  # of a joint test


class Joint(NamedTuple):
    """Several means tested at once."""

    statistic: float  # T² turned into an F
    p_value: float
    degrees: tuple[int, int]  # of freedom, of F


class WeightedFit(NamedTuple):
    """Coefficients of a linear law and a test of the law itself."""

    coefficients: Array  # (terms,)
    errors: Array  # (terms,): standard errors
    degrees: Array  # (terms,): of freedom, of each error
    p_values: Array  # (terms,): two-sided, of each coefficient being zero
    goodness: float  # p-value of the law; nan where it has as many terms as there are points


def p_value(difference: ArrayLike, error: ArrayLike, degrees: ArrayLike) -> Array:
    """Two-sided p-value of a difference that has a standard error with so many degrees of freedom.

    Student's t: P(|t| > |difference/error|). nan where the error is nan or zero. Broadcasts.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.asarray(difference) / np.where(np.asarray(error) > 0, error, np.nan)
    return 2 * stats.t.sf(np.abs(t), degrees)


def pooled_degrees(variances: ArrayLike, degrees: ArrayLike, axis: int = -1) -> Array:
    """Degrees of freedom of Σ v_i: (Σ v_i)²/Σ(v_i²/f_i).

    Satterthwaite (1946, doi:10.2307/3002019).
    """
    v = np.asarray(variances)
    with np.errstate(divide="ignore", invalid="ignore"):
        return v.sum(axis) ** 2 / (v**2 / degrees).sum(axis)


def jackknife_error(left_out: Array) -> Array:
    """Standard error from the estimates without each unit, (units, ...) -> (...).

    √((n - 1)/n Σ (θ_i - θ̄)²); for a mean it is the usual one. Tukey (1958,
    doi:10.1214/aoms/1177706647).
    """
    units = len(left_out)
    return np.sqrt((units - 1) / units * np.square(left_out - left_out.mean(0)).sum(0))


def hotelling(sample: Array, expected: Array) -> Joint:
    """Whether the mean of the sample (units, observables) is `expected`.

    Hotelling (1931, doi:10.1214/aoms/1177732979).

    T² = n (x̄ - μ)ᵀ S⁻¹ (x̄ - μ); T² (n - k)/(k (n - 1)) is F with k and n - k degrees of freedom.
    Errors as in `joint`.
    """
    return joint([sample - expected])


def joint(groups: Sequence[Array]) -> Joint:
    """Whether the mean of the means of the groups is zero; each is (units, observables).

    With G groups of n_g units and one covariance S within them, which has ν = Σ (n_g - 1) degrees
    of freedom, T² = x̄ᵀ S⁻¹ x̄/h with h = Σ 1/(n_g G²); T² (ν - k + 1)/(k ν) is F with k and
    ν - k + 1 degrees of freedom. One group is Hotelling's test.
    Raises ValueError for fewer than 4 units, or fewer than 3 for each observable, where ν + 1
    counts as units: with more observables the estimated covariance S would decide, not the data.
    """
    free = sum(len(group) - 1 for group in groups)
    observables = groups[0].shape[1]
    if free + 1 < max(FEWEST_UNITS, UNITS_PER_OBSERVABLE * observables):
        raise ValueError(
            f"{free + 1} units for {observables} observables; give at least {FEWEST_UNITS} units "
            f"and {UNITS_PER_OBSERVABLE} for each observable"
        )
    mean = np.mean([group.mean(0) for group in groups], axis=0)
    share = sum(1 / len(group) for group in groups) / len(groups) ** 2
    statistic = squared_deviation(groups, mean) / share * (free - observables + 1)
    statistic /= observables * free
    degrees = (observables, free - observables + 1)
    return Joint(statistic, float(stats.f.sf(statistic, *degrees)), degrees)


def squared_deviation(groups: Sequence[Array], deviation: Array) -> float:
    """dᵀ S⁻¹ d with the covariance S (observables, observables) within the groups.

    Raises ValueError where an observable is the same in every unit.
    """
    within = np.concatenate([group - group.mean(0) for group in groups])
    free = len(within) - len(groups)
    # In standard errors of each observable, whose scales may differ by orders of magnitude.
    scale = np.sqrt(np.square(within).sum(0) / free)
    if not np.all(scale > 0):
        raise ValueError("an observable is the same in every unit; leave it out")
    correlation = (within / scale).T @ (within / scale) / free
    return float(np.linalg.solve(correlation, deviation / scale) @ (deviation / scale))


def paired_criterion(sample: Array, residuals: Array, rounding: Array) -> float:
    """Akaike's criterion of a theory that predicts every unit: n ln(|Σ r rᵀ|/|Σ (x - x̄)(x - x̄)ᵀ|).

    -2 ln of the Gaussian likelihood of the units x, maximal in the covariance of the residuals r;
    both are (units, observables). What is subtracted is the same for all theories, whose number of
    free parameters is too. A single prediction for all units has n ln(1 + T²/(n - 1)) by it,
    Hotelling's T². Residuals below `rounding`, (observables,), are all alike. Akaike (1974,
    doi:10.1109/TAC.1974.1100705).
    """
    scale = sample.std(0)
    own = np.cov((sample / scale).T, ddof=0).reshape(len(scale), len(scale))
    moment = (residuals / scale).T @ (residuals / scale) / len(residuals)
    moment += np.diag(np.square(rounding / scale))
    return float(len(residuals) * (np.linalg.slogdet(moment)[1] - np.linalg.slogdet(own)[1]))


def paired_scatter(units: int, observables: int) -> float:
    """Standard deviation of the difference of `paired_criterion` between equally close theories.

    n √(2 Σ ψ'((n - i)/2)), i < k: the logarithm of |Σ r rᵀ| is a sum of those of k chi-squares
    with n - i degrees of freedom, where the residuals are Gaussian without bias. Those of the two
    theories are taken as independent; where they are not, the difference scatters less.
    """
    degrees = units - np.arange(observables)
    return float(units * np.sqrt(2 * special.polygamma(1, degrees / 2).sum()))


def detectable(
    groups: Sequence[Array], direction: Array, level: float, power: float = 0.95
) -> float:
    """The length of a deviation along `direction` (observables,) that `joint` finds so often.

    Found means a p-value below `level`; F is then noncentral with dᵀ Σ⁻¹ d/h for a deviation d.
    Without bias, Σ⁻¹ is (ν - k - 1)/ν S⁻¹. Arguments as in `joint`.
    """
    free = sum(len(group) - 1 for group in groups)
    observables = len(direction)
    degrees = (observables, free - observables + 1)
    threshold = stats.f.isf(level, *degrees)
    needed: float = optimize.brentq(  # pyright: ignore[reportAssignmentType]  stubs: full_output
        lambda noncentrality: stats.ncf.sf(threshold, *degrees, noncentrality) - power, 1e-6, 1e6
    )
    share = sum(1 / len(group) for group in groups) / len(groups) ** 2
    unbiased = (free - observables - 1) / free
    strength = unbiased * squared_deviation(groups, direction) / share
    return float(np.sqrt(needed / strength)) if strength > 0 else np.inf


def law_in_inverse(
    size: Array, values: Array, errors: Array, degrees: Array, order: int
) -> WeightedFit:
    """Σ_k c_k N^-k, k ≤ order, through values with independent errors at each size N.

    Least squares with weights N^p, the power law that the squared errors follow: weights 1/error²
    would favour the points whose error came out small by chance, and turn 5 % false rejections
    into 7 to 25 %. The errors of the coefficients follow from those of the points, with
    Satterthwaite's degrees of freedom. The law itself is tested by the residual sum of squares
    with weights 1/error². Johansen (1980, doi:10.1093/biomet/67.1.85).

    All arguments are (points,); there must be more points than terms, or as many.
    """
    design = np.stack([size ** -float(k) for k in range(order + 1)], axis=1)
    if len(size) < order + 1:
        raise ValueError(f"{len(size)} points for {order + 1} terms; give as many points as terms")
    slope = np.polyfit(np.log(size), np.log(np.square(errors)), 1)[0]
    hat = _solution(design, size**-slope)
    parts = np.square(hat * errors)  # (terms, points)
    coefficients, deviations = hat @ values, np.sqrt(parts.sum(1))
    freedom = pooled_degrees(parts, degrees)
    return WeightedFit(
        coefficients,
        deviations,
        freedom,
        p_value(coefficients, deviations, freedom),
        _goodness(design, values, errors, degrees),
    )


def _solution(design: Array, weights: Array) -> Array:
    """The matrix that takes values to coefficients, (terms, points)."""
    weighted = design.T * weights
    return np.asarray(np.linalg.solve(weighted @ design, weighted), dtype=np.float64)


def _goodness(design: Array, values: Array, errors: Array, degrees: Array) -> float:
    """p-value of Q = Σ (residual/error)²: Q/c is F with f and ν degrees of freedom, where

    f = points - terms, A = Σ (1 - h_i)²/f_i, c = f + 2A - 6A/(f + 2), ν = f (f + 2)/(3A).
    """
    free = len(values) - design.shape[1]
    if free == 0:
        return np.nan
    weights = 1 / np.square(errors)
    projection = design @ _solution(design, weights)
    q = float((weights * np.square(values - projection @ values)).sum())
    a = float((np.square(1 - projection.diagonal()) / degrees).sum())
    scale = free + 2 * a - 6 * a / (free + 2)
    return float(stats.f.sf(q / scale, free, free * (free + 2) / (3 * a)))


def bonferroni(p_values: ArrayLike, comparisons: int | None = None) -> Array:
    """p-values times the number of comparisons, at most 1; by default those that are not nan."""
    p = np.asarray(p_values, dtype=np.float64)
    count = int(np.isfinite(p).sum()) if comparisons is None else comparisons
    return np.minimum(p * count, 1.0)
