"""A sweep over neurons in torch, all chains of a block side by side."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from workers.samplers.neurons import Neurons, NeuronsState, Sweep


class Chosen(NamedTuple):
    """The random numbers of a sweep, by what they decide."""

    direction: Tensor  # (chain, neuron, fed): p
    height: Tensor  # (chain, neuron), -(ξ² + ξ'²)/2: the logarithm of a uniform number
    readout: Tensor  # (chain, neuron, target), normals
    sliced: Tensor  # (chain, neuron): whether v moves on its slice
    fractions: Tensor  # (chain, group, angle), uniform in (0, 1)


def chosen(known: Neurons, normals: Tensor) -> Chosen:
    """Of the normals (chain, normal) of a sweep."""
    each, choice = known.normals
    own, shared = normals.split([known.width * each, known.groups * choice], 1)
    direction, heights, readout = own.unflatten(1, (known.width, each)).split(
        [known.fed, 2, known.network.targets], 2
    )
    height = -heights.double().square().sum(2) / 2
    fractions = torch.special.ndtr(shared.unflatten(1, (known.groups, choice)).double())
    first = known.group * torch.arange(known.groups, device=normals.device)
    members = (known.width - first).clamp(max=known.group)
    place = (first + fractions[:, :, 0] * members).long()
    sliced = torch.zeros(height.shape, dtype=torch.bool, device=normals.device)
    return Chosen(direction, height, readout, sliced.scatter(1, place, True), fractions[:, :, 1:])


class Evidence(NamedTuple):
    """What the labels say of a neuron with features φ."""

    log: Tensor  # ln L, (chain,)
    stiffness: Tensor  # c, (chain,)
    mean: Tensor  # of the readout, (chain, target)


@dataclass
class _Visit:
    """A neuron of all chains: v (chain, fed), h and φ (chain, n)."""

    known: Neurons
    others: Tensor  # R, (chain, target, n)
    weights: Tensor
    field: Tensor

    def __post_init__(self) -> None:
        self.phi = self.known.network.activation.phi(self.field)
        self.evidence = evidence(self.known, self.phi, self.others)

    def turned(self, direction: Tensor, angle: Tensor) -> "_Visit":
        """v cos + p sin, and what follows."""
        cosine, sine = (part[:, None].to(direction) for part in (angle.cos(), angle.sin()))
        weights = cosine * self.weights + sine * direction
        field = cosine * self.field + sine * (direction @ self.known.inputs.T)
        return _Visit(self.known, self.others, weights, field)

    def or_else(self, other: "_Visit", here: Tensor) -> "_Visit":
        """This one in the chains that say so, the other one elsewhere."""
        weights = torch.where(here[:, None], self.weights, other.weights)
        field = torch.where(here[:, None], self.field, other.field)
        return _Visit(self.known, self.others, weights, field)


def sweep(known: Neurons) -> Sweep:
    """The moves of `workers.samplers.neurons` for all neurons, the first one first."""
    layers, width, targets = known.network.layers, known.width, known.network.targets
    scale = layers[-1].standard_deviation

    def run(state: NeuronsState, normals: Tensor) -> NeuronsState:
        position = state.position.clone()
        weights = [layer.of(position) for layer in layers[:-1]]  # views
        readout = layers[-1].of(position).view(len(position), targets, width)
        now, after = state.residual.clone(), known.labels.expand_as(state.residual).clone()
        accepted, given = state.accepted.clone(), chosen(known, normals)
        for i in range(width):
            before = torch.cat([part[:, i].view(len(position), -1) for part in weights], 1)
            field = before @ known.inputs.T
            signal = known.network.activation.phi(field)[:, None]
            others = now + scale * readout[:, :, i, None] * signal
            start = _Visit(known, others, before, field)
            turn, moved = _turn(start, given.direction[:, i], given.height[:, i])
            sliced, fractions = given.sliced[:, i], given.fractions[:, i // known.group]
            slide = _slice(start, given.direction[:, i], given.height[:, i], fractions, sliced)
            end = slide.or_else(turn, sliced)
            accepted += moved & ~sliced
            weights[0][:, i] = end.weights[:, : known.network.inputs]
            if known.biased:
                weights[1][:, i] = end.weights[:, -1]
            drawn = _readout(end.evidence, given.readout[:, i])
            readout[:, :, i] = drawn
            added = scale * drawn[:, :, None] * end.phi[:, None]
            now = others - added
            after -= added
        return NeuronsState(position, after, accepted)

    return run


def evidence(known: Neurons, phi: Tensor, others: Tensor) -> Evidence:
    """ln L of features (chain, n), given what the other neurons leave (chain, target, n)."""
    scale, targets = known.network.layers[-1].standard_deviation, others.shape[1]
    along = (others @ phi[:, :, None])[..., 0].double() * (scale / known.temperature)
    stiffness = torch.linalg.vecdot(phi, phi).double() * (scale**2 / known.temperature)
    log = along.square().sum(1) / (2 * (1 + stiffness)) - targets / 2 * stiffness.log1p()
    return Evidence(log, stiffness, along / (1 + stiffness)[:, None])


def slope(known: Neurons, phi: Tensor, others: Tensor) -> Tensor:
    """∂ln L/∂φ = Σ_k m_k (s/T) R_k - (s²/T) φ (Σ_k m_k² + K/(1 + c)), m_k the readout's means."""
    found = evidence(known, phi, others)
    scale, targets = known.network.layers[-1].standard_deviation, others.shape[1]
    pull = (found.mean[:, None].to(others) @ others)[:, 0] * (scale / known.temperature)
    shrink = found.mean.square().sum(1) + targets / (1 + found.stiffness)
    return pull - (scale**2 / known.temperature * shrink)[:, None].to(phi) * phi


def _turn(start: _Visit, direction: Tensor, height: Tensor) -> tuple[_Visit, Tensor]:
    """The end of a Hamiltonian turn or the start, and whether it is the end."""
    known = start.known
    v, p, lost = start.weights, direction, torch.zeros_like(start.evidence.log)
    rests = known.kicks
    for kick in range(rests):
        v, p = _rotated(v, p, known.angle / rests / (1 if kick else 2))
        here = _Visit(known, start.others, v, v @ known.inputs.T)
        back = slope(known, here.phi, here.others) * known.network.activation.dphi(here.field)
        push = known.angle / rests * (back @ known.inputs)
        lost += torch.linalg.vecdot(push, p + push / 2).double()  # the change of |p|²/2
        p = p + push
    v, p = _rotated(v, p, known.angle / max(2 * rests, 1))
    end = _Visit(known, start.others, v, v @ known.inputs.T)
    moved = height < end.evidence.log - start.evidence.log - lost
    return end.or_else(start, moved), moved


def _rotated(v: Tensor, p: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return cosine * v + sine * p, cosine * p - sine * v


def _slice(
    start: _Visit, direction: Tensor, height: Tensor, fractions: Tensor, wanted: Tensor
) -> _Visit:
    """A point of the slice of the ellipse through v and p; the start where none is found.

    Nothing is looked for but where it is wanted, (chain,).
    """
    end, found = start, ~wanted
    angle = 2 * math.pi * fractions[:, 0]
    low, high = angle - 2 * math.pi, angle
    for tried in range(start.known.angles):
        if found.is_cpu and found.all():  # a device would be waited for
            break
        if tried:
            angle = low + (high - low) * fractions[:, tried]
        here = start.turned(direction, angle)
        inside = height < here.evidence.log - start.evidence.log
        end = here.or_else(end, inside & ~found)
        found = found | inside
        low, high = torch.where(angle < 0, angle, low), torch.where(angle < 0, high, angle)
    return end


def _readout(known: Evidence, normals: Tensor) -> Tensor:
    """N(m_k, 1/(1 + c)) of each target."""
    drawn = known.mean + normals.double() / (1 + known.stiffness).sqrt()[:, None]
    return drawn.to(normals)
