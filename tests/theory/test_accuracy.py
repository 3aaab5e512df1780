"""How often the right class is named: against counting, and by regression and ensembles."""

import math

import pytest
import torch

from pipelines.engine import engine
from pipelines.theories.ensemble_theories import Problem, nngp
from storage.campaign.plugins import Plugins
from storage.reading.document import parse
from support.driving import simulate
from theory.accuracy import gaussian_accuracy, largest_accuracy, right_class
from theory.regression.learning_curve import Heldout, learning_curve
from workers.data.datasets import dataset

CLASSES = torch.tensor([[-1.0], [0.5], [3.0]], dtype=torch.float64)
DIGITS = """
version: 1
name: digits
data: {source: digits, positive: [0], negative: [1], train: 8, test: 90}
network: {width: 4, activation: erf, weight_variance: 0.1}
sampler: {scheme: prior, temperature: 1, warmup: 0, draws: 2, segment: 2}
ensemble: {datasets: 1, chains: 2, block: 2, seed: 1}
theories: [nngp]
"""


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
def test_the_class_of_the_nearest_target_is_predicted(seed):
    predicted, own = 2 * normal(seed, 200, 1), CLASSES[torch.arange(200) % 3]
    distance = (predicted[:, None, :] - CLASSES).abs().sum(-1)
    nearest = CLASSES[distance.argmin(1)]
    assert torch.equal(right_class(predicted, own, CLASSES), (nearest == own)[:, 0])


def test_signs_and_largest_outputs_are_nearest_targets():
    signs = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    predicted, own = normal(1, 100, 1), signs[torch.arange(100) % 2]
    assert torch.equal(right_class(predicted, own, signs), (predicted.sign() == own)[:, 0])
    one_hot = torch.eye(4, dtype=torch.float64)
    outputs, own = normal(2, 100, 4), one_hot[torch.arange(100) % 4]
    right = outputs.argmax(1) == own.argmax(1)
    assert torch.equal(right_class(outputs, own, one_hot), right)


@pytest.mark.parametrize("seed", range(3))
def test_the_accuracy_of_a_gaussian_output_is_that_of_its_draws(seed):
    mean, variance = normal(seed, 40), normal(seed + 10, 40).square()
    own, draws = CLASSES[torch.arange(40) % 3], 4000
    outputs = mean + variance.sqrt() * normal(seed + 20, draws, 40)
    counted = torch.stack([right_class(row[:, None], own, CLASSES) for row in outputs])
    expected = float(gaussian_accuracy(mean, variance, own[:, 0], CLASSES[:, 0]))
    # a point has variance p(1 - p) <= 1/4: five standard errors at most
    assert abs(float(counted.double().mean()) - expected) < 5 * 0.5 / math.sqrt(draws * 40)


@pytest.mark.parametrize("seed", range(3))
def test_the_accuracy_of_independent_outputs_is_that_of_their_draws(seed):
    points, classes, draws = 40, 4, 4000
    mean, variance = normal(seed, points, classes), normal(seed + 10, points).square()
    own = torch.arange(points) % classes
    outputs = mean + variance.sqrt()[:, None] * normal(seed + 20, draws, points, classes)
    counted = (outputs.argmax(2) == own).double().mean()
    expected = float(largest_accuracy(mean, variance, own))
    # a point has variance p(1 - p) <= 1/4: five standard errors at most
    assert abs(float(counted) - expected) < 5 * 0.5 / math.sqrt(draws * points)


def test_two_outputs_are_one_of_twice_the_variance_and_none_varies_where_there_is_no_variance():
    mean, variance, own = normal(1, 50, 2), normal(2, 50).square(), torch.arange(50) % 2
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    one = gaussian_accuracy(mean[:, 0] - mean[:, 1], 2 * variance, signs[own], signs)
    torch.testing.assert_close(largest_accuracy(mean, variance, own), one, rtol=0, atol=1e-13)
    still = largest_accuracy(mean, torch.zeros_like(variance), own)
    counted = (mean.argmax(1) == own).double().mean()
    torch.testing.assert_close(still, counted, rtol=0, atol=1e-13)


def test_a_regression_names_the_classes_of_its_own_predictions():
    x, signs = normal(1, 30, 3), torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    y, kernel = x[:, 0].sign(), x @ x.T
    out = normal(2, 20, 3)
    heldout = Heldout(out @ x.T, out[:, 0].sign())
    order, ridge = torch.arange(30), 0.3
    for held in (heldout, None):
        curve = learning_curve(kernel, y, order, [8], [ridge], heldout=held, classes=signs)
        ridged = kernel[:8, :8] + ridge * torch.eye(8, dtype=torch.float64)
        weights = torch.linalg.solve(ridged, y[:8])
        predicted = kernel[:, :8] @ weights
        pool = (predicted.sign() == y).double().mean()
        assert float(curve.pool_accuracy) == pytest.approx(float(pool))
        rest = (predicted[8:].sign() == y[8:]).double().mean()
        outside = (heldout.kernel[:, :8] @ weights).sign() == heldout.y
        expected = rest if held is None else outside.double().mean()
        assert float(curve.heldout_accuracy) == pytest.approx(float(expected))
    without = learning_curve(kernel, y, order, [8], [ridge])
    assert without.pool_accuracy.isnan().all()


def test_a_prior_without_a_mean_names_one_class_in_two():
    spec = parse(DIGITS)
    found = nngp(Problem(spec, dataset(spec, 0, Plugins(), {}), Plugins()))
    assert float(found["accuracy"]) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.slow
def test_an_ensemble_counts_the_classes_of_every_draw(tmp_path):
    spec = parse(DIGITS)
    campaign = engine.prepare(spec, str(tmp_path), [])
    simulate(campaign)
    group = campaign.store.root.group("ensemble")
    output = torch.as_tensor(group["output"][0, 0])  # of all 90 test points: points is 256
    label = torch.as_tensor(group["label"][0, 0])
    counted = (output.sign() == label).double().mean(-1)
    torch.testing.assert_close(torch.as_tensor(group["accuracy"][0, 0]), counted)
