"""A sweep over neurons in torch, all chains of a block side by side."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from workers.samplers.neurons import SHRINKS, SLICED, Neurons, NeuronsState, Sweep


class Chosen(NamedTuple):
    """The normals of a visit, by what they decide."""

    direction: Tensor  # (chain, fed): p
    height: Tensor  # (chain,), -(ξ² + ξ'²)/2: the logarithm of a uniform number
    sliced: Tensor  # (chain,): whether v moves on its slice
    fractions: Tensor  # (chain, SHRINKS), uniform in (0, 1)
    readout: Tensor  # (chain, target)


def chosen(normals: Tensor, targets: int) -> Chosen:
    """Of normals (chain, `Neurons.normals`)."""
    direction, height, choice, angles, readout = normals.split(
        [normals.shape[1] - 3 - SHRINKS - targets, 2, 1, SHRINKS, targets], 1
    )
    lower = -height.double().square().sum(1) / 2
    fractions = torch.special.ndtr(angles.double())
    return Chosen(direction, lower, choice[:, 0] > SLICED, fractions, readout)


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
        turns, accepted = state.turns.clone(), state.accepted.clone()
        for i in range(width):
            before = torch.cat([part[:, i].view(len(position), -1) for part in weights], 1)
            field = before @ known.inputs.T
            signal = known.network.activation.phi(field)[:, None]
            others = now + scale * readout[:, :, i, None] * signal
            decided = chosen(normals[:, i], targets)
            start = _Visit(known, others, before, field)
            turn, moved = _turn(start, decided)
            end = _slice(start, decided).or_else(turn, decided.sliced)
            turns += ~decided.sliced
            accepted += moved & ~decided.sliced
            weights[0][:, i] = end.weights[:, : known.network.inputs]
            if known.biased:
                weights[1][:, i] = end.weights[:, -1]
            drawn = _readout(end.evidence, decided.readout)
            readout[:, :, i] = drawn
            added = scale * drawn[:, :, None] * end.phi[:, None]
            now = others - added
            after -= added
        return NeuronsState(position, after, turns, accepted)

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


def _turn(start: _Visit, decided: Chosen) -> tuple[_Visit, Tensor]:
    """The end of a Hamiltonian turn or the start, and whether it is the end."""
    known = start.known
    v, p, lost = start.weights, decided.direction, torch.zeros_like(start.evidence.log)
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
    moved = decided.height < end.evidence.log - start.evidence.log - lost
    return end.or_else(start, moved), moved


def _rotated(v: Tensor, p: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return cosine * v + sine * p, cosine * p - sine * v


def _slice(start: _Visit, decided: Chosen) -> _Visit:
    """A point of the slice of the ellipse through v and p; the start where none is found."""
    end, found = start, ~decided.sliced  # nothing is looked for there
    angle = 2 * math.pi * decided.fractions[:, 0]
    low, high = angle - 2 * math.pi, angle
    for shrink in range(SHRINKS):
        if found.all():
            break
        if shrink:
            angle = low + (high - low) * decided.fractions[:, shrink]
        here = start.turned(decided.direction, angle)
        inside = decided.height < here.evidence.log - start.evidence.log
        end = here.or_else(end, inside & ~found)
        found = found | inside
        low, high = torch.where(angle < 0, angle, low), torch.where(angle < 0, high, angle)
    return end


def _readout(known: Evidence, normals: Tensor) -> Tensor:
    """N(m_k, 1/(1 + c)) of each target."""
    drawn = known.mean + normals.double() / (1 + known.stiffness).sqrt()[:, None]
    return drawn.to(normals)
