"""Networks in time: overdamped Langevin dynamics by the rule of Euler and Maruyama, in pairs.

In coordinates z whitened by the prior, and in units of the prior's relaxation time 1/T,

    dz = -(z + ∇L/T) dt + √2 dB,      or      dz = -∇L/T dt,

Langevin dynamics with weight decay, or gradient flow. Every weight has the same mobility. A chain
is four networks: a pair whose readouts start with opposite signs, and feel opposite noise, so that
their outputs cancel at first and in the mean of a lazy network ever after; and the same pair with
steps twice as long. A mean m(ε) is off by a term of first order in the step, which 2 m(ε) - m(2ε)
has no more.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from workers.philox import Normals
from workers.sampler import Gradient, Sampler

NETWORKS = 4  # of a chain: two signs, at each of two steps


class TrajectoryState(NamedTuple):
    """z, (4 · chain, parameter), as `folded` has it, and where it was at the last times.

    `past` is (4 · chain, time, parameter), the latest first; NaN before there was any.
    """

    position: Tensor
    past: Tensor


def started(position: Tensor, signs: Tensor, lags: int) -> TrajectoryState:
    """Pairs from draws of the prior (chain, parameter); signs (parameter,) are -1 at the readout.

    So many positions are kept of earlier times.
    """
    pair = torch.cat([position, position * signs])
    both = torch.cat([pair, pair])
    return TrajectoryState(both, both.new_full((len(both), lags, both.shape[1]), torch.nan))


def trajectory(
    gradient: Gradient, step_size: float, signs: Tensor, *, langevin: bool, lags: int = 0
) -> Sampler[TrajectoryState]:
    """Two steps ε of the first half of the networks, and one step 2ε of the others.

    z ← z - ε ∇U(z) + √(2ε) ξ with U = |z|²/2 + L/T; of gradient flow without |z|²/2 and ξ. The long
    step has the noise of the two short ones, √(4ε) (ξ_1 + ξ_2)/√2.
    """

    def drift(position: Tensor) -> Tensor:
        slope = gradient(position)[1]
        return slope if langevin else slope - position

    def init(position: Tensor, noise: Normals) -> TrajectoryState:
        return started(position, signs, lags)

    def step(state: TrajectoryState, noise: Normals) -> TrajectoryState:
        fine, coarse = (part.clone() for part in state.position.chunk(2))
        coarse.sub_(drift(coarse), alpha=2 * step_size)
        if not langevin:
            for _ in range(2):
                fine.sub_(drift(fine), alpha=step_size)
            return state._replace(position=torch.cat([fine, coarse]))
        kicks = noise((2, fine.shape[1]), fine.dtype).mul_(math.sqrt(2 * step_size))
        for kick in kicks.unbind(1):
            mirrored = torch.cat([kick, kick * signs])
            fine.sub_(drift(fine), alpha=step_size).add_(mirrored)
            coarse.add_(mirrored)
        return state._replace(position=torch.cat([fine, coarse]))

    return Sampler(init, step)


def remembered(state: TrajectoryState) -> TrajectoryState:
    """The state once it has been looked at: where it is now is the latest of what was."""
    past = torch.cat([state.position[:, None], state.past], 1)
    return state._replace(past=past[:, : state.past.shape[1]])


class Folded(NamedTuple):
    """Values of the chains: extrapolated in the step, and what that changes them by."""

    value: Tensor
    change: Tensor


def folded(values: Tensor) -> Folded:
    """Means over pairs from values (4 · chain, ...), extrapolated in the step: (chain, ...)."""
    fine, coarse = values.unflatten(0, (2, 2, -1)).mean(1)
    return Folded(2 * fine - coarse, fine - coarse)
