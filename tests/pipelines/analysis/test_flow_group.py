"""The group `flow`: the couplings of Wilson's flow, at the cutoffs that are stored."""

import numpy as np
import pytest
import torch
import xarray as xr

from support.fake_curve import regression
from theory.renormalization import rg
from theory.spectrum.learning_curves import effective_ridge

SPECTRUM = np.geomspace(1, 1e-3, 60)  # what the fake curve stores
RIDGE = 0.1


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    store = regression(tmp_path_factory.mktemp("flow"), 1.0)
    found = xr.open_dataset(store.data, group="flow", engine="zarr").load()
    return found.isel(cell=0, ridge=0)


def test_the_hard_ridge_is_the_tail_of_the_spectrum(flow):
    cutoffs = flow["flow_cutoff"].values
    assert cutoffs[0] == 1
    assert cutoffs[-1] == 60
    tails = [RIDGE + SPECTRUM[cutoff:].sum() for cutoff in cutoffs]
    np.testing.assert_allclose(flow["hard_ridge"], tails, rtol=1e-12)


def test_the_soft_ridge_ends_at_the_effective_ridge(flow):
    sizes = torch.tensor(flow["train"].values, dtype=torch.float64)
    kappa = effective_ridge(torch.from_numpy(SPECTRUM), sizes, RIDGE).numpy()
    last = SPECTRUM[0] * kappa / (SPECTRUM[0] + kappa)  # the mode that is left at Λ = 1
    end = flow["soft_ridge"].isel(flow_cutoff=0) + last
    np.testing.assert_allclose(end, flow["train"] * kappa, rtol=1e-9)
    whole = rg.soft_flow(torch.from_numpy(SPECTRUM), sizes, RIDGE).numpy()
    np.testing.assert_allclose(flow["soft_ridge"], whole[:, flow["flow_cutoff"].values], rtol=1e-12)


def test_the_flow_ends_where_the_pull_of_the_data_comes_down_to_one(flow):
    eigenvalues = xr.DataArray(SPECTRUM[flow["flow_cutoff"].values - 1], dims="flow_cutoff")
    pull = flow["train"] * eigenvalues / flow["hard_ridge"]
    np.testing.assert_allclose(flow["mass"], pull.transpose(*flow["mass"].dims), rtol=1e-12)
    for place, size in enumerate(flow["train"].values):
        each = size * SPECTRUM / (RIDGE + np.append(SPECTRUM[::-1].cumsum()[::-1][1:], 0))
        assert flow["last_learned"][place] == (each >= 1).cumprod().sum()


def test_no_exponent_is_stated_outside_an_interval_of_scales(flow):
    inside = np.zeros(flow.sizes["train"], dtype=bool)
    for first, last in zip(
        flow["interval_first"].values, flow["interval_last"].values, strict=True
    ):
        ends = flow["last_learned"].values
        inside |= (ends <= 1.5 * first) & (ends >= last / 1.5)
    assert not np.isfinite(flow["flow_exponent"].values[~inside]).any()
