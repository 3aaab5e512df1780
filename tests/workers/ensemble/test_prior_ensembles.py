"""Ensembles of the prior measure what theory.signal says of networks of their width."""

import math

import numpy as np
import pytest
import torch

from support.blocks import block_of, campaign
from theory.signal import prior_moments

torch.set_num_threads(1)  # as in a worker

DEPTH = 3
CAMPAIGN = """
version: 1
name: random-networks
data:
  source: linear
  inputs: gaussian
  dimension: 6
  train: 4
  test: 4
network:
  depth: 3
  width: 10
  activation: relu
  weight_variance: [1.5, 1.5, 1.5, 1.0]
sampler: {scheme: prior, temperature: 1, warmup: 0, draws: 150, segment: 150, precision: float64}
ensemble: {datasets: 1, chains: 100, block: 100}
observe: {histograms: true, kernels: false, points: 1}
"""


def powers(*overrides):
    """Mean z² and z⁴ of each chain at the one probe point, (chain, layer), z in prior units."""
    values = block_of(campaign(CAMPAIGN, *overrides)).values
    sums = values["moment"].sum(1)[:, :, 0]
    return sums[..., 2] / sums[..., 0], sums[..., 4] / sums[..., 0]


def agree(chains, expected):
    error = np.std(chains, axis=0, ddof=1) / math.sqrt(len(chains))
    return np.all(np.abs(np.mean(chains, axis=0) - expected) < 5 * error)


@pytest.mark.parametrize(("activation", "c"), [("relu", 5), ("linear", 2)])
@pytest.mark.parametrize("width", [4, 10])
def test_kurtosis_of_layers_is_exactly_that_of_the_width(activation, c, width):
    """⟨z²⟩ = 1 and ⟨z⁴⟩ = 3 (1 + c/N)^l in every layer, whatever the variances of the weights."""
    second, fourth = powers(f"network.activation={activation}", f"network.width={width}")
    exact = prior_moments(
        activation, weight_variance=1.5, bias_variance=0.0, variance=1.0, widths=[width] * 2
    )
    expected = 3 + exact.excess_kurtosis.numpy()
    assert expected == pytest.approx(3 * (1 + c / width) ** np.arange(DEPTH))
    assert agree(second, 1)
    assert agree(fourth, expected)
