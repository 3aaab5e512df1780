"""A random network as the teacher.

It is evaluated in float64 without a BLAS, in blocks of points that always have the same shape and
on one thread, so that the bits of a point do not depend on how many there are.
"""

from collections.abc import Sequence

import numpy as np
import torch

from workers.data.dataset import Array
from workers.data.synthetic import Law
from workers.networks.activations import ACTIVATIONS, Activation
from workers.networks.convolution import patch_network, three_layer_convolution
from workers.networks.networks import Layered, fully_connected
from workers.numerics import fixed_threads

BLOCK = 16  # points


def teacher_network(
    dimension: int,
    patches: int | None,
    widths: Sequence[int],
    activation: str,
    weight_variance: Sequence[float],
    generator: np.random.Generator,
) -> Law:
    """y = f(x) with f drawn from the prior of a network without biases: W ~ N(0, σ²/fan_in).

    Without patches it is `workers.networks.networks.fully_connected`, with them it is
    `patch_network` for one width, or `three_layer_convolution` for two, of
    `workers.networks.convolution`. The variance of y at x, over teachers, is the prior's <f(x)²>:
    (2/π) σ_a² asin(2k/(1 + 2k)) with k = σ_w²|x|²/d for one fully connected layer of erf, and σ_a²
    σ_w²|x|²/d for any of linear neurons.
    """
    phi = ACTIVATIONS[activation]
    network = _network(dimension, patches, widths, phi, weight_variance)
    normals = torch.from_numpy(generator.standard_normal((1, network.size)))
    parameters = network.standard_deviations * normals
    weights = [layer.of(parameters)[0].numpy() for layer in network.layers]

    def components(z: Array) -> Array:
        blocks = -(-len(z) // BLOCK)
        padded = np.zeros((blocks * BLOCK, dimension))
        padded[: len(z)] = z
        values = np.empty((blocks, BLOCK))
        with fixed_threads():
            for block, x in enumerate(padded.reshape(blocks, BLOCK, dimension)):
                values[block] = _outputs(weights, phi, patches or 1, x)
        return values.reshape(-1, 1)[: len(z)]

    return Law(np.ones(dimension), components, None)


def _network(
    dimension: int,
    patches: int | None,
    widths: Sequence[int],
    phi: Activation,
    weight_variance: Sequence[float],
) -> Layered:
    if patches is None:
        return fully_connected(
            dimension, widths, phi, weight_variance=weight_variance, bias_variance=0.0, chi=1.0
        )
    size, channels = dimension // patches, widths[0]
    if len(widths) == 1:
        return patch_network(patches, size, channels, phi, weight_variance=weight_variance, chi=1.0)
    return three_layer_convolution(
        patches, size, channels, widths[1], phi, weight_variance=weight_variance, chi=1.0
    )


def _outputs(weights: Sequence[Array], phi: Activation, patches: int, x: Array) -> Array:
    """f(x), (point,), for x (point, d); the first layer sees one patch at a time."""
    *hidden, readout = weights
    signal = x.reshape(len(x) * patches, -1)
    for weight in hidden:
        field = np.einsum("pk,wk->pw", signal, weight)
        fired = phi.phi(torch.from_numpy(field)).numpy()
        # Channels of all patches are read in the order (channel, patch).
        signal = fired.reshape(len(x), -1, len(weight)).swapaxes(1, 2).reshape(len(x), -1)
    return np.einsum("pk,k->p", signal, readout)
