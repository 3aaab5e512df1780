"""Learning curves on hard kernels: what is refined, what is refused, what single precision does."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from theory.regression import nested
from theory.regression.exact import posterior
from theory.regression.learning_curve import REFUSED, LearningCurve, learning_curve
from theory.regression.pool import Pool, panels_of
from theory.regression.refinement import ACCEPTED_RESIDUAL, TRUSTED_RESIDUAL, fitted

EPS = torch.finfo(torch.float64).eps


def smooth(count: int, length: float) -> tuple[Tensor, Tensor]:
    """A kernel on a line whose eigenvalues fall below every rounding, and a target with a kink."""
    line = torch.linspace(0, 1, count, dtype=torch.float64)
    kernel = torch.exp(-(((line[:, None] - line) / length) ** 2) / 2)
    return kernel, (line - 0.4).abs()


def shuffled(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def same(one: LearningCurve, other: LearningCurve) -> bool:
    return all(
        torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(one, other, strict=True)
    )


def test_smallest_ridges_are_solved_and_say_how_well():
    """At T = 10⁻⁸ the condition is 10¹⁰, and still the weights meet the labels."""
    kernel, y = smooth(200, 0.1)
    curve = learning_curve(kernel, y, shuffled(200), [50, 150], [1e-8, 1e-2])
    assert not curve.refused.any()
    # Rounding of K α leaves points · ε · |K| |α| of the labels, and |α| is at most |y|/T.
    largest = torch.linalg.eigvalsh(kernel)[-1]
    assert (curve.residual < 200 * EPS * largest / torch.tensor([1e-8, 1e-2])).all()
    assert (curve.residual < ACCEPTED_RESIDUAL).all()


@pytest.mark.parametrize("method", ["double", "single"])
def test_sizes_before_the_first_repeated_point_survive_it(method):
    """Without a ridge a repeated point makes K singular, at every size that has it."""
    kernel, y = smooth(40, 0.01)
    order = torch.cat([shuffled(40)[:20], shuffled(40)[:5]])
    curve = learning_curve(kernel, y, order, [10, 20, 21, 25], [0.0], methods=[method])
    assert curve.refused[:, 0].tolist() == [0, 0, REFUSED["indefinite"], REFUSED["indefinite"]]
    assert torch.equal(curve.pool_error.isfinite()[:, 0], torch.tensor([True, True, False, False]))
    alone = learning_curve(kernel, y, order[:20], [10, 20], [0.0])
    torch.testing.assert_close(curve.pool_error[:2], alone.pool_error, rtol=1e-9, atol=0)
    torch.testing.assert_close(curve.posterior_variance[:2], alone.posterior_variance)


def test_the_spectrum_refuses_ridges_below_its_rounding():
    kernel, y = smooth(60, 0.2)
    ridges = [1e-2, 1e-16]
    curve = learning_curve(kernel, y, shuffled(60), [40], ridges, methods=["spectrum", "spectrum"])
    assert curve.refused[0].tolist() == [0, REFUSED["indefinite"]]
    alone = learning_curve(kernel, y, shuffled(60), [40], ridges[:1])
    torch.testing.assert_close(curve.log_evidence[0, 0], alone.log_evidence[0, 0])
    assert curve.log_evidence[0, 1].isnan()


def test_what_cannot_be_met_is_refused():
    """Weights of 10⁹ on a kernel of 10⁶ are lost in the rounding of their products."""
    kernel, y = smooth(60, 0.3)
    curve = learning_curve(1e6 * kernel, y, shuffled(60), [40], [1e-7])
    assert curve.refused[0, 0] == REFUSED["inaccurate"]
    assert curve.residual[0, 0] > ACCEPTED_RESIDUAL
    assert curve.pool_error[0, 0].isnan()
    assert curve.log_evidence[0, 0].isnan()


@pytest.mark.parametrize(("ridge", "suffices"), [(1e-2, True), (1e-7, False)])
def test_single_precision_where_it_suffices_and_double_where_it_does_not(ridge, suffices):
    kernel, y = smooth(200, 0.1)
    order, sizes = shuffled(200), [60, 180]
    single = learning_curve(kernel, y, order, sizes, [ridge], methods=["single"])
    double = learning_curve(kernel, y, order, sizes, [ridge])
    assert same(single, double) != suffices
    # Errors come from weights of the same residual; the kernel amplifies it by less than 1/T.
    torch.testing.assert_close(single.pool_error, double.pool_error, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        single.posterior_variance, double.posterior_variance, rtol=1e-3, atol=0
    )


def test_refinement_takes_the_rounding_out():
    kernel, y = smooth(150, 0.1)
    pool = Pool(panels_of(kernel.numpy()), 150, shuffled(150).numpy())
    factor = next(nested.factors(pool, [50, 150], [1e-2], np.float32))
    fit = fitted(factor, y.numpy()[pool.order][:, None])
    assert (fit.first_residual > 1e-8).all()
    assert (fit.first_residual < TRUSTED_RESIDUAL).all()
    assert (fit.residual < 1e-12).all()
    part = pool.order[:50]
    exact = posterior(kernel[part][:, part], kernel[:, part], kernel.diagonal(), y[part], 1e-2)
    np.testing.assert_allclose(fit.predicted[:, 0, 0], exact.mean, rtol=0, atol=1e-11)


@pytest.mark.parametrize("method", ["double", "single", "spectrum"])
def test_rows_a_few_at_a_time_are_the_whole_kernel(method):
    """More points than a panel has, in an order with repeats."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(600, 3, generator=generator, dtype=torch.float64)
    kernel = torch.exp(-torch.cdist(x, x))
    order = torch.randint(600, (400,), generator=generator)
    arguments = (x[:, 0], order, [30, 300, 400], [0.1])
    whole = learning_curve(kernel, *arguments, methods=[method])

    def panels():
        for start in range(0, 600, 71):
            part = slice(start, min(start + 71, 600))
            yield part, kernel[part].numpy()

    parts = learning_curve(panels, *arguments, methods=[method])
    rounding = 1e-6 if method == "single" else 1e-9  # of products with panels of other sizes
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=rounding, atol=1e-12, equal_nan=True)


def test_a_method_for_each_ridge():
    kernel, y = smooth(80, 0.05)
    order, ridges = shuffled(80), [1e-1, 1e-3, 1e-1]
    mixed = learning_curve(
        kernel, y, order, [20, 60], ridges, methods=["single", "double", "single"]
    )
    for place, method in enumerate(["single", "double", "single"]):
        alone = learning_curve(kernel, y, order, [20, 60], [ridges[place]], methods=[method])
        for name in ("pool_error", "posterior_variance", "log_evidence"):
            assert torch.equal(getattr(mixed, name)[:, place], getattr(alone, name)[:, 0])


def test_bits_do_not_depend_on_the_other_ridges_or_on_repetition():
    kernel, y = smooth(80, 0.05)
    order = shuffled(80)
    first = learning_curve(kernel, y, order, [20, 60], [1e-1, 1e-3])
    again = learning_curve(kernel, y, order, [20, 60], [1e-1, 1e-3])
    alone = learning_curve(kernel, y, order, [20, 60], [1e-3])
    assert same(first, again)
    assert torch.equal(first.log_evidence[:, 1:], alone.log_evidence)
    assert torch.equal(first.posterior_variance[:, 1:], alone.posterior_variance)


def test_evidence_of_nested_sizes_is_a_chain_of_predictions():
    """ln p(y_1..n) = Σ ln p(y_i | y_<i), every term from a regression of its own."""
    kernel, y = smooth(30, 0.1)
    order, ridge = shuffled(30), 0.05
    curve = learning_curve(kernel, y, order, list(range(1, 13)), [ridge])
    total = 0.0
    for count in range(12):
        seen, point = order[:count], order[count]
        mean, variance = kernel.new_zeros(()), kernel[point, point]
        if count:
            cross = kernel[point, seen][None]
            found = posterior(kernel[seen][:, seen], cross, variance[None], y[seen], ridge)
            mean, variance = found.mean[0], found.variance[0]
        spread = (variance + ridge).item()
        total -= ((y[point] - mean) ** 2 / spread + math.log(2 * math.pi * spread)).item() / 2
        assert curve.log_evidence[count, 0].item() == pytest.approx(total, rel=1e-9)
