"""Two-time covariances of outputs, from pairs of networks."""

import numpy as np
import pytest

from pipelines.analysis.two_times import output_covariance
from theory.statistics import jackknife_error

PAIRS, TIMES, POINTS, LAG = 400, 4, 3, 2


def relaxing(seed: int, correlation: float) -> np.ndarray:
    """Ornstein-Uhlenbeck processes of variance 1, (pair, time, point)."""
    generator = np.random.default_rng(seed)
    found = [generator.standard_normal((PAIRS, POINTS))]
    for _ in range(TIMES - 1):
        kick = generator.standard_normal((PAIRS, POINTS))
        found.append(correlation * found[-1] + np.sqrt(1 - correlation**2) * kick)
    return np.stack(found, axis=1)


def test_without_an_odd_part_it_is_the_covariance_over_pairs():
    even = 5 + relaxing(0, 0.7).cumsum(1)
    here, before = even[:, -1], even[:, -1 - LAG]
    each = [np.cov(here[:, point], before[:, point])[0, 1] for point in range(POINTS)]
    found = output_covariance(even, np.zeros_like(even), TIMES - 1, LAG)
    assert found[0] == pytest.approx(np.mean(each), rel=1e-12)
    without_first = output_covariance(even[1:], np.zeros_like(even[1:]), TIMES - 1, LAG)
    assert found[1] == pytest.approx(without_first[0], rel=1e-12)


def test_it_is_that_of_all_networks_one_by_one():
    """e + o and e - o as networks by themselves, whose mean is that of the pairs."""
    even, odd = 2 + relaxing(1, 0.7), relaxing(2, 0.9)
    networks = np.concatenate([even + odd, even - odd])
    here, before = networks[:, -1], networks[:, -1 - LAG]
    product = (here * before).mean() - (here.mean(0) * before.mean(0)).mean()
    found = output_covariance(even, odd, TIMES - 1, LAG)[0]
    # The product of means is of all pairs there, which adds cov(e, e')/pairs to it.
    assert found == pytest.approx(product, abs=2 / PAIRS)


@pytest.mark.parametrize("seed", range(3))
def test_processes_that_relax_have_their_covariance(seed):
    """ρ^lag of the even part, and of the odd one, with the error that is reported."""
    even, odd = 3 + relaxing(seed, 0.7), 2 * relaxing(seed + 100, 0.9)
    found = output_covariance(even, odd, TIMES - 1, LAG)
    error = float(jackknife_error(found[1:]))
    assert abs(found[0] - (0.7**LAG + 4 * 0.9**LAG)) < 5 * error
    # Of o o', over pairs and points: 4 √((1 + ρ²)/(pairs · points)) and as much smaller of e e'.
    expected = np.hypot(4 * np.hypot(1, 0.9**LAG), np.hypot(1, 0.7**LAG))
    assert error == pytest.approx(expected / np.sqrt(PAIRS * POINTS), rel=0.2)


def test_nothing_is_known_before_the_first_time():
    even = relaxing(0, 0.7)
    assert np.isnan(output_covariance(even, even, LAG - 1, LAG)).all()
    assert np.isfinite(output_covariance(even, even, LAG, LAG)).all()
