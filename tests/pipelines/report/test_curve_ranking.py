"""Akaike's criterion of learning curves: a fair comparison, of what can be compared."""

import numpy as np
import pytest
import xarray as xr

from pipelines.analysis.regression.learning_curve import _compared
from pipelines.report.sentences.curve_conclusions import DECIDES, SCATTERS, _ranking
from theory.spectrum.curve_fit import criterion
from theory.statistics import paired_criterion, paired_scatter

REPEATS, SIZES, RIDGES = 24, 7, 3  # of the packaged learning curves
TRUE = np.linspace(2.0, 1.0, SIZES)[:, None] * np.ones(RIDGES)
SCATTER = 0.05
ERROR = SCATTER / np.sqrt(REPEATS)  # of the mean, at each size
TRIALS = 2000


def drawn(rng: np.random.Generator) -> np.ndarray:
    """(repeat, train, ridge): sizes are correlated, and ridges the same but for what is true."""
    common = rng.normal(size=(REPEATS, 1, 1))
    own = rng.normal(size=(REPEATS, SIZES, 1))
    return TRUE + SCATTER * np.sqrt(0.5) * (common + own)


def found(sample: np.ndarray, predicted: np.ndarray) -> dict:
    return _compared(sample, predicted, np.arange(SIZES), level=1e-3)


def judged(sample: np.ndarray, predictions: dict[str, np.ndarray]) -> xr.Dataset:
    """What the conclusions read, at one cell."""
    each = [found(sample, predicted)["criterion"] for predicted in predictions.values()]
    return xr.Dataset(
        {
            "criterion": (("theory", "cell", "ridge"), np.array(each)[:, None]),
            "tested": (("theory", "cell", "train"), np.ones((len(each), 1, SIZES))),
            "repeats": (("cell",), [len(sample)]),
        },
        {"theory": list(predictions), "ridge": [1e-8, 1e-3, 0.1]},
    )


def lines(sample: np.ndarray, predictions: dict[str, np.ndarray]) -> list[str]:
    return list(_ranking(judged(sample, predictions)))


# -- averaged over the draws ----------------------------------------------------------------


@pytest.mark.parametrize("apart", [1.5, 3.0, 5.0], ids="{} errors".format)
def test_a_right_theory_is_hardly_ever_decided_against(apart):
    rng = np.random.default_rng(1)
    right = TRUE[:, 0]
    behind = []
    for _ in range(TRIALS):
        sample = drawn(rng)[:, :, 0]
        gap = criterion(sample, right) - criterion(sample, right + apart * ERROR)
        behind.append(gap > DECIDES)
    # With a covariance that is known the likelihoods have a ratio above e⁵ in less than e⁻⁵.
    assert np.mean(behind) < 0.01


@pytest.mark.slow
def test_equally_right_theories_are_not_decided_between():
    rng = np.random.default_rng(2)
    predictions = {"effective_ridge": TRUE - ERROR / 2, "rg_ridge": TRUE + ERROR / 2}
    said = [line for _ in range(TRIALS // 10) for line in lines(drawn(rng), predictions)]
    assert len(said) == TRIALS // 10
    assert np.mean(["nothing is decided" not in line for line in said]) < 0.01


def test_a_wrong_theory_is_decided_against():
    sample = drawn(np.random.default_rng(3))
    wrong = TRUE + 10 * ERROR
    (line,) = lines(sample, {"equivalent_kernel": wrong, "effective_ridge": TRUE})
    assert "is least everywhere for the effective ridge, and higher by" in line
    assert "decided" not in line


def test_ridges_that_share_their_draws_are_not_added():
    """All ridges have the same numbers here, so that one ridge says what three say."""
    sample = drawn(np.random.default_rng(4))
    predictions = {"effective_ridge": TRUE, "rg_ridge": TRUE + 2 * ERROR}
    gap = np.subtract(*(found(sample, at)["criterion"][0] for at in predictions.values()))
    (line,) = lines(sample, predictions)
    assert f"everywhere for {'the effective' if gap < 0 else 'decimation'}" in line
    assert f"higher by {abs(gap):.1f} for" in line


def test_each_ridge_names_its_own_best():
    sample = drawn(np.random.default_rng(5))
    first, second = TRUE.copy(), TRUE.copy()
    first[:, 2] += 10 * ERROR
    second[:, :2] += 10 * ERROR
    (line,) = lines(sample, {"effective_ridge": first, "equivalent_kernel": second})
    assert "is least at T = 10⁻⁸ and 0.001 for the effective ridge, and higher by " in line
    assert "; at T = 0.1 for the equivalent kernel, and higher by " in line


def test_a_theory_that_is_silent_at_a_size_has_no_criterion():
    sample = drawn(np.random.default_rng(6))
    silent = TRUE.copy()
    silent[0, 0] = np.nan
    assert np.isfinite(found(sample, silent)["criterion"]).tolist() == [False, True, True]


# -- given the draws ------------------------------------------------------------------------


def test_the_kinds_are_never_compared():
    rng = np.random.default_rng(7)
    sample = drawn(rng)
    near = {
        name: sample + 1e-3 * SCATTER * rng.normal(size=sample.shape)
        for name in ("rg_gpr", "rg_gpr_position")
    }
    averaged = {"effective_ridge": TRUE, "rg_ridge": TRUE + ERROR / 2}
    first, second = lines(sample, averaged | near)
    assert "averaged over the draws" in first
    assert "decimated regression" not in first
    assert "nothing is decided" in first
    assert "given the draws" in second
    assert "effective" not in second
    assert not lines(sample, {"effective_ridge": TRUE, "rg_gpr": near["rg_gpr"]})


def test_the_closer_to_every_repeat_comes_first():
    """A third of the residuals has the same Hotelling's T², but is closer."""
    rng = np.random.default_rng(8)
    sample = drawn(rng)
    off = SCATTER * 0.1 * rng.normal(size=sample.shape)
    (line,) = lines(sample, {"rg_gpr": sample + off, "rg_gpr_position": sample + off / 3})
    assert "everywhere for decimated regression with the ridge T(x)" in line
    # n ln 9 for each size
    assert f"higher by {REPEATS * SIZES * np.log(9):.1f} for" in line
    assert "decided" not in line


def test_what_agrees_to_rounding_is_not_ranked():
    rng = np.random.default_rng(9)
    sample = drawn(rng)
    noise = rng.normal(size=sample.shape)
    given = {"rg_gpr": sample + 1e-8 * noise, "rg_gpr_position": sample + 1e-10 * noise}
    (line,) = lines(sample, given)
    assert "nothing is decided" in line


def test_the_criterion_of_one_prediction_for_all_repeats_is_that_of_their_mean():
    sample, at = drawn(np.random.default_rng(10))[:, :, 0], TRUE[:, 0] + ERROR
    paired = paired_criterion(sample, sample - at, np.zeros(SIZES))
    assert paired == pytest.approx(criterion(sample, at), rel=1e-9)


@pytest.mark.parametrize(("units", "observables"), [(8, 2), (12, 4), (24, 7)])
def test_equally_close_theories_differ_as_is_said(units, observables):
    rng = np.random.default_rng(11)
    sample = rng.normal(size=(units, observables))
    exactly = np.zeros(observables)
    values = [
        paired_criterion(sample, rng.normal(size=sample.shape), exactly) for _ in range(2 * TRIALS)
    ]
    gaps = np.subtract(values[:TRIALS], values[TRIALS:])
    scatter = paired_scatter(units, observables)
    # Five standard errors of a standard deviation, 1/√(2 trials) of it, widened by the kurtosis.
    assert np.std(gaps) == pytest.approx(scatter, rel=6 / np.sqrt(2 * TRIALS))
    assert np.mean(np.abs(gaps) > SCATTERS * scatter) < 0.01
