"""What the tests of samplers share: running chains, and a linear problem with known posteriors."""

import io
import math

import numpy as np
import torch

from theory.finite_width.scale_mixture import linear_posterior
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import fully_connected
from workers.philox import Noise

SEED = 17


def run(sampler, position, noise, steps):
    """The state after some steps from a position."""
    state = sampler.init(position, noise.at(0))
    for step in range(1, steps + 1):
        state = sampler.step(state, noise.at(step))
    return state


def prior_start(network, chains, dtype=torch.float64):
    return Noise(SEED, range(chains), 1)(0, (network.size,), dtype)


def assert_resumes_to_the_bit(build, position, steps=12, stop=5):
    """A state written at `stop` and read again goes on as if nothing had happened."""
    chains = range(len(position))
    whole = run(build(), position, Noise(SEED, chains, 0), steps)
    kept = position.clone()
    state = run(build(), position, Noise(SEED, chains, 0), stop)
    file = io.BytesIO()
    np.savez(file, **{name: tensor.numpy() for name, tensor in state._asdict().items()})
    file.seek(0)
    arrays = np.load(file)
    state = type(state)(**{name: torch.from_numpy(arrays[name]) for name in state._fields})
    noise, sampler = Noise(SEED, torch.tensor(chains), 0), build()
    for step in range(stop + 1, steps + 1):
        state = sampler.step(state, noise.at(step))
    assert torch.equal(position, kept)
    for name, resumed, undisturbed in zip(state._fields, state, whole, strict=True):
        assert len(undisturbed) == len(position), name
        assert torch.equal(resumed, undisturbed), name
    assert whole.position.dtype == position.dtype


def small_problem(activation, width, readout, *, depth=1, bias=0.0, train=6, chi=1.0):
    """A network of 3 inputs, training data of a linear teacher with noise, two test points."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(train + 2, 3, generator=generator, dtype=torch.float64)
    y = 1.5 * x[:, 0] - x[:, 1] + 0.3 * torch.randn(train + 2, generator=generator).double()
    network = fully_connected(
        3,
        [width] * depth,
        ACTIVATIONS[activation],
        weight_variance=[1.2] * depth + [readout],
        bias_variance=bias,
        chi=chi,
    )
    return network, x[:train], y[:train], x[train:]


def exact_linear(network, x, y, points, temperature, width):
    """E f, Var f at the points and E |a|² of a linear network of one hidden layer."""
    hidden, readout = network.layers[0], network.layers[-1]
    variance = network.widths[0] * readout.standard_deviation**2  # σ_a²/χ
    scale = hidden.standard_deviation**2 * variance
    kernel = scale * x @ x.T, scale * points @ x.T, scale * points.square().sum(1)
    found = linear_posterior(*kernel, y, temperature, width)
    return torch.cat([found.mean, found.variance, found.scale[None] * variance])


def function_and_readout(network, points, centre):
    """Parameters -> f, (f - centre)² and |a|², (chain, 2 points + 1)."""

    def observe(parameters):
        f = network.outputs(parameters, points)
        norm = network.layers[-1].of(parameters).square().sum(1, keepdim=True)
        return torch.cat([f, (f - centre).square(), norm], 1)

    return observe


def averages(sampler, network, observe, *, chains, steps, warmup, thin=1, dtype=torch.float64):
    """Mean of what is observed and its standard error, from independent chains.

    A chain counts once, with its mean over one of every `thin` steps after the warm-up.
    """
    noise, widths = Noise(SEED, range(chains), 0), network.standard_deviations
    state, seen = sampler.init(prior_start(network, chains, dtype), noise.at(0)), []
    for step in range(1, steps + 1):
        state = sampler.step(state, noise.at(step))
        if step > warmup and step % thin == 0:
            seen.append(observe(state.position.double() * widths))
    means = torch.stack(seen).mean(0)
    return means.mean(0), means.std(0) / math.sqrt(chains)


def assert_samples_exactly(build, width, readout, *, chi=1.0, temperature=1.0, **lengths):
    """Chains agree with the exact posterior of a linear network, and with no other.

    `build(network, x, y, temperature)` makes the sampler. The same chains refuse the infinitely
    wide network and a temperature 10 % higher.
    """
    network, x, y, points = small_problem("linear", width, readout, chi=chi)
    exact = exact_linear(network, x, y, points, temperature, width)
    found, error = averages(
        build(network, x, y, temperature),
        network,
        function_and_readout(network, points, exact[:2]),
        **lengths,
    )
    assert ((found - exact).abs() < 5 * error).all(), (found - exact) / error
    for other in (
        exact_linear(network, x, y, points, temperature, 10**6),
        exact_linear(network, x, y, points, 1.1 * temperature, width),
    ):
        assert ((found - other).abs() > 7 * error).any(), (found - other) / error
