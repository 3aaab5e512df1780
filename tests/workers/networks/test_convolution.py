"""Convolutional networks of finite width."""

import math

import pytest
import torch

from support.patch_by_patch import IMAGE, PATCH, PATCHES, one_output
from workers.networks import networks
from workers.networks.activations import ACTIVATIONS
from workers.networks.convolution import myrtle, patch_network, three_layer_convolution
from workers.networks.networks import fully_connected, potential

torch.set_num_threads(1)  # as in a worker

CHAINS, POINTS = 4, 6


def patches(activation, chi=2.0):
    return patch_network(
        PATCHES, PATCH, 5, ACTIVATIONS[activation], weight_variance=[0.7, 1.3], chi=chi
    )


def three_layers(activation, chi=2.0):
    return three_layer_convolution(
        PATCHES, PATCH, 5, 7, ACTIVATIONS[activation], weight_variance=[0.7, 2.0, 1.3], chi=chi
    )


def images(pool_after, head):
    def build(activation, chi=2.0):
        return myrtle(
            IMAGE,
            (5, 2, 3),
            ACTIVATIONS[activation],
            pool_after=pool_after,
            head=head,
            weight_variance=[0.7, 2.0, 1.5, 1.3],
            chi=chi,
        )

    return build


NETWORKS = {
    "patches": patches,
    "three layers": three_layers,
    "images": images([], "flatten"),
    "images, average": images([], "average"),
    "images, pooled": images([2], "flatten"),
    "images, pooled, average": images([1], "average"),
}
EXPECTED_FIELDS = {
    "patches": [(5, POINTS * PATCHES)],
    "three layers": [(5, POINTS * PATCHES), (7, POINTS)],
    "images": [(5, POINTS * 24), (2, POINTS * 24), (3, POINTS * 24)],
    "images, average": [(5, POINTS * 24), (2, POINTS * 24), (3, POINTS * 24)],
    "images, pooled": [(5, POINTS * 24), (2, POINTS * 24), (3, POINTS * 6)],
    "images, pooled, average": [(5, POINTS * 24), (2, POINTS * 6), (3, POINTS * 6)],
}


def data(network, dtype=torch.float64, points=POINTS):
    generator = torch.Generator().manual_seed(1)
    inputs = math.prod(IMAGE) if hasattr(network, "image") else PATCHES * PATCH
    z = torch.randn(CHAINS, network.size, generator=generator, dtype=dtype)
    x = torch.randn(points, inputs, generator=generator, dtype=dtype)
    return z * network.standard_deviations.to(dtype), x, torch.sin(x.sum(1))


@pytest.mark.parametrize("activation", ["linear", "erf", "relu"])
@pytest.mark.parametrize("name", NETWORKS)
def test_loss_and_gradient_equal_automatic_differentiation(name, activation):
    network = NETWORKS[name](activation)
    parameters, x, y = data(network)
    kept = parameters.clone()
    with torch.no_grad():
        loss, gradient = network.loss_and_gradient(parameters, x, y)
    assert torch.equal(parameters, kept)
    for chain in range(CHAINS):
        vector = parameters[chain].clone().requires_grad_()
        expected = (one_output(network, vector, x)[0] - y).square().sum() / 2
        (slope,) = torch.autograd.grad(expected, vector)
        torch.testing.assert_close(loss[chain], expected.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient[chain], slope, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_pre_activations(name):
    network = NETWORKS[name]("tanh")
    parameters, x, _ = data(network)
    expected = [one_output(network, vector, x) for vector in parameters]
    outputs = torch.stack([output for output, _ in expected])
    torch.testing.assert_close(network.outputs(parameters, x), outputs)
    fields = network.pre_activations(parameters, x)
    assert [field.shape[1:] for field in fields] == EXPECTED_FIELDS[name]
    for level, field in enumerate(fields):
        layer = torch.stack([chain_fields[level] for _, chain_fields in expected])
        # (chain, point, patch, channel), (chain, point, width) or (chain, point, channel, h, w)
        channels_first = layer.movedim(2 if layer.ndim == 5 else -1, 1)
        torch.testing.assert_close(field, channels_first.flatten(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("elements", [1, 600])
@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_in_parts_equals_evaluation_at_once(name, elements, dtype, monkeypatch):
    network = NETWORKS[name]("erf")
    parameters, x, y = data(network, dtype, points=30)
    outputs = network.outputs(parameters, x)
    loss, gradient = network.loss_and_gradient(parameters, x, y)
    monkeypatch.setattr(networks, "CPU_ELEMENTS", elements)
    chunks = list(network._chunks(parameters, x))
    seen = torch.zeros(CHAINS, len(x))
    for chains, points in chunks:
        seen[chains, points] += 1
    assert len(chunks) > 1
    assert bool((seen == 1).all())
    # Only the order of sums changes: rounding of numbers of order one, and of 30 terms.
    tolerance = {"rtol": 0, "atol": 50 * len(x) * torch.finfo(dtype).eps}
    torch.testing.assert_close(network.outputs(parameters, x), outputs, **tolerance)
    in_parts = network.loss_and_gradient(parameters, x, y)
    torch.testing.assert_close(in_parts, (loss, gradient), **tolerance)


@pytest.mark.parametrize(
    ("name", "variances"),
    [
        ("patches", {(5, 4): 0.7 / 4, (15,): 1.3 / (15 * 2)}),
        ("three layers", {(5, 4): 0.7 / 4, (7, 15): 2.0 / 15, (7,): 1.3 / (7 * 2)}),
        (
            "images",
            {
                (5, 2, 3, 3): 0.7 / 18,
                (2, 5, 3, 3): 2.0 / 45,
                (3, 2, 3, 3): 1.5 / 18,
                (72,): 1.3 / (72 * 2),
            },
        ),
        (
            "images, pooled, average",
            {
                (5, 2, 3, 3): 0.7 / 18,
                (2, 5, 3, 3): 2.0 / 45,
                (3, 2, 3, 3): 1.5 / 18,
                (3,): 1.3 / (3 * 2),
            },
        ),
    ],
)
def test_layout_and_prior(name, variances):
    network = NETWORKS[name]("erf")
    assert [layer.shape for layer in network.layers] == list(variances)
    assert [layer.name for layer in network.layers[:-1]] == [
        f"weight_{level}" for level in range(1, network.depth + 1)
    ]
    assert network.layers[-1].name == "readout"
    assert network.size == sum(map(math.prod, variances))
    expected = [torch.full((math.prod(shape),), v).sqrt() for shape, v in variances.items()]
    torch.testing.assert_close(network.standard_deviations, torch.cat(expected).double())


@pytest.mark.parametrize("depth", [1, 2])
def test_a_single_patch_makes_a_fully_connected_network(depth):
    variances = [0.7, 2.0, 1.3] if depth == 2 else [0.7, 1.3]
    dense = fully_connected(
        4,
        (5, 7)[:depth],
        ACTIVATIONS["erf"],
        weight_variance=variances,
        bias_variance=0.0,
        chi=2.0,
    )
    build = patch_network if depth == 1 else three_layer_convolution
    network = build(1, 4, *dense.widths, ACTIVATIONS["erf"], weight_variance=variances, chi=2.0)
    assert network.layers == dense.layers
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(CHAINS, network.size, generator=generator, dtype=torch.float64)
    x = torch.randn(POINTS, 4, generator=generator, dtype=torch.float64)
    found = potential(network, x, x[:, 0], 0.3)(z)
    torch.testing.assert_close(found, potential(dense, x, x[:, 0], 0.3)(z))


def test_pooling_the_last_layer_changes_no_average():
    settings = {"head": "average", "weight_variance": [0.7, 2.0, 1.5, 1.3], "chi": 1.0}
    plain, pooled = (
        myrtle((2, 4, 4), (5, 2, 3), ACTIVATIONS["erf"], pool_after=pools, **settings)
        for pools in ([2], [2, 3])
    )
    parameters = data(plain)[0]
    x = torch.linspace(-2, 2, 3 * 32, dtype=torch.float64).sin().view(3, 32)
    torch.testing.assert_close(pooled.outputs(parameters, x), plain.outputs(parameters, x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_variance": [1.0, 1.0]}, "2 entries for 2 hidden layers; give 3"),
        ({"pool_after": [3]}, r"pool_after is \[3\] for 2 convolutions"),
        ({"pool_after": [1, 2]}, "layer 2 has 2 x 3 positions"),
        ({"head": "max"}, "head is 'max'"),
    ],
)
def test_networks_that_cannot_be_are_refused(change, message):
    settings = {"pool_after": [], "head": "flatten", "weight_variance": [1.0] * 3, "chi": 1.0}
    with pytest.raises(ValueError, match=message):
        myrtle((1, 4, 6), (2, 2), ACTIVATIONS["erf"], **{**settings, **change})
    with pytest.raises(ValueError, match="3 entries for 1 hidden layers; give 2"):
        patch_network(2, 3, 4, ACTIVATIONS["erf"], weight_variance=[1.0] * 3, chi=1.0)
