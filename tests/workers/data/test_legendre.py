"""Power-law problems on Legendre polynomials: orthonormal features of one variable."""

import numpy as np
import pytest

from pipelines.report.sentences.prose import abstract
from storage.campaign.plugins import Plugins
from storage.reading.document import parse
from workers.data.datasets import pool
from workers.data.synthetic import latent

TEXT = """
version: 1
name: legendre
data: {source: power_law, inputs: legendre, modes: 40, eigenvalue_exponent: 0.5,
  target_exponent: 1, train: 10, test: 10}
regression:
  kernel: {activation: linear, weight_variance: [1, 1]}
  train: [10]
  ridges: [0.1]
  repeats: 1
  pool: 3000
  sampling: with_replacement
  evaluate: [pool]
"""


def test_features_are_orthonormal_functions_of_one_variable():
    draws = 200_000
    z = latent("legendre", draws, 6, np.random.default_rng(1))
    assert (z[:, 0] == 1).all()
    u = z[:, 1] / np.sqrt(3)
    assert np.abs(u).max() <= 1
    np.testing.assert_allclose(z[:, 2], np.sqrt(5) * (3 * u**2 - 1) / 2, atol=1e-12)
    # ⟨z_k² z_l²⟩ is at most 2k + 1 times 2l + 1, 121 here.
    np.testing.assert_allclose(z.T @ z / draws, np.eye(6), atol=5 * 11 / np.sqrt(draws))


def test_fewer_points_are_the_first_of_more():
    few, many = (latent("legendre", n, 5, np.random.default_rng(2)) for n in (10, 30))
    np.testing.assert_array_equal(few, many[:10])


def test_a_pool_has_the_spectrum_and_the_target_of_the_law():
    spec = parse(TEXT)
    points = pool(spec, Plugins(), {})
    assert points.x.shape == (3000, 40)
    ranks = np.arange(1, 41)
    features = points.x / np.sqrt(40 * ranks**-1.5)
    weights = np.linalg.lstsq(features, points.y, rcond=None)[0]
    np.testing.assert_allclose(np.abs(weights), ranks**-1.0, rtol=1e-8)
    values = np.linalg.eigvalsh(points.x.T @ points.x / 40 / 3000)[::-1]
    np.testing.assert_allclose(values[:8], ranks[:8] ** -1.5, rtol=5 * np.sqrt(9 / 3000))


@pytest.mark.parametrize(("inputs", "said"), [("legendre", "Legendre"), ("gaussian", "Gaussian")])
def test_the_report_says_which_features(inputs, said):
    assert said in abstract(parse(TEXT, [f"data.inputs={inputs}"]))
