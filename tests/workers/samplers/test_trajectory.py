"""Pairs of networks in time: what cancels, what the steps do, and the flow of one network."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import fully_connected, potential
from workers.philox import Noise
from workers.samplers.trajectory import NETWORKS, folded, started, trajectory

torch.set_num_threads(1)

CHAINS, SIZE = 3, 5
TEMPERATURE = 0.4


def network(depth: int):
    return fully_connected(
        3, [6] * depth, ACTIVATIONS["erf"], weight_variance=[1.3] * (depth + 1),
        bias_variance=0.2, chi=2.0,
    )  # fmt: skip


def problem(depth: int):
    """A network, its points and labels, the signs of a mirrored one, and draws of the prior."""
    model, draw = network(depth), np.random.default_rng(depth)
    x = torch.from_numpy(draw.standard_normal((4, 3)))
    y = torch.from_numpy(draw.standard_normal(4))
    signs = torch.ones(model.size, dtype=torch.float64)
    signs[model.layers[-1].start :] = -1
    position = torch.from_numpy(draw.standard_normal((CHAINS, model.size)))
    return model, x, y, signs, position


def moved(sampler, position, pairs: int):
    noise = Noise(7, range(len(position)), 1)
    state = sampler.init(position, noise.at(0))
    for step in range(pairs):
        state = sampler.step(state, noise.at(step))
    return state


@pytest.mark.parametrize("depth", [1, 3])
def test_outputs_of_a_pair_cancel_at_the_start(depth):
    model, x, _, signs, position = problem(depth)
    state = started(position, signs, 0)
    assert len(state.position) == NETWORKS * CHAINS
    found = model.outputs(state.position * model.standard_deviations, x)
    assert found.abs().min() > 0
    assert folded(found).value.abs().max() < 1e-14


def test_flow_along_a_mode_is_that_of_the_rule_extrapolated():
    rates = torch.linspace(0.2, 1.5, SIZE, dtype=torch.float64)
    start, pairs = torch.ones(CHAINS, SIZE, dtype=torch.float64), 10

    def error(step: float, count: int) -> torch.Tensor:
        gradient = lambda z: (z.square().sum(1), z * (1 + rates))  # noqa: E731
        sampler = trajectory(gradient, step, torch.ones(SIZE).double(), langevin=False)
        value = folded(moved(sampler, start, count).position).value[0]
        rule = 2 * (1 - step * rates) ** (2 * count) - (1 - 2 * step * rates) ** count
        assert torch.allclose(value, rule, rtol=1e-12)
        return (value - torch.exp(-2 * step * count * rates)).abs()

    halved = error(0.025, 2 * pairs) / error(0.05, pairs)
    assert (halved - 0.25).abs().max() < 0.05  # of second order


def test_both_steps_have_the_same_noise_and_a_pair_opposite_noise_at_the_readout():
    signs = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    none = lambda z: (z.sum(1), torch.zeros_like(z))  # noqa: E731
    start = torch.zeros(CHAINS, SIZE, dtype=torch.float64)
    state = moved(trajectory(none, 0.1, signs, langevin=True), start, 40)
    (plus, minus), coarse = state.position.view(2, 2, CHAINS, SIZE)
    assert torch.equal(minus, plus * signs)
    assert torch.allclose(coarse, state.position.view(2, 2, CHAINS, SIZE)[0], atol=1e-13)
    # dz = √2 dB: a variance of 2t, over 15 independent numbers
    assert plus.square().mean().item() == pytest.approx(2 * 8, rel=5 * (2 / 15) ** 0.5)


@pytest.mark.parametrize("depth", [1, 2])
def test_networks_follow_the_flow_of_their_loss(depth):
    """A network on its own, by an integrator that knows nothing of pairs and steps."""
    model, x, y, signs, position = problem(depth)
    widths, end = model.standard_deviations, 0.5

    def slope(_, z):
        _, gradient = model.loss_and_gradient(torch.from_numpy(z)[None] * widths, x, y)
        return -(gradient[0] * widths / TEMPERATURE).numpy()

    def exact(z):
        solved = solve_ivp(slope, (0, end), z.numpy(), rtol=1e-9, atol=1e-9)
        return torch.from_numpy(solved.y[:, -1])

    expected = torch.stack([(exact(z) + exact(z * signs)) / 2 for z in position])

    def error(pairs: int) -> float:
        gradient = potential(model, x, y, TEMPERATURE)
        sampler = trajectory(gradient, end / (2 * pairs), signs, langevin=False)
        return float((folded(moved(sampler, position, pairs).position).value - expected).norm())

    assert error(200) < 1e-3
    assert error(200) / error(100) == pytest.approx(0.25, rel=0.3)
