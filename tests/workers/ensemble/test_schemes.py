"""Every scheme that a campaign can name, run as the engine runs it, against what is exact."""

import io
import itertools

import numpy as np
import pytest
import torch

from support.blocks import LINEAR, block_of, campaign, data_of, shard_of, step
from support.exact import WIDE, apart, mean_and_error, of_each_chain, posterior

torch.set_num_threads(1)  # as in a worker

LENGTHS = {
    "gibbs": "warmup: 15, draws: 30, segment: 30",
    "baoab": "warmup: 120, draws: 30, thin: 4, segment: 30",
    "mala": "warmup: 250, draws: 30, thin: 8, segment: 30",
    "collapsed": "warmup: 50, draws: 30, thin: 2, segment: 30",
    "neurons": "warmup: 30, draws: 30, segment: 30",
    "exchange": "warmup: 120, draws: 30, thin: 4, segment: 30",
}
SETTINGS = {
    "gibbs": "scheme: gibbs",
    "baoab": "scheme: baoab, step_size: auto, friction: 1",
    "mala": "scheme: mala, step_size: auto",
    "collapsed": "scheme: collapsed, step_size: 0.25, friction: 1",
    "neurons": "scheme: neurons, step_size: auto",
    "exchange": "scheme: exchange, step_size: 0.12, friction: 1, ladder: [1.6]",
}
NETWORKS = {(1, 2.0, 1): "one neuron", (3, 1.0, 1): "three", (8, 3.0, 2): "eight, mean field"}


def linear(sampler: str, width: int, readout: float, chi: int, *overrides: str):
    """The linear problem with this network, at T = 0.5."""
    return campaign(
        LINEAR,
        f"sampler={{{sampler}, temperature: {0.5 * chi:g}}}",
        f"network.width={width}",
        f"network.weight_variance=[1.2, {readout}]",
        "network.scaling=mean_field",
        f"network.chi={chi}",
        *overrides,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "network"),
    [
        *(("gibbs", network) for network in NETWORKS),
        *(("baoab", network) for network in NETWORKS),
        *(("mala", network) for network in [(1, 2.0, 1), (8, 3.0, 2)]),
        *(("collapsed", network) for network in [(3, 1.0, 1), (8, 3.0, 2)]),
        ("neurons", (3, 1.0, 1)),
        ("exchange", (8, 3.0, 2)),
    ],
    ids=lambda value: NETWORKS.get(value, value),
)
def test_a_scheme_samples_the_exact_posterior_of_a_linear_network(scheme, network):
    spec = linear(f"{SETTINGS[scheme]}, {LENGTHS[scheme]}", *network)
    found, error = mean_and_error(of_each_chain(block_of(spec)))
    assert apart(found, posterior(spec), error) < 5
    assert apart(found, posterior(spec, width=WIDE), error) > 20
    assert apart(found, posterior(spec, factor=1.1), error) > 7


@pytest.mark.slow
@pytest.mark.parametrize("steps", ["0.02", "[0.02, 0.008]", "[0.008, 0.02]"])
def test_without_its_bias_ula_has_one_equilibrium_whatever_the_mobilities(steps):
    # The bias is of first order in the step: 2 m(ε/2) - m(ε) is left with ε².
    lengths = "warmup: 300, draws: 40, thin: 8, segment: 40"
    spec = linear(f"scheme: ula, step_size: {steps}, {lengths}", 3, 1.0, 1)
    whole = of_each_chain(block_of(spec))
    half = of_each_chain(block_of(spec, kind="check"))
    (mean, error), (mean_2, error_2) = mean_and_error(whole), mean_and_error(half)
    found, spread = 2 * mean_2 - mean, np.hypot(2 * error_2, error)
    exact = posterior(spec)
    assert apart(found, exact, spread) < 5
    assert apart(mean, exact, error) > 8
    assert apart(found, posterior(spec, width=WIDE), spread) > 7


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["gibbs", "baoab"])
def test_three_linear_layers(scheme):
    width, temperature = 3, 0.5
    spec = linear(
        f"{SETTINGS[scheme]}, {LENGTHS[scheme]}",
        width,
        2.0,
        1,
        "network.depth=2",
        "network.weight_variance=[1.2, 1.5, 2.0]",
    )
    found, error = mean_and_error(of_each_chain(block_of(spec))[:, :-1])
    assert apart(found, deep_posterior(spec, (width, width), temperature), error) < 5
    assert apart(found, deep_posterior(spec, (300, 300), temperature), error) > 20
    assert apart(found, deep_posterior(spec, (width, width), 1.15 * temperature), error) > 7


def deep_posterior(spec, widths, temperature):
    """E f and E f² of a linear network of two hidden layers, by a sum over two chi-squares.

    Given s = |W_2'a|², f is Gaussian with kernel s σ_1² x·x'/d, and a priori s is a product
    σ_2² σ_a² (χ²_N/N) (χ²_M/M).
    """
    data = data_of(spec)
    first, second, readout = spec.network.weight_variance
    unit = first * second * readout / data.x_train.shape[1]
    values, vectors = np.linalg.eigh(unit * data.x_train @ data.x_train.T)
    labels, cross = vectors.T @ data.y_train, vectors.T @ data.x_train @ data.x_test.T * unit
    logs = np.linspace(-16, 6, 1200)
    one, two = (np.exp(n / 2 * (logs - np.exp(logs))) for n in widths)
    # The density of ln s on the same steps, by convolution.
    log_s = 2 * logs[0] + (logs[1] - logs[0]) * np.arange(2 * len(logs) - 1)
    s = np.exp(log_s)[:, None]
    spread = s * values + temperature
    log_weight = np.log(np.convolve(one, two).clip(1e-300))
    log_weight -= (np.log(spread) + labels**2 / spread).sum(1) / 2
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    means = s * ((labels / spread) @ cross)
    within = s * unit * (data.x_test**2).sum(1) - s**2 * ((1 / spread) @ cross**2)
    return np.concatenate([weight @ means, weight @ (within + means**2)])


# -- networks that are not linear, and convolutions: schemes against each other --------------

ERF = (
    "network.activation=erf",
    "network.width=4",
    "network.weight_variance=[1.2, 4.0]",
    "ensemble={datasets: 1, chains: 700, block: 700}",
)
ROUTES = {
    "baoab": "scheme: baoab, step_size: auto, friction: 1, warmup: 100, thin: 4",
    "mala": "scheme: mala, step_size: auto, warmup: 250, thin: 8",
    "collapsed": "scheme: collapsed, step_size: auto, friction: 1, warmup: 60, thin: 2",
    "gibbs": "scheme: gibbs, step_size: auto, friction: 1, moves: 4, warmup: 40, thin: 2",
}


@pytest.mark.slow
def test_schemes_agree_on_a_network_that_is_not_linear():
    found = {
        name: mean_and_error(of_each_chain(block_of(erf(settings))))
        for name, settings in ROUTES.items()
    }
    for (mean, error), (mean_2, error_2) in itertools.combinations(found.values(), 2):
        assert apart(mean, mean_2, np.hypot(error, error_2)) < 5
    hot, error = mean_and_error(of_each_chain(block_of(erf(ROUTES["collapsed"], 0.7))))
    for mean, spread in found.values():
        assert apart(mean, hot, np.hypot(error, spread)) > 7


def erf(settings: str, temperature: float = 0.5):
    sampler = f"sampler={{{settings}, draws: 40, segment: 40, temperature: {temperature}}}"
    return campaign(LINEAR, sampler, *ERF)


PATCHES = """
version: 1
name: patches
data: {source: patches, patches: 2, patch_size: 3, teacher: {1: 1.5}, train: 8, test: 4}
network:
  architecture: cnn
  patches: 2
  activation: linear
  width: 3
  weight_variance: [1.2, 2.0]
  scaling: mean_field
  chi: 2
sampler: {scheme: gibbs, temperature: 1.0, warmup: 20, draws: 40, segment: 40}
ensemble: {datasets: 1, chains: 1000, block: 1000}
observe: {points: 4, histograms: false, kernels: false}
"""


@pytest.mark.slow
def test_linear_filters_are_drawn_exactly():
    """A fast sampler against the slow one: the posterior has no closed form."""
    slow = "scheme: baoab, step_size: auto, friction: 1, warmup: 150, draws: 40, thin: 5"
    exactly, error = mean_and_error(of_filters(campaign(PATCHES)))
    (found, spread), (hot, spread_2) = (
        mean_and_error(
            of_filters(campaign(PATCHES, f"sampler={{{slow}, segment: 40, temperature: {t}}}"))
        )
        for t in (1.0, 1.3)
    )
    assert apart(found, exactly, np.hypot(error, spread)) < 5
    assert apart(hot, exactly, np.hypot(error, spread_2)) > 7


def of_filters(spec):
    """The observables of the linear problem, and the filters along and across the teacher."""
    found = block_of(spec)
    return np.concatenate([of_each_chain(found), found.values["hidden_variance"].mean(1)], axis=1)


# -- states: checkpoints and blocks ---------------------------------------------------------

SMALL = """
version: 1
name: small
data: {source: single_index, dimension: 5, train: 12, test: 20, teacher: {1: 1.0, 3: 0.3}}
network: {activation: erf, width: 4, weight_variance: [1, 2], scaling: mean_field, chi: 2}
sampler: {scheme: prior, temperature: 0.4, warmup: 20, draws: 6, thin: 2, segment: 3}
ensemble: {datasets: 1, chains: 6, block: 6}
observe: {points: 8, lags: [1]}
"""
ALL = {
    "baoab": "scheme: baoab, step_size: 0.1, friction: 1",
    "baoab, adapted": "scheme: baoab, step_size: auto, friction: 1",
    "ula": "scheme: ula, step_size: 0.01",
    "ula, by layer": "scheme: ula, step_size: [0.01, 0.003]",
    "mala": "scheme: mala, step_size: 0.02",
    "mala, adapted": "scheme: mala, step_size: auto",
    "collapsed": "scheme: collapsed, step_size: 0.1, friction: 1",
    "neurons": "scheme: neurons, step_size: 0.8",
    "neurons, adapted": "scheme: neurons, step_size: auto",
    "gibbs": "scheme: gibbs, step_size: 0.1, friction: 1, moves: 3",
    "gibbs, linear": "scheme: gibbs",
    "exchange": "scheme: exchange, step_size: 0.1, friction: 1, ladder: [0.8, 1.6]",
    "sgld": "scheme: sgld, step_size: 0.002, batch: 4",
    "gd": "scheme: gd, step_size: 0.002",
    "sgd": "scheme: sgd, step_size: 0.002, batch: 4",
    "adam": "scheme: adam, step_size: 0.01",
    "prior": "scheme: prior",
}


def small(name: str, *overrides: str):
    linear = ["network.activation=linear"] if "linear" in name else []
    lengths = "temperature: 0.4, warmup: 20, draws: 6, thin: 2, segment: 3"
    return campaign(SMALL, f"sampler={{{ALL[name]}, {lengths}}}", *linear, *overrides)


@pytest.mark.parametrize("name", ALL)
def test_a_segment_from_a_saved_state_is_the_one_of_an_undisturbed_chain(name):
    spec, whole = small(name), block_of(small(name, "sampler.segment=6"))
    _, state = step(shard_of(spec))
    for segment in (0, 1):
        values, state = step(shard_of(spec, segment), written_and_read(state))
        draws = slice(3 * segment, 3 * segment + 3)
        for variable in ("loss", "weight_norm", "learnability", "output", "max_overlap"):
            np.testing.assert_array_equal(values[variable], whole.values[variable][:, draws])
    assert state.keys() == whole.state.keys()
    for part in state:
        np.testing.assert_array_equal(state[part], whole.state[part])


@pytest.mark.usefixtures("library")
def test_neurons_have_a_kernel_in_a_campaign_and_its_chains_go_on():
    spec, whole = small("neurons"), block_of(small("neurons", "sampler.segment=6"), backend="fused")
    _, state = step(shard_of(spec), backend="fused")
    for segment in (0, 1):
        _, state = step(shard_of(spec, segment), written_and_read(state), backend="fused")
    for part in state:
        np.testing.assert_array_equal(state[part], whole.state[part])
    plain = block_of(small("neurons", "sampler.segment=6"))
    assert not np.array_equal(plain.state["position"], whole.state["position"])
    # To rounding they are the same chain until a decision differs.
    _, first = step(shard_of(small("neurons", "sampler.warmup=1")), backend="fused")
    _, same = step(shard_of(small("neurons", "sampler.warmup=1")))
    np.testing.assert_allclose(first["position"], same["position"], rtol=0, atol=1e-4)


def written_and_read(state):
    """The state after a file without pickle, as a checkpoint is."""
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    return dict(np.load(file, allow_pickle=False))


@pytest.mark.parametrize("name", [name for name in ALL if "adapted" not in name])
def test_a_chain_is_the_same_in_any_block(name):
    # A sum that is taken in another order is off by 1e-16, which so few steps leave below 1e-9.
    one = block_of(small(name, "sampler.precision=float64")).values["output"]
    apart = small(name, "sampler.precision=float64", "ensemble.block=2")
    parts = [block_of(apart, block=block).values["output"] for block in range(3)]
    np.testing.assert_allclose(np.concatenate(parts), one, rtol=0, atol=1e-9)
    assert len({chain.tobytes() for chain in one}) == 6


def test_a_chain_far_out_of_bounds_is_out_though_its_loss_is_a_number():
    # At this temperature only the prior is left, of stiffness 1, and BAOAB is unstable above 2.
    sampler = "scheme: baoab, friction: 0.1, temperature: 1e12, warmup: 25, draws: 4, segment: 4"
    far, sound = (
        block_of(campaign(SMALL, f"sampler={{{sampler}, step_size: {step_size}}}"))
        for step_size in (2.3, 1.7)
    )
    assert np.isfinite(far.state["energy"]).all()
    assert np.abs(far.state["position"]).max() > 1e6
    assert far.values["status"].all()
    assert np.isnan(far.values["loss"]).all()
    assert not far.values["histogram"].any()
    assert not sound.values["status"].any()
