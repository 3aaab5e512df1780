"""Effect sizes, criterion and fits of learning curves: calibrated where sizes share their data."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from theory.spectrum.curve_fit import criterion, errors_at, profile, relative_deviation
from theory.spectrum.learning_curves import learning_curve

UNITS, SIZES = 15, np.array([10.0, 20.0, 40.0, 80.0])
LAW = SIZES**-0.7
TRIALS, LEVEL = 1500, 0.05


def sample(rng, mean=LAW):
    """Relative scatter of 5 %, of which 4 % is common to all sizes of a unit."""
    common, own = 0.04 * rng.normal(size=(UNITS, 1)), 0.03 * rng.normal(size=(UNITS, 4))
    return mean * (1 + common + own)


def binomial(level, trials=TRIALS):
    return 5 * math.sqrt(level * (1 - level) / trials)


def test_the_interval_of_the_deviation_covers_it():
    rng = np.random.default_rng(1)
    found = [relative_deviation(sample(rng, 1.1 * LAW), LAW) for _ in range(TRIALS)]
    missed = np.mean([not one.low <= 0.1 <= one.high for one in found])
    assert abs(missed - LEVEL) < binomial(LEVEL)


def test_the_criterion_is_a_likelihood_ratio():
    """n ln(1 + T²/(n - 1)) is -2 ln of the ratio to the best mean, with the best covariances."""
    x = sample(np.random.default_rng(2))

    def likelihood(mean):
        centred = x - mean
        covariance = centred.T @ centred / UNITS
        return stats.multivariate_normal(mean, covariance).logpdf(x).sum()

    wrong = 1.03 * LAW
    ratio = 2 * (likelihood(x.mean(0)) - likelihood(wrong))
    assert criterion(x, wrong) == pytest.approx(ratio, rel=1e-9)
    assert criterion(x, wrong, 2) == pytest.approx(ratio + 4, rel=1e-9)


EXPONENTS = np.linspace(0.3, 1.1, 17)
CURVES = (SIZES / 20) ** -EXPONENTS[:, None] * 20**-0.7  # pinned at n = 20, where the law is true


@pytest.mark.slow
def test_a_fitted_parameter_is_covered_by_its_interval_and_the_law_by_its_p_value():
    rng = np.random.default_rng(3)
    found = [profile(sample(rng), EXPONENTS, CURVES) for _ in range(TRIALS)]
    covered = np.mean([one.low <= 0.7 <= one.high for one in found])
    assert abs(covered - 0.68) < binomial(0.68)
    rejected = np.mean([one.p_value < LEVEL for one in found])
    assert abs(rejected - LEVEL) < binomial(LEVEL)
    mean = np.mean([one.value for one in found])
    assert mean == pytest.approx(0.7, abs=5 * np.std([one.value for one in found]) / TRIALS**0.5)


def test_a_law_of_another_form_is_rejected():
    rng = np.random.default_rng(4)
    found = profile(sample(rng, 0.05 + LAW), EXPONENTS, CURVES)
    assert found.p_value < 1e-3
    assert found.criterion > profile(sample(rng), EXPONENTS, CURVES).criterion + 10


def test_a_parameter_that_changes_nothing_is_not_bounded():
    x = sample(np.random.default_rng(5))
    flat = LAW * (1 + 1e-6 * EXPONENTS[:, None])
    found = profile(x, EXPONENTS, flat)
    assert found.low == -math.inf
    assert found.high == math.inf


def test_candidates_without_a_prediction_are_left_out():
    x = sample(np.random.default_rng(6))
    some = CURVES.copy()
    some[:3] = np.nan
    found = profile(x, EXPONENTS, some)
    assert found.value == pytest.approx(profile(x, EXPONENTS, CURVES).value, abs=0.01)


def test_errors_at_the_effective_ridge_are_the_learning_curve():
    spectrum = torch.arange(1, 301, dtype=torch.float64) ** -1.5
    power, train = spectrum**1.2, torch.tensor([10.0, 50.0, 200.0]).double()
    curve = learning_curve(spectrum, power, train, 0.01, 0.2)
    found = errors_at(spectrum, power, train, curve.effective_ridge / train, 0.2)
    torch.testing.assert_close(found, curve.error, rtol=1e-10, atol=0)
    assert errors_at(spectrum, power, train[:1], train[:1] * 1e-12).isnan().all()
