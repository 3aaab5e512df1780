"""From the `network` section of a spec to a model, and to the prior of its hidden layers."""

import math
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from storage.campaign.network_spec import ACTIVATIONS as NAMES
from storage.campaign.network_spec import ARCHITECTURES, Kernel
from storage.campaign.plugins import Plugins
from storage.campaign.resolved import Sampled
from storage.campaign.spec import UNIFORM_INPUTS
from storage.errors import CampaignError
from theory.activations.records import Activation as Phi
from theory.kernels.convolution import convolutional_nngp, patch_nngp, patch_pre_activation_kernels
from theory.kernels.fully_connected import nngp, pre_activation_kernels
from theory.kernels.image_layers import central_pre_activation_kernels
from theory.signal.uniform_prior import uniform_nngp, uniform_pre_activation_kernels
from workers.data.numbers import finite_numbers
from workers.devices.backends import backend_of
from workers.devices.placement import CPU, Placement
from workers.networks.activations import ACTIVATIONS, Activation, differentiable
from workers.networks.convolution import myrtle, patch_network, three_layer_convolution
from workers.networks.networks import Model, from_function, fully_connected


def activation_of(spec: Sampled, plugins: Plugins) -> Activation:
    """φ and φ' of a spec, built in or the user's own."""
    name = spec.network.activation
    return ACTIVATIONS[name] if name in ACTIVATIONS else differentiable(plugins.get(name))


def network_of(spec: Sampled, inputs: int, plugins: Plugins, placement: Placement = CPU) -> Model:
    """The network of a spec on inputs of this length, as the backend of the placement has it."""
    if spec.network.architecture not in ARCHITECTURES:
        return _users_network(spec, inputs, plugins)
    model = _network(spec, inputs, activation_of(spec, plugins))
    return backend_of(placement).network(model)


def _network(spec: Sampled, inputs: int, activation: Activation) -> Model:
    chosen, targets = spec.network, spec.data.number_of_outputs
    variances, chi = chosen.weights, chosen.chi
    widths = [chosen.width] * chosen.depth
    _check_inputs(chosen, inputs)
    if chosen.image is not None:
        if inputs != math.prod(chosen.image):
            raise CampaignError(
                f"network.image is {list(chosen.image)} and the data have {inputs} inputs; give "
                "channels, height and width whose product they are"
            )
        channels, height, width = chosen.image
        return myrtle(
            (channels, height, width),
            widths,
            activation,
            pool_after=chosen.pool_after,
            head=chosen.head or "flatten",
            weight_variance=variances,
            chi=chi,
            targets=targets,
        )
    if chosen.patches is None:
        return fully_connected(
            inputs,
            widths,
            activation,
            weight_variance=variances,
            bias_variance=chosen.bias_variance,
            chi=chi,
            targets=targets,
        )
    if inputs % chosen.patches:
        raise CampaignError(
            f"network.patches is {chosen.patches} and the data have {inputs} inputs; give a number "
            "of equal parts"
        )
    make = partial(patch_network, chosen.patches, inputs // chosen.patches, chosen.width)
    if chosen.depth == 2:
        make = partial(three_layer_convolution, *make.args, chosen.width)
    return make(activation, weight_variance=variances, chi=chi, targets=targets)


def _check_inputs(kernel: Kernel, inputs: int) -> None:
    """Raise CampaignError for more inputs than uniform weights may have."""
    if kernel.prior == "uniform" and inputs + (kernel.biases[0] > 0) > UNIFORM_INPUTS:
        raise CampaignError(
            f"network.prior is uniform and the data have {inputs} inputs; its kernel is known for "
            f"{UNIFORM_INPUTS}, of which a bias is one: take gaussian"
        )


def _users_network(spec: Sampled, inputs: int, plugins: Plugins) -> Model:
    name = spec.network.architecture
    made = plugins.get(name)(inputs, spec.network)
    try:
        deviations, function = made
    except (TypeError, ValueError):
        raise CampaignError(f"{name} must return (standard deviations, function)") from None
    widths = finite_numbers(deviations, f"{name}: the standard deviations")
    if widths.ndim != 1 or not (widths > 0).all():
        raise CampaignError(
            f"{name}: the standard deviations have shape {widths.shape} and are at least "
            f"{widths.min(initial=0):g}; wanted one number above 0 for each parameter"
        )
    deviations = torch.from_numpy(widths)
    return from_function(function, len(deviations), deviations, spec.data.number_of_outputs)


def nngp_of(
    kernel: Kernel,
    x1: Tensor,
    x2: Tensor | None = None,
    phi: Phi | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Covariance of the outputs of infinitely wide networks, (n1, n2), with the physical readout.

    `phi` stands for an activation of the user's own. `out` is the matrix that a fully connected
    network's kernel is written to, where there is one already.
    """
    activation: Phi = kernel.activation if phi is None else phi
    variances = kernel.physical_weight_variance
    if kernel.patches is not None:
        return patch_nngp(
            x1,
            x2,
            patches=kernel.patches,
            depth=kernel.depth,
            activation=activation,
            weight_variance=variances,
        )
    if kernel.image is not None:
        channels, height, width = kernel.image
        return convolutional_nngp(
            x1,
            x2,
            image=(channels, height, width),
            pool_after=kernel.pool_after,
            head=kernel.head or "flatten",
            activation=activation,
            weight_variance=variances,
        )
    if kernel.prior == "uniform":
        _check_inputs(kernel, x1.shape[1])
        return uniform_nngp(
            x1,
            x2,
            depth=kernel.depth,
            activation=activation,
            weight_variance=variances,
            bias_variance=kernel.bias_variance,
        )
    return nngp(
        x1,
        x2,
        depth=kernel.depth,
        activation=activation,
        weight_variance=variances,
        bias_variance=kernel.bias_variance,
        out=out,
    )


def prior_kernels(spec: Sampled, x: Tensor, activation: Activation) -> tuple[Tensor, ...]:
    """Prior covariances of each hidden layer's pre-activations over points, and their positions.

    Of the layers of images over points alone, at the centre of each layer's grid.
    """
    network = spec.network
    phi: Phi = network.activation if network.activation in NAMES else activation.phi
    if network.patches is not None:
        return patch_pre_activation_kernels(
            x,
            patches=network.patches,
            depth=network.depth,
            activation=phi,
            weight_variance=network.weights,
        )
    if network.image is not None:
        points = x.double().numpy().tobytes()
        hidden = network.weights[:-1]
        return _central_kernels(points, network.image, network.pool_after, phi, hidden)
    if network.prior == "uniform":
        return uniform_pre_activation_kernels(
            x,
            depth=network.depth,
            activation=phi,
            weight_variance=network.weights,
            bias_variance=network.bias_variance,
        )
    return pre_activation_kernels(
        x,
        depth=network.depth,
        activation=phi,
        weight_variance=network.weights,
        bias_variance=network.bias_variance,
    )


@lru_cache(maxsize=4)  # seconds of work, which every segment wants again
def _central_kernels(
    points: bytes,
    image: tuple[int, ...],
    pool_after: tuple[int, ...],
    activation: Phi,
    hidden_variance: tuple[float, ...],
) -> tuple[Tensor, ...]:
    channels, height, width = image
    x = np.frombuffer(points).reshape(-1, channels * height * width)
    return central_pre_activation_kernels(
        torch.tensor(x),
        image=(channels, height, width),
        pool_after=pool_after,
        activation=activation,
        weight_variance=(*hidden_variance, 1.0),
    )
