"""Means with standard errors from independent units: chains, datasets or repeats."""

from collections.abc import Callable

import numpy as np
import xarray as xr


def mean_and_error(values: xr.DataArray, along: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean and its standard error s/√n over the finite units; the error of one unit is NaN."""
    count = values.notnull().sum(along)
    error = values.std(along, ddof=1).where(count > 1) / np.sqrt(count)
    return values.mean(along), error


def chains(values: xr.DataArray) -> xr.DataArray:
    """All chains of all datasets along one dimension `unit`."""
    return values.stack(unit=("dataset", "chain"), create_index=False)


def jackknife(
    sums: xr.DataArray, statistic: Callable[[xr.DataArray], xr.DataArray]
) -> tuple[xr.DataArray, xr.DataArray]:
    """A function of sums over `unit`, and its standard error by the jackknife.

    se² = (n - 1)/n Σ_i (θ_i - θ.)², θ_i without unit i and θ. their mean; NaN below two units.
    Units that are NaN do not count. Quenouille (1956), Tukey (1958).
    """
    total = sums.sum("unit", min_count=1)
    left_out = statistic(total - sums)
    count = left_out.notnull().sum("unit")
    spread = ((left_out - left_out.mean("unit")) ** 2).sum("unit")
    return statistic(total), ((spread * (count - 1) / count) ** 0.5).where(count > 1)


def variance(moment: xr.DataArray) -> xr.DataArray:
    """Central variance of z from the sums of its powers along `order`."""
    mean = moment.sel(order=1) / moment.sel(order=0)
    return moment.sel(order=2) / moment.sel(order=0) - mean**2


def kurtosis(moment: xr.DataArray) -> xr.DataArray:
    """Excess kurtosis of z, zero for a Gaussian, from the sums of its powers along `order`."""
    m1, m2, m3, m4 = (moment.sel(order=k) / moment.sel(order=0) for k in (1, 2, 3, 4))
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return fourth / (m2 - m1**2) ** 2 - 3
