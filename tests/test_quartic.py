"""A quartic loss: sampled exactly in function space, and renormalized into a ridge."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from theory.quartic import quartic_regression
from theory.spectrum import learning_curve
from workers.philox import Noise
from workers.quartic import quartic_sample

MODES = torch.arange(1, 301, dtype=torch.float64)
SPECTRUM, POWER = MODES**-1.5, MODES**-1.8


# -- the theory -----------------------------------------------------------------------------


def test_without_the_quartic_term_the_ridge_is_the_ridge():
    train = torch.tensor([10.0, 100.0]).double()[:, None]
    ridge = torch.tensor([1e-8, 1e-3, 1.0]).double()
    found = quartic_regression(SPECTRUM, POWER, train, ridge, 0.0, 0.1)
    torch.testing.assert_close(found.ridge, ridge.expand(2, 3))
    plain = learning_curve(SPECTRUM, POWER, train, ridge, 0.1)
    torch.testing.assert_close(found.curve.error, plain.error)
    # ⟨h²⟩ is the error of the mean at the labels and the variance there, T (1 - T/T_eff).
    residual = plain.train_error + ridge * (1 - ridge / plain.effective_ridge)
    torch.testing.assert_close(found.residual, residual, rtol=1e-9, atol=1e-20)


@pytest.mark.parametrize("ridge", [1e-8, 1e-3, 1.0, 1e3])
def test_the_ridge_is_consistent_with_its_residuals(ridge):
    train = torch.tensor([3.0, 30.0, 250.0]).double()[:, None]
    coupling = torch.tensor([1e-4, 0.1, 1.0, 1e4]).double()
    found = quartic_regression(SPECTRUM, POWER, train, ridge, coupling, 0.05)
    assert found.ridge.shape == (3, 4)
    consistent = ridge / (1 + 6 * coupling * found.residual)
    torch.testing.assert_close(found.ridge, consistent, rtol=1e-11, atol=0)
    assert (found.ridge.diff(dim=1) < 0).all()  # the stronger, the smaller the ridge


def test_the_quartic_term_is_irrelevant_for_many_points():
    """6uM ~ u n^(-α/(1+α)) in the range of the equivalent kernel, with α = 0.5 and no target."""
    spectrum = torch.arange(1, 300_001, dtype=torch.float64) ** -1.5
    train = torch.tensor([1e6, 2e6]).double()
    found = quartic_regression(spectrum, 0 * spectrum, train, 100.0, 1e-3)
    effect = 6 * 1e-3 * found.residual
    slope = -math.log2(effect[1] / effect[0])
    # The sum over modes stops at the last, k*/300000 of which enters to the power α: 4 %.
    assert slope == pytest.approx(0.5 / 1.5, rel=0.05)


@pytest.mark.parametrize(
    ("ridge", "coupling", "message"),
    [(1.0, -0.1, "quartic coupling is -0.1"), (0.0, 0.1, "a quartic term needs T > 0")],
)
def test_what_a_user_can_get_wrong(ridge, coupling, message):
    with pytest.raises(ValueError, match=message):
        quartic_regression(SPECTRUM, POWER, 10.0, ridge, coupling)


# -- the sampler ----------------------------------------------------------------------------


def error_of(values: torch.Tensor) -> torch.Tensor:
    return values.std(0) / math.sqrt(len(values))


@pytest.mark.parametrize("coupling", [0.0, 0.5, 5.0])
def test_one_point_is_an_integral(coupling):
    variance, ridge, label = 1.3, 0.4, 1.7
    noise = Noise(3, range(200), 0)
    kernel, labels = torch.tensor([[variance]]).double(), torch.tensor([label]).double()
    found = quartic_sample(kernel, labels, ridge, coupling, noise, warmup=20, draws=200)

    def average(g):
        def density(f):
            h = f - label
            return math.exp(-f * f / (2 * variance) - (h * h + coupling * h**4) / (2 * ridge))

        top = integrate.quad(lambda f: g(f - label) * density(f), -10, 10, epsabs=1e-12)[0]
        return top / integrate.quad(density, -10, 10, epsabs=1e-12)[0]

    residual = average(lambda h: h * h)
    force = average(lambda h: -(h + 2 * coupling * h**3) / ridge)
    assert abs(found.residual.mean() - residual) < 5 * error_of(found.residual)
    assert abs(found.weights.mean() - force) < 5 * error_of(found.weights[:, 0])
    assert found.accepted.min() > 0.3


def gaussian_problem(train: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(train, len(MODES), generator=generator, dtype=torch.float64)
    return features, features @ POWER.sqrt()


def test_without_the_quartic_term_it_is_regression():
    features, labels = gaussian_problem(40, 1)
    kernel = (features * SPECTRUM) @ features.T
    found = quartic_sample(kernel, labels, 0.3, 0.0, Noise(4, range(64), 0), warmup=50, draws=300)
    exact = torch.linalg.solve(kernel + 0.3 * torch.eye(40).double(), labels)
    pulls = (found.weights.mean(0) - exact) / error_of(found.weights)
    assert pulls.abs().max() < 5
    assert pulls.square().mean() == pytest.approx(1, abs=5 * math.sqrt(2 / 40))


def test_points_may_be_drawn_twice():
    features, labels = gaussian_problem(20, 2)
    places = torch.tensor([0, 0, 0, 1, 1, *range(20)])
    kernel = ((features * SPECTRUM) @ features.T)[places][:, places]
    found = quartic_sample(
        kernel, labels[places], 0.3, 0.0, Noise(5, range(64), 0), warmup=50, draws=300
    )
    exact = torch.linalg.solve(kernel + 0.3 * torch.eye(25).double(), labels[places])
    assert ((found.weights.mean(0) - exact) / error_of(found.weights)).abs().max() < 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("train", "ridge", "coupling"), [(100, 5.0, 0.2), (100, 5.0, 1.0), (60, 0.5, 0.2)]
)
def test_the_sampled_error_is_that_of_the_renormalized_ridge(train, ridge, coupling):
    """Averages over datasets; Hartree itself errs by a few percent of the shift it predicts."""
    rows, target = [], POWER.sqrt()
    for seed in range(32):
        features, labels = gaussian_problem(train, 10 + seed)
        kernel = (features * SPECTRUM) @ features.T
        noise = Noise(seed, range(32), 1)
        found = quartic_sample(kernel, labels, ridge, coupling, noise, warmup=60, draws=150)
        means = found.weights.reshape(2, 16, train).mean(1) @ (features * SPECTRUM)
        error = ((means[0] - target) * (means[1] - target)).sum()
        rows.append([float(error), float(found.residual.mean())])
    table = np.array(rows)
    mean, deviation = table.mean(0), table.std(0, ddof=1) / math.sqrt(len(table))
    theory = quartic_regression(SPECTRUM, POWER, train, ridge, coupling)
    plain = quartic_regression(SPECTRUM, POWER, train, ridge, 0.0)
    expected = np.array([float(theory.curve.error), float(theory.residual)])
    shift = np.abs(expected - [float(plain.curve.error), float(plain.residual)])
    assert (np.abs(mean - expected) < 5 * deviation + 0.1 * shift).all()
    # The same data reject a regression that knows nothing of the quartic term.
    assert abs(mean[1] - float(plain.residual)) > 10 * deviation[1]
