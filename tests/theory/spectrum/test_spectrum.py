"""Learning curves from spectra: conservation laws, asymptotics, regressions on random features."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from theory.regression import exact as regression
from theory.spectrum.learning_curves import (
    effective_ridge,
    equivalent_kernel,
    equivalent_kernel_next_order,
    learning_curve,
    pool_spectrum,
)

TRAIN = torch.tensor([1.0, 7.5, 100.0, 399.0])[:, None].double()
RIDGE = torch.tensor([1e-12, 1e-8, 1e-3, 1.0, 1e3]).double()


def power_law(exponent: float, modes: int = 400) -> Tensor:
    return torch.arange(1, modes + 1, dtype=torch.float64) ** -exponent


SPECTRA = {
    "flat": torch.ones(400, dtype=torch.float64),
    "slow": power_law(1.2),
    "fast": power_law(4.0),
    "steps": torch.tensor([1.0, 1e-3, 1e-9]).double().repeat_interleave(150),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_effective_ridge_solves_its_equation(name):
    spectrum = SPECTRA[name]
    kappa = effective_ridge(spectrum, TRAIN, RIDGE)
    assert kappa.shape == (4, 5)
    left = (spectrum / (spectrum + kappa[..., None])).sum(-1) + RIDGE / kappa
    # Each of the 400 terms and the root itself are rounded.
    torch.testing.assert_close(left, TRAIN.expand(4, 5), rtol=1e-13, atol=0)


@pytest.mark.parametrize("train", [1.0, 499.0, 499.9999, 500.0, 501.0, 5000.0])
def test_effective_ridge_of_a_flat_spectrum(train):
    """M/(1 + κ) + T/κ = n is the quadratic n κ² + (n - M - T) κ - T = 0."""
    modes = 500
    linear = train - modes - RIDGE
    root = torch.sqrt(linear**2 + 4 * train * RIDGE)
    expected = torch.where(linear > 0, 2 * RIDGE / (linear + root), (root - linear) / (2 * train))
    kappa = effective_ridge(torch.ones(modes), train, RIDGE)
    torch.testing.assert_close(kappa, expected, rtol=1e-9 if train > 499 else 1e-13, atol=0)


def test_many_modes_many_settings():
    spectrum = power_law(1.5, 100_000)
    train = torch.logspace(0, 4.9, 8, dtype=torch.float64)[:, None]
    kappa = effective_ridge(spectrum, train, RIDGE)
    left = (spectrum / (spectrum + kappa[..., None])).sum(-1) + RIDGE / kappa
    torch.testing.assert_close(left, train.expand_as(left), rtol=1e-12, atol=0)
    assert (kappa.diff(dim=0) < 0).all()
    assert (kappa.diff(dim=1) > 0).all()


def test_multiplicity_is_repetition():
    spectrum, count = torch.tensor([2.0, 0.3, 0.01]).double(), torch.tensor([3, 10, 40])
    power = torch.tensor([1.0, 0.5, 0.2]).double()
    repeated = spectrum.repeat_interleave(count)
    share = (power / count).repeat_interleave(count)
    train = torch.tensor([5.0, 20.0, 60.0]).double()
    level = learning_curve(spectrum, power, train, 0.1, 0.2, count)
    single = learning_curve(repeated, share, train, 0.1, 0.2)
    for name in ("error", "bias", "posterior_variance", "train_error", "effective_ridge"):
        torch.testing.assert_close(getattr(level, name), getattr(single, name))
    torch.testing.assert_close(level.learnability, single.learnability[:, [0, 3, 13]])


def test_a_mode_that_occurs_no_times_is_not_there():
    spectrum, power = power_law(1.5, 50), power_law(1.8, 50)
    train = torch.tensor([5.0, 30.0, 200.0]).double()
    kept = torch.arange(50) < torch.tensor([[10], [50], [3]])
    found = learning_curve(spectrum, power * kept, train, 0.1, 0.2, kept)
    for row, count in enumerate([10, 50, 3]):
        alone = learning_curve(spectrum[:count], power[:count], train[row], 0.1, 0.2)
        for name in ("error", "posterior_variance", "train_error", "effective_ridge"):
            torch.testing.assert_close(getattr(found, name)[row], getattr(alone, name))


@pytest.mark.parametrize("name", SPECTRA)
def test_conservation_of_learnability(name):
    """Σ L = n - T/κ, and T_eff - T = Σ λ (1 - L) is the posterior variance."""
    spectrum = SPECTRA[name]
    curve = learning_curve(spectrum, spectrum, TRAIN, RIDGE)
    kappa = effective_ridge(spectrum, TRAIN, RIDGE)
    total = curve.learnability.sum(-1)
    torch.testing.assert_close(total, TRAIN - RIDGE / kappa, rtol=1e-12, atol=1e-12 * 400)
    excess = curve.effective_ridge - RIDGE
    rounding = 1e-13 * curve.effective_ridge.max().item()
    torch.testing.assert_close(excess, curve.posterior_variance, rtol=1e-11, atol=rounding)
    fitted = 1 / (1 - curve.learnability.square().sum(-1) / TRAIN)
    torch.testing.assert_close(curve.overfitting, fitted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", SPECTRA)
def test_matched_prior_errs_by_its_posterior_variance(name):
    """w² = λ and s² = T: the error of the mean is T_eff - T, and that of a sample twice it."""
    spectrum = SPECTRA[name]
    curve = learning_curve(spectrum, spectrum, TRAIN, RIDGE, RIDGE)
    rounding = 1e-13 * curve.effective_ridge.max().item()
    torch.testing.assert_close(curve.error, curve.posterior_variance, rtol=1e-9, atol=rounding)
    torch.testing.assert_close(curve.sample_error, curve.error + curve.posterior_variance)
    torch.testing.assert_close(curve.error, curve.bias + curve.variance)


@pytest.mark.parametrize("exponent", [1.3, 1.5, 3.0])
def test_power_law_without_ridge(exponent):
    """κ → [π/(p sin(π/p))/n]^p and E_0 → p. The sum over modes differs from its integral by 1/2."""
    spectrum = power_law(exponent, 1_000_000)
    train = 300.0
    curve = learning_curve(spectrum, spectrum, train, 0.0)
    area = math.pi / (exponent * math.sin(math.pi / exponent))
    # n = area κ^{-1/p} - 1/2 - (modes beyond the last), the sum from 1 by Euler and Maclaurin.
    beyond = 1_000_000 ** (1 - exponent) / (exponent - 1)
    kappa = curve.effective_ridge / train
    predicted = area * kappa ** (-1 / exponent) - 0.5 - beyond / kappa
    assert predicted.item() == pytest.approx(train, rel=1e-3)
    missing = (0.5 + beyond / kappa.item()) / train
    assert curve.overfitting.item() == pytest.approx(exponent, rel=3 * missing)


def test_power_law_with_a_large_ridge():
    """T far above the trace: the bias falls as (n/T)^{-β/p}, the posterior variance as ^{-α/p}."""
    alpha, beta = 0.5, 0.8
    spectrum, power = power_law(1 + alpha, 300_000), power_law(1 + beta, 300_000)
    train = torch.tensor([1e6, 2e6], dtype=torch.float64)
    curve = learning_curve(spectrum, power, train, 100.0)
    assert (curve.overfitting - 1 < 1e-3).all()
    for value, exponent in ((curve.bias, beta), (curve.posterior_variance, alpha)):
        slope = math.log2(value[1] / value[0])
        # k* = (n/T)^{1/p} ~ 500 modes: the discrete sum bends by 1/k*, the last mode by (k*/k)^α.
        assert slope == pytest.approx(-exponent / (1 + alpha), abs=0.03)


@pytest.mark.parametrize("train", [100.0, 450.0, 550.0, 2000.0])
def test_noise_without_ridge_peaks_at_interpolation(train):
    """A flat spectrum of M modes and pure noise: n/(M - n), then M/(n - M), times the noise."""
    modes = 500
    curve = learning_curve(torch.ones(modes), torch.zeros(modes), train, 1e-10, 2.0)
    expected = train / (modes - train) if train < modes else modes / (train - modes)
    assert curve.error.item() == pytest.approx(2.0 * expected, rel=1e-6)


def test_ridge_removes_the_peak():
    train = torch.arange(100.0, 1000.0, 10.0).double()
    for ridge, peaks in ((1e-4, True), (500.0, False)):
        error = learning_curve(torch.ones(500), torch.zeros(500), train, ridge, 1.0).error
        assert (error.max() > 10 * error[-1]) == peaks


def test_equivalent_kernel_is_the_limit_of_a_large_ridge():
    """Right to first and, with the next order, to second order in δ = (T_eff - T)/T."""
    spectrum, power = power_law(1.5), power_law(1.7)
    ridge = torch.tensor([20.0, 50.0, 200.0, 800.0]).double()
    exact = learning_curve(spectrum, power, 50.0, ridge, 0.1)
    first = equivalent_kernel(spectrum, power, 50.0, ridge, 0.1)
    second = equivalent_kernel_next_order(spectrum, power, 50.0, ridge, 0.1)
    delta = exact.effective_ridge / ridge - 1
    for name in ("effective_ridge", "error", "posterior_variance", "train_error"):
        value = getattr(exact, name)
        # T_eff enters the training error squared, hence the 2.
        assert ((getattr(first, name) / value - 1).abs() < 2 * delta).all()
        assert ((getattr(second, name) / value - 1).abs() < delta.square()).all()
    change = second.effective_ridge - ridge
    torch.testing.assert_close(change, first.posterior_variance, rtol=1e-9, atol=0)


class Sampled(NamedTuple):
    mean: Tensor
    error: Tensor


def gaussian_features(spectrum, power, train, ridge, noise, datasets) -> Sampled:
    """Regressions whose eigenfunctions are independent standard normals; population averages.

    Rows: error, posterior variance, training error, learnability of modes 0, 5 and 40.
    """
    generator = torch.Generator().manual_seed(5)
    target = power.sqrt()
    rows = []
    for _ in range(datasets):
        features = torch.randn(train, len(spectrum), generator=generator, dtype=torch.float64)
        label_noise = torch.randn(train, generator=generator, dtype=torch.float64)
        labels = features @ target + math.sqrt(noise) * label_noise
        weighted = features * spectrum
        kernel = weighted @ features.T
        # A mode of the posterior is a test function whose cross kernel is its column of `weighted`.
        mean, variance = regression.posterior(kernel, weighted.T, spectrum, labels, ridge)
        fit = kernel @ torch.linalg.solve(kernel + ridge * torch.eye(train), labels)
        learned = (mean / target)[[0, 5, 40]]
        error = (mean - target).square().sum()
        rows.append(torch.stack([error, variance.sum(), (fit - labels).square().mean(), *learned]))
    table = torch.stack(rows)
    return Sampled(table.mean(0), table.std(0) / math.sqrt(datasets))


@pytest.mark.parametrize(
    ("ridge", "noise"), [(1e-3, 0.1), (0.1, 0.0), (10.0, 0.3)], ids=["small", "middle", "large"]
)
def test_regressions_on_gaussian_features(ridge, noise):
    spectrum, power, train = power_law(1.5, 150), power_law(1.3, 150), 60
    sampled = gaussian_features(spectrum, power, train, ridge, noise, datasets=100)
    curve = learning_curve(spectrum, power, train, ridge, noise)
    learned = curve.learnability[[0, 5, 40]]
    expected = torch.stack([curve.error, curve.posterior_variance, curve.train_error, *learned])
    # The theory is the leading order at large n: its own error is of relative order 1/n.
    assert ((sampled.mean - expected).abs() < 5 * sampled.error + expected / train).all()


def test_pool_spectrum_is_that_of_the_kernel_operator():
    generator = torch.Generator().manual_seed(6)
    factor = torch.randn(50, 20, generator=generator, dtype=torch.float64)
    kernel, y = factor @ factor.T, torch.randn(50, generator=generator, dtype=torch.float64)
    values, coefficients = pool_spectrum(kernel, y)
    assert (values.diff() <= 0).all()
    assert (values >= 0).all()
    assert values.sum().item() == pytest.approx(kernel.trace().item() / 50, rel=1e-12)
    assert coefficients.square().sum().item() == pytest.approx(y.square().mean().item(), rel=1e-12)
    # Σ λ_k w_k² = yᵀ K y / M².
    form = (y @ kernel @ y).item() / 50**2
    assert (values * coefficients.square()).sum().item() == pytest.approx(form, rel=1e-12)
    both = pool_spectrum(kernel, torch.stack([y, 2 * y], dim=1)).coefficients
    torch.testing.assert_close(both[:, 1], 2 * coefficients)


ONES = torch.ones(10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ONES, 10, 0.0), "10 points without ridge for 10 modes"),
        ((torch.tensor([1.0, 0.0]), 1, 0.0), "1 points without ridge for 1 modes"),
        ((ONES, 0, 1.0), "train is 0"),
        ((ONES, 5, -1.0), "ridge is -1"),
        ((ONES, 5, math.nan), "ridge is nan"),
        ((-ONES, 5, 1.0), "none negative"),
        ((ONES[None], 5, 1.0), r"eigenvalues are \(1, 10\)"),
        ((ONES, 5, 1.0, ONES[:4]), "4 multiplicities for 10"),
    ],
)
def test_what_a_user_can_get_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        effective_ridge(*arguments)


def test_other_errors():
    with pytest.raises(ValueError, match="expansion in 1/T"):
        equivalent_kernel(ONES, ONES, 5, 0.0)
    with pytest.raises(ValueError, match="noise variance is -1"):
        learning_curve(ONES, ONES, 5, 1.0, -1.0)
    with pytest.raises(ValueError, match="has the eigenvalue -1"):
        pool_spectrum(-torch.eye(4), torch.ones(4))
