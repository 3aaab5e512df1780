"""Hamiltonian Monte Carlo."""

from typing import NamedTuple

import torch
from torch import Tensor

from workers.philox import Normals
from workers.samplers.sampler import Gradient, Sampler


class HMCState(NamedTuple):
    """z and ∇U(z) (chain, parameter), U(z) (chain,), proposals accepted so far (chain,), int64."""

    position: Tensor
    energy: Tensor
    gradient: Tensor
    accepted: Tensor


def hmc(gradient: Gradient, step_size: float, leaps: int) -> Sampler[HMCState]:
    """Momenta p ~ N(0, 1), then leapfrog steps of size ε: targets exp(-U) without bias.

    Duane, Kennedy, Pendleton and Roweth (1987). Each leap is p ← p - (ε/2) ∇U(z), z ← z + ε p,
    p ← p - (ε/2) ∇U(z); the end is accepted with min(1, exp(H(z, p) - H(z', p'))), where
    H = U + |p|²/2. Each chain decides for itself: ln Φ(ξ_0) < H - H', with one normal ξ_0 more
    than there are parameters and Φ the normal distribution. A proposal whose energy is not finite
    is refused. In a harmonic well of curvature 1 a path of length π leads nowhere but to -z, and
    one of 2π back to z: keep leaps times ε at about π/2.
    """

    def init(position: Tensor, noise: Normals) -> HMCState:
        accepted = torch.zeros(len(position), dtype=torch.int64, device=position.device)
        return HMCState(position, *gradient(position), accepted)

    def step(state: HMCState, noise: Normals) -> HMCState:
        normals = noise((state.position.shape[1] + 1,), state.position.dtype)
        momentum, decider = normals[:, :-1], normals[:, -1].double()
        before = state.energy.double() + _kinetic(momentum)
        position, energy, slope = state.position, state.energy, state.gradient
        for _ in range(leaps):
            momentum = momentum - step_size / 2 * slope
            position = position + step_size * momentum
            energy, slope = gradient(position)
            momentum = momentum - step_size / 2 * slope
        accept = torch.special.log_ndtr(decider) < before - energy.double() - _kinetic(momentum)
        return HMCState(
            torch.where(accept[:, None], position, state.position),
            torch.where(accept, energy, state.energy),
            torch.where(accept[:, None], slope, state.gradient),
            state.accepted + accept,
        )

    return Sampler(init, step)


def _kinetic(momentum: Tensor) -> Tensor:
    return momentum.double().square().sum(1) / 2
