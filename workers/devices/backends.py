"""What computes gradients and noise, by the name of a backend.

Each is imported where it is used: one needs a compiler, the other a GPU.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from workers import philox
from workers.devices.placement import FUSED, TRITON, Placement
from workers.networks import networks
from workers.networks.networks import Model
from workers.sampler import Gradient
from workers.samplers import neuron_moves
from workers.samplers.neurons import Neurons, Sweep

Potential = Callable[[Model, Tensor, Tensor, float], Gradient]


class Backend(NamedTuple):
    """Twins of what torch alone computes. All make the same normals, to the last bit."""

    noise: Callable[..., philox.Noise] = philox.Noise
    network: Callable[[Model], Model] = lambda model: model
    potential: Potential = networks.potential
    sweep: Callable[[Neurons], Sweep] = neuron_moves.sweep


def backend_of(placement: Placement) -> Backend:
    """The twins that a placement names; where one has nothing for a case, it is torch's."""
    if placement.family == FUSED:
        from workers.fused import network, neurons, noise

        return Backend(noise.Noise, network.fused, network.potential, neurons.sweep)
    if placement.family == TRITON:
        from workers.triton import network, noise

        return Backend(noise=noise.Noise, potential=network.potential)
    return Backend()
