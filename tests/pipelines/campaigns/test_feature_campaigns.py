"""The packaged campaigns `erf-d50` and `preactivations`: what they state, at a smaller size."""

import math

import numpy as np
import pytest
import torch

from pipelines.commands import packaged
from pipelines.theories import ensemble_theories
from pipelines.theories.ensemble_theories import Problem
from storage.arrays.coordinates import physical_temperature
from storage.campaign.plugins import Plugins
from storage.planning.plan import plan
from storage.reading.document import read
from support.blocks import block_of, data_of

torch.set_num_threads(1)  # as in a worker


def packaged_spec(name: str, *overrides: str):
    return read(packaged.find(name), overrides)


def mean_and_error(values) -> tuple[float, float]:
    """Over independent chains."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


# -- erf-d50 --------------------------------------------------------------------------------

SMALLER = (
    "sweep={}",
    "data.dimension=20",
    "data.train=120",
    "data.test=1000",
    "network.width=200",
    "network.chi=200",
    "sampler.temperature=20",
    "sampler.draws=60",
    "sampler.segment=60",
    "ensemble={datasets: 1, chains: 8, block: 8}",
    "observe={histograms: false, kernels: false, points: 20}",
)


def test_the_constants_of_the_mean_field_runs():
    spec = packaged_spec("erf-d50")
    for cell in plan(spec).cells:
        network = cell.spec.network
        assert physical_temperature(cell.spec) == pytest.approx(0.1)
        assert (network.width, cell.spec.data.dimension) == (1000, 50)
        assert network.physical_weight_variance == (0.5, 0.008)  # Var(a_i) = 8/N²
    assert [cell.settings["data.train"] for cell in plan(spec).cells[::2]] == [250, 500, 1000]
    assert [cell.settings["data.teacher.3"] for cell in plan(spec).cells[:2]] == [-0.05, 0.05]


@pytest.fixture(scope="module")
def small_erf():
    """Blocks at ε < 0 and at ε > 0, a fifth as wide, and their campaigns."""
    specs = [packaged_spec("erf-d50", *SMALLER, f"data.teacher.3={c}") for c in (-0.05, 0.05)]
    return [(spec, block_of(spec).values) for spec in specs]


@pytest.mark.slow
def test_mean_field_networks_learn_what_the_nngp_does_not(small_erf):
    for spec, found in small_erf:
        given = Problem(spec, data_of(spec), Plugins())
        nngp = ensemble_theories.nngp(given)["learnability"][0]
        mean, error = mean_and_error(found["learnability"][:, :, 0].mean(1))
        assert mean - 5 * error > 1.3 * nngp


@pytest.mark.slow
def test_weights_follow_the_teacher_and_nothing_else(small_erf):
    for _, found in small_erf:
        along, across = found["hidden_variance"].mean(1).T
        assert np.mean(along) - 5 * mean_and_error(along)[1] > 1.5
        assert np.mean(across) == pytest.approx(1, abs=0.05)
        # Counts of q in bins of 0.2: a distribution that is narrower than a Gaussian in its tails.
        q = -24 + 0.1 + 0.2 * np.arange(240)
        counts = found["overlap_histogram"].sum((0, 1, 3))
        second, fourth = ((counts * q**k).sum() / counts.sum() for k in (2, 4))
        assert fourth / second**2 - 3 < -0.1


@pytest.mark.slow
def test_the_cubic_part_of_erf_is_negative(small_erf):
    """<He_3 erf> < 0 along w: the learnability of He_3 has the sign of -ε."""
    for spec, found in small_erf:
        mean, error = mean_and_error(found["learnability"][:, :, 1].mean(1))
        assert -np.sign(spec.data.teacher[3]) * mean > 5 * error


# -- preactivations -------------------------------------------------------------------------

FEWER = (
    "sweep={}",
    "network.width=24",
    "network.chi=24",
    "data.train=120",
    "sampler.warmup=200",
    "sampler.draws=60",
    "sampler.segment=60",
    "ensemble={datasets: 1, chains: 8, block: 8}",
    "observe={histograms: true, kernels: false, points: 60}",
)
DIRECTIONS = ["random", "top", "target"]


def moments(temperature: float):
    """Variance and excess kurtosis of z, (chain, layer, direction), at this physical T."""
    spec = packaged_spec("preactivations", *FEWER, f"sampler.temperature={24 * temperature}")
    sums = block_of(spec).values["moment"].sum(1)
    count, _, second, _, fourth = np.moveaxis(sums[..., :5], -1, 0)
    return second / count, fourth * count / second**2 - 3


@pytest.mark.slow
def test_before_it_learns_every_pre_activation_is_a_standard_normal():
    variance, kurtosis = moments(1e5)
    for layer in range(2):
        for direction in range(3):
            mean, error = mean_and_error(variance[:, layer, direction])
            assert abs(mean - 1) < 5 * error
            # The first layer is Gaussian at any width; the second is so up to 1/width.
            mean, error = mean_and_error(kurtosis[:, layer, direction])
            assert abs(mean) < 5 * error + layer * 3 / 24


@pytest.mark.slow
def test_after_it_has_learned_pre_activations_lie_along_the_target():
    variance, kurtosis = moments(0.1)
    random, target = (variance[..., DIRECTIONS.index(name)].mean(0) for name in DIRECTIONS[::2])
    assert target[0] > 2 * random[0]
    assert target[1] > 6 * random[1]
    assert (random < 1.6).all()
    mean, error = mean_and_error(kurtosis[:, 1, 2])  # two lobes: -2 if they had no width
    assert -2 < mean < -0.5 - 5 * error
