"""Simulation-based calibration (Talts et al. 2018): the truth ranks uniformly among the draws.

A teacher drawn from the prior of the network, and labels with noise of the temperature's variance,
make data of which the sampled posterior is the right one. Among the draws of the posterior given
each dataset, whatever depends on the network has then a uniform rank.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from storage.planning.identity import data_identity, seed_of
from support.blocks import block_of, campaign, data_of
from workers import numerics
from workers.data import sources

torch.set_num_threads(1)  # as in a worker

TEMPERATURE, DATASETS, CHAINS, BINS = 0.2, 160, 31, 8
TEXT = f"""
version: 1
name: calibrated
data:
  source: teacher_network
  dimension: 4
  width: 4
  activation: erf
  weight_variance: [1.5, 4]
  label_noise: {TEMPERATURE}
  train: 24
  test: 1
network: {{activation: erf, width: 4, weight_variance: [1.5, 4]}}
ensemble: {{datasets: {DATASETS}, chains: {CHAINS}, block: {CHAINS}}}
observe: {{points: 1, histograms: false, kernels: false, overlaps: false}}
"""
SCHEMES = {
    "baoab": "scheme: baoab, step_size: auto, friction: 1, warmup: 100",
    "mala": "scheme: mala, step_size: auto, warmup: 300",
    "neurons": "scheme: neurons, step_size: auto, warmup: 60",
}
LEVEL = 1e-3  # of either test; a right scheme fails one of the six in 160 seeds


def ranks(scheme, temperature):
    """Ranks 0 to 31 of the teacher's output and of its loss among chains, (2, dataset)."""
    backend = numerics.describe()["backend"]
    lengths = f"temperature: {temperature}, draws: 1, segment: 1, step_check: false"
    spec = campaign(TEXT, f"sampler={{{SCHEMES[scheme]}, {lengths}}}")
    found = []
    for index in range(DATASETS):
        draws = block_of(spec, index=index, backend=backend).values
        data = data_of(spec, index)
        loss = np.square(data.y_train - noiseless(spec, index)).sum() / 2
        output = draws["output"][:, 0, 0]
        found.append([(output < data.y_test[0]).sum(), (draws["loss"][:, 0] < loss).sum()])
    return np.transpose(found)


def noiseless(spec, index):
    """The teacher at the training points of a dataset: the data without the noise in its labels."""
    seed = seed_of(spec.ensemble.seed, "data", data_identity(spec), index)
    return sources.make(spec.data.model_copy(update={"label_noise": 0.0}), seed).y_train


def uniform(found):
    """p-value of χ² over bins of equal probability."""
    counts = np.bincount(found * BINS // (CHAINS + 1), minlength=BINS)
    return stats.chisquare(counts).pvalue


@pytest.mark.slow
def test_the_noise_of_the_labels_is_the_temperature():
    spec = campaign(
        TEXT, "sampler={scheme: prior, temperature: 1, warmup: 0, draws: 1, segment: 1}"
    )
    noise = np.concatenate([data_of(spec, i).y_train - noiseless(spec, i) for i in range(100)])
    # E ξ² has standard error √(2/n) of itself.
    assert np.square(noise).mean() == pytest.approx(TEMPERATURE, rel=5 * np.sqrt(2 / len(noise)))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_truth_ranks_uniformly(scheme):
    output, loss = ranks(scheme, TEMPERATURE)
    assert uniform(output) > LEVEL
    assert uniform(loss) > LEVEL


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_wrong_temperature_shows(scheme):
    _, loss = ranks(scheme, 1.3 * TEMPERATURE)
    assert uniform(loss) < LEVEL / 1000
