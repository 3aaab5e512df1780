"""Langevin dynamics of the hidden weights alone, with the readout integrated out."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from workers.networks.networks import Network
from workers.philox import Normals
from workers.sampler import Sampler
from workers.samplers.linear_model import (
    LinearModel,
    chains_at_a_time,
    check_labels,
    normals_needed,
    regress,
)
from workers.samplers.splitting import drifted, splitting


class CollapsedState(NamedTuple):
    """z (chain, parameter), p and ∇U of the hidden weights (chain, hidden), U (chain,).

    The readout in z is a fresh draw given the hidden weights in z; nothing depends on it.
    """

    position: Tensor
    momentum: Tensor
    energy: Tensor
    gradient: Tensor


class Marginal(NamedTuple):
    """U (chain,) and ∇U (chain, hidden) of hidden weights, and a readout given them."""

    energy: Tensor
    gradient: Tensor
    readout: Tensor  # (chain, width)


def collapsed(
    network: Network, x: Tensor, y: Tensor, temperature: float, step_size: float, friction: float
) -> Sampler[CollapsedState]:
    """BAOAB on the U(z) of `marginal`, and the readout drawn exactly where the step ends.

    The steps are those of `workers.samplers.baoab`: hidden weights have its bias of order ε²,
    readouts given hidden weights have none. A readout is drawn at every step, so that any step may
    be the one that is kept: with the factor of the gradient at hand it costs a few hundredths of
    the step. A gradient costs n³/3 + 3 n² N operations for n ≤ N, N³/3 + 3 n N² for N < n, in
    float64, against 4 n N d of the plain one. It decorrelates faster per gradient, since the stiff
    and the slow directions of the readout are gone, and pays for min(n, N) up to about 3 d, or at
    small T. Raises ValueError unless there is one hidden layer.
    """
    evaluate = marginal(network, x, y, temperature)
    hidden = network.layers[-1].start
    spare = normals_needed(len(x), network.widths[-1])
    by = splitting(step_size, friction)

    def init(position: Tensor, noise: Normals) -> CollapsedState:
        start = position[:, :hidden]
        momentum, left = _split(noise, hidden, spare, position)
        energy, gradient, readout = evaluate(start, left)
        return CollapsedState(torch.cat([start, readout], 1), momentum, energy, gradient)

    def step(state: CollapsedState, noise: Normals) -> CollapsedState:
        kicks, left = _split(noise, hidden, spare, state.position)
        moved, momentum = drifted(
            state.position[:, :hidden], state.momentum, state.gradient, kicks, by
        )
        energy, gradient, readout = evaluate(moved, left)
        momentum = momentum - by.half * gradient
        return CollapsedState(torch.cat([moved, readout], 1), momentum, energy, gradient)

    return Sampler(init, step)


def marginal(
    network: Network, x: Tensor, y: Tensor, temperature: float
) -> Callable[[Tensor, Tensor], Marginal]:
    """U(z) = yᵀM⁻¹y/2 + ln det M/2 + |z|²/2 of whitened hidden weights z, M = s Φ Φᵀ + T.

    Φ (n, N) are the features φ(h) and s the prior variance of a readout weight: exp(-U) is the
    posterior of the hidden weights, the Gaussian readout integrated out. The function takes z
    (chain, hidden) and normals (chain, `normals_needed(n, N)`) for the readout.
    """
    check_labels(x, y)
    if network.depth != 1:
        raise ValueError(
            f"the network has {network.depth} hidden layers; its readout is integrated out "
            "for one: take gibbs or baoab"
        )
    hidden = network.layers[-1].start
    widths = network.standard_deviations[:hidden].to(x)
    chains = chains_at_a_time(x, network.widths[0])

    def evaluate(position: Tensor, normals: Tensor) -> Marginal:
        parts = [
            _marginal(network, x, y, temperature, widths, z, left)
            for z, left in zip(position.split(chains), normals.split(chains), strict=True)
        ]
        return Marginal(*(torch.cat(part) for part in zip(*parts, strict=True)))

    return evaluate


def _marginal(
    network: Network,
    x: Tensor,
    y: Tensor,
    temperature: float,
    widths: Tensor,
    position: Tensor,
    normals: Tensor,
) -> Marginal:
    """A few chains of `marginal`."""
    field = network.pre_activations(position * widths, x)[0]
    width = network.layers[-1].standard_deviation
    features = network.activation.phi(field).mT * width
    model = regress(features, y, temperature)
    energy = model.energy + position.double().square().sum(1) / 2
    gradient = torch.addcmul(position, _hidden_slope(network, x, field, model), widths)
    return Marginal(energy.to(position), gradient, model.draw(normals).to(position))


def _hidden_slope(network: Network, x: Tensor, field: Tensor, model: LinearModel) -> Tensor:
    """The evidence's gradient in the hidden weights, (chain, hidden), from that in the features."""
    weight, *biases, readout = network.layers
    delta = (model.slope.mT * readout.standard_deviation).to(field)
    delta.mul_(network.activation.dphi(field))
    slope = field.new_empty(len(field), readout.start)
    weight.of(slope).copy_(delta @ x)
    for bias in biases:
        bias.of(slope).copy_(delta.sum(2))
    return slope


def _split(noise: Normals, first: int, second: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The normals of a step, (chain, first) and (chain, second)."""
    normals = noise((first + second,), like.dtype)
    return normals[:, :first].contiguous(), normals[:, first:]
