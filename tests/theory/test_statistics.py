"""Tests of tests: p-values are calibrated, and what they are made of is what it is said to be."""

import numpy as np
import pytest
from scipy import stats

from theory.statistics import (
    bonferroni,
    detectable,
    hotelling,
    jackknife_error,
    joint,
    law_in_inverse,
    p_value,
    pooled_degrees,
)

WIDTHS = np.array([16.0, 64.0, 256.0, 1024.0])
LEVEL = 0.05
TRIALS = 4000
BINOMIAL = 5 * np.sqrt(LEVEL * (1 - LEVEL) / TRIALS)  # five standard errors of a rate


def rejected(p_values) -> float:
    return float(np.mean(np.asarray(p_values) < LEVEL))


def test_student_agrees_with_scipy():
    sample = np.random.default_rng(1).normal(0.3, 1, 8)
    error = sample.std(ddof=1) / np.sqrt(8)
    wanted = stats.ttest_1samp(sample, 0).pvalue
    assert float(p_value(sample.mean(), error, 7)) == pytest.approx(wanted, rel=1e-12)
    assert np.isnan(p_value(1.0, 0.0, 7))


def test_pooled_degrees_of_equal_and_of_lopsided_variances():
    assert pooled_degrees([2.0, 2.0, 2.0], [7, 7, 7]) == pytest.approx(21)
    assert pooled_degrees([1e9, 1.0], [7, 7]) == pytest.approx(7)


def test_jackknife_of_a_mean_is_the_usual_error():
    sample = np.random.default_rng(2).normal(size=(9, 3))
    left_out = (sample.sum(0) - sample) / 8
    usual = sample.std(0, ddof=1) / 3
    np.testing.assert_allclose(jackknife_error(left_out), usual, rtol=1e-12)


def test_bonferroni_counts_what_is_known():
    np.testing.assert_allclose(bonferroni([0.01, np.nan, 0.6]), [0.02, np.nan, 1.0])


# -- several means at once ------------------------------------------------------------------


def correlated(rng: np.random.Generator, trials: int, mean: np.ndarray) -> np.ndarray:
    """Samples of 20 units of 4 observables with correlations 0.8 and very different scales."""
    root = np.linalg.cholesky(0.8 + 0.2 * np.eye(4)) * np.array([[1.0], [1e-3], [50.0], [1.0]])
    return mean + rng.normal(size=(trials, 20, 4)) @ root.T


def test_hotelling_is_calibrated_on_correlated_observables():
    mean = np.array([1.0, 2.0, -3.0, 0.5])
    samples = correlated(np.random.default_rng(3), TRIALS, mean)
    rate = rejected([hotelling(sample, mean).p_value for sample in samples])
    assert abs(rate - LEVEL) < BINOMIAL


def test_joint_test_of_groups_that_differ_in_size_is_calibrated():
    """Two groups with means of their own that average to zero, of 12 units and of 8."""
    samples = correlated(np.random.default_rng(13), TRIALS, np.zeros(4))
    shift = np.array([0.3, 0.0, -20.0, 1.0])
    p_values = [joint([one[:12] + shift, one[12:] - shift]).p_value for one in samples]
    assert abs(rejected(p_values) - LEVEL) < BINOMIAL


def test_joint_test_finds_what_it_says_it_would():
    """A theory wrong by the length that `detectable` names is rejected 19 times in 20."""
    samples = correlated(np.random.default_rng(14), TRIALS, np.zeros(4))
    direction = np.array([1.0, 2e-3, 30.0, 0.5])
    groups = [[one[:12], one[12:]] for one in samples]
    length = np.median([detectable(each, direction, LEVEL) for each in groups[:200]])
    shifted = [[one + length * direction for one in each] for each in groups]
    assert rejected([joint(each).p_value for each in shifted]) == pytest.approx(0.95, abs=0.03)


def test_hotelling_of_one_observable_is_student():
    sample = np.random.default_rng(4).normal(0.5, 1, (9, 1))
    wanted = stats.ttest_1samp(sample[:, 0], 0).pvalue
    assert hotelling(sample, np.zeros(1)).p_value == pytest.approx(wanted, rel=1e-10)


def test_hotelling_does_not_depend_on_how_the_observables_are_combined():
    rng = np.random.default_rng(5)
    sample, mixing = rng.normal(size=(12, 3)), rng.normal(size=(3, 3))
    expected = np.array([0.2, -0.1, 0.4])
    plain, mixed = hotelling(sample, expected), hotelling(sample @ mixing, expected @ mixing)
    assert mixed.p_value == pytest.approx(plain.p_value, rel=1e-9)


@pytest.mark.parametrize(("units", "observables"), [(3, 1), (11, 4)])
def test_too_few_units_for_a_verdict(units, observables):
    with pytest.raises(ValueError, match=f"{units} units for {observables} observables"):
        hotelling(np.random.default_rng(6).normal(size=(units, observables)), np.zeros(observables))


def test_what_is_said_to_be_detectable_is_detected():
    # Lengths go as the root of an inverse covariance, whose estimate is unbiased.
    rng = np.random.default_rng(7)
    nothing, direction = np.zeros(4), np.array([1.0, 1e-3, -20.0, 0.5])
    samples = correlated(rng, TRIALS // 8, nothing)
    lengths = np.array([detectable([sample], direction, LEVEL, 0.95) for sample in samples])
    deviation = direction / np.sqrt(np.mean(lengths**-2))
    found = [hotelling(sample, nothing).p_value for sample in correlated(rng, TRIALS, deviation)]
    assert rejected(found) == pytest.approx(0.95, abs=BINOMIAL)


# -- laws in 1/N ----------------------------------------------------------------------------


def law(rng, coefficients, errors, degrees, order):
    """A fit to a law with these coefficients, errors being estimated from so many degrees."""
    truth = sum(c * WIDTHS**-k for k, c in enumerate(coefficients))
    found = errors * np.sqrt(rng.chisquare(degrees, len(WIDTHS)) / degrees)
    freedom = np.full(len(WIDTHS), float(degrees))
    return law_in_inverse(WIDTHS, truth + errors * rng.normal(size=4), found, freedom, order)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [7, 14])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    "errors", [np.full(4, 1e-3), np.array([4e-3, 2e-3, 1e-3, 1e-3])], ids=["equal", "falling"]
)
def test_the_intercept_and_the_law_are_calibrated(degrees, order, errors):
    # A true law without intercept: both its intercept and the law itself are rejected at 5 %.
    rng = np.random.default_rng([degrees, order])
    fits = [law(rng, [0.0, 1.6, -5.0][: order + 1], errors, degrees, order) for _ in range(TRIALS)]
    assert abs(rejected([fit.p_values[0] for fit in fits]) - LEVEL) < BINOMIAL
    assert abs(rejected([fit.goodness for fit in fits]) - LEVEL) < BINOMIAL


def test_a_law_without_noise_is_found():
    errors, freedom = np.array([3.0, 2.0, 1.0, 1.0]), np.full(4, 10.0)
    values = 0.2 + 1.5 / WIDTHS - 4 / WIDTHS**2
    fit = law_in_inverse(WIDTHS, values, errors, freedom, 2)
    np.testing.assert_allclose(fit.coefficients, [0.2, 1.5, -4.0], rtol=1e-9)
    assert fit.goodness == pytest.approx(1)
    assert np.isnan(law_in_inverse(WIDTHS, values, errors, freedom, 3).goodness)
    with pytest.raises(ValueError, match="4 points for 5 terms"):
        law_in_inverse(WIDTHS, values, errors, freedom, 4)


def test_errors_of_the_coefficients_are_those_of_repetition():
    rng = np.random.default_rng(8)
    errors, freedom = np.array([4e-3, 2e-3, 1e-3, 1e-3]), np.full(4, 1e6)
    values = rng.normal(size=(TRIALS, 4)) * errors
    fits = [law_in_inverse(WIDTHS, row, errors, freedom, 1) for row in values]
    spread = np.std([fit.coefficients for fit in fits], axis=0)
    np.testing.assert_allclose(fits[0].errors, spread, rtol=5 / np.sqrt(2 * TRIALS))


def test_a_law_that_lacks_a_term_is_rejected():
    rng = np.random.default_rng(9)
    # What the best straight line leaves of -40/N² is some ten standard errors.
    fits = [law(rng, [0.0, 1.6, -40.0], np.full(4, 1e-3), 14, 1) for _ in range(200)]
    assert all(fit.goodness < 1e-3 for fit in fits)
