"""Neurons of the mean field as particles, which see each other through the outputs alone.

A particle is the readout â and the weights ŵ of a neuron, in units of their prior. Between two
halves of its Ornstein-Uhlenbeck process, which are exact, it follows the gradient of the loss, by
Heun's rule: a splitting of second order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.large_variance import Elementwise
from theory.activations.neurons import quasi_normals


class Particles(NamedTuple):
    """Neurons, or what is added to them."""

    readout: Tensor  # â, (particle,)
    weights: Tensor  # ŵ, (particle, d)

    def moved(self, step: float, along: "Particles") -> "Particles":
        """The particles and so much of others."""
        return Particles(*(torch.add(p, q, alpha=step) for p, q in zip(self, along, strict=True)))


class Averages(NamedTuple):
    """Averages over particles at each time."""

    output: Tensor  # f, (time, point)
    kernel: Tensor  # σ_a² <φφᵀ>, (time, point, point)
    weight_covariance: Tensor  # <ŵ ŵᵀ>, (time, d, d)
    readout_variance: Tensor  # <â²>, (time,)
    loss: Tensor  # L, (time,)
    kernel_lag: Tensor  # σ_a² <φ(t') φ(t)ᵀ> with times t' before, (time, lag, point, point)


@dataclass(frozen=True)
class System:
    """What moves the particles: N neurons, their data and their temperature."""

    inputs: Tensor  # x̂ (p, d), those of training first
    y: Tensor  # (n,)
    function: Elementwise  # φ
    width: float  # N
    readout_variance: float  # σ_a²
    temperature: float  # T

    def step(self, particles: Particles, step: float, noise: list[Particles]) -> Particles:
        """One step, with noise of equal parts before and after the gradient."""
        half = len(noise) // 2
        part = step / max(len(noise), 1)
        for one in noise[:half]:
            particles = self._forget(particles, part, one)
        particles = self._flow(particles, step)
        for one in noise[half:]:
            particles = self._forget(particles, part, one)
        return particles

    def features(self, particles: Particles) -> Tensor:
        """φ at all points, (particle, p)."""
        return self.function(particles.weights @ self.inputs.T)

    def averages(self, particles: Particles, before: Sequence[Tensor | None] = ()) -> Averages:
        """Of the particles at one time; `before` are their features at earlier ones, if known."""
        readout, weights = particles
        phi = self.features(particles)
        output, count = self._outputs(readout, phi), len(readout)
        scale, points = self.readout_variance / count, phi.shape[1]
        unknown = phi.new_full((points, points), torch.nan)
        lagged = [unknown if early is None else early.T @ phi * scale for early in before]
        return Averages(
            output,
            phi.T @ phi * scale,
            weights.T @ weights / count,
            readout.square().mean(),
            (self.y - output[: len(self.y)]).square().sum() / 2,
            torch.stack(lagged) if lagged else phi.new_zeros(0, points, points),
        )

    def _outputs(self, readout: Tensor, phi: Tensor) -> Tensor:
        """f = √N σ_a <â φ>."""
        return readout @ phi * (math.sqrt(self.width * self.readout_variance) / len(readout))

    def _flow(self, particles: Particles, step: float) -> Particles:
        first = self._force(particles)
        second = self._force(particles.moved(step, first))
        return particles.moved(step / 2, first).moved(step / 2, second)

    def _force(self, particles: Particles) -> Particles:
        """-∇L, of a neuron of the N."""
        readout, weights = particles
        inputs = self.inputs[: len(self.y)]
        phi, slope = _value_and_slope(self.function, weights @ inputs.T)
        pull = self.y - self._outputs(readout, phi)
        pull = pull * math.sqrt(self.readout_variance / self.width)
        return Particles(phi @ pull, slope.mul(readout[:, None]).mul_(pull) @ inputs)

    def _forget(self, particles: Particles, time: float, noise: Particles) -> Particles:
        """dθ̂ = -T θ̂ dt + √(2T) dB, which is known at any time."""
        kept = math.exp(-self.temperature * time)
        left = Particles(*(kept * p for p in particles))
        return left.moved(math.sqrt(1 - kept**2), noise)


def _value_and_slope(function: Elementwise, fields: Tensor) -> tuple[Tensor, Tensor]:
    """φ and φ', by automatic differentiation."""
    with torch.enable_grad():
        leaf = fields.detach().requires_grad_()
        value = function(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope.contiguous()


def at_start(count: int, dimension: int, seed: int) -> Particles:
    """Pairs (±â, ŵ) from the prior, of which no output is left."""
    drawn = quasi_normals(count // 2, dimension + 1, seed)
    return _paired(drawn[:, 0], drawn[:, 1:])


def normals(count: int, dimension: int, generator: torch.Generator) -> Particles:
    """Noise that is mirrored as the pairs are."""
    drawn = torch.randn(count // 2, dimension + 1, generator=generator, dtype=torch.float64)
    return _paired(drawn[:, 0], drawn[:, 1:])


def _paired(readout: Tensor, weights: Tensor) -> Particles:
    return Particles(torch.cat([readout, -readout]), torch.cat([weights, weights]))
