"""Independent draws from the prior."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from workers.philox import Normals
from workers.sampler import Sampler

Law = Literal["gaussian", "uniform"]


class PriorState(NamedTuple):
    """z (chain, parameter)."""

    position: Tensor


def prior(law: Law = "gaussian") -> Sampler[PriorState]:
    """z ← ξ: each state is a fresh draw from the prior, whatever the one before. No bias.

    Of mean 0 and variance 1: from exp(-z²/2), or uniform between ±√3, which is √3 erf(ξ/√2) of a
    normal ξ.
    """

    def draw(position: Tensor, noise: Normals) -> PriorState:
        normal = noise(position.shape[1:], position.dtype)
        if law == "gaussian":
            return PriorState(normal)
        return PriorState(math.sqrt(3) * torch.erf(normal / math.sqrt(2)))

    def step(state: PriorState, noise: Normals) -> PriorState:
        return draw(state.position, noise)

    return Sampler(draw, step)
