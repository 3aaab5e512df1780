"""Mean-field dynamics by particles: what is known exactly, limits, and where it comes to rest."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from theory.activations.neurons import quasi_normals
from theory.dynamics import gradient_flow, mean_field, volterra
from theory.dynamics.two_time import TwoTimeKernels
from theory.finite_width.adaptive import adaptive_kernel
from theory.kernels.fully_connected import nngp_and_ntk
from theory.single_index.gaussian_index import infinite_width
from theory.single_index.order_parameter import order_parameter
from theory.single_index.problems import hermite_target, problem

TRAIN, TEST, DIMENSION = 6, 3, 4
NETWORK = {"activation": "erf", "weight_variance": (1.4, 0.05), "bias_variance": 0.1}


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points of training and others after them, and labels of the former."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(TRAIN + TEST, DIMENSION, generator=generator, dtype=torch.float64)
    return x, torch.sin(2 * x[:TRAIN, 0]) + x[:TRAIN, 1]


def dynamics(times, **changes):
    x, y = data()
    settings = {"width": 20.0, "temperature": 0.0, "x_test": x[TRAIN:]} | NETWORK
    return mean_field(x[:TRAIN], y, times, **(settings | changes))


# -- known exactly --------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2.0, 10.0, 1e6])
def test_one_point_of_a_linear_network(width):
    """df/dt = 2 σ_a² √(1 + γ_0² f²) (y - f) with γ_0² = 1/(N σ_a²), and the tangent kernel."""
    x, y, variance = torch.ones(1, 1, dtype=torch.float64), 1.7, 0.05
    strength = 1 / (width * variance)
    times = [1.0, 4.0, 10.0, 40.0]

    def speed(time, f):
        return 2 * variance * math.sqrt(1 + strength * f[0] ** 2) * (y - f[0])

    expected = solve_ivp(speed, (0, times[-1]), [0.0], t_eval=times, rtol=1e-10, atol=1e-12).y[0]
    labels = torch.tensor([y], dtype=torch.float64)
    found = mean_field(
        x,
        labels,
        times,
        width=width,
        temperature=0.0,
        activation="linear",
        weight_variance=(1.0, variance),
        step=0.4,
        replicas=8,
    )
    # Half of the outputs' error is the largest that 8 replicas leave at 5 standard errors of t_7.
    bound = 8 * found.error.output[:, 0] + found.step_error.output[:, 0] + 1e-9
    assert bool(((found.output[:, 0] - torch.from_numpy(expected)).abs() < bound).all())
    assert found.error.output.max() < 0.01
    tangent = found.kernel[:, 0, 0] + variance * found.readout_variance
    law = 2 * variance * torch.sqrt(1 + strength * found.output[:, 0] ** 2)
    torch.testing.assert_close(tangent, law, rtol=0.01, atol=0)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_gradient_flow_conserves_what_homogeneous_networks_do(activation):
    """|ŵ|² - â² of each neuron where φ(cz) = c φ(z), but for the step."""
    found = dynamics([0.0, 1.0, 5.0, 30.0], activation=activation)
    kept = found.weight_covariance.diagonal(dim1=1, dim2=2).sum(1) - found.readout_variance
    moved = found.readout_variance[-1] - found.readout_variance[0]
    assert moved > 0.1
    bound = found.step_error.readout_variance + found.step_error.weight_covariance.sum((1, 2))
    assert bool(((kept - kept[0]).abs() <= bound + 1e-12).all())
    assert bound.max() < 0.05 * moved


def test_energy_is_lost_and_labels_are_learned():
    found = dynamics([0.0, 0.5, 1, 2, 4, 8, 16, 100.0], particles=512)
    _, y = data()
    assert found.output[0].abs().max() < 1e-15
    assert float(found.loss[0]) == pytest.approx(float(y.square().sum()) / 2)
    assert bool((found.loss.diff() < 0).all())
    assert found.loss[-1] < 0.01 * found.loss[0]


def test_pairs_start_from_the_prior():
    """In averages over pairs (±â, ŵ), of which there are no outputs."""
    found = dynamics([0.0], particles=8192)
    x, _ = data()
    prior, _ = nngp_and_ntk(x, depth=1, **NETWORK)
    identity = torch.eye(DIMENSION + 1, dtype=torch.float64)
    torch.testing.assert_close(found.weight_covariance[0], identity, rtol=0, atol=0.01)
    torch.testing.assert_close(found.kernel[0], prior, rtol=0.02, atol=2e-4)


# -- limits ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.01])
def test_wide_networks_in_standard_scaling_are_lazy(temperature):
    """N → ∞ at fixed σ_a²: the NTK, and with noise and decay the Volterra equation."""
    x, y = data()
    times = [1.0, 10.0, 40.0, 200.0]
    found = dynamics(times, width=1e8, temperature=temperature)
    if temperature:
        net = {"depth": 1, "temperature": temperature} | NETWORK
        expected = volterra(x[:TRAIN], y, times, x_test=x[TRAIN:], **net)
    else:
        expected = gradient_flow(nngp_and_ntk(x, depth=1, **NETWORK), y, times)
    # 4 replicas: t_3 at 1e-4 is 11. Features move by 1/√N.
    bound = 11 * found.error.output + found.step_error.output + 1e-3
    assert bool(((found.output - expected.output).abs() < bound).all())
    assert found.error.output.max() < 0.05


@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_features_that_are_not_learned_forget_with_the_weights(temperature):
    """σ_a² E[φφ'] of lazy networks at two times, where weights have the correlation e^{-Tτ}."""
    x, _ = data()
    times = [1.0, 4.0, 20.0]
    found = dynamics(times, width=1e8, temperature=temperature, lags=[1, 2])
    kernels = TwoTimeKernels(x, depth=1, **NETWORK)
    for place, lag in ((1, 0), (2, 0), (2, 1)):
        correlation = math.exp(-temperature * (times[place] - times[place - lag - 1]))
        expected = kernels.at(correlation).nngp / correlation
        # 4 replicas: t_3 at 1e-4 is 11. Features move by 1/√N.
        bound = 11 * found.error.kernel_lag[place, lag] + 1e-3 * expected.abs().max()
        assert bool(((found.kernel_lag[place, lag] - expected).abs() < bound).all())
    assert found.kernel_lag[0].isnan().all()
    assert found.kernel_lag[1, 1].isnan().all()


def test_error_from_particles_is_that_of_other_seeds():
    settings = {"particles": 256, "temperature": 0.02, "replicas": 8}
    first, second = (dynamics([5.0, 30.0], seed=seed, **settings) for seed in (0, 1))
    again = dynamics([5.0, 30.0], seed=0, **settings)
    assert torch.equal(first.output, again.output)
    apart = first.output - second.output
    spread = (first.error.output.square() + second.error.output.square()).sqrt()
    # Two means of 8 replicas: t_14 at 1e-5 is 6.6.
    assert 0 < (apart.abs() / spread).max() < 6.6
    variances = first.covariance.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(variances.sqrt(), first.error.output)


def test_the_rule_is_of_second_order():
    """Half of the step, a quarter of what twice the step changes."""
    steps = (0.2, 0.1)
    long, short = (dynamics([4.0], step=step, particles=128).step_error for step in steps)
    for before, after in ((long.loss, short.loss), (long.output, short.output)):
        assert 3.5 < before.max() / after.max() < 4.5


@pytest.mark.slow
def test_the_step_moves_nothing_with_noise_but_what_is_said():
    """Beside an eighth of the step, of the same law but other noise."""
    settings = {"temperature": 0.05, "particles": 512, "replicas": 8}
    long, short = (dynamics([4.0, 60.0], step=step, **settings) for step in (0.8, 0.1))
    for value, other, error, another, step in (
        (long.output, short.output, long.error.output, short.error.output, long.step_error.output),
        (
            long.readout_variance,
            short.readout_variance,
            long.error.readout_variance,
            short.error.readout_variance,
            long.step_error.readout_variance,
        ),
    ):
        # Two means of 8 replicas: t_14 at 1e-5 is 6.6.
        chance = 6.6 * (error.square() + another.square()).sqrt()
        assert bool(((value - other).abs() < chance + step).all())


# -- at rest --------------------------------------------------------------------------------


def test_linear_networks_come_to_rest_in_the_saddle_of_the_order_parameter():
    """Inputs with XᵀX = d are the population of a linear network."""
    size, temperature, variance, width = 10, 0.05, 0.05, 20.0
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(size, size, generator=generator, dtype=torch.float64)
    x = math.sqrt(size) * torch.linalg.qr(normal)[0]
    y = x[:, 0]
    cell = problem(
        "linear",
        hermite_target({1: 1.0}, (1,)),
        dimension=float(size),
        width=width,
        weight_variance=1.0,
        readout_variance=variance,
        train=float(size),
        temperature=temperature,
    )
    expected = order_parameter(cell, "bare")
    assert expected.variance > 2.5
    found = mean_field(
        x,
        y,
        [4 / temperature, 8 / temperature],
        width=width,
        temperature=temperature,
        activation="linear",
        weight_variance=(1.0, variance),
    )
    # t_3 at 1e-3 is 10; the bias of 2048 particles is of order 1/2048 of each average.
    learned = (found.output @ y) / (y @ y)
    error = 10 * found.error.output.amax(1) * y.abs().sum() / (y @ y)
    assert bool(((learned - expected.learnability).abs() < error + 0.002).all())
    assert bool((error < 0.2).all())
    for value, chance, step, theory in (
        (
            found.weight_covariance[:, 0, 0],
            found.error.weight_covariance[:, 0, 0],
            found.step_error.weight_covariance[:, 0, 0],
            expected.variance,
        ),
        (
            found.readout_variance,
            found.error.readout_variance,
            found.step_error.readout_variance,
            expected.readout_variance,
        ),
    ):
        assert bool(((value - theory).abs() < 10 * chance + step + 0.005).all())
        assert chance.max() < 0.05


@pytest.mark.slow
def test_erf_networks_come_to_rest_in_the_adaptive_kernel():
    """On a dataset: outputs, kernel and weights of e^{-S}, by importance sampling."""
    x, _ = data(1)
    y = x[:TRAIN, 0] + 0.3 * (x[:TRAIN, 0] ** 3 - 3 * x[:TRAIN, 0])
    temperature, width = 0.05, 10.0
    net = {"activation": "erf", "weight_variance": (1.0, 0.2), "bias_variance": 0.0}
    found = mean_field(
        x[:TRAIN],
        y,
        [5 / temperature],
        x_test=x[TRAIN:],
        width=width,
        temperature=temperature,
        particles=1024,
        **net,
    )
    normals = quasi_normals(2**14, DIMENSION, 3)
    rest = adaptive_kernel(x[:TRAIN], y, temperature, width, normals, force="mean_field", **net)
    _, kernel = rest.covariances(x)
    norm = torch.tensor(rest.readout_norm() / 0.2)
    weights = rest.weight_covariance * DIMENSION
    assert weights.diagonal().max() > 1.1
    # t_3 at 1e-3 is 10; the draws of the theory leave about 1/√(effective draws) of a variance.
    for value, error, theory, scale in (
        (found.output, found.error.output, rest.prediction(x).mean, 1.0),
        (found.kernel, found.error.kernel, kernel, 0.2),
        (found.weight_covariance, found.error.weight_covariance, weights, 1.0),
        (found.readout_variance, found.error.readout_variance, norm, 1.0),
    ):
        drawn = 3 * scale / math.sqrt(rest.effective_draws)
        assert bool(((value[0] - theory).abs() < 10 * error[0] + drawn).all())
        assert error.max() < 0.12 * scale


@pytest.mark.slow
def test_erf_networks_come_to_rest_in_the_order_parameter():
    """Over datasets at d = 20: the theory is one of large d and n, within a few percent."""
    size, train, width, variance, temperature = 20, 400, 400.0, 8 / 400, 0.158
    values = {"weight_variance": 0.5, "readout_variance": variance, "train": float(train)}
    cell = problem(
        "erf",
        hermite_target({1: 1.0, 3: -0.05}, (1, 3, 5)),
        dimension=float(size),
        width=width,
        temperature=temperature,
        **values,
    )
    expected = order_parameter(cell, "effective")
    found = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(train + 2000, size, generator=generator, dtype=torch.float64)
        components = torch.stack([x[:, 0], x[:, 0] ** 3 - 3 * x[:, 0]], 1)
        target = torch.tensor([1.0, -0.05], dtype=torch.float64)
        rest = mean_field(
            x[:train],
            components[:train] @ target,
            [4 / temperature],
            x_test=x[train:],
            width=width,
            temperature=temperature,
            activation="erf",
            weight_variance=(0.5, variance),
            particles=512,
            replicas=2,
            seed=seed,
        )
        learned = torch.linalg.lstsq(components[train:], rest.output[0, train:, None]).solution
        variance_along = rest.weight_covariance[0, 0, 0]
        found.append(torch.cat([learned[:, 0] / target, variance_along[None]]))
    mean, error = torch.stack(found).mean(0), torch.stack(found).std(0) / 3**0.5
    theory = torch.cat([expected.learnability[0], expected.variance])
    # t_2 at 1e-2 is 9.9, and the theory leaves out terms of order 1/d of each quantity.
    assert bool(((mean - theory).abs() < 10 * error + theory / size).all())
    assert bool((error < 0.15 * theory).all())
    # Without features He_1 is learned as by the NNGP, and weights are those of the prior.
    assert mean[0] - 5 * error[0] > infinite_width(cell, "effective").learnability[0, 0]
    assert mean[2] - 5 * error[2] > 1


# -- what is refused ------------------------------------------------------------------------

REFUSED = {
    "times that do not increase": ({"times": [2.0, 1.0]}, "times do not increase"),
    "a step beyond stability": ({"step": 1e3}, "step is 1000; give a positive one of at most"),
    "no step": ({"step": 0.0}, "step is 0; give a positive one"),
    "odd particles": ({"particles": 7}, "particles are 7"),
    "half a particle": ({"particles": 6.0}, "particles are 6.0"),
    "other test points": ({"x_test": torch.zeros(2, 1)}, r"inputs are \(6, 4\) and \(2, 1\)"),
    "nothing to learn from": ({"x": torch.zeros(TRAIN, 4), "bias_variance": 0.0}, "kernel .* zero"),
    "no lag": ({"lags": [0]}, "lags are"),
    "one replica": ({"replicas": 1}, "replicas are 1"),
    "no neuron": ({"width": 0.0}, "width is 0.0"),
    "a temperature below zero": ({"temperature": -1.0}, "temperature is -1.0"),
    "no readout": ({"weight_variance": (1.0, 0.0)}, "weight variances are"),
    "another function": ({"activation": "erv"}, "activation is 'erv'"),
    "targets that are unknown": ({"y": torch.full((TRAIN,), math.nan)}, "not all finite"),
    "targets elsewhere": ({"y": torch.zeros(2)}, "inputs are"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_in_one_line(name):
    changes, message = REFUSED[name]
    x, y = data()
    settings = {"times": [1.0], "y": y, "width": 20.0, "temperature": 0.0} | NETWORK | changes
    x = settings.pop("x", x[:TRAIN])
    with pytest.raises(ValueError, match=message) as refusal:
        mean_field(x, settings.pop("y"), settings.pop("times"), **settings)
    assert "\n" not in str(refusal.value)
