"""The potential of networks of one hidden layer, by kernels of Triton.

For activations of `workers.triton.activations`, one target, float32, and inputs of at most
`MOST_INPUTS` numbers; all else is computed by torch.
"""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from workers.networks import networks
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import Model, Network
from workers.sampler import Gradient
from workers.triton import kernels
from workers.triton.activations import UNITS
from workers.triton.gradient import backward, forward, total
from workers.triton.kernels import launch

LEAST_COLUMNS = 16  # columns of a product of tensor cores
MOST_INPUTS = 64  # with more of them a program's numbers do not fit the registers


class Tiles(NamedTuple):
    """How work is cut. It decides bits, and depends on the device alone, so not on other chains."""

    neurons: int
    points: int
    warps: int
    stages: int


HOPPER = Tiles(neurons=64, points=32, warps=4, stages=2)  # 64 rows are one product of a warp group
OTHERS = Tiles(neurons=32, points=32, warps=4, stages=2)


def tiles_of(major: int) -> Tiles:
    """Those of GPUs of compute capability `major`, which leave no number to spill."""
    return HOPPER if major == 9 else OTHERS


def has_kernel(model: Model, x: Tensor) -> bool:
    """Whether the kernels are for a network on inputs x."""
    return (
        isinstance(model, Network)
        and model.depth == 1
        and model.targets == 1
        and model.inputs <= MOST_INPUTS
        and activation_of(model) is not None
        and x.dtype == torch.float32
        and kernels.run_on(x)
    )


def activation_of(network: Network) -> str | None:
    """The name of the activation, if it has a kernel."""
    return next((name for name in UNITS if network.activation == ACTIVATIONS[name]), None)


def potential(
    model: Model, x: Tensor, y: Tensor, temperature: float, tiles: Tiles | None = None
) -> Gradient:
    """U(z) = |z|²/2 + L/T and ∇U, as `workers.networks.networks.potential` has them, in three
    launches.

    `tiles` are by default those of the device.
    """
    if not has_kernel(model, x):
        return networks.potential(model, x, y, temperature)
    assert isinstance(model, Network)
    networks.check_labels(model, x, y)
    if tiles is None:
        tiles = tiles_of(torch.cuda.get_device_capability(x.device)[0] if x.is_cuda else 9)
    x, y = x.contiguous(), y.contiguous()
    name, size, width = activation_of(model), model.size, model.widths[0]
    assert name is not None
    shapes: dict[str, object] = {**constants(len(x), model, name, tiles)}
    count = -(-width // tiles.neurons)
    weight, *bias, readout = (layer.standard_deviation for layer in model.layers)
    sizes = (size, width, model.inputs, weight, *(bias or [0.0]), readout)
    shapes |= {"num_warps": tiles.warps, "num_stages": tiles.stages}
    last = (UNITS[name], 1 / temperature)

    def gradient(position: Tensor) -> tuple[Tensor, Tensor]:
        z = position.contiguous()
        parts = z.new_empty(len(z), count, len(x))
        energy, pieces = z.new_empty(len(z)), z.new_empty(len(z), count)
        slope, grid = torch.empty_like(z), (len(z), count)
        launch(forward, grid, z, x, parts, *sizes, **shapes)
        arrays = (z, x, y, parts, slope, pieces)
        launch(backward, grid, *arrays, *sizes, *last, **shapes, TILES=count)
        launch(total, (len(z),), pieces, energy, TILES=count)
        return energy, slope

    return gradient


def constants(points: int, model: Network, name: str, tiles: Tiles) -> dict[str, object]:
    """What a kernel is compiled for."""
    return {
        "POINTS": points,
        "BIASED": len(model.layers) == 3,
        "PHI": name,
        "NEURONS": tiles.neurons,
        "SLICE": tiles.points,
        "COLUMNS": max(LEAST_COLUMNS, triton.next_power_of_2(model.inputs)),
    }
