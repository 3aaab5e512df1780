"""The Metropolis-adjusted Langevin algorithm."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from support.sampling import SEED, assert_resumes_to_the_bit, assert_samples_exactly, run
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import fully_connected, potential
from workers.philox import Noise
from workers.samplers.mala import mala
from workers.samplers.ula import ula

torch.set_num_threads(1)  # as in a worker

STEP_SIZE = 0.12  # ε: a third of the proposals in the double well are refused
GRID = np.linspace(-3, 3, 60001)
EDGES = np.concatenate([[-3], np.linspace(-1.5, 1.5, 13), [3]])


def double_well(position):
    """U = Σ (z² - 1)² + z/2: neither Gaussian nor symmetric."""
    energy = (position.square() - 1).square().sum(1) + position.sum(1) / 2
    return energy, 4 * position * (position.square() - 1) + 0.5


def probabilities():
    """Of the bins between EDGES, by quadrature of exp(-U)."""
    density = np.exp(-double_well(torch.tensor(GRID)[:, None])[0].numpy())
    mass, _ = np.histogram(GRID, EDGES, weights=density)
    return mass / mass.sum()


def equilibrium(chains):
    """Independent draws from exp(-U), by inversion."""
    density = np.exp(-double_well(torch.tensor(GRID)[:, None])[0].numpy())
    cumulative = np.cumsum(density) / density.sum()
    uniform = np.random.default_rng(SEED).random(chains)
    return torch.tensor(np.interp(uniform, cumulative, GRID))[:, None]


def bins(position):
    return np.digitize(position[:, 0].numpy(), EDGES[1:-1])


def acceptance(gradient, start, end):
    """ln of the probability that a step from start to end is made, once it is proposed.

    It is the sampler's own, by bisection of the normal that decides.
    """
    sampler = mala(gradient, STEP_SIZE)

    def silence(shape, dtype):
        return torch.zeros(len(start), *shape, dtype=dtype)

    state = sampler.init(start, silence)
    kick = (end - start + STEP_SIZE * state.gradient) / math.sqrt(2 * STEP_SIZE)
    low, high = torch.full((len(start),), -9.0).double(), torch.full((len(start),), 9.0).double()
    for _ in range(60):
        middle = (low + high) / 2
        normals = torch.cat([kick, middle[:, None]], 1)
        moved = sampler.step(state, lambda shape, dtype, normals=normals: normals).accepted > 0
        low, high = torch.where(moved, middle, low), torch.where(moved, high, middle)
    return torch.special.log_ndtr(low)


def log_flow(gradient, start, end):
    """ln π(start) q(start → end), up to a constant, as it is written."""
    energy, slope = gradient(start)
    drift = torch.distributions.Normal(start - STEP_SIZE * slope, math.sqrt(2 * STEP_SIZE))
    return drift.log_prob(end).sum(1) - energy


@pytest.mark.parametrize("parameters", [1, 3])
def test_transition_density_is_reversible_and_as_large_as_it_can_be(parameters):
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(500, parameters, generator=generator, dtype=torch.float64)
    end = start + 0.5 * torch.randn(500, parameters, generator=generator, dtype=torch.float64)
    there, back = acceptance(double_well, start, end), acceptance(double_well, end, start)
    flow_there = log_flow(double_well, start, end) + there
    flow_back = log_flow(double_well, end, start) + back
    known = (there > -30) & (back > -30)  # within reach of the bisection
    assert known.sum() > 400
    assert (torch.maximum(there, back)[known] > -1e-15).all()
    assert ((there < -0.1) & known).sum() > 100
    torch.testing.assert_close(flow_there[known], flow_back[known], rtol=0, atol=1e-9)


def test_equilibrium_has_no_currents():
    chains = 100_000
    noise, start = Noise(SEED, range(chains), 0), equilibrium(chains)
    expected = chains * probabilities()
    flow = {}
    for build in (mala, ula):
        before, after = (
            bins(start),
            bins(run(build(double_well, STEP_SIZE), start, noise, 1).position),
        )
        count = np.zeros((len(expected), len(expected)))
        np.add.at(count, (before, after), 1)
        flow[build] = count
        current, total = count - count.T, count + count.T
        seen = total > 0
        # A current is the difference of two counts, whose variance is their sum.
        largest = (np.abs(current)[seen] / np.sqrt(total[seen])).max()
        arrived = stats.chisquare(count.sum(0), expected).pvalue
        if build is mala:
            assert largest < 5
            assert arrived > 1e-4
        else:  # the same proposals, all of them accepted
            assert largest > 5
            assert arrived < 1e-6


@pytest.mark.slow
def test_histogram_is_that_of_the_target():
    chains, parameters = 2000, 8  # all independent in equilibrium
    noise = Noise(SEED, range(chains), 0)
    start = torch.zeros(chains, parameters, dtype=torch.float64)
    expected = chains * parameters * probabilities()
    for build in (mala, ula):
        position = run(build(double_well, STEP_SIZE), start, noise, 200).position.view(-1, 1)
        pvalue = stats.chisquare(np.bincount(bins(position), minlength=len(expected)), expected)[1]
        assert pvalue > 1e-4 if build is mala else pvalue < 1e-6


def test_accepted_counts_the_moves():
    sampler, noise = mala(double_well, STEP_SIZE), Noise(SEED, range(50), 0)
    state = sampler.init(torch.ones(50, 3, dtype=torch.float64), noise.at(0))
    moves = torch.zeros(50, dtype=torch.int64)
    for step in range(1, 41):
        before, state = state.position, sampler.step(state, noise.at(step))
        moved = (state.position != before).any(1)
        moves += moved
        energy, gradient = double_well(state.position)
        torch.testing.assert_close(state.energy, energy, rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(state.gradient, gradient, rtol=1e-14, atol=1e-14)
    assert torch.equal(state.accepted, moves)
    assert 0 < moves.sum() < 50 * 40


@pytest.mark.parametrize("beyond", [math.inf, math.nan])
def test_a_proposal_without_a_finite_energy_is_refused(beyond):
    def walled(position):
        inside = (position > 0).all(1)
        energy = torch.where(inside, position.sum(1), torch.tensor(beyond))
        return energy, torch.ones_like(position)

    start = torch.full((200, 1), 0.1, dtype=torch.float64)
    state = run(mala(walled, 0.5), start, Noise(SEED, range(200), 0), 20)
    assert (state.position > 0).all()
    assert state.energy.isfinite().all()
    assert (state.accepted < 20).any()


def test_a_chain_has_the_same_bits_in_any_block():
    start = Noise(SEED, range(9), 1)(0, (30,), torch.float32)
    together = run(mala(double_well, 0.02), start, Noise(SEED, range(9), 0), 20)
    some = [7, 2]
    apart = run(mala(double_well, 0.02), start[some], Noise(SEED, some, 0), 20)
    assert torch.equal(apart.position, together.position[some])
    assert torch.equal(apart.accepted, together.accepted[some])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_resumed_chain_has_the_bits_of_one_that_was_not_stopped(dtype):
    network = fully_connected(
        3, (8,), ACTIVATIONS["erf"], weight_variance=[1.0, 2.0], bias_variance=0.1, chi=1.0
    )
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    gradient = potential(network, x, x[:, 0].clone(), 0.5)
    start = Noise(SEED, range(6), 1)(0, (network.size,), dtype)
    assert_resumes_to_the_bit(lambda: mala(gradient, 0.02), start)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "readout", "chi"), [(2, 2.0, 1.0), (8, 3.0, 2.0)])
def test_mala_samples_the_exact_posterior_of_a_linear_network(width, readout, chi):
    assert_samples_exactly(
        lambda network, x, y, temperature: mala(potential(network, x, y, temperature), 0.03),
        width,
        readout,
        chi=chi,
        chains=1000,
        steps=500,
        warmup=150,
        thin=10,
    )
