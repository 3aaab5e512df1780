"""Where chains begin: at the prior, or where the first layer follows the teacher."""

import torch
from torch import Tensor

from workers.ensemble.problem import Problem
from workers.networks.networks import Layered
from workers.philox import Normals
from workers.samplers.linear_model import chains_at_a_time, normals_needed, regress


def aligned(problem: Problem, position: Tensor, teacher: Tensor, noise: Normals) -> Tensor:
    """z where every first-layer neuron has w·w* = ±1, its sign that of the prior draw.

    `teacher` is the unit vector w*, position (chain, parameter) a draw from the prior. What is
    perpendicular to w* stays, and the readout is drawn from its posterior given the hidden layers,
    so that the network fits with the features that the teacher has.
    """
    network = problem.network
    assert isinstance(network, Layered)
    weight, readout = network.layers[0], network.layers[-1]
    moved = position.clone()
    weights, unit = weight.of(moved), teacher.to(position)
    along = weights @ unit  # (chain, neuron)
    wanted = torch.ones_like(along).copysign(along) / weight.standard_deviation
    weights += (wanted - along)[..., None] * unit
    count = readout.stop - readout.start
    normals = noise((normals_needed(len(problem.x), count),), position.dtype)
    widths = network.standard_deviations.to(position)
    few = chains_at_a_time(problem.x, count)
    for chains, part in zip(moved.split(few), normals.split(few), strict=True):
        fields = network.pre_activations(chains * widths, problem.x)
        features = _features(network.activation.phi(fields[-1]), len(problem.x))
        model = regress(features * readout.standard_deviation, problem.y, problem.temperature)
        chains[:, readout.start :] = model.draw(part).to(chains)
    return moved


def _features(signal: Tensor, points: int) -> Tensor:
    """What the readout reads, (chain, n, width), of φ (chain, channel, point · position)."""
    by_point = signal.unflatten(2, (points, -1))  # (chain, channel, point, position)
    return by_point.transpose(1, 2).flatten(2)
