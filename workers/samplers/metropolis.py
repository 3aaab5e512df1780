"""What adjusted samplers share: a state that knows its energy, and the decision of each chain."""

from typing import NamedTuple

import torch
from torch import Tensor

from workers.sampler import Gradient


class MetropolisState(NamedTuple):
    """z and ∇U(z) (chain, parameter), U(z) (chain,), proposals accepted so far (chain,), int64."""

    position: Tensor
    energy: Tensor
    gradient: Tensor
    accepted: Tensor


def started(gradient: Gradient, position: Tensor) -> MetropolisState:
    """The state at a position, before any proposal."""
    accepted = torch.zeros(len(position), dtype=torch.int64, device=position.device)
    return MetropolisState(position, *gradient(position), accepted)


def decided(
    state: MetropolisState,
    position: Tensor,
    energy: Tensor,
    gradient: Tensor,
    gain: Tensor,
    decider: Tensor,
) -> MetropolisState:
    """Proposals, each accepted with min(1, e^gain): where ln Φ(decider) < gain, (chain,) float64.

    Deciders are standard normals and Φ is their distribution. A gain that is not a number refuses.
    """
    accept = torch.special.log_ndtr(decider) < gain
    return MetropolisState(
        torch.where(accept[:, None], position, state.position),
        torch.where(accept, energy, state.energy),
        torch.where(accept[:, None], gradient, state.gradient),
        state.accepted + accept,
    )
