"""Exact regression: identities of Gaussian conditioning, and learning curves of one order."""

import math
from typing import get_args

import pytest
import torch
from scipy import stats
from torch import Tensor

from theory.regression.exact import log_evidence, posterior
from theory.regression.learning_curve import Heldout, Method, learning_curve
from theory.regression.refinement import ACCURATE

RIDGE = 0.3
EPS = torch.finfo(torch.float64).eps


def problem(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A smooth kernel of points in the plane, and targets drawn from it."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    kernel = torch.exp(-torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist"))
    factor = torch.linalg.cholesky(kernel)
    return kernel, factor @ torch.randn(count, generator=generator, dtype=torch.float64)


def split(kernel: Tensor, train: int) -> tuple[Tensor, Tensor, Tensor]:
    return kernel[:train, :train], kernel[train:, :train], kernel.diagonal()[train:]


def test_posterior_is_the_conditional_of_the_joint_gaussian():
    """By the precision matrix: cov(test | train) is the inverse of its block of the precision."""
    kernel, y = problem(12)
    joint = kernel + RIDGE * torch.diag(torch.arange(12) < 8).double()
    precision = torch.linalg.inv(joint)
    covariance = torch.linalg.inv(precision[8:, 8:])
    expected = -covariance @ precision[8:, :8] @ y[:8]
    mean, variance = posterior(*split(kernel, 8), y[:8], RIDGE)
    torch.testing.assert_close(mean, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(variance, covariance.diagonal(), rtol=1e-11, atol=1e-12)


def test_without_ridge_the_targets_are_met():
    kernel, y = problem(10)
    mean, variance = posterior(kernel, kernel, kernel.diagonal(), y, 0.0)
    condition = torch.linalg.cond(kernel).item()
    assert (mean - y).abs().max() < 10 * condition * EPS
    assert variance.max() < 10 * condition * EPS
    assert variance.min() >= 0


def test_far_points_keep_the_prior():
    kernel, y = problem(6)
    mean, variance = posterior(kernel, torch.zeros(3, 6), torch.full((3,), 2.5), y, RIDGE)
    assert torch.equal(mean, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(variance, torch.full((3,), 2.5, dtype=torch.float64))


def test_repeated_point_is_one_point_with_half_the_ridge():
    kernel, y = problem(9)
    train, cross, diagonal = split(kernel, 6)
    twice = torch.tensor([0, 1, 2, 3, 4, 5, 5])
    labels = y[twice] + torch.tensor([0, 0, 0, 0, 0, 0.7, -0.1])
    merged = y[:6] + torch.tensor([0, 0, 0, 0, 0, 0.3])
    ridge = torch.tensor([RIDGE] * 5 + [RIDGE / 2])
    repeated = posterior(train[twice][:, twice], cross[:, twice], diagonal, labels, RIDGE)
    expected = posterior(train, cross, diagonal, merged, ridge)
    torch.testing.assert_close(repeated.mean, expected.mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(repeated.variance, expected.variance, rtol=1e-6, atol=1e-7)


def test_evidence_is_the_density_of_the_labels():
    kernel, y = problem(7)
    covariance = kernel + RIDGE * torch.eye(7, dtype=torch.float64)
    density = torch.distributions.MultivariateNormal(torch.zeros_like(y), covariance)
    torch.testing.assert_close(
        log_evidence(kernel, y, RIDGE), density.log_prob(y), rtol=1e-12, atol=0
    )


def test_evidence_grows_by_the_predictive_density():
    kernel, y = problem(8)
    mean, variance = posterior(*split(kernel, 7), y[:7], RIDGE)
    predictive = stats.norm.logpdf(y[7], mean.item(), math.sqrt(variance.item() + RIDGE))
    gain = log_evidence(kernel, y, RIDGE) - log_evidence(kernel[:7, :7], y[:7], RIDGE)
    assert gain.item() == pytest.approx(predictive, rel=1e-11)


def test_outputs_are_independent_regressions():
    kernel, y = problem(9)
    other = y.flip(0) ** 2
    both = posterior(*split(kernel, 6), torch.stack([y, other], dim=1)[:6], RIDGE)
    for column, target in enumerate((y, other)):
        single = posterior(*split(kernel, 6), target[:6], RIDGE)
        torch.testing.assert_close(both.mean[:, column], single.mean)
        torch.testing.assert_close(both.variance, single.variance)
    evidence = log_evidence(kernel, torch.stack([y, other], dim=1), RIDGE)
    torch.testing.assert_close(
        evidence, log_evidence(kernel, y, RIDGE) + log_evidence(kernel, other, RIDGE)
    )


def test_posterior_variance_is_the_error_over_the_prior():
    """Targets drawn from the prior are missed by the posterior variance, on average."""
    kernel, _ = problem(20)
    generator = torch.Generator().manual_seed(1)
    draws = 20_000
    factor = torch.linalg.cholesky(kernel)
    truth = factor @ torch.randn(20, draws, generator=generator, dtype=torch.float64)
    noise = torch.randn(12, draws, generator=generator, dtype=torch.float64)
    labels = truth[:12] + math.sqrt(RIDGE) * noise
    mean, variance = posterior(*split(kernel, 12), labels, RIDGE)
    # Each error is Gaussian: its sample variance has standard error √(2/draws) of itself.
    error = (mean - truth[12:]).square().mean(1)
    torch.testing.assert_close(error, variance, rtol=5 * math.sqrt(2 / draws), atol=0)


@pytest.mark.parametrize("ridge", [math.nan, math.inf, -1e-3])
def test_ridge_out_of_range(ridge):
    kernel, y = problem(5)
    with pytest.raises(ValueError, match="give a finite number, zero or positive"):
        log_evidence(kernel, y, ridge)
    with pytest.raises(ValueError, match=r"ridge is .* to .*; give"):
        posterior(kernel, kernel, kernel.diagonal(), y, torch.tensor([0.1] * 4 + [ridge]))


@pytest.mark.parametrize("defect", ["repeated", "indefinite", "nan", "smooth"])
def test_kernel_that_is_not_positive_definite(defect):
    kernel, y = problem(30)
    if defect == "repeated":
        kernel[-1], kernel[:, -1] = kernel[0].clone(), kernel[:, 0].clone()
        kernel[-1, -1] = kernel[0, 0]
    elif defect == "indefinite":
        kernel[3, 3] = 0.5 * kernel[3, 3] - 1
    elif defect == "nan":
        kernel[4, 2] = math.nan
    else:  # eigenvalues far below rounding
        line = torch.linspace(0, 1, 30, dtype=torch.float64)
        kernel = torch.exp(-((line[:, None] - line) ** 2))
    with pytest.raises(ValueError, match="30 points with ridge 0 is not positive definite"):
        log_evidence(kernel, y, 0.0)


def draws(pool: int, count: int, repeats: bool) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    if repeats:
        return torch.randint(pool, (count,), generator=generator)
    return torch.randperm(pool, generator=generator)[:count]


# Single precision has the errors from weights that are refined, the rest from its factor.
FACTOR = ("posterior_variance", "log_evidence")
SINGLE = 40 * torch.finfo(torch.float32).eps / 0.02  # points, rounding and the smallest ridge


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
def test_learning_curve_is_a_regression_at_each_size(repeats, outputs, method):
    kernel, y = problem(40)
    y = torch.stack([y, y**2], dim=1)[:, :outputs]
    order = draws(40, 30, repeats)
    noise = torch.randn(30, outputs, generator=torch.Generator().manual_seed(4))
    sizes, ridges = (13, 4, 30), (0.5, 0.02)
    curve = learning_curve(kernel, y, order, sizes, ridges, label_noise=noise, methods=[method] * 2)
    assert curve.residual.max() <= ACCURATE
    assert not curve.refused.any()
    for i, size in enumerate(sizes):
        part = order[:size]
        heldout = [point for point in range(40) if point not in part.tolist()]
        labels = y[part] + noise[:size]
        train = kernel[part][:, part]
        for j, ridge in enumerate(ridges):
            mean, variance = posterior(train, kernel[:, part], kernel.diagonal(), labels, ridge)
            error = (mean - y).square()
            expected = {
                "pool_error": error.mean(),
                "heldout_error": error[heldout].mean(),
                "train_error": (mean[part] - labels).square().mean(),
                "posterior_variance": variance.mean(),
                "log_evidence": log_evidence(train, labels, ridge),
            }
            for name, value in expected.items():
                error = SINGLE if method == "single" and name in FACTOR else 1e-9
                torch.testing.assert_close(getattr(curve, name)[i, j], value, rtol=error, atol=0)


def test_points_held_out_from_outside_the_pool():
    kernel, y = problem(40)
    outside = Heldout(kernel[30:, :30], y[30:])
    order = draws(30, 12, repeats=True)
    curve = learning_curve(kernel[:30, :30], y[:30], order, [5, 12], [0.1], heldout=outside)
    for i, size in enumerate((5, 12)):
        part = order[:size]
        cross, diagonal = kernel[30:, part], kernel.diagonal()[30:]
        mean, _ = posterior(kernel[part][:, part], cross, diagonal, y[part], 0.1)
        expected = (mean - y[30:]).square().mean()
        torch.testing.assert_close(curve.heldout_error[i, 0], expected, rtol=1e-10, atol=0)


def test_what_a_spectrum_cannot_do_is_done_by_a_factor():
    """A ridge below the rounding of the largest eigenvalue, not below that of the diagonal."""
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel, y, order, sizes = 1e3 + x @ x.T, x[:, 0], torch.arange(60), [5, 60]
    ridge = 60 * EPS * 1e3 * 5
    assert ridge < 60 * EPS * torch.linalg.eigvalsh(kernel)[-1]
    double = learning_curve(kernel, y, order, sizes, [ridge, 0.1])
    both = learning_curve(kernel, y, order, sizes, [ridge, 0.1], methods=["spectrum"] * 2)
    assert not both.refused.any()
    assert torch.equal(both.pool_error[:, 0], double.pool_error[:, 0])
    torch.testing.assert_close(both.pool_error[:, 1], double.pool_error[:, 1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", ["double", "spectrum"])
def test_learnability_of_eigenvectors_of_the_whole_pool(method):
    """λ/(λ + T) where every point is drawn once; in general v·f of a regression on v itself."""
    kernel, y = problem(20)
    values, vectors = torch.linalg.eigh(kernel)
    sizes, ridges = [7, 20], [0.1, 2.0]
    order = torch.arange(20)
    curve = learning_curve(kernel, y, order, sizes, ridges, modes=vectors, methods=[method] * 2)
    for j, ridge in enumerate(ridges):
        learned = curve.learnability[:, j]
        torch.testing.assert_close(learned[1], values / (values + ridge), rtol=1e-9, atol=1e-12)
        mean, _ = posterior(kernel[:7, :7], kernel[:, :7], kernel.diagonal(), vectors[:7], ridge)
        torch.testing.assert_close(learned[0], (vectors * mean).sum(0), rtol=1e-9, atol=1e-12)


def test_learning_curve_without_noise_or_held_out_points():
    kernel, y = problem(10)
    curve = learning_curve(kernel, y, torch.arange(10), [5, 10], [1e-6])
    assert curve.pool_error.shape == (2, 1)
    assert curve.heldout_error[0, 0] > curve.pool_error[0, 0]
    assert curve.heldout_error[1, 0].isnan()
    assert (curve.posterior_variance[1] < curve.posterior_variance[0]).all()


def test_single_precision_kernels_are_computed_in_double():
    kernel, y = problem(20)
    exact = learning_curve(kernel.float().double(), y, torch.arange(15), [15], [1e-5])
    single = learning_curve(kernel.float(), y, torch.arange(15), [15], [1e-5])
    assert torch.equal(single.pool_error, exact.pool_error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": [3, 11]}, "sizes run from 3 to 11 with 10 points"),
        ({"sizes": [0, 3]}, "sizes run from 0"),
        ({"y": torch.ones(9)}, "for 9 targets"),
        ({"label_noise": torch.ones(4)}, "for 4 draws"),
        ({"ridges": [0.1, -0.1]}, "ridge is -0.1"),
        ({"ridges": [math.nan]}, "ridge is nan"),
        ({"methods": ["double", "single"]}, "double, single for 1 ridges; give one for each"),
        ({"methods": ["cholesky"]}, "method is 'cholesky'; take one of double, single, spectrum"),
    ],
)
def test_what_a_user_can_get_wrong(change, message):
    kernel, y = problem(10)
    arguments = {
        "kernel": kernel,
        "y": y,
        "order": torch.arange(10),
        "sizes": [5],
        "ridges": [0.1],
        **change,
    }
    with pytest.raises(ValueError, match=message):
        learning_curve(**arguments)
