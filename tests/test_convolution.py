"""Convolutional networks of finite width, and exact sampling of the linear one."""

import itertools
import math

import numpy as np
import pytest
import torch
from sampling import SEED, assert_resumes_to_the_bit, averages, exact_linear, prior_start
from scipy.optimize import brentq
from torch.nn.functional import pad

from workers import networks
from workers.activations import ACTIVATIONS
from workers.convolution import myrtle, patch_network, three_layer_convolution
from workers.networks import fully_connected, potential
from workers.philox import Noise
from workers.samplers.baoab import baoab
from workers.samplers.linear_convolution import linear_convolution

torch.set_num_threads(1)  # as in a worker

CHAINS, POINTS, PATCHES, PATCH = 4, 6, 3, 4
IMAGE = (2, 4, 6)


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


def parts(network, vector):
    return {n.name: vector[n.start : n.stop].view(n.shape) for n in network.layers}


def one_output(network, vector, x):
    """f(x) of one chain, and its pre-activations with the points first, by sums over places."""
    by_name = parts(network, vector)
    if hasattr(network, "image"):
        return output_of_images(network, by_name, x)
    phi, count = network.activation.phi, network.patches
    blocks = x.split(network.patch_size, dim=1)
    fields = [torch.stack([block @ by_name["weight_1"].T for block in blocks], dim=1)]
    places = [slice(place, None, count) for place in range(count)]  # of (channel, patch)
    above = by_name.get("weight_2", by_name["readout"][None])
    read = sum(phi(fields[0][:, i]) @ above[:, places[i]].T for i in range(count))
    if network.depth == 1:
        return read[:, 0], fields
    return phi(read) @ by_name["readout"], [*fields, read]


def output_of_images(network, by_name, x):
    signal, fields = x.view(-1, *network.image), []
    for level in range(1, network.depth + 1):
        height, width = signal.shape[2:]
        padded = pad(signal, (1, 1, 1, 1))
        fields.append(
            sum(
                torch.einsum(
                    "oc,nchw->nohw",
                    by_name[f"weight_{level}"][:, :, i, j],
                    padded[:, :, i : i + height, j : j + width],
                )
                for i, j in itertools.product(range(3), repeat=2)
            )
        )
        signal = network.activation.phi(fields[-1])
        if level in network.pool_after:
            corners = itertools.product((0, 1), repeat=2)
            signal = sum(signal[:, :, i::2, j::2] for i, j in corners) / 4
    features = signal.mean((2, 3)) if network.head == "average" else signal.flatten(1)
    return features @ by_name["readout"], fields


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
    # ε² λ is below 0.1 for the curvatures λ that the chains meet: a bias below 0.1 / 8 of a
    # variance that is itself a small part of f².
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
    x = torch.zeros(2, PATCHES * PATCH)
    with pytest.raises(ValueError, match="the activation is not linear"):
        linear_convolution(patches("erf"), x, x[:, 0], 1.0)
    with pytest.raises(ValueError, match="the network has 2 hidden layers"):
        linear_convolution(three_layers("linear"), x, x[:, 0], 1.0)
    with pytest.raises(ValueError, match=r"labels have shape \(2, 1\)"):
        linear_convolution(patches("linear"), x, x[:, :1], 1.0)


def learned(patches, patch_size, channels, chi, train, temperature):
    """Learnability of y = Σ_i a*_i w*·x_i, and E (w_c·w*)² over its prior; the same without adapting.

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
