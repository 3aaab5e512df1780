"""Networks of several outputs: they share their hidden layers and nothing else."""

import numpy as np
import pytest
import torch

from support import layer_by_layer, patch_by_patch
from support.blocks import block_of, campaign, data_of
from support.exact import apart, mean_and_error
from support.patch_by_patch import IMAGE, PATCH
from support.patch_by_patch import PATCHES as COUNT
from theory.finite_width.scale_mixture import linear_posterior
from workers.networks.activations import ACTIVATIONS
from workers.networks.convolution import myrtle, patch_network, three_layer_convolution
from workers.networks.networks import fully_connected

torch.set_num_threads(1)  # as in a worker

CHAINS, POINTS, TARGETS = 3, 6, 2
ERF = ACTIVATIONS["erf"]


def deep(targets):
    return fully_connected(
        4, (6, 3), ERF, weight_variance=[0.7, 2, 1.3], bias_variance=0.4, chi=2, targets=targets
    )


def shallow(targets):
    return fully_connected(
        4, (6,), ERF, weight_variance=[0.7, 1.3], bias_variance=0, chi=2, targets=targets
    )


def patches(targets):
    return patch_network(COUNT, PATCH, 5, ERF, weight_variance=[0.7, 1.3], chi=2, targets=targets)


def three_layers(targets):
    variances = [0.7, 2, 1.3]
    return three_layer_convolution(
        COUNT, PATCH, 5, 7, ERF, weight_variance=variances, chi=2, targets=targets
    )


def images(head):
    def build(targets):
        return myrtle(
            IMAGE, (5, 3), ERF, pool_after=[1], head=head, weight_variance=[0.7, 2, 1.3], chi=2,
            targets=targets,
        )  # fmt: skip

    return build


NETWORKS = {
    "shallow": (shallow, layer_by_layer),
    "deep, biases": (deep, layer_by_layer),
    "patches": (patches, patch_by_patch),
    "three layers": (three_layers, patch_by_patch),
    "images": (images("flatten"), patch_by_patch),
    "images, average": (images("average"), patch_by_patch),
}


def data(network, inputs):
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(CHAINS, network.size, generator=generator, dtype=torch.float64)
    x = torch.randn(POINTS, inputs, generator=generator, dtype=torch.float64)
    y = torch.randn(POINTS, TARGETS, generator=generator, dtype=torch.float64)
    return z * network.standard_deviations, x, y


def inputs_of(single):
    found = getattr(single, "inputs", None) or getattr(single, "patches", 0) * PATCH
    return found or int(np.prod(IMAGE))


def each_output(single, reference, vector, x):
    """f(x) of one chain, (point, target), each by the network that has this output alone."""
    start = single.layers[-1].start
    hidden, readouts = vector[:start], vector[start:].chunk(TARGETS)
    found = [reference.one_output(single, torch.cat([hidden, part]), x) for part in readouts]
    return torch.stack([f[0] if isinstance(f, tuple) else f for f in found], dim=1)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_of_several_targets(name):
    build, reference = NETWORKS[name]
    single, network = build(1), build(TARGETS)
    parameters, x, y = data(network, inputs_of(single))
    outputs = network.outputs(parameters, x)
    loss, gradient = network.loss_and_gradient(parameters, x, y.flatten())
    assert outputs.shape == (CHAINS, POINTS * TARGETS)
    for chain in range(CHAINS):
        vector = parameters[chain].clone().requires_grad_()
        found = each_output(single, reference, vector, x)
        value = (found - y).square().sum() / 2
        (slope,) = torch.autograd.grad(value, vector)
        torch.testing.assert_close(outputs[chain], found.detach().flatten())
        torch.testing.assert_close(loss[chain], value.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient[chain], slope, rtol=1e-10, atol=1e-12)


# -- two outputs of one weight: exact at every width -----------------------------------------

SCALAR = """
version: 1
name: scalar
data: {source: npz, file: FILE, outputs: 2, train: 6, test: 3}
network: {activation: linear, width: 2, weight_variance: [1.2, 2]}
sampler:
  {scheme: baoab, step_size: auto, friction: 1, temperature: 0.5, warmup: 150, draws: 40, thin: 4,
   segment: 20}
ensemble: {datasets: 1, chains: 1200, block: 1200}
observe: {points: 3, histograms: false, kernels: false}
"""


def scalar_problem(folder, *overrides):
    """One input, two targets that need different slopes."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(9, 1))
    y = x * [2.0, -0.3] + 0.3 * rng.normal(size=(9, 2))
    file = folder / "scalar.npz"
    np.savez(file, x_train=x[:6], y_train=y[:6], x_test=x[6:], y_test=y[6:])
    return campaign(SCALAR.replace("FILE", str(file)), *overrides)


def together(spec, temperature=0.5, width=2):
    """E f and E f² at the points, (point, target), of both outputs.

    Of one input f_k(x) = Σ_i a_ki w_i x: given |w|² the outputs are independent Gaussians of one
    kernel, and both of them are data for that scale.
    """
    data = data_of(spec)
    unit = 1.2 * 2.0
    x, points = torch.as_tensor(data.x_train), torch.as_tensor(data.x_test)
    twice = torch.eye(2, dtype=torch.float64)
    kernel, cross = (torch.kron(twice, unit * z @ x.T) for z in (x, points))
    diagonal = (unit * points.square().sum(1)).repeat(2)
    y = torch.as_tensor(data.y_train).T.flatten()
    found = linear_posterior(kernel, cross, diagonal, y, temperature, width)
    moments = torch.stack([found.mean, found.variance + found.mean.square()])
    return moments.unflatten(1, (2, -1)).mT.flatten().numpy()


def alone(spec, target):
    """The same for one output that does not know of the other."""
    data = data_of(spec)
    x, points = torch.as_tensor(data.x_train), torch.as_tensor(data.x_test)
    kernel = (2.4 * x @ x.T, 2.4 * points @ x.T, 2.4 * points.square().sum(1))
    y = torch.as_tensor(data.y_train)[:, target].contiguous()
    found = linear_posterior(*kernel, y, 0.5, 2)
    return torch.stack([found.mean, found.variance + found.mean.square()]).numpy()


@pytest.mark.slow
def test_two_outputs_share_their_hidden_weights(tmp_path):
    spec = scalar_problem(tmp_path)
    found = block_of(spec)
    assert found.values["output"].shape == (1200, 40, 3, 2)
    assert found.values["output_mean"].shape == (1200, 2, 3, 2)
    moments = np.stack([found.values[f"output_{name}"].mean(1) for name in ("mean", "square")], 1)
    mean, error = mean_and_error(moments.reshape(1200, -1))
    assert apart(mean, together(spec), error) < 5
    assert apart(mean, together(spec, temperature=0.6), error) > 7
    separate = np.stack([alone(spec, target) for target in range(2)], axis=2).flatten()
    assert apart(mean, separate, error) > 20


def test_a_measurement_of_several_targets_has_them_last(tmp_path):
    lengths = "{scheme: prior, temperature: 0.5, warmup: 0, draws: 4, segment: 2}"
    spec = scalar_problem(
        tmp_path, f"sampler={lengths}", "ensemble={datasets: 1, chains: 4, block: 2}"
    )
    found = block_of(spec)
    assert found.fixed["label"].shape == (3, 2)
    np.testing.assert_array_equal(found.fixed["label"], data_of(spec).y_test)
    output, mean = found.values["output"], found.values["output_mean"]
    np.testing.assert_allclose(output.reshape(2, 2, 2, 3, 2).mean(2), mean, rtol=1e-12)
    # All of f_k is proportional to x.
    ratio = output / data_of(spec).x_test[:, 0][:, None]
    np.testing.assert_allclose(ratio, ratio[:, :, :1] + 0 * ratio, rtol=1e-5)
