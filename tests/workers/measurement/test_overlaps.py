"""What is measured on the weights and layers of a block, against its positions draw by draw."""

import math

import numpy as np
import pytest
import torch

from storage.arrays.coordinates import bin_edges, overlap_edges, readout_edges
from storage.arrays.schema import NEURONS
from storage.campaign.plugins import Plugins
from support.blocks import block_of, campaign, data_of, shard_of, step
from workers.models import network_of
from workers.networks.networks import Layered

torch.set_num_threads(1)  # as in a worker

DENSE = """
version: 1
name: measured
data: {source: single_index, dimension: 6, train: 20, test: 30, teacher: {1: 1.0, 3: 0.2}}
network: {activation: erf, width: 9, weight_variance: [0.8, 2], scaling: mean_field, chi: 3}
sampler: {scheme: baoab, step_size: 0.1, friction: 1, temperature: 0.2, warmup: 4, draws: 7,
  thin: 2, segment: 7, precision: float64}
ensemble: {datasets: 1, chains: 4, block: 4, start: both}
observe: {points: 8, lags: [1, 3]}
"""
PATCHES = (
    "data={source: patches, patches: 3, patch_size: 4, teacher: {1: 1.0}, train: 20, test: 30}",
    "network.architecture=cnn",
    "network.patches=3",
)
DEEP = ("network.depth=2", "network.weight_variance=[0.8, 1.5, 2]")
NETWORKS = {
    "dense": (),
    "patches": PATCHES,
    "two layers": DEEP,
    "patches, two layers": (*PATCHES, *DEEP),
}
SHALLOW = ["dense", "patches"]


def network_and_draws(spec) -> tuple[Layered, torch.Tensor]:
    """The network, and the parameters at each draw, (draw, chain, parameter)."""
    one_by_one = spec.model_copy(
        update={"sampler": spec.sampler.model_copy(update={"segment": 1}), "observe": NOTHING}
    )
    network = network_of(spec, data_of(spec).x_train.shape[1], Plugins())
    _, state = step(shard_of(one_by_one))
    positions = []
    for segment in range(spec.sampler.draws):
        _, state = step(shard_of(one_by_one, segment), state)
        positions.append(torch.as_tensor(state["position"]))
    return network, torch.stack(positions) * network.standard_deviations


NOTHING = campaign(DENSE, "observe={histograms: false, kernels: false}").observe


def first_layer(spec):
    """w in prior standard deviations, (draw, chain, neuron, fan_in); w·w* of the same."""
    network, draws = network_and_draws(spec)
    layer = network.layers[0]
    weights = torch.stack([layer.of(draw) for draw in draws]) / layer.standard_deviation
    teacher = torch.as_tensor(data_of(spec).teacher)
    return network, draws, weights.numpy(), (weights @ teacher).numpy()


# -- overlaps -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHALLOW)
def test_the_joint_histogram_counts_every_neuron_and_draw(name):
    spec = campaign(DENSE, *NETWORKS[name])
    network, draws, _, q = first_layer(spec)
    readout = network.layers[-1]
    a = torch.stack([readout.of(draw) for draw in draws]).numpy() / readout.standard_deviation
    a = a.reshape(*q.shape, -1)  # of a filter at each patch
    a = a.sum(-1) / math.sqrt(a.shape[-1])
    found = block_of(spec).values["overlap_histogram"][:, 0]
    q_edges, a_edges = overlap_edges().copy(), readout_edges().copy()
    q_edges[[0, -1]] = a_edges[[0, -1]] = -np.inf, np.inf
    for chain in range(4):
        expected = np.histogram2d(q[:, chain].ravel(), a[:, chain].ravel(), [q_edges, a_edges])[0]
        np.testing.assert_array_equal(found[chain], expected)
        assert found[chain].sum() == 7 * 9
    # A start at the teacher is |q| = 1 over the prior's deviation of a weight.
    assert (np.abs(q[0, 1::2]) > 1 / network.layers[0].standard_deviation - 2).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_variances_along_and_across_the_teacher(name):
    spec = campaign(DENSE, *NETWORKS[name])
    network, _, weights, q = first_layer(spec)
    found = block_of(spec).values
    teacher = data_of(spec).teacher
    across = weights - q[..., None] * teacher
    size = weights.shape[-1]
    expected = np.stack([q**2, np.square(across).sum(-1) / (size - 1)], axis=-1).mean((0, 2))
    np.testing.assert_allclose(found["hidden_variance"][:, 0], expected, rtol=1e-10)
    total = expected @ [1, size - 1]
    np.testing.assert_allclose(total, np.square(weights).sum(-1).mean((0, 2)), rtol=1e-10)
    largest = np.abs(q).max(2).T * network.layers[0].standard_deviation
    np.testing.assert_allclose(found["max_overlap"], largest, rtol=1e-10)
    last = found["overlap"][:, 0]
    assert last.shape == (4, NEURONS)
    np.testing.assert_allclose(last[:, :9], q[-1], rtol=1e-10)
    assert np.isnan(last[:, 9:]).all()
    assert ("overlap_histogram" in found) == (name in SHALLOW)


def test_at_the_prior_all_directions_are_alike():
    chains = "ensemble={datasets: 1, chains: 200, block: 200}"
    sampler = "sampler={scheme: prior, temperature: 1, warmup: 0, draws: 20, segment: 20}"
    found = block_of(campaign(DENSE, chains, sampler)).values["hidden_variance"][:, 0]
    # Means of squares of unit normals, of standard error √(2/n).
    count = 200 * 20 * 9
    assert found[:, 0].mean() == pytest.approx(1, abs=5 * math.sqrt(2 / count))
    assert found[:, 1].mean() == pytest.approx(1, abs=5 * math.sqrt(2 / (5 * count)))


# -- layers ---------------------------------------------------------------------------------


def activations(spec, level):
    """φ(h) of a layer at the probes, (draw, chain, neuron · position, probe)."""
    network, draws = network_and_draws(spec)
    x = torch.as_tensor(data_of(spec).x_test[:8])
    found = []
    for draw in draws:
        phi = torch.erf(network.pre_activations(draw, x)[level])
        found.append(phi.unflatten(2, (8, -1)).transpose(2, 3).flatten(1, 2))
    return torch.stack(found).numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_at_one_time_and_at_two(name):
    spec = campaign(DENSE, *NETWORKS[name])
    found = block_of(spec).values
    for level, variance in enumerate(spec.network.weight_variance[1:]):
        phi = activations(spec, level)

        def kernel(first, second, phi=phi, variance=variance):
            return variance * np.einsum("cnp,cnq->cpq", phi[first], phi[second]) / phi.shape[2]

        same = np.stack([kernel(draw, draw) for draw in range(7)])
        np.testing.assert_allclose(found["kernel"][0, level], same.mean((0, 1)), rtol=1e-9)
        square = np.square(same).mean((0, 1))
        np.testing.assert_allclose(found["kernel_square"][0, level], square, rtol=1e-9)
        # First times are the longest lag apart: draws 0, 3 and 6 of seven.
        pairs = {0: [(0, 1), (3, 4)], 1: [(0, 3), (3, 6)]}
        for lag, places in pairs.items():
            expected = np.stack([kernel(*place) for place in places]).mean((0, 1))
            np.testing.assert_allclose(found["kernel_lag"][0, lag, level], expected, rtol=1e-9)


def test_between_two_times_that_are_close_nothing_changes():
    # In fourteen steps of 1e-6 no pre-activation moves by more than 1e-4.
    found = block_of(campaign(DENSE, "sampler.step_size=1e-6")).values
    for lag in range(2):
        np.testing.assert_allclose(found["kernel_lag"][:, lag], found["kernel"], atol=1e-3)
    far = block_of(campaign(DENSE)).values
    assert np.abs(far["kernel_lag"][:, 1] - far["kernel"]).max() > 0.05


def test_independent_times_share_nothing():
    """Draws of the prior: φ is odd, so that E φ(t) φ(t')' = 0."""
    chains = "ensemble={datasets: 1, chains: 100, block: 100}"
    sampler = "sampler={scheme: prior, temperature: 1, warmup: 0, draws: 31, segment: 31}"
    found = block_of(campaign(DENSE, chains, sampler)).values
    largest = found["kernel"].max()
    # Each element is a mean of 9 · 10 · 100 products (of 9 neurons, ten pairs, 100 chains).
    assert np.abs(found["kernel_lag"][0, :, 0]).max() < 5 * largest / math.sqrt(9 * 10 * 100)


@pytest.mark.parametrize("name", NETWORKS)
def test_histograms_and_moments_count_every_neuron_and_draw(name):
    spec = campaign(DENSE, *NETWORKS[name])
    found = block_of(spec)
    histogram, moment = found.values["histogram"], found.values["moment"]
    assert (histogram.sum(-1) == 7 * 9).all()
    assert (moment[..., 0] == 7 * 9).all()
    # The second moment of binned values lies within half a bin of each, in the inner bins.
    edges = bin_edges()
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1] - edges[0]) / 2
    second = (histogram * middle**2).sum(-1)
    slack = (histogram * (2 * half * np.abs(middle) + half**2)).sum(-1)
    inner = (histogram[..., [0, -1]] == 0).all(-1)
    assert inner.any()
    assert (np.abs(second - moment[..., 2]) <= slack + 1e-9)[inner].all()
