"""Equations of state of Gaussian layers, with one hidden layer and with two."""

import math

import pytest
import torch
from torch import Tensor

from theory.finite_width.equations_of_state import TOLERANCE, equations_of_state
from theory.finite_width.scale_mixture import hidden_covariance, linear_posterior
from theory.finite_width.variational_gaussian import variational_gaussian
from theory.kernels.fully_connected import nngp, pre_activation_kernels
from theory.kernels.whitening import variance_along, whitened
from theory.regression.exact import log_evidence, posterior
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import fully_connected
from workers.philox import Noise
from workers.samplers.gibbs import linear_gibbs

torch.set_num_threads(1)


def problem(train: int, dimension: int, test: int = 5, seed: int = 0):
    """Inputs, targets of a linear teacher with noise, test inputs and the teacher's direction."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(train + test, dimension, generator=generator, dtype=torch.float64)
    teacher = torch.randn(dimension, generator=generator, dtype=torch.float64)
    teacher = teacher / teacher.norm()
    noise = torch.randn(train, generator=generator, dtype=torch.float64)
    return x[:train], x[:train] @ teacher + 0.1 * noise, x[train:], teacher


def erf_kernel(covariance: Tensor) -> Tensor:
    """(2/π) arcsin(2 K_μν/√((1 + 2 K_μμ)(1 + 2 K_νν))), which torch can differentiate."""
    scale = torch.rsqrt(0.5 + covariance.diagonal())
    return (2 / math.pi) * torch.asin(covariance * scale[:, None] * scale)


def divergence(covariance: Tensor, prior: Tensor) -> Tensor:
    """KL(N(0, K) | N(0, Q))."""
    ratio = torch.linalg.solve(prior, covariance)
    return (ratio.trace() - len(prior) - torch.logdet(covariance) + torch.logdet(prior)) / 2


def free_energy(x, y, ridge, widths, variances, biases, laws) -> Tensor:
    """Γ as it is written, of whitened weights' Σ and, with two hidden layers, K_1; erf."""
    inputs = whitened(x, variances[0], biases[0])
    total = widths[0] * divergence(laws[0], torch.eye(inputs.shape[1]).double())
    covariance = inputs @ laws[0] @ inputs.T
    later = zip(widths[1:], variances[1:], biases[1:], laws[1:], strict=False)
    for width, variance, bias, law in later:
        total = total + width * divergence(law, variance * erf_kernel(covariance) + bias)
        covariance = law
    outputs = variances[-1] * erf_kernel(covariance) + ridge * torch.eye(len(y)).double()
    data = y @ torch.linalg.solve(outputs, y) + torch.logdet(outputs)
    return total + (data + len(y) * math.log(2 * math.pi)) / 2


@pytest.mark.parametrize("widths", [[40.0], [40.0, 25.0]], ids=["one hidden layer", "two"])
@pytest.mark.parametrize("biases", [(0.0, 0.0), (0.3, 0.1)], ids=["", "biases"])
def test_a_solution_is_a_minimum_of_the_free_energy(widths, biases):
    x, y, _, _ = problem(15, 4)
    variances, ridge = [*[1.3, 0.9, 0.05][: len(widths)], 0.05], 0.02
    network = {"weight_variance": variances, "bias_variance": biases[: len(widths)]}
    found = equations_of_state(x, y, ridge, widths, activation="erf", **network)
    assert found.residual <= TOLERANCE
    laws = [layer.covariance.clone().requires_grad_() for layer in found.layers]
    value = free_energy(x, y, ridge, widths, variances, biases, laws)
    assert found.free_energy == pytest.approx(value.item(), rel=1e-9)
    for width, law, slope in zip(widths, laws, torch.autograd.grad(value, laws), strict=True):
        # In units of the law; of terms of size N that the solution lets cancel.
        root = torch.linalg.cholesky(law.detach())
        assert (root.T @ (slope + slope.T) @ root).abs().max() < 1e3 * TOLERANCE * width
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        near = []
        for law in laws:
            turn = torch.randn(law.shape, generator=generator, dtype=torch.float64)
            root = torch.linalg.cholesky(law.detach())
            near.append(root @ torch.matrix_exp(0.02 * (turn + turn.T)) @ root.T)
        assert free_energy(x, y, ridge, widths, variances, biases, near) > value


@pytest.mark.parametrize("activation", ["linear", "erf", "relu", "tanh"])
def test_infinite_width_is_the_nngp(activation):
    x, y, test, _ = problem(12, 4)
    network = {"activation": activation, "bias_variance": 0.1}
    variances, depth = (1.1, 0.8, 1.5), 2
    found = equations_of_state(x, y, 0.3, [1e9, 1e9], weight_variance=variances, **network)
    points = torch.cat([x, test])
    kernel = nngp(points, depth=depth, weight_variance=variances, **network)
    expected = posterior(kernel[:12, :12], kernel[12:, :12], kernel.diagonal()[12:], y, 0.3)
    mean, variance = found.prediction(test)
    torch.testing.assert_close(mean, expected.mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(variance, expected.variance, rtol=1e-6, atol=1e-7)
    *hidden, outputs = found.covariances(test)
    layers = pre_activation_kernels(test, depth=depth, weight_variance=variances, **network)
    for law, layer in zip(hidden, layers, strict=True):
        torch.testing.assert_close(law, layer, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(outputs, kernel[12:, 12:], rtol=1e-6, atol=1e-7)
    evidence = -log_evidence(kernel[:12, :12], y, 0.3).item()
    assert found.free_energy == pytest.approx(evidence, rel=1e-6)


def test_one_linear_layer_in_closed_form():
    """Σ⁻¹ = (d/σ_w²) 1 - (σ_a²/N) Xᵀ A X, and f has the kernel σ_a² X Σ Xᵀ."""
    x, y, test, _ = problem(30, 6)
    ridge, width, readout = 0.02, 50.0, 0.02
    found = variational_gaussian(
        x, y, ridge, width, activation="linear", weight_variance=(1.4, readout), bias_variance=0
    )
    total = readout * x @ found.weight_covariance @ x.T + ridge * torch.eye(30).double()
    t = torch.linalg.solve(total, y)
    force = torch.outer(t, t) - torch.linalg.inv(total)
    precision = (6 / 1.4) * torch.eye(6).double() - (readout / width) * x.T @ force @ x
    product = precision @ found.weight_covariance
    torch.testing.assert_close(product, torch.eye(6).double(), rtol=0, atol=1e-7)
    kernel = readout * test @ found.weight_covariance @ x.T
    torch.testing.assert_close(found.prediction(test).mean, kernel @ t, rtol=1e-8, atol=1e-10)


def test_readout_of_a_linear_layer_is_exact_to_first_order():
    """N (⟨|a|²⟩ - σ_a²) is that of the exact posterior up to 1/N."""
    x, y, _, _ = problem(30, 6)
    readout, differences = 0.7, []
    kernel = readout * x @ x.T / 6
    for width in (200.0, 400.0):
        found = variational_gaussian(
            x, y, 0.5, width, activation="linear", weight_variance=(1, readout), bias_variance=0
        )
        exact = linear_posterior(kernel, kernel, kernel.diagonal(), y, 0.5, width)
        growth = width * (found.readout_norm() / readout - 1)
        assert abs(growth) > 0.5
        differences.append(growth - width * (float(exact.scale) - 1))
    assert differences[0] / differences[1] == pytest.approx(2, rel=0.1)
    assert abs(differences[1]) < 0.1


def test_hidden_covariance_of_a_linear_layer_is_exact_to_first_order():
    """Twice the width leaves a quarter of the difference from the exact posterior."""
    x, y, _, teacher = problem(30, 6)
    differences = []
    for width in (400.0, 800.0):
        chi = width  # mean field
        found = equations_of_state(
            x,
            y,
            5 / chi,
            [width],
            activation="linear",
            weight_variance=(1, 1 / chi),
            bias_variance=0,
        )
        exact = hidden_covariance(x, y, 5 / chi, width, (1.0, 1 / chi))
        learned = variance_along(exact, teacher[None]).item() * 6
        assert learned > 1.5  # against 1 under the prior
        differences.append((found.weight_covariance - exact).norm().item())
    # The force has corrections of relative order 1/χ = 1/N.
    assert differences[0] / differences[1] == pytest.approx(2, rel=0.1)
    assert differences[1] < 0.01 / 6


def test_points_seen_in_training_have_the_covariances_of_training():
    x, y, test, _ = problem(15, 4)
    found = equations_of_state(
        x, y, 0.02, [40, 25], activation="erf", weight_variance=(1, 1, 0.05), bias_variance=(0, 0.2)
    )
    first, second, outputs = found.covariances(torch.cat([x[:6], test]))
    torch.testing.assert_close(first[:6, :6], found.layers[0].seen[:6, :6], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(second[:6, :6], found.layers[1].covariance[:6, :6])
    torch.testing.assert_close(outputs[:6, :6], 0.05 * erf_kernel(second[:6, :6]))
    assert torch.linalg.eigvalsh(second).min() > 0
    residual = y[:6] - found.prediction(x[:6]).mean
    torch.testing.assert_close(residual, 0.02 * found.discrepancy[:6], rtol=1e-7, atol=1e-9)


def test_a_branch_is_followed_from_a_neighbour():
    x, y, _, _ = problem(15, 4)
    network = {"activation": "erf", "weight_variance": (1.0, 0.05), "bias_variance": 0.0}
    warm = equations_of_state(x, y, 0.03, [40], **network)
    alone = equations_of_state(x, y, 0.02, [40], **network)
    followed = equations_of_state(x, y, 0.02, [40], start=warm, **network)
    assert followed.free_energy == pytest.approx(alone.free_energy, rel=1e-10)
    torch.testing.assert_close(
        followed.weight_covariance, alone.weight_covariance, rtol=1e-6, atol=1e-8
    )


def test_what_has_no_solution_is_refused():
    """Narrow layers that would have to become ten thousand times wider than their prior."""
    x, y, _, _ = problem(6, 2)
    with pytest.raises(ValueError, match=r"residual of .* wanted 1e-09; follow their solution"):
        equations_of_state(
            x,
            1e4 * y,
            1e-3,
            [2.0, 2.0],
            activation="erf",
            weight_variance=(1.0, 1.0, 1e-4),
            bias_variance=0.0,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ridge": 0.0}, "ridge is 0"),
        ({"y": torch.ones(15, 2)}, "network of one output"),
        ({"widths": [0.5]}, "widths are"),
        ({"weight_variance": (1.0,)}, "1 weight variances for 1 hidden layers; give 2"),
        ({"weight_variance": (1.0, -1.0)}, "none negative"),
        ({"activation": "cosine"}, "activation is 'cosine'; take one of"),
    ],
)
def test_what_a_user_can_get_wrong(change, message):
    x, y, _, _ = problem(15, 4)
    arguments = {
        "x": x,
        "y": y,
        "ridge": 0.1,
        "widths": [10],
        "activation": "erf",
        "weight_variance": (1.0, 1.0),
        "bias_variance": 0.0,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        equations_of_state(**arguments)


@pytest.mark.slow
def test_two_linear_layers_against_exact_sampling():
    """Traces of both covariances by Gibbs sampling: closer than a tenth of what the width changes.

    The sign of (K_f + T)⁻¹ in the force decides: with the other one both traces grow.
    """
    train, dimension, width, chains = 30, 15, 100, 64
    x, y, _, _ = problem(train, dimension)
    network = fully_connected(
        dimension,
        [width, width],
        ACTIVATIONS["linear"],
        weight_variance=[1.0, 1.0, 1.0],
        bias_variance=0.0,
        chi=1.0,
    )
    sampler, noise = linear_gibbs(network, x, y, 0.5), Noise(3, range(chains), 0)
    start = Noise(3, range(chains), 1)(0, (network.size,), torch.float64)
    state, seen = sampler.init(start, noise.at(0)), []
    for step in range(1, 251):
        state = sampler.step(state, noise.at(step))
        if step > 50:
            fields = network.pre_activations(state.position * network.standard_deviations, x)
            seen.append(torch.stack([h.square().mean((1, 2)) for h in fields], 1))
    means = torch.stack(seen).mean(0)
    exact, error = means.mean(0), means.std(0) / math.sqrt(chains)
    found = equations_of_state(
        x, y, 0.5, [width, width], activation="linear", weight_variance=(1, 1, 1), bias_variance=0
    )
    traces = torch.stack([law.trace() / train for law in found.covariances(x)[:2]])
    prior = (x @ x.T / dimension).trace() / train
    # First order in 1/N; the second is worth 0.4 % at N = 50, as was measured, so a quarter here.
    assert ((traces - exact).abs() < 5 * error + 0.001 * exact).all(), (traces - exact) / error
    assert (traces < prior).all()
