"""Gibbs sampling: layers that are Gaussian given the others are drawn exactly."""

from typing import NamedTuple

import torch
from torch import Tensor

from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import Layer, Network, potential
from workers.philox import Normals
from workers.sampler import Gradient, Sampler
from workers.samplers.baoab import BAOABState, baoab
from workers.samplers.linear_model import (
    chains_at_a_time,
    check_labels,
    normals_needed,
    regress,
)


class GibbsState(NamedTuple):
    """z (chain, parameter), p of the hidden weights (chain, hidden), U(z) (chain,)."""

    position: Tensor
    momentum: Tensor
    energy: Tensor


def gibbs(
    network: Network,
    x: Tensor,
    y: Tensor,
    temperature: float,
    step_size: float,
    friction: float,
    moves: int,
) -> Sampler[GibbsState]:
    """The readout drawn exactly given the hidden weights, then `moves` BAOAB steps of these.

    A network of any depth is linear in its readout, which is therefore Gaussian given the rest.
    The hidden weights move at fixed readout, by `workers.samplers.baoab`: with its bias of order
    ε², at the cost of moves + 1 gradients. Targets the exp(-U) of
    `workers.networks.networks.potential`.
    """
    joint = potential(network, x, y, temperature)
    hidden, width = network.layers[-1].start, network.widths[-1]
    spare = normals_needed(len(x), width)
    widths = network.standard_deviations.to(x)

    def given(readout: Tensor) -> Gradient:
        def gradient(position: Tensor) -> tuple[Tensor, Tensor]:
            energy, slope = joint(torch.cat([position, readout], 1))
            return energy, slope[:, :hidden].contiguous()

        return gradient

    def draw(position: Tensor, normals: Tensor) -> Tensor:
        chains, drawn = chains_at_a_time(x, width), []
        for z, part in zip(position.split(chains), normals.split(chains), strict=True):
            signal = network.activation.phi(network.pre_activations(z * widths, x)[-1])
            features = signal.mT * network.layers[-1].standard_deviation
            drawn.append(regress(features, y, temperature).draw(part).to(position))
        return torch.cat(drawn)

    def init(position: Tensor, noise: Normals) -> GibbsState:
        momentum = noise((hidden,), position.dtype)
        return GibbsState(position, momentum, joint(position)[0])

    def step(state: GibbsState, noise: Normals) -> GibbsState:
        normals = noise((spare + moves * hidden,), state.position.dtype)
        readout = draw(state.position, normals[:, :spare])
        gradient = given(readout)
        dynamics = baoab(gradient, step_size, friction)
        start = state.position[:, :hidden].contiguous()
        chains = BAOABState(start, state.momentum, *gradient(start))
        for kicks in normals[:, spare:].split(hidden, 1):
            chains = dynamics.step(chains, lambda shape, dtype, kicks=kicks: kicks.contiguous())
        position = torch.cat([chains.position, readout], 1)
        return GibbsState(position, chains.momentum, chains.energy)

    return Sampler(init, step)


class LinearGibbsState(NamedTuple):
    """z (chain, parameter)."""

    position: Tensor


def linear_gibbs(
    network: Network, x: Tensor, y: Tensor, temperature: float
) -> Sampler[LinearGibbsState]:
    """Each layer of a linear network in turn, the first one first, drawn exactly given the others.

    With f = u·(W v + b) + c, where v is what a layer reads, u what the layers above make of its
    outputs and c their biases, only uᵀW and u·b meet the data: they are drawn from a linear model
    with features |u| v, and the rest of W and b from the prior. Targets exp(-U) without bias; the
    algebra is in float64. Raises ValueError for another activation.
    """
    check_labels(x, y)
    if network.activation != ACTIVATIONS["linear"]:
        raise ValueError(
            "the activation is not linear, so hidden layers are not Gaussian given the others; "
            "take gibbs, collapsed or baoab"
        )
    layers, inputs, labels = _matrices(network), x.double(), y.double()
    sizes = [layer.normals(len(x)) for layer in layers]

    def init(position: Tensor, noise: Normals) -> LinearGibbsState:
        return LinearGibbsState(position)

    def step(state: LinearGibbsState, noise: Normals) -> LinearGibbsState:
        normals = noise((sum(sizes),), state.position.dtype).double()
        position = state.position.double()
        above = _above(layers, position)
        signal = inputs.expand(len(position), -1, -1)
        drawn = []
        for layer, (u, shift), part in zip(layers, above, normals.split(sizes, 1), strict=True):
            read = layer.inputs(signal)
            matrix = _redraw(read, labels - shift, temperature, u, part)
            drawn.append(layer.flat(matrix))
            signal = read @ matrix.mT
        return LinearGibbsState(torch.cat(drawn, 1).to(state.position))

    return Sampler(init, step)


class _Matrix(NamedTuple):
    """A layer as one whitened matrix (row, column) whose last column, if any, are biases."""

    weight: Layer
    bias: Layer | None

    def normals(self, n: int) -> int:
        """How many normals a draw takes: one for each element, and others for the labels."""
        rows, columns = self.weight.shape
        columns += self.bias is not None
        return rows * columns + normals_needed(n, columns) - columns

    def inputs(self, signal: Tensor) -> Tensor:
        """What the columns read, times the widths of their prior: (chain, n, column)."""
        scaled = signal * self.weight.standard_deviation
        if self.bias is None:
            return scaled
        ones = torch.full_like(scaled[:, :, :1], self.bias.standard_deviation)
        return torch.cat([scaled, ones], 2)

    def of(self, position: Tensor) -> Tensor:
        """(chain, row, column) of z."""
        if self.bias is None:
            return self.weight.of(position)
        return torch.cat([self.weight.of(position), self.bias.of(position)[:, :, None]], 2)

    def flat(self, matrix: Tensor) -> Tensor:
        """The part of z that a matrix is: weights, then biases."""
        weights, biases = matrix.tensor_split([self.weight.shape[1]], 2)
        return torch.cat([weights.flatten(1), biases.flatten(1)], 1)


def _matrices(network: Network) -> list[_Matrix]:
    """The layers of a network, the readout last as a matrix of one row."""
    named = {layer.name: layer for layer in network.layers}
    levels = range(1, network.depth + 1)
    hidden = [_Matrix(named[f"weight_{level}"], named.get(f"bias_{level}")) for level in levels]
    readout = named["readout"]
    return [*hidden, _Matrix(readout._replace(shape=(1, *readout.shape)), None)]


def _above(layers: list[_Matrix], position: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each layer, u (chain, row) and what biases above it add to f, (chain, 1)."""
    u = position.new_ones(len(position), 1)
    shift = position.new_zeros(len(position), 1)
    found = []
    for layer in reversed(layers):
        found.append((u, shift))
        if layer.bias is not None:
            row = (u * layer.bias.of(position)).sum(1, keepdim=True)
            shift = shift + layer.bias.standard_deviation * row
        u = layer.weight.standard_deviation * (u[:, None] @ layer.weight.of(position))[:, 0]
    return found[::-1]


def _redraw(
    inputs: Tensor, labels: Tensor, temperature: float, u: Tensor, normals: Tensor
) -> Tensor:
    """A layer's matrix (chain, row, column) given labels (chain, n) = u·(matrix inputs) + noise.

    Its row along u is drawn from its posterior, with the normals that the prior draw has there;
    what is perpendicular to u stays as the prior draws it.
    """
    rows, columns = u.shape[1], inputs.shape[2]
    prior, rest = normals.tensor_split([rows * columns], 1)
    prior = prior.unflatten(1, (rows, columns))
    length = torch.linalg.vector_norm(u, dim=1)
    unit = u / length[:, None]
    along = (unit[:, None] @ prior)[:, 0]
    model = regress(inputs * length[:, None, None], labels, temperature)
    row = model.draw(torch.cat([along, rest], 1))
    return torch.baddbmm(prior, unit[:, :, None], (row - along)[:, None])
