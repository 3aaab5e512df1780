"""Gibbs sampling: layers drawn exactly given the others."""

import math

import numpy as np
import pytest
import torch
from scipy.special import kve

from support.sampling import (
    assert_resumes_to_the_bit,
    assert_samples_exactly,
    averages,
    prior_start,
    small_problem,
)
from workers.networks.networks import potential
from workers.samplers.gibbs import gibbs, linear_gibbs

torch.set_num_threads(1)  # as in a worker

TEMPERATURE = 0.3
EPS = torch.finfo(torch.float64).eps


def one_normal_at_a_time(sampler, start):
    """z after a step with each normal in turn 1 and the others 0, after one with none: (1 + k, z).

    What is exact is affine in the normals, so these show its whole law.
    """

    def silence(shape, dtype):
        return torch.zeros(1, *shape, dtype=dtype)

    count = []
    sampler.step(
        sampler.init(start[None], silence),
        lambda shape, dtype: count.append(shape[0]) or silence(shape, dtype),
    )
    normals = torch.cat([torch.zeros(1, count[0]), torch.eye(count[0])]).double()
    state = sampler.init(
        start.expand(len(normals), -1), lambda shape, dtype: normals.new_zeros(shape)
    )
    return sampler.step(state, lambda shape, dtype: normals.clone()).position


def conditional(network, x, y, position, part):
    """Mean and covariance of z[part] given the rest of z and y: f is linear in that part."""
    size = part.stop - part.start
    probes = position.repeat(size + 1, 1)
    probes[:, part] = torch.cat([torch.zeros(1, size), torch.eye(size)])
    constant, *responses = network.outputs(probes * network.standard_deviations, x)
    design = (torch.stack(responses) - constant).T
    precision = torch.eye(size, dtype=torch.float64) + design.T @ design / TEMPERATURE
    covariance = torch.linalg.inv(precision)
    return covariance @ design.T @ (y - constant) / TEMPERATURE, covariance


def assert_is_drawn_from_its_conditional(network, x, y, moved, part):
    """moved (1 + k, z) are those of `one_normal_at_a_time`, equal in all that z[part] is given."""
    mean, covariance = conditional(network, x, y, moved[0], part)
    directions = moved[1:, part] - moved[0, part]
    tolerance = 1000 * EPS * torch.linalg.cond(covariance).item()
    torch.testing.assert_close(moved[0, part], mean, rtol=0, atol=tolerance)
    torch.testing.assert_close(directions.T @ directions, covariance, rtol=0, atol=tolerance)


@pytest.mark.parametrize("biases", [(0, 0, 0), (0.4, 0.4, 0.4), (0, 0.4, 0.2)], ids=str)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("train", [2, 4, 9])  # fewer labels than columns, or more
def test_a_sweep_draws_each_layer_from_its_law_given_the_others(depth, biases, train):
    given = {"depth": depth, "bias": biases[:depth], "train": train}
    network, x, y, _ = small_problem("linear", 4, 3.0, **given)
    start = prior_start(network, 1)[0]
    moved = one_normal_at_a_time(linear_gibbs(network, x, y, TEMPERATURE), start)
    starts = [layer.start for layer in network.layers if layer.name[:4] != "bias"]
    for first, last in zip(starts, [*starts[1:], network.size], strict=True):
        below = (moved[:, :first] == moved[0, :first]).all(1)  # no normal of an earlier layer
        law = moved[below].clone()
        law[:, last:] = start[last:]  # not yet redrawn when this layer is
        assert_is_drawn_from_its_conditional(network, x, y, law, slice(first, last))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("train", [2, 9])
def test_a_step_of_no_length_draws_the_readout_alone(depth, train):
    network, x, y, _ = small_problem("erf", 4, 3.0, depth=depth, bias=0.1, train=train)
    start = prior_start(network, 1)[0]
    moved = one_normal_at_a_time(gibbs(network, x, y, TEMPERATURE, 0.0, 1.0, 1), start)
    hidden = network.layers[-1].start
    assert (moved[:, :hidden] == start[:hidden]).all()
    assert_is_drawn_from_its_conditional(network, x, y, moved, slice(hidden, network.size))


def test_the_energy_is_that_of_the_position():
    network, x, y, _ = small_problem("erf", 4, 3.0, depth=2)
    moved = []
    sampler = gibbs(network, x, y, TEMPERATURE, 0.1, 1.0, 3)
    generator = torch.Generator().manual_seed(3)

    def noise(shape, dtype):
        return torch.randn(5, *shape, generator=generator, dtype=dtype)

    state = sampler.init(prior_start(network, 5), noise)
    for _ in range(3):
        state = sampler.step(state, noise)
        moved.append(state.position)
        expected = potential(network, x, y, TEMPERATURE)(state.position)[0]
        torch.testing.assert_close(state.energy, expected, rtol=1e-13, atol=0)
    assert not (moved[0] == moved[1]).any()


def test_what_it_cannot_do_it_refuses():
    network, x, y, _ = small_problem("erf", 4, 2.0)
    with pytest.raises(ValueError, match="the activation is not linear"):
        linear_gibbs(network, x, y, TEMPERATURE)
    network, x, y, _ = small_problem("linear", 4, 2.0)
    with pytest.raises(ValueError, match="labels have shape"):
        linear_gibbs(network, x, y[:, None], TEMPERATURE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("train", [4, 9])
def test_a_resumed_chain_has_the_bits_of_one_that_was_not_stopped(train, dtype):
    for activation in ("erf", "linear"):
        network, x, y, _ = small_problem(activation, 5, 2.0, depth=2, bias=0.1, train=train)
        x, y = x.to(dtype), y.to(dtype)

        def build(network=network, x=x, y=y, linear=activation == "linear"):
            if linear:
                return linear_gibbs(network, x, y, TEMPERATURE)
            return gibbs(network, x, y, TEMPERATURE, 0.1, 1.0, 2)

        assert_resumes_to_the_bit(build, prior_start(network, 6, dtype))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "readout", "chi"), [(2, 2.0, 1.0), (8, 3.0, 2.0)])
def test_gibbs_samples_the_exact_posterior_of_a_linear_network(width, readout, chi):
    assert_samples_exactly(
        lambda network, x, y, temperature: gibbs(network, x, y, temperature, 0.12, 1.0, 4),
        width,
        readout,
        chi=chi,
        chains=1500,
        steps=150,
        warmup=50,
        thin=2,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("width", "readout", "chi"), [(1, 2.0, 1.0), (3, 1.0, 1.0), (8, 3.0, 2.0)])
@pytest.mark.slow
def test_linear_gibbs_samples_the_exact_posterior(width, readout, chi, dtype):
    assert_samples_exactly(
        lambda network, x, y, temperature: linear_gibbs(
            network, x.to(dtype), y.to(dtype), temperature
        ),
        width,
        readout,
        chi=chi,
        chains=1500,
        steps=80,
        warmup=20,
        dtype=dtype,
    )


def three_layers(network, x, y, points, temperature, widths):
    """E f, Var f at the points and E |W_2ᵀa|² of a linear network of two hidden layers.

    Given s = |W_2ᵀa|², f is Gaussian with kernel s σ_1² x·x'/d; a priori s is a product of two
    chi-squares, s ~ 4 Var(a) Var(W_2) g with g of density 2 g^{(α+β)/2 - 1} K_{α-β}(2√g)/Γ(α)Γ(β),
    α and β half the widths. One integral, over ln g.
    """
    prior, between, readout = (layer.standard_deviation**2 for layer in network.layers)
    prior, *inputs = prior, x.numpy(), points.numpy()
    eigenvalues, modes = np.linalg.eigh(prior * inputs[0] @ inputs[0].T)
    labels, cross = modes.T @ y.numpy(), modes.T @ (prior * inputs[0] @ inputs[1].T)
    alpha, beta = widths[0] / 2, widths[1] / 2
    log_g = np.linspace(-30, math.log(100 * max(widths) ** 2), 20001)
    root = np.exp(log_g / 2)
    # The prior scales with the widths of the theory, not of the network that is sampled.
    unit = 4 * readout * between * math.prod(network.widths) / math.prod(widths)
    s = unit * np.exp(log_g)[:, None]
    spread = s * eigenvalues + temperature
    log_weight = (alpha + beta) / 2 * log_g + np.log(kve(alpha - beta, 2 * root)) - 2 * root
    log_weight -= (np.log(spread) + labels**2 / spread).sum(1) / 2
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    means = s * ((labels / spread) @ cross)
    mean = weight @ means
    within = s * prior * (inputs[1] ** 2).sum(1) - s**2 * ((1 / spread) @ cross**2)
    variance = weight @ (within + (means - mean) ** 2)
    return torch.from_numpy(np.concatenate([mean, variance, weight @ s]))


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 5])
def test_linear_gibbs_samples_the_exact_posterior_of_three_layers(width):
    network, x, y, points = small_problem("linear", width, 2.0, depth=2)
    exact = three_layers(network, x, y, points, 1.0, (width, width))

    def observe(parameters):
        f = network.outputs(parameters, points)
        weights, readout = (layer.of(parameters) for layer in network.layers[1:])
        row = (readout[:, None] @ weights)[:, 0]
        squares = (f - exact[:2]).square()
        return torch.cat([f, squares, row.square().sum(1, keepdim=True)], 1)

    sampler = linear_gibbs(network, x, y, 1.0)
    found, error = averages(sampler, network, observe, chains=1500, steps=150, warmup=50, thin=2)
    assert ((found - exact).abs() < 5 * error).all(), (found - exact) / error
    for other in (
        three_layers(network, x, y, points, 1.0, (200, 200)),
        three_layers(network, x, y, points, 1.1, (width, width)),
    ):
        assert ((found - other).abs() > 7 * error).any(), (found - other) / error
