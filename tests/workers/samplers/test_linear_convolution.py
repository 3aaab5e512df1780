"""Exact sampling of linear networks of filters on patches."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from support.sampling import SEED, assert_resumes_to_the_bit, averages, exact_linear, prior_start
from workers.networks.activations import ACTIVATIONS
from workers.networks.convolution import patch_network, three_layer_convolution
from workers.networks.networks import potential
from workers.philox import Noise
from workers.samplers.baoab import baoab
from workers.samplers.linear_convolution import linear_convolution

torch.set_num_threads(1)  # as in a worker


def linear_problem(patches, patch_size, channels, train, chi=1.0):
    """A linear network, training data of a linear teacher with noise, and two test points."""
    network = patch_network(
        patches,
        patch_size,
        channels,
        ACTIVATIONS["linear"],
        weight_variance=[1.2, 2.0],
        chi=chi,
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(train + 2, patches * patch_size, generator=generator, dtype=torch.float64)
    y = 1.5 * x[:, 0] - x[:, 1] + 0.3 * torch.randn(train + 2, generator=generator).double()
    return network, x[:train], y[:train], x[train:]


def factors(network, position):
    """Whitened filters (chain, channel, patch_size) and readout (chain, channel, patch)."""
    filters, readout = network.layers
    shape = network.widths[0], network.patches
    return filters.of(position), readout.of(position).unflatten(1, shape)


def gaussian(features, y, temperature):
    """Mean and covariance of z given y = features z + √T ξ, (n, p)."""
    precision = torch.eye(features.shape[1]).double() + features.T @ features / temperature
    covariance = torch.linalg.inv(precision)
    return covariance @ features.T @ y / temperature, covariance


@pytest.mark.parametrize(
    ("patches", "patch_size", "channels", "train"),
    [(2, 3, 4, 5), (2, 3, 4, 9), (3, 2, 1, 4), (3, 2, 1, 5), (2, 2, 1, 2), (4, 3, 2, 30)],
)
def test_filters_and_readout_are_drawn_from_their_conditionals(
    patches, patch_size, channels, train
):
    # A draw is affine in the normals: it is its mean where all are zero, and the images J of unit
    # vectors have J Jᵀ equal to the covariance. Exact, without sampling.
    temperature = 0.4
    network, x, y, _ = linear_problem(patches, patch_size, channels, train, chi=3.0)
    sampler = linear_convolution(network, x, y, temperature)
    start = prior_start(network, 1)
    asked = []

    def silent(shape, dtype):
        asked.append(math.prod(shape))
        return torch.zeros(1, *shape, dtype=dtype)

    filters, readout = factors(network, sampler.step(sampler.init(start, silent), silent).position)
    (count,) = asked
    unit = torch.eye(count, dtype=torch.float64)
    many = sampler.init(start.expand(count, -1), lambda shape, dtype: unit)
    moved_filters, moved_readout = factors(
        network, sampler.step(many, lambda shape, dtype: unit).position
    )

    width = network.layers[0].standard_deviation * network.layers[1].standard_deviation
    by_patch = x.unflatten(1, (patches, patch_size))
    (before,), _ = factors(network, start)
    features = width * torch.einsum("cs,nps->ncp", before, by_patch).flatten(1)
    mean, covariance = gaussian(features, y, temperature)
    torch.testing.assert_close(readout.flatten(), mean)
    change = (moved_readout - readout).flatten(1)
    torch.testing.assert_close(change.T @ change, covariance, rtol=0, atol=1e-12)

    features = width * torch.einsum("cp,nps->ncs", readout[0], by_patch).flatten(1)
    mean, covariance = gaussian(features, y, temperature)
    torch.testing.assert_close(filters.flatten(), mean)
    same = change.abs().amax(1) < 1e-14  # normals that the readout does not feel
    change = (moved_filters - filters).flatten(1)[same]
    torch.testing.assert_close(change.T @ change, covariance, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("patches", "patch_size"), [(1, 3), (3, 1)])
@pytest.mark.parametrize("channels", [2, 5])
def test_one_patch_or_one_pixel_has_the_exact_posterior_of_a_linear_network(
    patches, patch_size, channels
):
    # Filters of one pixel are the readout of a network whose hidden weights are a_c.
    network, x, y, points = linear_problem(patches, patch_size, channels, 6)
    exact = exact_linear(network, x, y, points, 0.5, channels)
    filters, readout = network.layers
    scale = readout if patches == 1 else filters
    unit = (readout.standard_deviation / scale.standard_deviation) ** 2

    def moments(parameters):
        f = network.outputs(parameters, points)
        norm = unit * scale.of(parameters).flatten(1).square().sum(1, keepdim=True)
        return torch.cat([f, (f - exact[:2]).square(), norm], 1)

    sampler = linear_convolution(network, x, y, 0.5)
    found, error = averages(sampler, network, moments, chains=1000, steps=60, warmup=20)
    assert ((found - exact).abs() < 5 * error).all()
    for width, temperature in ((10**6, 0.5), (channels, 0.65)):
        other = exact_linear(network, x, y, points, temperature, width)
        assert ((found - other).abs() > 7 * error).any()


@pytest.mark.slow
def test_gibbs_and_langevin_dynamics_sample_the_same_posterior():
    network, x, y, points = linear_problem(2, 3, 3, 5)

    def moments(parameters):
        f = network.outputs(parameters, points)
        return torch.cat([f, f.square(), parameters.square().sum(1, keepdim=True)], 1)

    exactly, wrong = (
        averages(
            linear_convolution(network, x, y, temperature),
            network,
            moments,
            chains=1000,
            steps=120,
            warmup=20,
        )
        for temperature in (0.5, 0.75)
    )
    # ε² λ is at most 0.16 for the curvatures λ that the chains meet: on a quadratic without bias.
    dynamics = baoab(potential(network, x, y, 0.5), 0.05, 1.0)
    found, error = averages(
        dynamics, network, moments, chains=1000, steps=1000, warmup=300, thin=10
    )
    spread = torch.hypot(error, exactly[1])
    assert ((found - exactly[0]).abs() < 5 * spread).all()
    assert ((found - wrong[0]).abs() > 7 * torch.hypot(error, wrong[1])).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_resumed_chain_has_the_bits_of_one_that_was_not_stopped(dtype):
    network, x, y, _ = linear_problem(2, 3, 4, 5)
    x, y = x.to(dtype), y.to(dtype)
    start = prior_start(network, 6, dtype)
    assert_resumes_to_the_bit(lambda: linear_convolution(network, x, y, 0.5), start)


def test_what_cannot_be_drawn_exactly_is_refused():
    x = torch.zeros(2, 6)
    linear, erf = ACTIVATIONS["linear"], ACTIVATIONS["erf"]
    curved = patch_network(2, 3, 4, erf, weight_variance=[1.0] * 2, chi=1.0)
    with pytest.raises(ValueError, match="the activation is not linear"):
        linear_convolution(curved, x, x[:, 0], 1.0)
    deep = three_layer_convolution(2, 3, 4, 5, linear, weight_variance=[1.0] * 3, chi=1.0)
    with pytest.raises(ValueError, match="the network has 2 hidden layers"):
        linear_convolution(deep, x, x[:, 0], 1.0)
    straight = patch_network(2, 3, 4, linear, weight_variance=[1.0] * 2, chi=1.0)
    with pytest.raises(ValueError, match=r"labels have shape \(2, 1\)"):
        linear_convolution(straight, x, x[:, :1], 1.0)


def learned(patches, patch_size, channels, chi, train, temperature):
    """Learnability of y = Σ_i a*_i w*·x_i and E (w_c·w*)² over its prior: adaptive, then lazy.

    The filters' variance b along w* obeys 1/b = S - (n/T_eff)² (1 - L)²/(C P χ), L = λ/(λ +
    T_eff/n), λ = b/(P χ), and T_eff is the temperature plus what is not learned of all modes, for
    prior variances 1/S and 1/(P C χ), |a*| = |w*| = 1.
    """

    def mean_field(b):
        along, across = b / (patches * chi), 1 / (patch_size * patches * chi)

        def excess(effective):
            unlearned = sum(
                count * value * effective / (train * value + effective)
                for count, value in ((patches, along), (patches * (patch_size - 1), across))
            )
            return temperature + unlearned - effective

        effective = brentq(excess, temperature, 100 * temperature)
        missing = effective / (effective + train * along)
        force = (train / effective * missing) ** 2 / (channels * patches * chi)
        return 1 - missing, 1 / b - patch_size + force

    prior = 1 / patch_size
    root = brentq(lambda b: mean_field(b)[1], prior, 1.0)
    return [np.array([mean_field(b)[0], b / prior]) for b in (root, prior)]


@pytest.mark.slow
def test_filters_adapt_to_the_teacher_as_mean_field_theory_says():
    patches, patch_size, channels, chi, train = 4, 20, 100, 100.0, 120
    temperature, found = 1 / chi, []
    network = patch_network(
        patches,
        patch_size,
        channels,
        ACTIVATIONS["linear"],
        weight_variance=[1.0, 1.0],
        chi=chi,
    )
    for dataset in range(8):
        generator = torch.Generator().manual_seed(dataset)
        x = torch.randn(train, patches * patch_size, generator=generator, dtype=torch.float64)
        w, a = (torch.randn(n, generator=generator).double() for n in (patch_size, patches))
        w, a = w / w.norm(), a / a.norm()
        teacher = torch.outer(a, w)
        sampler = linear_convolution(network, x, x @ teacher.flatten(), temperature)
        noise = Noise(SEED, range(4 * dataset, 4 * dataset + 4), 0)
        state, seen = sampler.init(prior_start(network, 4), noise.at(0)), []
        for step in range(1, 81):
            state = sampler.step(state, noise.at(step))
            filters, readout = factors(network, state.position * network.standard_deviations)
            overlap = filters @ w
            learnability = torch.einsum("kcp,kc,p->k", readout, overlap, a)
            seen.append([learnability.mean(), patch_size * overlap.square().mean()])
        found.append(np.mean(seen[30:], axis=0))
    mean, error = np.mean(found, 0), np.std(found, 0, ddof=1) / math.sqrt(len(found))
    # The theory's own error is of order 1/S: 4 modes of the teacher in 80 are adapted.
    adaptive, lazy = learned(patches, patch_size, channels, chi, train, temperature)
    assert (abs(mean / adaptive - 1) < 5 * error / adaptive + 1 / patch_size).all()
    assert (mean - lazy > 10 * error).all()
