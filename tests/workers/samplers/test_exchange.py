"""Temperatures that are exchanged, and temperatures that move."""

import math

import numpy as np
import pytest
import torch

from support.sampling import (
    SEED,
    assert_resumes_to_the_bit,
    exact_linear,
    function_and_readout,
    prior_start,
    run,
    small_problem,
)
from workers.networks.networks import from_function, potential
from workers.philox import Noise
from workers.samplers.anneal import anneal, ramp, there_and_back
from workers.samplers.baoab import baoab
from workers.samplers.exchange import exchange

torch.set_num_threads(1)  # as in a worker

LADDER = [0.3, 0.5, 1.0, 2.5]


def double_well():
    """L = (θ² - 1)²/2 for a parameter of unit prior, as the loss of a function at one point."""

    def function(vector, x):
        return (vector[0] ** 2 - 1) * x[:, 0]

    one = torch.ones(1, 1, dtype=torch.float64)
    return from_function(function, 1, torch.ones(1, dtype=torch.float64)), one, one[0] * 0


def moments(temperature):
    """E z² and E z⁴ in the double well, by quadrature."""
    z = np.linspace(-6, 6, 20001)
    density = np.exp(-(z**2) / 2 - (z**2 - 1) ** 2 / (2 * temperature))
    return [float((z**power * density).sum() / density.sum()) for power in (2, 4)]


def swap_probability(sampler, state):
    """ln of the probability that each chain swaps with the next, by bisection of its normal."""
    low = torch.full((len(state.position),), -9.0, dtype=torch.float64)
    high, still = -low, torch.zeros_like(state.position)
    for _ in range(60):
        middle = (low + high) / 2
        normals = torch.cat([still, middle[:, None]], 1)
        swapped = sampler.step(state, lambda shape, dtype, normals=normals: normals).swaps > 0
        low, high = torch.where(swapped, middle, low), torch.where(swapped, high, middle)
    return torch.special.log_ndtr(low)


@pytest.mark.parametrize("turn", [0, 1])
def test_a_swap_has_the_probability_that_leaves_the_targets_as_they_are(turn):
    network, x, y, _ = small_problem("erf", 4, 2.0)
    ladders, rungs = 60, len(LADDER)
    still = exchange(network, x, y, LADDER, [0.0] * rungs, 0.0)  # swaps and nothing else
    noise = Noise(SEED, range(ladders * rungs), 0)
    state = still.init(0.3 * prior_start(network, ladders * rungs), noise.at(0))
    state = state._replace(steps=state.steps + turn)
    # U_T(z) of every rung's position at every rung's temperature, from the potential itself.
    energy = torch.stack([potential(network, x, y, t)(state.position)[0] for t in LADDER], 1)
    energy = energy.view(ladders, rungs, rungs)
    found = swap_probability(still, state).view(ladders, rungs)
    for rung in range(rungs):
        if rung % 2 != turn or rung == rungs - 1:
            assert (found[:, rung] < -30).all()  # not its turn
            continue
        here, there = energy[:, rung], energy[:, rung + 1]
        gain = here[:, rung] + there[:, rung + 1] - here[:, rung + 1] - there[:, rung]
        expected = gain.clamp_max(0)
        known = expected > -30
        assert 5 < (expected[known] < 0).sum() < len(expected)
        torch.testing.assert_close(found[:, rung][known], expected[known], rtol=0, atol=1e-9)


def test_a_swap_moves_all_that_belongs_to_a_position():
    network, x, y, _ = small_problem("erf", 4, 2.0)
    chains = 3 * len(LADDER)
    sampler = exchange(network, x, y, LADDER, [0.0] * len(LADDER), 0.0)
    noise = Noise(SEED, range(chains), 0)
    state = sampler.init(0.3 * prior_start(network, chains), noise.at(0))
    for step in range(1, 30):
        before, state = state, sampler.step(state, noise.at(step))
        source = [int((before.position == z).all(1).nonzero()) for z in state.position]
        assert sorted(source) == list(range(chains))  # one to one
        assert all(a // len(LADDER) == b // len(LADDER) for a, b in enumerate(source))
        for name in ("momentum", "loss", "force"):
            torch.testing.assert_close(getattr(state, name), getattr(before, name)[source])
        up = torch.tensor([a < b for a, b in enumerate(source)])
        assert torch.equal(state.swaps - before.swaps, up.long())
        loss, _ = network.loss_and_gradient(state.position * network.standard_deviations, x, y)
        torch.testing.assert_close(state.loss, loss)
    assert (state.swaps.view(3, -1)[:, :-1] > 0).all()
    assert (state.swaps.view(3, -1)[:, -1] == 0).all()


def test_a_ladder_of_one_rung_is_baoab():
    network, x, y, _ = small_problem("erf", 4, 2.0)
    start, noise = prior_start(network, 5), Noise(SEED, range(5), 0)
    plain = run(baoab(potential(network, x, y, 0.5), 0.1, 0.7), start, noise, 20)
    for same in (
        exchange(network, x, y, [0.5], [0.1], 0.7),
        anneal(network, x, y, ramp(0.5, 0.5, 10), 0.1, 0.7),
    ):
        state = run(same, start, noise, 20)
        torch.testing.assert_close(state.position, plain.position, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(state.momentum, plain.momentum, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("beyond", [math.nan, 1e200])  # the loss of the second is infinite
def test_a_broken_chain_stays_where_it_is(beyond):
    network, x, y, _ = small_problem("erf", 4, 2.0)
    start = prior_start(network, 8)
    start[5] = beyond
    sampler = exchange(network, x, y, LADDER, [0.05] * 4, 1.0)
    state = run(sampler, start, Noise(SEED, range(8), 0), 20)
    broken = ~(state.position.abs() < 1e3).all(1)
    assert broken.nonzero().flatten().tolist() == [5]


@pytest.mark.slow
def test_exchange_crosses_a_barrier_that_langevin_dynamics_does_not():
    """All start in one well, 16 T deep on the lowest rung; every rung must find its own law."""
    model, x, y = double_well()
    temperatures, ladders = [0.03, 0.08, 0.2, 0.6], 120
    # ε² λ is 0.03 at the bottom of the wells, λ = 1 + 4/T: the bias is below the standard errors.
    step_sizes = [0.17 / math.sqrt(1 + 4 / temperature) for temperature in temperatures]
    sampler = exchange(model, x, y, temperatures, step_sizes, 1.0)
    chains = ladders * len(temperatures)
    noise = Noise(SEED, range(chains), 0)
    state = sampler.init(torch.ones(chains, 1, dtype=torch.float64), noise.at(0))
    seen = []
    for step in range(1, 1201):
        state = sampler.step(state, noise.at(step))
        if step > 400 and step % 5 == 0:
            seen.append(torch.cat([state.position, state.position**2, state.position**4], 1))
    # Ladders are independent, chains of one ladder are not.
    means = torch.stack(seen).mean(0).view(ladders, len(temperatures), 3)
    found, error = means.mean(0), means.std(0) / math.sqrt(ladders)
    exact = torch.tensor([[0.0, *moments(temperature)] for temperature in temperatures])
    assert ((found - exact).abs() < 5 * error).all(), (found - exact) / error
    assert (state.swaps.view(ladders, -1)[:, :-1] > 0).all()
    alone = baoab(potential(model, x, y, temperatures[0]), step_sizes[0], 1.0)
    start = torch.ones(ladders, 1, dtype=torch.float64)
    assert (run(alone, start, Noise(SEED, range(ladders), 0), 1200).position > 0).all()


@pytest.mark.slow
def test_every_rung_samples_its_own_posterior():
    width, ladders = 2, 500
    network, x, y, points = small_problem("linear", width, 2.0)
    exact = [exact_linear(network, x, y, points, t, width) for t in LADDER]
    sampler = exchange(network, x, y, LADDER, [0.04, 0.06, 0.08, 0.1], 1.0)
    chains = ladders * len(LADDER)
    noise = Noise(SEED, range(chains), 0)
    state, seen = sampler.init(prior_start(network, chains), noise.at(0)), []
    for step in range(1, 601):
        state = sampler.step(state, noise.at(step))
        if step > 200 and step % 10 == 0:
            rungs = (state.position * network.standard_deviations).view(ladders, len(LADDER), -1)
            rows = [
                function_and_readout(network, points, centre[:2])(rungs[:, rung])
                for rung, centre in enumerate(exact)
            ]
            seen.append(torch.stack(rows, 1))
    means = torch.stack(seen).mean(0)
    found, error = means.mean(0), means.std(0) / math.sqrt(ladders)
    for rung, expected in enumerate(exact):
        apart = (found[rung] - expected).abs() / error[rung]
        assert (apart < 5).all(), (rung, apart)
        for other in exact[:rung] + exact[rung + 1 :]:
            assert ((found[rung] - other).abs() > 7 * error[rung]).any()


def test_schedules():
    down = ramp(10.0, 0.1, 100)
    assert [down(k) for k in (0, 50, 100, 1000)] == pytest.approx([10, 1, 0.1, 0.1], rel=1e-12)
    loop = there_and_back(0.1, 10.0, 80)
    assert [loop(k) for k in (0, 20, 40, 80, 99)] == pytest.approx([0.1, 1, 10, 0.1, 0.1])
    assert [loop(k) for k in range(81)] == pytest.approx([loop(80 - k) for k in range(81)])


@pytest.mark.slow
def test_variance_along_an_annealing_path_is_what_linear_dynamics_makes_of_it():
    """L = θ²/2: a step is linear in (z, p) and ξ, so that their covariance is known at each k."""

    def function(vector, x):
        return vector[0] * x[:, 0]

    model = from_function(function, 1, torch.ones(1, dtype=torch.float64))
    x, step_size, friction, chains = torch.ones(1, 1).double(), 0.2, 1.0, 5000
    schedule = there_and_back(5.0, 0.05, 24)
    sampler = anneal(model, x, torch.zeros(1).double(), schedule, step_size, friction)
    noise = Noise(SEED, range(chains), 0)
    state = sampler.init(2 * Noise(SEED, range(chains), 1)(0, (1,), torch.float64), noise.at(0))
    covariance = np.diag([4.0, 1.0])
    drift = np.array([[1.0, step_size / 2], [0.0, 1.0]])
    decay = math.exp(-friction * step_size)
    for step in range(1, 30):
        state = sampler.step(state, noise.at(step))
        kick = np.array([[1.0, 0.0], [-step_size / 2 * (1 + 1 / schedule(step)), 1.0]])
        before, after = drift @ kick, kick @ drift
        covariance = before @ covariance @ before.T
        covariance = np.diag([1, decay]) @ covariance @ np.diag([1, decay])
        covariance[1, 1] += 1 - decay**2
        covariance = after @ covariance @ after.T
        # A sample variance has standard error √(2/n) of itself.
        for found, expected in zip(
            (state.position, state.momentum), np.diag(covariance), strict=True
        ):
            assert found.square().mean().item() == pytest.approx(
                expected, rel=5 * math.sqrt(2 / chains)
            )
        if step == 12:  # half-way, out of equilibrium
            assert abs(covariance[0, 0] * (1 + 1 / schedule(step)) - 1) > 0.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scheme", ["exchange", "anneal"])
def test_a_resumed_chain_has_the_bits_of_one_that_was_not_stopped(scheme, dtype):
    network, x, y, _ = small_problem("erf", 5, 2.0, bias=0.1)
    x, y = x.to(dtype), y.to(dtype)

    def build():
        if scheme == "exchange":
            return exchange(network, x, y, LADDER, [0.1, 0.12, 0.15, 0.2], 1.0)
        return anneal(network, x, y, there_and_back(3.0, 0.2, 10), 0.1, 1.0)

    assert_resumes_to_the_bit(build, prior_start(network, 8, dtype))


def test_what_is_no_ladder_is_refused():
    network, x, y, _ = small_problem("erf", 4, 2.0)
    with pytest.raises(ValueError, match="1 step sizes are given for temperatures"):
        exchange(network, x, y, LADDER, [0.1], 1.0)
    with pytest.raises(ValueError, match="give one for each of some positive temperatures"):
        exchange(network, x, y, [1.0, 0.0], [0.1, 0.1], 1.0)
    sampler = exchange(network, x, y, LADDER, [0.1] * 4, 1.0)
    with pytest.raises(ValueError, match="a block has 6 chains for 4 temperatures"):
        sampler.init(prior_start(network, 6), Noise(SEED, range(6), 0).at(0))
    with pytest.raises(ValueError, match="give positive numbers"):
        ramp(1.0, 0.0, 10)
