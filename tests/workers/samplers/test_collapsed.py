"""The readout integrated out, and drawn again."""

import math

import pytest
import torch

from support.sampling import (
    SEED,
    assert_resumes_to_the_bit,
    assert_samples_exactly,
    averages,
    function_and_readout,
    prior_start,
    run,
    small_problem,
)
from workers.networks.networks import potential
from workers.philox import Noise
from workers.samplers import linear_model
from workers.samplers.baoab import baoab
from workers.samplers.collapsed import collapsed, marginal
from workers.samplers.gibbs import gibbs
from workers.samplers.linear_model import normals_needed, regress

torch.set_num_threads(1)  # as in a worker

TEMPERATURE = 0.3
SIZES = [(4, 9), (6, 6), (9, 4)]  # labels and neurons: n < N, n = N, N < n
EPS = torch.finfo(torch.float64).eps


def features_of(network, hidden, x):
    """√s φ(h), (n, N), of one chain, from the names of the layout."""
    part = {n.name: n for n in network.layers}
    weights = hidden[: part["weight_1"].stop].view(network.widths[0], -1)
    field = x @ weights.T * part["weight_1"].standard_deviation
    if "bias_1" in part:
        bias = hidden[part["bias_1"].start : part["bias_1"].stop]
        field = field + bias * part["bias_1"].standard_deviation
    return network.activation.phi(field) * part["readout"].standard_deviation


def dense(network, hidden, x, y):
    """U of one chain's hidden weights, as it is written."""
    features = features_of(network, hidden, x)
    total = features @ features.T + TEMPERATURE * torch.eye(len(x), dtype=torch.float64)
    data = y @ torch.linalg.solve(total, y) + torch.logdet(total)
    return (data + hidden @ hidden) / 2


def evaluated(network, x, y, chains=5):
    """Whitened hidden weights of a few chains, and what the sampler knows there."""
    hidden = prior_start(network, chains)[:, : network.layers[-1].start]
    normals = torch.zeros(chains, normals_needed(len(x), network.widths[0]), dtype=torch.float64)
    return hidden, marginal(network, x, y, TEMPERATURE)(hidden, normals)


@pytest.mark.parametrize("activation", ["linear", "erf", "relu", "tanh"])
@pytest.mark.parametrize("bias", [0.0, 0.4])
@pytest.mark.parametrize(("train", "width"), SIZES)
def test_energy_and_gradient_equal_automatic_differentiation(activation, bias, train, width):
    network, x, y, _ = small_problem(activation, width, 2.0, bias=bias, train=train)
    hidden, found = evaluated(network, x, y)
    for chain, vector in enumerate(hidden):
        variable = vector.clone().requires_grad_()
        energy = dense(network, variable, x, y)
        (slope,) = torch.autograd.grad(energy, variable)
        torch.testing.assert_close(found.energy[chain], energy.detach(), rtol=1e-12, atol=0)
        size = slope.abs().max().item()
        torch.testing.assert_close(found.gradient[chain], slope, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize(("train", "width"), SIZES)
def test_the_joint_law_is_the_marginal_one_times_the_law_of_the_readout(train, width):
    """U(hidden, readout) at the mean readout, where the Gaussian of the readout is highest."""
    network, x, y, _ = small_problem("erf", width, 2.0, train=train)
    hidden, found = evaluated(network, x, y)
    joint, slope = potential(network, x, y, TEMPERATURE)(torch.cat([hidden, found.readout], 1))
    torch.testing.assert_close(slope[:, hidden.shape[1] :], torch.zeros(5, width).double())
    for chain, vector in enumerate(hidden):
        features = features_of(network, vector, x)
        precision = torch.eye(width, dtype=torch.float64) + features.T @ features / TEMPERATURE
        spread = (torch.logdet(precision) + train * math.log(TEMPERATURE)) / 2
        torch.testing.assert_close(found.energy[chain], joint[chain] + spread, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("n", "p"), SIZES)
def test_a_draw_of_the_linear_model_has_the_posterior_mean_and_covariance(n, p):
    """A draw is affine in its normals: one normal at a time shows the whole law."""
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(n, p, generator=generator, dtype=torch.float64)
    y = torch.randn(n, generator=generator, dtype=torch.float64)
    count = normals_needed(n, p)
    normals = torch.cat([torch.zeros(1, count), torch.eye(count)])
    model = regress(features.expand(count + 1, -1, -1), y, TEMPERATURE)
    mean, *directions = model.draw(normals)
    directions = torch.stack(directions) - mean
    precision = torch.eye(p, dtype=torch.float64) + features.T @ features / TEMPERATURE
    covariance = torch.linalg.inv(precision)
    tolerance = 100 * EPS * torch.linalg.cond(precision).item()
    expected = covariance @ features.T @ y / TEMPERATURE
    torch.testing.assert_close(mean, expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(directions.T @ directions, covariance, rtol=0, atol=tolerance)
    torch.testing.assert_close(model.mean[0], expected, rtol=0, atol=tolerance)


def test_chains_in_parts_are_the_chains_together(monkeypatch):
    network, x, y, _ = small_problem("erf", 4, 2.0)
    _, whole = evaluated(network, x, y)
    monkeypatch.setattr(linear_model, "CPU_ELEMENTS", 2 * len(x) * 4)  # two chains at a time
    _, parts = evaluated(network, x, y)
    for together, apart in zip(whole, parts, strict=True):
        torch.testing.assert_close(apart, together, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("train", "width"), SIZES)
def test_algebra_of_a_network_in_float32_is_in_float64(train, width):
    """What is lost is the rounding of the network, not of the inverse of a matrix."""
    network, x, y, _ = small_problem("erf", width, 200.0, train=train)
    x[1], cold = x[0], 1e-5  # so that the matrix is nearly singular
    hidden = prior_start(network, 5)[:, : network.layers[-1].start].float()
    normals = torch.zeros(5, normals_needed(train, width))
    single = marginal(network, x.float(), y.float(), cold)(hidden, normals)
    assert {part.dtype for part in single} == {torch.float32}
    weights = hidden.double() * network.standard_deviations[: hidden.shape[1]]
    field = network.pre_activations(weights.float(), x.float())[0]
    features = (network.activation.phi(field).mT * network.layers[-1].standard_deviation).double()
    total = features @ features.mT + cold * torch.eye(train, dtype=torch.float64)
    assert torch.linalg.cond(total).min() > 1e5
    labels = y.float().double()
    data = labels @ torch.linalg.solve(total, labels.expand(5, -1))[..., None]
    energy = (data[:, 0] + torch.logdet(total) + hidden.double().square().sum(1)) / 2
    torch.testing.assert_close(single.energy.double(), energy, rtol=1e-6, atol=0)


def test_a_matrix_without_a_cholesky_factor_makes_no_numbers_up():
    """Features of rank 2 of which rounding is more than the temperature: pivots may be negative."""
    generator = torch.Generator().manual_seed(4)
    left = torch.randn(20, 6, 2, generator=generator, dtype=torch.float64)
    features = 1e8 * left @ torch.randn(20, 2, 8, generator=generator, dtype=torch.float64)
    features[0] *= 1e-8  # a chain with nothing the matter
    y, normals = torch.ones(6, dtype=torch.float64), torch.zeros(20, 14)
    gram = features @ features.mT
    gram.diagonal(dim1=1, dim2=2).add_(1e-6)
    factor, failed = torch.linalg.cholesky_ex(gram)
    unusable = torch.cholesky_solve(y.expand(20, -1)[..., None], factor)
    assert (unusable.isfinite().all(1)[:, 0] & (failed > 0)).any()
    model = regress(features, y, 1e-6)
    for found in (model.mean, model.draw(normals), model.energy[:, None]):
        assert torch.equal(found.isnan().all(1), failed > 0)
    torch.testing.assert_close(model.mean[:1], regress(features[:1], y, 1e-6).mean)


def test_a_diverged_chain_leaves_the_others_alone():
    network, x, y, _ = small_problem("relu", 4, 2.0)
    start = prior_start(network, 4)
    sampler = collapsed(network, x, y, TEMPERATURE, 0.1, 1.0)
    noise = Noise(SEED, range(4), 0)
    sound = run(sampler, start, noise, 3)
    start[1] = math.nan
    state = run(sampler, start, noise, 3)
    assert state.position[1].isnan().all()
    others = [0, 2, 3]
    torch.testing.assert_close(state.position[others], sound.position[others])


def test_the_hidden_weights_move_as_baoab_moves_them():
    network, x, y, _ = small_problem("erf", 4, 2.0)
    hidden, spare = network.layers[-1].start, normals_needed(len(x), 4)
    energy = marginal(network, x, y, TEMPERATURE)
    nothing = torch.zeros(5, spare, dtype=torch.float64)
    plain = baoab(lambda z: energy(z, nothing)[:2], 0.1, 0.7)
    start, noise = prior_start(network, 5), Noise(SEED, range(5), 0)
    found = run(collapsed(network, x, y, TEMPERATURE, 0.1, 0.7), start, noise, 20)
    expected = run(plain, start[:, :hidden], noise, 20)
    torch.testing.assert_close(found.position[:, :hidden], expected.position)
    torch.testing.assert_close(found.momentum, expected.momentum)
    torch.testing.assert_close(found.energy, expected.energy)


def test_the_hidden_weights_do_not_know_the_readout():
    network, x, y, _ = small_problem("erf", 4, 2.0)
    sampler, noise = collapsed(network, x, y, TEMPERATURE, 0.1, 1.0), Noise(SEED, range(4), 0)
    hidden = network.layers[-1].start
    state = sampler.init(prior_start(network, 4), noise.at(0))
    other = state._replace(position=state.position.clone())
    other.position[:, hidden:] += 3
    moved, moved_2 = sampler.step(state, noise.at(1)), sampler.step(other, noise.at(1))
    assert all(map(torch.equal, moved, moved_2))


def test_what_it_cannot_do_it_refuses():
    network, x, y, _ = small_problem("erf", 4, 2.0, depth=2)
    with pytest.raises(ValueError, match="the network has 2 hidden layers"):
        collapsed(network, x, y, TEMPERATURE, 0.1, 1.0)
    network, x, y, _ = small_problem("erf", 4, 2.0)
    with pytest.raises(ValueError, match="labels have shape"):
        collapsed(network, x, y[:, None], TEMPERATURE, 0.1, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("train", "width"), SIZES)
def test_a_resumed_chain_has_the_bits_of_one_that_was_not_stopped(train, width, dtype):
    network, x, y, _ = small_problem("erf", width, 2.0, bias=0.1, train=train)
    assert_resumes_to_the_bit(
        lambda: collapsed(network, x.to(dtype), y.to(dtype), TEMPERATURE, 0.1, 1.0),
        prior_start(network, 6, dtype),
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("width", "readout", "chi"), [(2, 2.0, 1.0), (8, 3.0, 2.0)])
def test_it_samples_the_exact_posterior_of_a_linear_network(width, readout, chi, dtype):
    assert_samples_exactly(
        lambda network, x, y, temperature: collapsed(
            network, x.to(dtype), y.to(dtype), temperature, 0.3, 1.0
        ),
        width,
        readout,
        chi=chi,
        chains=1500,
        steps=150,
        warmup=50,
        thin=2,
        dtype=dtype,
    )


@pytest.mark.slow
@pytest.mark.parametrize("width", [3, 8])
def test_schemes_agree_on_a_network_that_is_not_linear(width):
    network, x, y, points = small_problem("erf", width, 4.0, bias=0.1)
    observe = function_and_readout(network, points, torch.zeros(2))
    runs = {
        "collapsed": (collapsed(network, x, y, TEMPERATURE, 0.2, 1.0), 150, 50, 2),
        "gibbs": (gibbs(network, x, y, TEMPERATURE, 0.1, 1.0, 4), 150, 50, 2),
        "baoab": (baoab(potential(network, x, y, TEMPERATURE), 0.07, 1.0), 600, 200, 6),
    }
    found = {
        name: averages(sampler, network, observe, chains=600, steps=steps, warmup=warmup, thin=thin)
        for name, (sampler, steps, warmup, thin) in runs.items()
    }
    for name, (mean, error) in found.items():
        for other, (mean_2, error_2) in found.items():
            apart = (mean - mean_2).abs() / torch.sqrt(error**2 + error_2**2)
            assert name == other or (apart < 5).all(), (name, other, apart)
    # They are not all noise: at twice the temperature the means are others.
    hot, error_2 = averages(
        collapsed(network, x, y, 2 * TEMPERATURE, 0.2, 1.0),
        network,
        observe,
        chains=600,
        steps=150,
        warmup=50,
        thin=2,
    )
    mean, error = found["baoab"]
    assert ((mean - hot).abs() > 7 * torch.sqrt(error**2 + error_2**2)).any()
