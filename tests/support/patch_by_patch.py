"""Convolutional networks, patch by patch."""

import itertools

import torch
from torch.nn.functional import pad

PATCHES, PATCH = 3, 4

IMAGE = (2, 4, 6)


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
