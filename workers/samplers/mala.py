"""The Metropolis-adjusted Langevin algorithm."""

import math

import torch
from torch import Tensor

from workers.philox import Normals
from workers.sampler import Gradient, Sampler
from workers.samplers.metropolis import MetropolisState, decided, started


def mala(gradient: Gradient, step_size: float) -> Sampler[MetropolisState]:
    """z' = z - ε ∇U(z) + √(2ε) ξ, accepted with min(1, α): targets exp(-U) without bias.

    Roberts and Tweedie (1996, doi:10.2307/3318418). With q the density of a proposal, α is
    exp(U(z) - U(z')) q(z' → z) / q(z → z'), and with g = ∇U(z) + ∇U(z')

        ln α = U(z) - U(z') + √(ε/2) ξ·g - (ε/4) |g|².

    Each chain decides for itself: ln Φ(ξ_0) < ln α, with one normal ξ_0 more than there are
    parameters and Φ the normal distribution. A proposal whose energy is not finite is refused. In
    float32 the decision knows U to its rounding, |U| 6e-8, which should be far below 1.
    """

    def init(position: Tensor, noise: Normals) -> MetropolisState:
        return started(gradient, position)

    def step(state: MetropolisState, noise: Normals) -> MetropolisState:
        normals = noise((state.position.shape[1] + 1,), state.position.dtype)
        kick, decider = normals[:, :-1], normals[:, -1].double()
        proposal = torch.add(state.position, kick, alpha=math.sqrt(2 * step_size))
        proposal.add_(state.gradient, alpha=-step_size)
        energy, slope = gradient(proposal)
        both = state.gradient + slope
        path = torch.linalg.vecdot(both, math.sqrt(step_size / 2) * kick - step_size / 4 * both)
        gain = state.energy.double() - energy.double() + path.double()
        return decided(state, proposal, energy, slope, gain, decider)

    return Sampler(init, step)
