"""Theories of a regression beside what was measured: groups, cutoffs, verdicts, free parameters."""

import numpy as np
import pytest
import torch
import xarray as xr

from pipelines.report.sentences.conclusions import conclusions
from storage.backend.reader import open_campaign
from storage.campaign.regression_spec import DECIMATED_THEORIES, SPECTRAL_THEORIES
from storage.errors import CampaignError
from support.analyzed import EVERY_CURVE, analyzed
from support.driving import small
from theory.renormalization import rg
from theory.spectrum import learning_curves as spectrum
from workers.regression.decimated import WORK, repeats_within

pytestmark = pytest.mark.slow

NOISE = 0.1  # of the labels of the smallest campaign
SIZES = torch.tensor([4, 8, 16, 60], dtype=torch.float64)[:, None]
RIDGES = torch.tensor([1e-6, 0.1], dtype=torch.float64)


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    return analyzed(tmp_path_factory.mktemp("every"), *EVERY_CURVE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same with all modes of the kernel kept."""
    return analyzed(tmp_path_factory.mktemp("whole"), *EVERY_CURVE, "cutoff=120")


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """The same with repeats enough for sharp averages, and with more of the modes."""
    more = ("regression.repeats=48", "cutoff=0.001")
    return analyzed(tmp_path_factory.mktemp("repeated"), *EVERY_CURVE, *more)


def group(store, name: str) -> xr.Dataset:
    return xr.open_dataset(store.data, group=name, engine="zarr").load()


# -- the groups -----------------------------------------------------------------------------


def test_spectral_theories_are_those_of_the_pools_spectrum(every):
    measured = group(every, "regression").isel(cell=0)
    values = torch.as_tensor(measured["eigenvalue"].values)
    power = torch.as_tensor(measured["coefficient"].values).square()
    kept = rg.cutoff(values, SIZES, RIDGES, learnability=0.01)
    given = (values, power, SIZES, RIDGES)
    expected = {
        "effective_ridge": spectrum.learning_curve(*given, NOISE),
        "equivalent_kernel": spectrum.equivalent_kernel(*given, NOISE),
        "equivalent_kernel_next_order": spectrum.equivalent_kernel_next_order(*given, NOISE),
        "rg_ridge": rg.rg_ridge(*given, kept, NOISE),
        "rg_ek": rg.rg_ek(*given, kept, NOISE),
    }
    for theory in SPECTRAL_THEORIES:
        found = group(every, f"theory/{theory}").isel(cell=0)
        curve = expected[theory]
        for name, value in {
            "pool_error": curve.error,
            "train_error": curve.train_error,
            "posterior_variance": curve.posterior_variance,
            "effective_ridge": curve.effective_ridge,
        }.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=f"{theory} {name}")
        assert found["beyond_pool"].values.tolist() == [0, 0, 0, 1]  # 60 of 120 points


def test_what_is_removed_is_told(every):
    values = torch.as_tensor(group(every, "regression")["eigenvalue"].values[0])
    kept = rg.cutoff(values, SIZES, RIDGES, learnability=0.01)
    for theory in ("rg_ridge", "rg_ek", *DECIMATED_THEORIES):
        found = group(every, f"theory/{theory}").isel(cell=0)
        np.testing.assert_array_equal(found["cutoff"], kept)
        flow = rg.hard_flow(values, 0.0)[kept] + RIDGES
        np.testing.assert_allclose(found["renormalized_ridge"], flow, rtol=1e-12)


def test_all_modes_give_back_each_repeat(whole):
    """The decimated regression sees the points and the labels of the repeat, to the last bit."""
    measured = group(whole, "regression")
    for theory in DECIMATED_THEORIES:
        found = group(whole, f"theory/{theory}")
        assert (found["cutoff"] == 120).all()
        for name in ("pool_error", "train_error", "posterior_variance"):
            assert found[name].dims == measured[name].dims
            # K + T has the condition 1e6 at the smaller ridge.
            xr.testing.assert_allclose(found[name], measured[name], rtol=1e-8)
        assert (abs(found["distance_square"]) < 1e-16).all()
        residual = measured["learnability"] - found["learnability"]
        assert float(abs(residual).max()) < 1e-5  # float32


def test_what_agrees_to_rounding_is_not_rejected(whole):
    found = group(whole, "learning_curve").sel(theory=list(DECIMATED_THEORIES))
    assert (found["joint_p_value"] == 1).all()
    assert (abs(found["deviation"]) < 1e-6).all()


def test_a_cutoff_by_mode_number_is_the_same_everywhere(tmp_path):
    theories = "theories=[rg_ridge, rg_gpr]"
    store = analyzed(tmp_path, *EVERY_CURVE, "cutoff=12", theories)
    for theory in ("rg_ridge", "rg_gpr"):
        assert (group(store, f"theory/{theory}")["cutoff"] == 12).all()


def test_a_new_cutoff_is_predicted_in_the_same_store(tmp_path):
    theories = "theories=[rg_ridge]"
    first = analyzed(tmp_path, *EVERY_CURVE, theories)
    second = analyzed(tmp_path, *EVERY_CURVE, theories, "cutoff=3")
    assert first.url == second.url
    assert (group(second, "theory/rg_ridge")["cutoff"] == 3).all()


# -- what is said of them -------------------------------------------------------------------


def test_every_theory_is_judged_on_the_same_data(every):
    found = group(every, "learning_curve").isel(cell=0)
    assert found["theory"].values.tolist() == [*SPECTRAL_THEORIES, *DECIMATED_THEORIES]
    measured = group(every, "regression").isel(cell=0)
    for name in found["observable"].values:
        one = found.sel(observable=name)
        np.testing.assert_allclose(one["measured"], measured[name].mean("repeat"), rtol=1e-12)
        for theory in SPECTRAL_THEORIES:
            predicted = group(every, f"theory/{theory}")[name].isel(cell=0)
            np.testing.assert_allclose(
                one["predicted"].sel(theory=theory), predicted, rtol=1e-9, atol=1e-12
            )
    together = (found["residual"] + found["predicted"]).sel(theory="rg_gpr")
    np.testing.assert_allclose(together, found["measured"], rtol=1e-12)
    assert (found["tested"].sum("train") == 2).all()  # of 8 repeats
    assert found["criterion"].notnull().all()


def test_pairs_of_the_same_points_have_small_errors(repeated):
    found = group(repeated, "learning_curve").sel(observable="pool_error").isel(cell=0)
    paired = found["residual_error"].sel(theory="rg_gpr")
    assert float((paired / found["standard_error"]).mean()) < 0.1
    own = found["residual_error"].sel(theory="effective_ridge")
    xr.testing.assert_allclose(own.drop_vars("theory"), found["standard_error"])
    assert (abs(found["deviation"].sel(theory="rg_gpr")) < 0.02).all()


def test_the_equivalent_kernel_fails_where_the_posterior_variance_exceeds_the_ridge(repeated):
    found = group(repeated, "learning_curve").sel(observable="pool_error").isel(cell=0)
    failed = found.sel(theory="equivalent_kernel", ridge=1e-6)
    assert float(failed["joint_p_value"]) < 1e-3
    gap = found["criterion"].sel(theory="equivalent_kernel") - found["criterion"]
    assert (gap.sel(theory="effective_ridge", ridge=1e-6) > 15).all()


def test_free_parameters_and_ratios_of_the_ridge(repeated):
    found = group(repeated, "exponents").isel(cell=0)
    effective = group(repeated, "theory/effective_ridge")["effective_ridge"].isel(cell=0)
    predicted = (effective / effective["ridge"])[:3, 1]
    # √((error + s²)/training error): a mean of ratios is not the ratio of means, by 1/n or so.
    off = abs(found["ridge_ratio"][:3, 1] - predicted)
    assert (off < predicted / found["train"][:3] + 5 * found["ridge_ratio_error"][:3, 1]).all()
    factor = found.sel(parameter="ridge_factor")
    assert ((factor["fitted_low"] < 1.5) & (factor["fitted_high"] > 0.6)).all()
    assert (factor["fitted_low"] <= factor["fitted"]).all()
    assert found["expected"].values.tolist() == [1, 0.001, 0.001]
    slope = found["slope_predicted"].sel(theory="effective_ridge")
    assert (abs(found["slope"] - slope) < 5 * found["slope_error"] + 0.1 * abs(slope)).all()


def test_conclusions_name_every_theory(every):
    lines = conclusions(open_campaign(every.url))
    assert not [line for line in lines if "nan" in line or "_" in line]
    about = [line for line in lines if "on the error over the pool" in line]
    assert len(about) == len(SPECTRAL_THEORIES + DECIMATED_THEORIES)
    averaged, given = [line for line in lines if line.startswith("Akaike's criterion")]
    assert "decimated regression" not in averaged  # which knows the draws
    assert "theories given the draws, is least" in given
    assert [line for line in lines if line.startswith("The error over the pool falls as n to")]


# -- cost and refusals ----------------------------------------------------------------------


def test_repeats_are_limited_by_the_work_but_four_are_evaluated():
    kept = np.full((1, 1), 1000)
    assert repeats_within(range(20), [10.0], kept) == list(range(20))
    each = 3 * 900.0**2 * 1000 + 900.0**3 / 3
    assert len(repeats_within(range(10_000), [900.0], kept)) == int(WORK / each)
    assert repeats_within(range(20), [9000.0], np.full((1, 1), 9000)) == [0, 1, 2, 3]
    assert repeats_within(range(2), [9000.0], np.full((1, 1), 9000)) == [0, 1]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["regression=null", "theories=[rg_gpr]"], "rg_gpr predicts a regression"),
        (["cutoff=31"], "cutoff: found 31 modes of a pool of 30"),
        (["cutoff=0"], "cutoff: found 0, wanted a learnability between 0 and 1, or a number"),
        (["cutoff=1.5"], "cutoff: found 1.5, wanted a learnability"),
    ],
)
def test_what_cannot_be_predicted_is_refused(overrides, said):
    with pytest.raises(CampaignError, match=said):
        small(*overrides)
