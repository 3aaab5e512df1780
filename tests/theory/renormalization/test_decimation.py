"""Decimated regression on a pool: the slow way through whole matrices, and its limits."""

import pytest
import torch

from theory.regression.exact import posterior
from theory.renormalization.decimation import (
    decimated_regression,
    pool_modes,
    removed_variance,
    whole_prediction,
)
from theory.renormalization.rg import decimate, rg_gpr

POINTS = 60
GENERATOR = torch.Generator().manual_seed(1)
FEATURES = torch.randn(POINTS, 80, generator=GENERATOR, dtype=torch.float64)
KERNEL = (FEATURES * torch.arange(1, 81).double() ** -1.5) @ FEATURES.T
Y = FEATURES @ (torch.arange(1, 81).double() ** -0.8)
DRAWN = torch.randint(POINTS, (25,), generator=GENERATOR)
LABELS = Y[DRAWN] + 0.3 * torch.randn(25, generator=GENERATOR, dtype=torch.float64)
MODES = pool_modes(KERNEL.clone(), Y)


@pytest.mark.parametrize("kept", [7, 25, 40], ids=["fewer modes", "as many", "more modes"])
@pytest.mark.parametrize("position", [False, True], ids=["uniform", "position"])
def test_sums_over_modes_are_averages_over_the_pool(kept, position):
    ridge = 0.1
    truncated, tail = decimate(KERNEL, kept)
    torch.testing.assert_close(removed_variance(MODES, kept), tail, rtol=1e-9, atol=1e-12)
    uniform = float(tail.mean())  # the trace of what is removed
    mean, variance = rg_gpr(
        truncated[DRAWN][:, DRAWN],
        truncated[:, DRAWN],
        truncated.diagonal(),
        LABELS,
        ridge,
        tail[DRAWN] if position else uniform,
        tail,
    )
    found = decimated_regression(MODES, DRAWN, LABELS, ridge, kept, tail if position else None)
    torch.testing.assert_close(found.pool_error, (mean - Y).square().mean(), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.posterior_variance, variance.mean(), rtol=1e-9, atol=0)
    noise = ridge + (tail[DRAWN] if position else uniform)
    residual = ridge * (LABELS - mean[DRAWN]) / noise
    torch.testing.assert_close(found.train_error, residual.square().mean(), rtol=1e-9, atol=0)
    assert found.learnability.shape == found.predicted.shape == (POINTS,)
    assert (found.learnability[kept:] == 0).all()
    functions = MODES.vectors.flip(1) * POINTS**0.5
    torch.testing.assert_close(functions @ found.predicted, mean, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kept", [7, 40], ids=["fewer modes", "more modes"])
def test_errors_of_several_outputs_are_means_of_those_of_each(kept):
    other = Y.flip(0) - 0.5
    targets, labels = torch.stack([Y, other], 1), torch.stack([LABELS, other[DRAWN]], 1)
    both = decimated_regression(pool_modes(KERNEL.clone(), targets), DRAWN, labels, 0.1, kept)
    each = [
        decimated_regression(pool_modes(KERNEL.clone(), y), DRAWN, label, 0.1, kept)
        for y, label in zip(targets.T, labels.T, strict=True)
    ]
    for name in ("pool_error", "train_error", "posterior_variance", "learnability"):
        mean = torch.stack([getattr(one, name) for one in each]).mean(0)
        torch.testing.assert_close(getattr(both, name), mean, rtol=1e-9, atol=1e-12)
    predicted = torch.stack([one.predicted for one in each], 1)
    torch.testing.assert_close(both.predicted, predicted, rtol=1e-8, atol=1e-10)
    train = KERNEL[DRAWN][:, DRAWN]
    whole = whole_prediction(MODES, train.clone(), DRAWN, labels, 0.1, kept)
    alone = [whole_prediction(MODES, train.clone(), DRAWN, y, 0.1, kept) for y in labels.T]
    torch.testing.assert_close(whole, torch.stack(alone, 1), rtol=1e-8, atol=1e-10)


def test_all_modes_are_the_whole_regression():
    found = decimated_regression(MODES, DRAWN, LABELS, 0.1, POINTS)
    train = KERNEL[DRAWN][:, DRAWN]
    mean, variance = posterior(train, KERNEL[:, DRAWN], KERNEL.diagonal(), LABELS, 0.1)
    torch.testing.assert_close(found.pool_error, (mean - Y).square().mean(), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.posterior_variance, variance.mean(), rtol=1e-9, atol=0)
    fitted = (mean[DRAWN] - LABELS).square().mean()
    torch.testing.assert_close(found.train_error, fitted, rtol=1e-9, atol=0)
    alone = whole_prediction(MODES, train.clone(), DRAWN, LABELS, 0.1, 40)
    torch.testing.assert_close(alone, found.predicted[:40], rtol=1e-9, atol=1e-12)
    # A mode as the target is learned by vᵀK*(K + T)⁻¹v.
    vectors = torch.linalg.eigh(KERNEL).eigenvectors.flip(1)
    answered = torch.linalg.solve(train + 0.1 * torch.eye(25).double(), vectors[DRAWN])
    learned = ((vectors.T @ KERNEL[:, DRAWN]).T * answered).sum(0)
    torch.testing.assert_close(found.learnability, learned, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kept", [0, POINTS + 1])
def test_a_cutoff_that_is_not_there_is_refused(kept):
    with pytest.raises(ValueError, match=f"cutoff is {kept} of 60 modes"):
        decimated_regression(MODES, DRAWN, LABELS, 0.1, kept)
    with pytest.raises(ValueError, match=f"cutoff is {kept} of 60 modes"):
        removed_variance(MODES, kept)
    train = KERNEL[DRAWN][:, DRAWN]
    with pytest.raises(ValueError, match=f"cutoff is {kept} of 60 modes"):
        whole_prediction(MODES, train, DRAWN, LABELS, 0.1, kept)


def test_a_kernel_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="25 points with ridge"):
        whole_prediction(MODES, -torch.eye(25).double(), DRAWN, LABELS, 0.1, 5)
