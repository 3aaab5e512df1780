"""Networks with and without a compiled kernel, and data of their size."""

import torch

from workers.fused.network import fused
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import fully_connected


def make_network(activation, inputs, widths, bias_variance=0.0):
    return fused(plain_network(activation, inputs, widths, bias_variance))


def plain_network(activation, inputs, widths, bias_variance=0.0, targets=1):
    return fully_connected(
        inputs,
        widths,
        ACTIVATIONS[activation],
        weight_variance=[1.5] * len(widths) + [2.0],
        bias_variance=bias_variance,
        chi=1.0,
        targets=targets,
    )


def make_data(network, points, chains):
    generator = torch.Generator().manual_seed(points)
    parameters = torch.randn(chains, network.size, generator=generator)
    x = torch.randn(points, network.inputs, generator=generator)
    y = torch.sin(x.sum(1)) + torch.randn(points, generator=generator)
    return parameters * network.standard_deviations.float(), x, y
