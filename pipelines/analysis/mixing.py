"""R-hat and effective sample sizes of many scalars at once.

Vehtari et al. (2021, arXiv:1903.08008).

The formulas of arviz-stats, on arrays (chain, draw, quantity): version 0.8 has the same numbers to
3e-15, yet no R-hat of a single chain, takes three times as long for 1000 series of 8 x 200 draws
and 0.7 s to import, where this takes none. A test holds the formulas against ArviZ.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri
from scipy.stats import rankdata

Array = NDArray[np.float64]

FEWEST_DRAWS = 4
TAILS = (0.05, 0.95)  # quantiles of which the tail's sample size is the smaller
CONSTANT_RANGE = 1e-15  # range of values that are all the same


def rhat(values: Array) -> Array:
    """Rank-normalized split R-hat, the larger of that of the draws and of their distances."""
    if not _enough(values):
        return _unknown(values)
    halves = split(values)
    folded = np.abs(halves - np.median(halves, axis=(0, 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.maximum(_rhat(normal_scores(halves)), _rhat(normal_scores(folded)))
    return _where_known(values, found)


def ess_bulk(values: Array) -> Array:
    """Effective sample size of the normal scores."""
    if not _enough(values):
        return _unknown(values)
    return _where_known(values, effective(normal_scores(split(values))))


def ess_tail(values: Array) -> Array:
    """The smaller of the effective sample sizes of two quantiles."""
    if not _enough(values):
        return _unknown(values)
    with np.errstate(invalid="ignore"):
        quantiles = np.quantile(values, TAILS, axis=(0, 1))
        below = [(values <= quantile).astype(np.float64) for quantile in quantiles]
    return _where_known(values, np.minimum(*(effective(split(each)) for each in below)))


def mcse(values: Array) -> Array:
    """Monte Carlo standard error of the mean."""
    if not _enough(values):
        return _unknown(values)
    deviation = values.std(axis=(0, 1), ddof=1)
    return _where_known(values, deviation / np.sqrt(effective(split(values))))


def split(values: Array) -> Array:
    """Halves of chains as chains; the middle draw of an odd number is left out."""
    half = values.shape[1] // 2
    return np.concatenate([values[:, :half], values[:, -half:]])


def normal_scores(values: Array) -> Array:
    """Normal quantiles of the ranks among all draws of a quantity (Blom 1958)."""
    count = values.shape[0] * values.shape[1]
    ranks = rankdata(values.reshape(count, -1), axis=0)
    return ndtri((ranks - 0.375) / (count + 0.25)).reshape(values.shape)


def effective(values: Array) -> Array:
    """Draws over the autocorrelation time, by Geyer's (1992) initial monotone sequence."""
    chains, draws, quantities = values.shape
    covariance = _autocovariance(values)
    within = covariance[0] * draws / (draws - 1)
    total = within * (draws - 1) / draws
    if chains > 1:
        total = total + values.mean(1).var(0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = 1 - (within - covariance) / total
    correlation[0] = 1
    found = [_sequence(correlation[:, each]) for each in range(quantities)]
    count = chains * draws
    sizes = count / np.maximum(found, 1 / np.log10(count))
    constant = np.ptp(values, axis=(0, 1)) < CONSTANT_RANGE
    return np.where(constant, count, sizes)


def _rhat(values: Array) -> Array:
    draws = values.shape[1]
    between = draws * values.mean(1).var(0, ddof=1)
    within = values.var(1, ddof=1).mean(0)
    return np.sqrt((between / within + draws - 1) / draws)


def _autocovariance(values: Array) -> Array:
    """Mean over the chains of the autocovariance at each lag, (lag, quantity)."""
    draws = values.shape[1]
    length = next_fast_len(2 * draws)
    waves = np.asarray(rfft(values - values.mean(1, keepdims=True), n=length, axis=1))
    power = np.square(np.abs(waves)).mean(0)
    return np.asarray(irfft(power, n=length, axis=0))[:draws] / draws


def _sequence(correlation: Array) -> float:
    """The autocorrelation time of one quantity, 2 Σ ρ - 1 over pairs while their sums are positive.

    Each pair of lags counts at most as much as the one before.
    """
    draws = len(correlation)
    kept = np.zeros(draws)
    kept[:2] = correlation[:2]
    even, odd = 1.0, float(correlation[1])
    lag = 1
    while lag < draws - 3 and even + odd > 0:
        even, odd = float(correlation[lag + 1]), float(correlation[lag + 2])
        if even + odd >= 0:
            kept[lag + 1 : lag + 3] = even, odd
        lag += 2
    last = lag - 2
    if even > 0:
        kept[last + 1] = even
    for pair in range(1, last - 1, 2):
        before = kept[pair - 1] + kept[pair]
        if kept[pair + 1] + kept[pair + 2] > before:
            kept[pair + 1 : pair + 3] = before / 2
    return float(2 * kept[: last + 1].sum() + kept[last + 1 : last + 2].sum() - 1)


def _where_known(values: Array, found: Array) -> Array:
    """nan for quantities with draws that are not numbers."""
    return np.where(np.isfinite(values).all((0, 1)), found, np.nan)


def _enough(values: Array) -> bool:
    return values.shape[1] >= FEWEST_DRAWS


def _unknown(values: Array) -> Array:
    return np.full(values.shape[2], np.nan)
