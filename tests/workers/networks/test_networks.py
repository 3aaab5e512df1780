import itertools
import math

import pytest
import torch

from support.layer_by_layer import one_output
from workers.networks import networks
from workers.networks.activations import ACTIVATIONS, differentiable
from workers.networks.networks import from_function, fully_connected, potential
from workers.philox import Noise

torch.set_num_threads(1)  # as in a worker

CHAINS, POINTS, INPUTS, TEMPERATURE = 5, 7, 4, 0.3
WIDTHS = {1: (6,), 2: (6, 3), 3: (6, 3, 5)}
VARIANCES = {1: [0.7, 1.3], 2: [0.7, 2.0, 1.3], 3: [0.7, 2.0, 1.5, 1.3]}
NETWORKS = list(itertools.product(ACTIVATIONS, WIDTHS, [0.0, 0.4]))
NETWORKS += [("erf", 2, (0.0, 0.4)), ("erf", 3, (0.4, 0.0, 0.2))]


def build(activation, depth, bias_variance, chi=2.0):
    return fully_connected(
        INPUTS,
        WIDTHS[depth],
        ACTIVATIONS[activation],
        weight_variance=VARIANCES[depth],
        bias_variance=bias_variance,
        chi=chi,
    )


def data(network, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    parameters = torch.randn(CHAINS, network.size, generator=generator, dtype=dtype)
    x = torch.randn(POINTS, INPUTS, generator=generator, dtype=dtype)
    return parameters * network.standard_deviations.to(dtype), x, torch.sin(x.sum(1))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slope_of_an_activation_is_its_derivative(name):
    phi, dphi = ACTIVATIONS[name]
    z = torch.linspace(-4, 4, 200, dtype=torch.float64, requires_grad=True)  # without zero
    (expected,) = torch.autograd.grad(phi(z).sum(), z)
    torch.testing.assert_close(dphi(z.detach()), expected, rtol=1e-13, atol=1e-15)
    slope = differentiable(phi).dphi(z.detach())
    torch.testing.assert_close(slope, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("activation", "depth", "bias"), NETWORKS)
def test_loss_and_gradient_equal_automatic_differentiation(activation, depth, bias):
    network = build(activation, depth, bias)
    parameters, x, y = data(network)
    loss, gradient = network.loss_and_gradient(parameters, x, y)
    for chain in range(CHAINS):
        vector = parameters[chain].clone().requires_grad_()
        expected = (one_output(network, vector, x) - y).square().sum() / 2
        (slope,) = torch.autograd.grad(expected, vector)
        torch.testing.assert_close(loss[chain], expected.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient[chain], slope, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("depth", WIDTHS)
@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_outputs_and_pre_activations(depth, bias):
    network = build("erf", depth, bias)
    parameters, x, _ = data(network)
    expected = torch.stack([one_output(network, vector, x) for vector in parameters])
    torch.testing.assert_close(network.outputs(parameters, x), expected)
    fields = network.pre_activations(parameters, x)
    assert [field.shape for field in fields] == [(CHAINS, w, POINTS) for w in WIDTHS[depth]]
    readout = network.layers[-1].of(parameters)
    outputs = torch.einsum("ci,cin->cn", readout, torch.erf(fields[-1]))
    torch.testing.assert_close(outputs, expected)
    first = torch.einsum("cid,nd->cin", network.layers[0].of(parameters), x)
    shift = network.layers[1].of(parameters)[:, :, None] if bias else 0.0
    torch.testing.assert_close(fields[0], first + shift)


@pytest.mark.parametrize("depth", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("elements", [1, 6 * 16, 6 * POINTS * 2])
def test_evaluation_in_parts_equals_evaluation_at_once(depth, dtype, elements, monkeypatch):
    network = build("erf", depth, 0.4)
    parameters, x, y = data(network, dtype)
    x, y = x.repeat(6, 1), y.repeat(6)  # 42 points: at least 32 to a part
    outputs = network.outputs(parameters, x)
    loss, gradient = network.loss_and_gradient(parameters, x, y)
    posterior = potential(network, x, y, TEMPERATURE)(parameters)
    monkeypatch.setattr(networks, "CPU_ELEMENTS", elements)
    assert len(list(network._chunks(parameters, x))) > 1
    # Only the order of sums over the points changes: rounding of 42 terms of order one.
    tolerance = {"rtol": 0, "atol": 50 * len(x) * torch.finfo(dtype).eps}
    torch.testing.assert_close(network.outputs(parameters, x), outputs, **tolerance)
    parts = network.loss_and_gradient(parameters, x, y)
    torch.testing.assert_close(parts, (loss, gradient), **tolerance)
    parts = potential(network, x, y, TEMPERATURE)(parameters)
    tolerance["atol"] /= TEMPERATURE
    torch.testing.assert_close(parts, posterior, **tolerance)


def test_chunks_cover_every_chain_and_point_once(monkeypatch):
    network = build("erf", 1, 0.0)
    for elements in (1, 300, 6 * 100 * 3, 10**6):
        monkeypatch.setattr(networks, "CPU_ELEMENTS", elements)
        seen = torch.zeros(11, 100)
        for chains, points in network._chunks(torch.zeros(11, network.size), torch.zeros(100, 4)):
            seen[chains, points] += 1
        assert bool((seen == 1).all())


def test_layers_have_biases_of_their_own():
    layers = {layer.name: layer for layer in build("erf", 3, (0.4, 0.0, 0.2)).layers}
    assert [name for name in layers if name[:4] == "bias"] == ["bias_1", "bias_3"]
    assert layers["bias_1"].standard_deviation == math.sqrt(0.4)
    assert layers["bias_3"].standard_deviation == math.sqrt(0.2)


def test_layout_and_prior():
    network = build("erf", 2, 0.4, chi=2.0)
    layers = {layer.name: layer for layer in network.layers}
    assert list(layers) == ["weight_1", "bias_1", "weight_2", "bias_2", "readout"]
    assert [layer.shape for layer in network.layers] == [(6, 4), (6,), (3, 6), (3,), (3,)]
    assert network.size == 24 + 6 + 18 + 3 + 3
    expected = {
        "weight_1": 0.7 / 4,
        "bias_1": 0.4,
        "weight_2": 2.0 / 6,
        "bias_2": 0.4,
        "readout": 1.3 / (3 * 2.0),
    }
    for name, variance in expected.items():
        part = network.standard_deviations[layers[name].start : layers[name].stop]
        torch.testing.assert_close(part, torch.full_like(part, math.sqrt(variance)))


@pytest.mark.parametrize("depth", WIDTHS)
def test_prior_variance_of_a_linear_network_is_the_product_of_its_layers(depth):
    # E f² = (Π σ_l²) σ_a² |x|²/(d χ) at any width.
    network, chains = build("linear", depth, 0.0, chi=2.0), 40_000
    z = Noise(3, range(chains), 0)(0, (network.size,), torch.float64)
    x = torch.arange(1.0, INPUTS + 1, dtype=torch.float64)[None]
    square = network.outputs(z * network.standard_deviations, x).square()
    expected = math.prod(VARIANCES[depth]) * x.square().sum().item() / (INPUTS * 2.0)
    error = square.std().item() / math.sqrt(chains)
    assert square.mean().item() == pytest.approx(expected, abs=5 * error)


def test_potential_is_minus_the_log_posterior_of_the_whitened_parameters():
    network = build("erf", 2, 0.4)
    _, x, y = data(network)
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(CHAINS, network.size, generator=generator, dtype=torch.float64)
    z.requires_grad_()
    parameters = z * network.standard_deviations
    outputs = torch.stack([one_output(network, vector, x) for vector in parameters])
    prior = torch.distributions.Normal(0.0, network.standard_deviations).log_prob(parameters)
    likelihood = torch.distributions.Normal(outputs, math.sqrt(TEMPERATURE)).log_prob(y)
    density = prior.sum(1) + likelihood.sum(1)
    (slope,) = torch.autograd.grad(density.sum(), z)
    energy, gradient = potential(network, x, y, TEMPERATURE)(z.detach())
    torch.testing.assert_close(gradient, -slope)
    offset = (energy + density).detach()  # the normalisation, equal for all chains
    torch.testing.assert_close(offset, offset[:1].expand(CHAINS))


@pytest.mark.parametrize("depth", WIDTHS)
def test_a_network_from_a_function_equals_the_hand_written_one(depth):
    network = build("tanh", depth, 0.4)
    parameters, x, y = data(network)

    def function(vector, x):
        return one_output(network, vector, x)

    other = from_function(function, network.size, network.standard_deviations)
    torch.testing.assert_close(other.outputs(parameters, x), network.outputs(parameters, x))
    expected = potential(network, x, y, TEMPERATURE)(parameters)
    torch.testing.assert_close(potential(other, x, y, TEMPERATURE)(parameters), expected)
    assert other.pre_activations(parameters, x) == []


def test_gradient_leaves_parameters_alone():
    network = build("linear", 2, 0.4)
    parameters, x, y = data(network)
    before = parameters.clone()
    gradient = potential(network, x, y, TEMPERATURE)(parameters)[1]
    assert torch.equal(parameters, before)
    assert gradient.data_ptr() != parameters.data_ptr()


@pytest.mark.parametrize("variances", [[1.0], [1.0] * 4])
def test_a_variance_is_wanted_for_every_layer(variances):
    with pytest.raises(ValueError, match=r"for 2 hidden layers; give 3"):
        fully_connected(
            3, (2, 2), ACTIVATIONS["erf"], weight_variance=variances, bias_variance=0.0, chi=1.0
        )


def test_wrong_shapes_are_refused():
    network = build("erf", 1, 0.0)
    with pytest.raises(ValueError, match=r"labels have shape \(7, 1\)"):
        potential(network, torch.zeros(7, 4), torch.zeros(7, 1), TEMPERATURE)
    with pytest.raises(ValueError, match=r"for 6 parameters"):
        from_function(lambda vector, x: x @ vector, 6, torch.ones(5))
