"""A quartic loss: sampled exactly in function space, and renormalized into a ridge."""

import math
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import integrate

from pipelines.report.sentences.law_conclusions import quartic_lines
from theory.kernels.fully_connected import nngp
from theory.spectrum.learning_curves import learning_curve
from theory.spectrum.quartic import quartic_regression
from workers.philox import Noise
from workers.regression.quartic import (
    LARGEST_R_HAT,
    LEAST_ACCEPTED,
    quartic_curve,
    quartic_sample,
    split_r_hat,
)
from workers.samplers.hmc import hmc
from workers.samplers.mala import mala

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


@pytest.mark.parametrize(("ridge", "coupling"), [(0.3, 0.5), (0.1, 5.0)])
def test_two_points_are_an_integral_over_a_plane(ridge, coupling):
    kernel = torch.tensor([[1.5, 0.9], [0.9, 1.2]]).double()
    labels = torch.tensor([3.0, -1.0]).double()
    noise = Noise(6, range(200), 0)
    found = quartic_sample(kernel, labels, ridge, coupling, noise, warmup=20, draws=200)
    # The trapezoidal rule, to rounding: the density is smooth and vanishes at the ends.
    axis = torch.linspace(-6, 8, 1401, dtype=torch.float64)
    f = torch.cartesian_prod(axis, axis)
    h = f - labels
    energy = ((f @ kernel.inverse()) * f).sum(1) / 2
    energy += (h**2 + coupling * h**4).sum(1) / (2 * ridge)
    density = (energy.min() - energy).exp()
    density /= density.sum()
    residual = density @ h.square().mean(1)
    weights = density @ (-(h + 2 * coupling * h**3) / ridge)
    assert abs(found.residual.mean() - residual) < 5 * error_of(found.residual)
    assert ((found.weights.mean(0) - weights).abs() < 5 * error_of(found.weights)).all()


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


def test_one_leap_is_langevin():
    """z - (ε²/2) ∇U + ε ξ, and the same proposals accepted."""
    curvature = torch.tensor([0.5, 1.0, 4.0]).double()

    def gradient(z):
        return (z.square() @ curvature) / 2 + z.pow(4).sum(1), z * curvature + 4 * z**3

    noise, step_size = Noise(7, range(50), 0), 0.4
    one, other = hmc(gradient, step_size, 1), mala(gradient, step_size**2 / 2)
    start = noise(0, (3,), torch.float64)
    states = one.init(start, noise.at(0)), other.init(start, noise.at(0))
    for step in range(1, 21):
        states = one.step(states[0], noise.at(step)), other.step(states[1], noise.at(step))
    torch.testing.assert_close(states[0].position, states[1].position)
    assert torch.equal(states[0].accepted, states[1].accepted)
    assert 0 < int(states[0].accepted.sum()) < 50 * 20


# -- chains that mix, and chains that do not ------------------------------------------------


def far_labels(seed: int, size: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A kernel of 100 points with labels far outside of what its prior gives."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(100, 20, generator=generator, dtype=torch.float64)
    kernel = nngp(x, depth=1, activation="erf", weight_variance=[1, 2], bias_variance=0.0)
    return kernel, size * torch.sign(x[:, 0])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("ridge", "coupling"), [(0.01, 5.0), (0.1, 1000.0), (1.0, 1.0), (0.1, 50.0)]
)
@pytest.mark.slow
def test_a_strong_quartic_term_mixes(seed, ridge, coupling):
    noise = Noise(1, range(8), 16)
    found = quartic_sample(*far_labels(seed, 10.0), ridge, coupling, noise, warmup=60, draws=140)
    assert found.accepted.min() > 0.4
    assert found.rhat < 1.05


@pytest.mark.parametrize(("warmup", "accepted"), [(1, 0.0), (3, 0.9)], ids=["still", "creeping"])
def test_chains_that_do_not_mix_are_refused(warmup, accepted):
    """A step size that is not found is too large, or far too small for chains to meet."""
    kernel, labels = far_labels(0, 1000.0)
    found = quartic_curve(
        kernel.numpy(),
        labels,
        torch.arange(100),
        labels,
        [2, 100],
        [0.1],
        [50.0],
        seed=1,
        chains=4,
        warmup=warmup,
        draws=40,
    )
    assert all(values.shape == (2, 1, 1) for values in found.values())
    few, many = ({name: values[i].item() for name, values in found.items()} for i in (0, 1))
    assert math.isnan(many["quartic_error"])
    assert math.isnan(many["quartic_residual"])
    assert many["quartic_rhat"] > LARGEST_R_HAT
    assert many["quartic_accepted"] == pytest.approx(accepted, abs=0.1)
    assert few["quartic_error"] > 0
    assert few["quartic_residual"] > 0
    assert few["quartic_rhat"] < LARGEST_R_HAT
    assert few["quartic_accepted"] > LEAST_ACCEPTED


def test_too_few_draws_tell_nothing():
    kernel, labels = far_labels(0, 1.0)
    found = quartic_sample(kernel, labels, 1.0, 0.1, Noise(1, range(4), 16), warmup=30, draws=3)
    assert math.isnan(found.rhat)
    assert not found.sound


def test_split_r_hat():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "\nArviZ is undergoing", FutureWarning)
        import arviz
    values = np.random.default_rng(0).normal(size=(4, 60, 3))
    values[1, :, 1] += 2
    values[:, :30, 2] -= 2  # drifts, in all chains alike
    expected = [arviz.rhat(values[:, :, place], method="split") for place in range(3)]
    np.testing.assert_allclose(split_r_hat(values), expected, rtol=1e-12)
    assert (split_r_hat(values)[1:] > LARGEST_R_HAT).all()
    still = np.broadcast_to(np.array([[1.0, 5.0], [2.0, 5.0]])[:, None], (2, 8, 2))
    assert split_r_hat(still).tolist() == [np.inf, 1.0]
    np.testing.assert_array_equal(split_r_hat(values[:, :3]), np.nan)


# -- what the conclusions say ---------------------------------------------------------------


def told(refused: tuple[int, ...] | None = None) -> list[str]:
    """Of twelve repeats of two sizes, one ridge and the couplings 0.5 and 0.1, in this order."""
    rng = np.random.default_rng(1)
    without = 1 + 0.01 * rng.normal(size=(1, 12, 2, 1))
    ratio = np.array([[[0.5, 0.9]], [[0.8, 0.95]]])  # (train, ridge, coupling)
    error = without[..., None] * (ratio + 0.01 * rng.normal(size=(1, 12, *ratio.shape)))
    if refused is not None:
        error[refused] = np.nan
    dims = ("cell", "repeat", "train", "ridge")
    variables = {
        "pool_error": (dims, without),
        "quartic_error": ((*dims, "coupling"), error),
        "quartic_accepted": ((*dims, "coupling"), np.full(error.shape, 0.8)),
    }
    coordinates = {"train": [20, 80], "ridge": [0.3], "coupling": [0.5, 0.1]}
    found = xr.Dataset(variables, coordinates)
    return list(quartic_lines(xr.DataTree.from_dict({"regression": found})))


def test_the_largest_coupling_is_told_of():
    (line,) = told()
    assert "u = 0.5 the error over the pool" in line
    assert " at n = 20 and " in line
    assert " at n = 80 of that without" in line


def test_what_was_refused_is_told_of_and_enters_no_mean():
    at_many, refused = told((0, 3, 0, 0, 0))
    assert "u = 0.5" in at_many
    assert " at n = 80 of that without" in at_many
    assert "n = 20" not in at_many
    assert refused.startswith("1 of 48 samples with a quartic term were refused")
    assert "(T = 0.3; u = 0.5)" in refused


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
