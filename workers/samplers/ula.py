"""The unadjusted Langevin algorithm."""

import math
from typing import NamedTuple

from torch import Tensor

from workers.philox import Normals
from workers.samplers.sampler import Gradient, Sampler


class ULAState(NamedTuple):
    """z and ∇U(z) (chain, parameter), U(z) (chain,)."""

    position: Tensor
    energy: Tensor
    gradient: Tensor


def ula(gradient: Gradient, step_size: float) -> Sampler[ULAState]:
    """Unadjusted Langevin: z ← z - ε ∇U(z) + √(2ε) ξ, which targets exp(-U) with bias of order ε.

    On U = λ z²/2 its stationary variance is 1 / (λ (1 - ε λ/2)); it is stable for ε < 2/λ.
    """

    def init(position: Tensor, noise: Normals) -> ULAState:
        return ULAState(position, *gradient(position))

    def step(state: ULAState, noise: Normals) -> ULAState:
        position = noise(state.position.shape[1:], state.position.dtype)
        position.mul_(math.sqrt(2 * step_size)).add_(state.position)
        position.add_(state.gradient, alpha=-step_size)
        return ULAState(position, *gradient(position))

    return Sampler(init, step)
