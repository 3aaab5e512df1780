"""Independent draws from the prior."""

from typing import NamedTuple

from torch import Tensor

from workers.philox import Normals
from workers.sampler import Sampler


class PriorState(NamedTuple):
    """z (chain, parameter)."""

    position: Tensor


def prior() -> Sampler[PriorState]:
    """z ← ξ: each state is a fresh draw from exp(-|z|²/2), whatever the one before. No bias."""

    def draw(position: Tensor, noise: Normals) -> PriorState:
        return PriorState(noise(position.shape[1:], position.dtype))

    def step(state: PriorState, noise: Normals) -> PriorState:
        return draw(state.position, noise)

    return Sampler(draw, step)
