"""The unadjusted Langevin algorithm."""

from typing import NamedTuple

import torch
from torch import Tensor

from workers.philox import Normals
from workers.sampler import Gradient, Sampler


class ULAState(NamedTuple):
    """z and ∇U(z) (chain, parameter), U(z) (chain,)."""

    position: Tensor
    energy: Tensor
    gradient: Tensor


def ula(gradient: Gradient, step_size: float | Tensor) -> Sampler[ULAState]:
    """Unadjusted Langevin: z ← z - ε ∇U(z) + √(2ε) ξ, which targets exp(-U) with bias of order ε.

    On U = λ z²/2 its stationary variance is 1 / (λ (1 - ε λ/2)); it is stable for ε < 2/λ. A step
    for each parameter, (parameter,), is one ε times mobilities, which move the bias and nothing
    else: dz = -m ∇U dt + √(2m) dB targets the same law for every m > 0. On a device, give the step
    as a tensor there: a number would be copied to it in every step.
    """
    steps = torch.as_tensor(step_size, dtype=torch.float64)
    spread = (2 * steps).sqrt()

    def init(position: Tensor, noise: Normals) -> ULAState:
        return ULAState(position, *gradient(position))

    def step(state: ULAState, noise: Normals) -> ULAState:
        position = noise(state.position.shape[1:], state.position.dtype)
        position.mul_(spread.to(position)).add_(state.position)
        position.addcmul_(state.gradient, steps.to(position), value=-1)
        return ULAState(position, *gradient(position))

    return Sampler(init, step)
