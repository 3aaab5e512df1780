"""Underdamped Langevin dynamics by the BAOAB splitting."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from workers.philox import Normals
from workers.sampler import Gradient, Sampler


class BAOABState(NamedTuple):
    """z, p and ∇U(z) (chain, parameter), U(z) (chain,)."""

    position: Tensor
    momentum: Tensor
    energy: Tensor
    gradient: Tensor


def baoab(gradient: Gradient, step_size: float, friction: float) -> Sampler[BAOABState]:
    """dz = p dt, dp = -∇U dt - γ p dt + √(2γ) dB, which targets exp(-U(z) - |p|²/2).

    Leimkuhler and Matthews (2013, arXiv:1203.5428). A step of ε is half a kick p ← p - (ε/2) ∇U,
    half a drift z ← z + (ε/2) p, the exact p ← c p + √(1 - c²) ξ with c = exp(-γ ε), half a drift,
    half a kick. Positions have a bias of order ε², and none at all where U is quadratic; ε² < 4/λ
    is stable.
    """
    decay = math.exp(-friction * step_size)
    kick = math.sqrt(1 - decay**2)
    half = step_size / 2

    def init(position: Tensor, noise: Normals) -> BAOABState:
        momentum = noise(position.shape[1:], position.dtype)
        return BAOABState(position, momentum, *gradient(position))

    def step(state: BAOABState, noise: Normals) -> BAOABState:
        before = torch.add(state.momentum, state.gradient, alpha=-half)
        position = torch.add(state.position, before, alpha=half)
        momentum = noise(position.shape[1:], position.dtype).mul_(kick).add_(before, alpha=decay)
        position.add_(momentum, alpha=half)
        energy, force = gradient(position)
        return BAOABState(position, momentum.add_(force, alpha=-half), energy, force)

    return Sampler(init, step)
