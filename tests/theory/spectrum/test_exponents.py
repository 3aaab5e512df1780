"""Exponents of spectra, targets and learning curves: exact laws, pools, and their error bars."""

import math

import numpy as np
import pytest
import torch

from theory.spectrum.exponents import (
    learned_modes,
    learning_exponent,
    learning_slope,
    ridgeless_effective_ridge,
    spectral_law,
    target_law,
)
from theory.spectrum.learning_curves import learning_curve

RANKS = np.arange(1.0, 4001.0)


@pytest.mark.parametrize("exponent", [1.05, 1.5, 4.0])
@pytest.mark.parametrize("law", [spectral_law, target_law])
def test_an_exact_law_is_found_to_rounding(law, exponent):
    found = law(3.0 * RANKS**-exponent)
    assert found.exponent == pytest.approx(exponent, abs=1e-6)
    assert found.amplitude == pytest.approx(3.0, rel=1e-5)
    assert found.offset == 0
    assert found.exponent_error < 1e-6


def test_the_law_of_zipf_and_mandelbrot():
    found = spectral_law(2.0 * (RANKS + 2.7) ** -1.1, offset=True)  # as words of a language
    assert found.exponent == pytest.approx(1.1, abs=1e-6)
    assert found.offset == pytest.approx(2.7, abs=1e-4)
    assert found.amplitude == pytest.approx(2.0, rel=1e-5)
    bent = spectral_law(2.0 * (RANKS + 2.7) ** -1.1)
    assert bent.exponent < 1.05  # without the offset the first ranks flatten the law
    assert bent.exponent_error > 1e-3  # which the blocks notice


@pytest.mark.slow
def test_error_bars_of_scattered_coefficients_are_those_of_the_scatter():
    """w² is a power law times chi-square: 60 targets, pulls of mean 0 and variance 1."""
    rng, draws = np.random.default_rng(1), 60
    found = [target_law(RANKS**-1.8 * rng.chisquare(1, len(RANKS))) for _ in range(draws)]
    pulls = np.array([(law.exponent - 1.8) / law.exponent_error for law in found])
    assert abs(pulls.mean()) < 5 / math.sqrt(draws)
    # The error comes from 24 bins, the variance of the pulls from 60 draws.
    assert pulls.std() == pytest.approx(1, abs=5 * math.sqrt(0.5 / draws + 0.5 / 23 / draws) + 0.1)
    # The likelihood has the error √(2/Σ(ln k - mean)²), the best there is.
    window = np.log(RANKS[2:400])
    best = math.sqrt(2 / (np.var(window) * len(window)))
    assert np.std([law.exponent for law in found]) < 1.5 * best


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [1.3, 1.5, 2.0])
def test_exponents_of_the_population_from_a_pool(exponent):
    """From 1200 Gaussian points: without the correction p = 1.3 would come out as 1.26."""
    rng, points, modes, beta = np.random.default_rng(2), 1200, 6000, 0.8
    ranks = np.arange(1.0, modes + 1)
    spectrum, target = ranks**-exponent, ranks ** (-(1 + beta) / 2)
    features = rng.normal(size=(points, modes))
    values, vectors = np.linalg.eigh((features * spectrum) @ features.T / points)
    found = spectral_law(values[::-1], points)
    coefficients = np.square(vectors[:, ::-1].T @ (features @ target)) / points
    # Eigenvalues of a pool fluctuate together, by √(2/M) each: the jackknife sees that in part.
    assert abs(found.exponent - exponent) < 5 * found.exponent_error + math.sqrt(2 / points)
    target_found = target_law(coefficients)
    assert abs(target_found.exponent - 1 - beta) < 5 * target_found.exponent_error
    assert target_found.exponent_error < 0.3


def test_the_slope_of_a_learning_curve():
    rng, sizes = np.random.default_rng(3), np.array([10, 20, 40, 80])
    common = 0.1 * rng.normal(size=(200, 1))  # nested sizes share their points
    errors = 3 * sizes**-0.7 * np.exp(common + 0.05 * rng.normal(size=(200, 4)))
    found = learning_slope(sizes, errors)
    # What all sizes share moves no slope: its error is that of the rest, over four sizes.
    x = np.log(sizes)
    expected = 0.05 / math.sqrt(200 * np.square(x - x.mean()).sum())
    assert found.error == pytest.approx(expected, rel=0.25)
    assert abs(found.exponent - 0.7) < 5 * found.error
    assert math.isnan(learning_slope(sizes, errors[0]).error)


def test_a_curve_that_rises_has_no_slope():
    sizes, peak = np.array([10, 20, 40]), np.array([1.0, 3.0, 0.5])
    assert math.isnan(learning_slope(sizes, peak).exponent)
    noise = 0.1 * np.random.default_rng(0).standard_normal((50, 3))
    assert math.isnan(learning_slope(sizes, peak * np.exp(noise)).exponent)
    flat = np.array([1.0, 1.005, 0.5])  # a rise of 0.3 of its error
    assert learning_slope(sizes, flat * np.exp(noise)).exponent > 0


def curve_slope(alpha, beta, train, ridge, modes=1_000_000):
    ranks = torch.arange(1, modes + 1, dtype=torch.float64)
    n = torch.tensor([train / 1.2, train * 1.2], dtype=torch.float64)
    return learning_curve(ranks ** -(1 + alpha), ranks ** -(1 + beta), n, ridge)


# The sum over modes differs from its integral by 1/2 mode of k*, and stops at the last mode.
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.9), (1.0, 1.5), (0.7, 4.0)])
def test_without_ridge_the_error_falls_with_the_smaller_of_two_exponents(alpha, beta):
    curve = curve_slope(alpha, beta, 3000.0, 0.0)
    found = learning_slope([1, 1.44], curve.error.numpy()).exponent
    assert found == pytest.approx(learning_exponent(alpha, beta, 1.0), rel=0.03)
    effective = ridgeless_effective_ridge(alpha, 1.0, [3000.0 / 1.2, 3000.0 * 1.2])
    missing = (1 / alpha) * (3000 / 1e6) ** alpha + 1 / 3000  # modes beyond the last, half a mode
    np.testing.assert_allclose(curve.effective_ridge, effective, rtol=2 * missing)
    slope = learning_slope([1, 1.44], curve.effective_ridge.numpy()).exponent
    assert slope == pytest.approx(alpha, rel=2 * missing)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.9), (1.0, 1.5), (0.5, 4.0)])
def test_with_a_large_ridge_it_falls_more_slowly(alpha, beta):
    train, ridge = 1e6, 100.0
    curve = curve_slope(alpha, beta, train, ridge)
    assert (curve.posterior_variance < 0.01 * ridge).all()
    found = learning_slope([1, 1.44], curve.bias.numpy()).exponent
    assert found == pytest.approx(learning_exponent(alpha, beta, 1 + alpha), rel=0.05)
    last = learned_modes(alpha, 1.0, train, ridge)
    at = int((curve.learnability[0] > 0.5).sum())
    assert at == pytest.approx(last, rel=0.2)  # n is 1.2 times smaller there


def test_no_law_is_stated_for_targets_that_do_not_converge():
    assert math.isnan(learning_exponent(0.5, -0.3, 1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectral_law(RANKS, window=(5, 5)), "window is 5 to 5 of 4000 modes"),
        (lambda: spectral_law(RANKS[:40]), "window is 3 to 2 of 40"),
        (lambda: target_law(RANKS, (1, 3)), "3 bins of positive numbers"),
        (lambda: target_law(np.zeros(400)), "0 bins of positive numbers"),
        (lambda: target_law(np.ones(400)), "modes 3 to 40 do not fall"),
        (
            lambda: spectral_law(np.exp(-RANKS / 50), offset=True),
            "3 to 200 fall like an exponential",
        ),
        (
            lambda: spectral_law(np.exp(-RANKS / 5), offset=True),
            "3 to 200 fall like an exponential",
        ),
    ],
)
def test_what_a_user_can_get_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
