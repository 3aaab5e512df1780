"""Minibatches: stochastic gradient Langevin dynamics with its bias, and descent."""

import itertools
import math

import numpy as np
import pytest
import torch

from support.sampling import SEED, assert_resumes_to_the_bit, prior_start, run, small_problem
from workers.networks.networks import potential
from workers.philox import Noise
from workers.samplers.descent import adam, gd, sgd
from workers.samplers.sgld import minibatch_gradient, sgld
from workers.samplers.ula import ula

torch.set_num_threads(1)  # as in a worker

TEMPERATURE, STEP_SIZE = 0.3, 0.02


def silence(shape, dtype):
    raise AssertionError("plain descent takes no noise")


def network_problem(dtype=torch.float64):
    network, x, y, _ = small_problem("erf", 4, 2.0, bias=0.1)
    return network, x.to(dtype), y.to(dtype)


def test_gradient_descent_on_a_quadratic():
    stiffness = torch.tensor([1.0, 4.0, 25.0], dtype=torch.float64)
    start = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)

    def quadratic(position):
        return (stiffness * position.square()).sum(1) / 2, stiffness * position

    sampler = gd(quadratic, STEP_SIZE)
    state = sampler.init(start, silence)
    for _ in range(10):
        state = sampler.step(state, silence)
    expected = start * (1 - STEP_SIZE * stiffness) ** 10
    torch.testing.assert_close(state.position, expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(state.energy, quadratic(expected)[0], rtol=1e-14, atol=0)


def test_adam_is_that_of_torch():
    network, x, y = network_problem()
    gradient = potential(network, x, y, TEMPERATURE)
    start = prior_start(network, 3)
    sampler = adam(gradient, STEP_SIZE)
    state = sampler.init(start, silence)
    variable = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([variable], lr=STEP_SIZE)
    for _ in range(60):
        state = sampler.step(state, silence)
        variable.grad = gradient(variable.detach())[1]
        optimizer.step()
    torch.testing.assert_close(state.position, variable.detach(), rtol=1e-10, atol=1e-12)
    assert state.steps.tolist() == [60] * 3


@pytest.mark.parametrize("batch", [1, 2, 5, 6])
def test_the_gradient_of_a_minibatch_has_the_mean_of_the_whole(batch):
    """Over all sets of points, each chosen by the normals of a chain."""
    network, x, y = network_problem()
    sets = list(itertools.combinations(range(len(x)), batch))
    normals = torch.ones(len(sets), len(x))
    for row, points in zip(normals, sets, strict=True):
        row[list(points)] = -1
    position = prior_start(network, 1).expand(len(sets), -1)
    found = minibatch_gradient(network, x, y, TEMPERATURE, batch)(position, normals)
    _, whole = potential(network, x, y, TEMPERATURE)(position[:1])
    size = whole.abs().max().item() * len(x)
    torch.testing.assert_close(found.mean(0, keepdim=True), whole, rtol=0, atol=1e-14 * size)
    assert batch == len(x) or found.std(0).max() > 0.1


def test_every_set_of_points_is_as_likely():
    network, x, y = network_problem()
    chains = 3000
    seen = torch.zeros(len(x), len(x))

    class Spy:
        targets, size, standard_deviations = 1, network.size, network.standard_deviations

        def loss_and_gradient(self, parameters, inputs, labels):
            points = [int((x == row).all(1).nonzero()) for row in inputs]
            assert torch.equal(y[points], labels)
            seen[points[0], points[1]] += 1
            return labels[:1], torch.zeros_like(parameters)

    gradient = minibatch_gradient(Spy(), x, y, TEMPERATURE, 2)
    normals = Noise(SEED, range(chains), 0)(1, (len(x),), torch.float64)
    gradient(torch.zeros(chains, network.size, dtype=torch.float64), normals)
    expected = chains / (6 * 5)  # ordered pairs, which are binomial
    deviation = (seen - expected)[~torch.eye(6, dtype=torch.bool)].abs().max()
    assert deviation < 5 * math.sqrt(expected)
    assert seen.diagonal().sum() == 0


def test_with_all_points_in_the_batch_it_is_what_it_is_without_batches():
    network, x, y = network_problem()
    gradient = potential(network, x, y, TEMPERATURE)
    start, noise = prior_start(network, 5), Noise(SEED, range(5), 0)
    arguments = network, x, y, TEMPERATURE, STEP_SIZE, len(x)
    for stochastic, full in ((sgld, ula), (sgd, gd)):
        found = run(stochastic(*arguments), start, noise, 20).position
        expected = run(full(gradient, STEP_SIZE), start, noise, 20).position
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


class Line:
    """f(x) = θ x: one parameter, so that the moments of a step are known."""

    targets, size, standard_deviations = 1, 1, torch.ones(1, dtype=torch.float64)

    def loss_and_gradient(self, parameters, x, y):
        residual = parameters * x[:, 0] - y
        return residual.square().sum(1) / 2, (residual * x[:, 0]).sum(1, keepdim=True)


def stationary(x, y, step_size, batch):
    """E z and E z² where a step z ← (1 - ε(1 + α)) z + ε β + √(2ε) ξ leaves them as they are.

    α = (n/B) Σ x²/T and β = (n/B) Σ x y/T over a batch, averaged here over all of them.
    """
    sets = [list(points) for points in itertools.combinations(range(len(x)), batch)]
    scale = len(x) / batch / TEMPERATURE
    x, y = x[:, 0].numpy(), y.numpy()
    alpha = scale * np.array([(x[points] ** 2).sum() for points in sets])
    beta = scale * np.array([(x[points] * y[points]).sum() for points in sets])
    shrink = 1 - step_size * (1 + alpha)
    mean = beta.mean() / (1 + alpha.mean())
    square = 2 * step_size * (shrink * beta).mean() * mean
    square += step_size**2 * (beta**2).mean() + 2 * step_size
    return mean, square / (1 - (shrink**2).mean())


@pytest.mark.slow
def test_the_bias_of_minibatches_is_what_it_must_be():
    x = torch.tensor([[1.0], [-0.5], [0.3], [0.8]], dtype=torch.float64)
    y = torch.tensor([1.5, 0.4, -0.7, 0.2], dtype=torch.float64)
    chains, step_size, batch, seen = 500, 0.06, 2, []
    sampler = sgld(Line(), x, y, TEMPERATURE, step_size, batch)
    noise = Noise(SEED, range(chains), 0)
    state = sampler.init(torch.zeros(chains, 1, dtype=torch.float64), noise.at(0))
    for step in range(1, 121):
        state = sampler.step(state, noise.at(step))
        if step > 40:  # what is left of the start is less than exp(-40 · 0.06 · 7) = 5e-8
            seen.append(torch.cat([state.position, state.position.square()], 1))
    means = torch.stack(seen).mean(0)
    found, error = means.mean(0), means.std(0) / math.sqrt(chains)
    expected = torch.tensor(stationary(x, y, step_size, batch), dtype=torch.float64)
    assert ((found - expected).abs() < 5 * error).all()
    without_batches = torch.tensor(stationary(x, y, step_size, len(x)), dtype=torch.float64)
    assert ((found - without_batches).abs() > 10 * error).any()


def test_stationary_variance_under_constant_gradient_noise():
    """(1 + ε C/2)/(λ(1 - ε λ/2)): every x² is 1, so that the noise of ĝ is one of β alone."""
    x = torch.ones(4, 1, dtype=torch.float64)
    y = torch.tensor([1.5, 0.4, -0.7, 0.2], dtype=torch.float64)
    stiffness = 1 + len(x) / TEMPERATURE
    mean, square = stationary(x, y, STEP_SIZE, 2)
    noise = 4 * (4 - 2) / 2 * y.var().item() / TEMPERATURE**2  # C = n (n - B)/B · variance / T²
    expected = (1 + STEP_SIZE * noise / 2) / (stiffness * (1 - STEP_SIZE * stiffness / 2))
    assert square - mean**2 == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("batch", [0, 7])
def test_a_batch_that_is_none_is_refused(batch):
    network, x, y = network_problem()
    with pytest.raises(ValueError, match=f"a batch has {batch} points of 6; give from 1 to 6"):
        sgld(network, x, y, TEMPERATURE, STEP_SIZE, batch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scheme", ["sgld", "sgd", "gd", "adam"])
def test_a_resumed_chain_has_the_bits_of_one_that_was_not_stopped(scheme, dtype):
    network, x, y = network_problem(dtype)
    gradient = potential(network, x, y, TEMPERATURE)

    def build():
        if scheme in ("gd", "adam"):
            return {"gd": gd, "adam": adam}[scheme](gradient, STEP_SIZE)
        return {"sgld": sgld, "sgd": sgd}[scheme](network, x, y, TEMPERATURE, STEP_SIZE, 3)

    assert_resumes_to_the_bit(build, prior_start(network, 6, dtype))
