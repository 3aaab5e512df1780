"""Where chains begin: at the prior, where the first layer follows the teacher, or annealed."""

import math

import pytest
import torch

from storage.campaign.plugins import Plugins
from support.blocks import block_of, campaign, data_of, shard_of, step
from workers.models import network_of
from workers.samplers.anneal import ramp

torch.set_num_threads(1)  # as in a worker

DENSE = """
version: 1
name: starts
data: {source: single_index, dimension: 8, train: 30, test: 40, teacher: {1: 1.0, 3: 0.2}}
network: {activation: erf, width: 12, weight_variance: [0.5, 2], scaling: mean_field, chi: 4}
sampler: {scheme: baoab, step_size: 0.05, friction: 1, temperature: 0.2, warmup: 0, draws: 2,
  segment: 1, precision: float64}
ensemble: {datasets: 1, chains: 6, block: 6, start: teacher}
observe: {points: 8, histograms: false, kernels: false}
"""
PATCHES = (
    "data={source: patches, patches: 3, patch_size: 4, teacher: {1: 1.0}, train: 30, test: 40}",
    "network.architecture=cnn",
    "network.patches=3",
)
NETWORKS = {
    "dense": (),
    "two layers": ("network.depth=2", "network.weight_variance=[0.5, 1, 2]"),
    "patches": PATCHES,
    "patches, two layers": (*PATCHES, "network.depth=2", "network.weight_variance=[0.5, 1, 2]"),
}


def started(spec):
    """The network and the parameters with which chains begin, (chain, parameter)."""
    _, state = step(shard_of(spec))
    network = network_of(spec, data_of(spec).x_train.shape[1], Plugins())
    position = torch.as_tensor(state["position"])
    return network, position * network.standard_deviations


def overlaps(spec):
    """w·w* of every neuron or filter of the first layer, (chain, neuron)."""
    network, parameters = started(spec)
    teacher = torch.as_tensor(data_of(spec).teacher)
    return network.layers[0].of(parameters) @ teacher


@pytest.mark.parametrize("name", NETWORKS)
def test_at_the_teacher_every_neuron_has_overlap_one(name):
    spec = campaign(DENSE, *NETWORKS[name])
    prior = campaign(DENSE, *NETWORKS[name], "ensemble.start=prior")
    found, before = overlaps(spec), overlaps(prior)
    torch.testing.assert_close(found.abs(), torch.ones_like(found), rtol=1e-12, atol=0)
    assert (found > 0).any()
    assert (found < 0).any()
    assert before.abs().max() != pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_across_the_teacher_the_weights_are_those_of_the_prior(name):
    spec = campaign(DENSE, *NETWORKS[name])
    network, parameters = started(spec)
    weight, teacher = network.layers[0], torch.as_tensor(data_of(spec).teacher)
    weights = weight.of(parameters)
    across = weights - (weights @ teacher)[..., None] * teacher
    # χ² of (fan_in - 1) parts of each neuron; its mean has standard error √(2/n) of itself.
    count = across[..., 0].numel() * (len(teacher) - 1)
    found = across.square().sum().item() / count / weight.standard_deviation**2
    assert found == pytest.approx(1, abs=5 * math.sqrt(2 / count))
    for layer in network.layers[1:-1]:
        found = (layer.of(parameters) / layer.standard_deviation).square().mean().item()
        assert found == pytest.approx(1, abs=5 * math.sqrt(2 / layer.of(parameters).numel()))


@pytest.mark.parametrize("name", NETWORKS)
def test_at_the_teacher_the_readout_fits(name):
    """It is drawn from its Gaussian given the features, from which the mean loss follows."""
    many = "ensemble={datasets: 1, chains: 200, block: 200, start: teacher}"
    spec = campaign(DENSE, *NETWORKS[name], many)
    network, parameters = started(spec)
    data, temperature = data_of(spec), 0.2 / 4
    x, y = torch.as_tensor(data.x_train), torch.as_tensor(data.y_train)
    loss = (network.outputs(parameters, x) - y).square().sum(1) / 2
    signal = network.activation.phi(network.pre_activations(parameters, x)[-1])
    features = signal.unflatten(2, (len(x), -1)).transpose(1, 2).flatten(2)
    features = features * network.layers[-1].standard_deviation
    kernel = features @ features.mT
    inverse = torch.linalg.inv(kernel + temperature * torch.eye(len(x), dtype=kernel.dtype))
    # y - f = T (K + T)⁻¹ (y - √T ξ - prior): mean T (K + T)⁻¹ y, covariance T K (K + T)⁻¹.
    mean = temperature * inverse @ y
    spread = temperature * (kernel @ inverse).diagonal(dim1=1, dim2=2).sum(1)
    expected = (mean.square().sum(1) + spread) / 2
    difference = loss - expected
    assert difference.mean().abs() < 5 * difference.std() / math.sqrt(len(difference))
    prior, at_prior = started(campaign(DENSE, *NETWORKS[name], "ensemble.start=prior"))
    assert loss.median() < 0.5 * (prior.outputs(at_prior, x) - y).square().sum(1).median() / 2


def test_both_starts_every_second_chain_at_the_teacher():
    both, teacher, prior = (
        overlaps(campaign(DENSE, f"ensemble.start={start}"))
        for start in ("both", "teacher", "prior")
    )
    torch.testing.assert_close(both[1::2].abs(), torch.ones_like(both[1::2]), rtol=1e-12, atol=0)
    assert (both[::2].abs() - 1).abs().min() > 1e-6
    assert teacher.shape == prior.shape == both.shape


def test_both_starts_every_second_ladder_of_an_exchange():
    settings = "{scheme: exchange, step_size: 0.05, friction: 1, temperature: 0.2, warmup: 0, "
    spec = campaign(
        DENSE,
        "ensemble.start=both",
        f"sampler={settings} draws: 2, segment: 1, precision: float64, ladder: [0.4, 0.8]}}",
    )
    at_teacher = (overlaps(spec).abs() - 1).abs().amax(1) < 1e-12
    assert at_teacher.tolist() == 3 * ([False] * 3 + [True] * 3)


# -- annealing ------------------------------------------------------------------------------


def test_the_ramp_ends_at_the_target():
    chi = 4
    found = ramp(4 / chi, 0.2 / chi, 60)
    assert found(0) == pytest.approx(4 / chi)
    for step_number in (60, 1000):
        assert found(step_number) == pytest.approx(0.2 / chi)


@pytest.mark.slow
@pytest.mark.parametrize("start", [0.01, 4])
def test_an_annealed_block_has_the_loss_of_its_temperature(start):
    """From colder or from hotter: what matters in the end is the target's temperature."""
    settings = (
        "{scheme: baoab, step_size: 0.05, friction: 1, temperature: 0.2, warmup: 600, draws: 40, "
        f"thin: 5, segment: 40, anneal: {{temperature: {start}, steps: 300}}}}"
    )
    chains = "ensemble={datasets: 1, chains: 60, block: 60, start: %s}"
    cooled = block_of(campaign(DENSE, f"sampler={settings}", chains % "anneal"))
    plain = settings.replace(f", anneal: {{temperature: {start}, steps: 300}}", "")
    direct = block_of(campaign(DENSE, f"sampler={plain}", chains % "prior"))
    (mean, error), (mean_2, error_2) = (
        (loss.mean(), loss.std(ddof=1) / math.sqrt(len(loss)))
        for loss in (block.values["loss"].mean(1) for block in (cooled, direct))
    )
    assert abs(mean - mean_2) < 5 * math.hypot(error, error_2)
    hot = block_of(campaign(DENSE, f"sampler={plain.replace('0.2', '0.3')}", chains % "prior"))
    assert hot.values["loss"].mean() - mean > 7 * math.hypot(error, error_2)
