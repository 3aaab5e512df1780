"""Replica exchange: chains at a ladder of temperatures that swap where they are."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from workers.networks.networks import Model
from workers.philox import Normals
from workers.sampler import Sampler
from workers.samplers.splitting import Splitting, splitting
from workers.samplers.tempered import Phase, advanced, whitened_loss


class ExchangeState(NamedTuple):
    """z, p and σ ∇L (chain, parameter), L, steps made and swaps with the next chain (chain,).

    Steps and swaps are int64.
    """

    position: Tensor
    momentum: Tensor
    loss: Tensor
    force: Tensor
    steps: Tensor
    swaps: Tensor


class _Ladders(NamedTuple):
    """What each chain of a block has from its place and its rung, (chain,)."""

    inverse: Tensor  # 1/T, (chain, 1)
    gap: Tensor  # 1/T less that of the next chain, float64
    by: Splitting  # of a step
    parity: Tensor  # of the rung
    below: Tensor  # whether there is a rung above
    place: Tensor  # of the chain in its block


def exchange(
    model: Model,
    x: Tensor,
    y: Tensor,
    temperatures: Sequence[float],
    step_sizes: Sequence[float],
    friction: float,
) -> Sampler[ExchangeState]:
    """A BAOAB step of each chain at its own temperature, then swaps between neighbours.

    Hukushima and Nemoto (1996, arXiv:cond-mat/9512035); alternating pairs by Okabe et al. (2001,
    doi:10.1016/S0009-2614(01)00055-0).

    Chain c of a block is always at rung c mod R of the ladder of R temperatures, with the step size
    of that rung, and a block is R times as many chains as there are ladders. Chains i and j = i + 1
    of a ladder swap (z, p) with probability min(1, exp((1/T_i - 1/T_j)(L_i - L_j))), which leaves
    the product of their targets as it is: swaps have no bias, the steps that of
    `workers.samplers.baoab`. Pairs from even and from odd rungs take turns, so that a pair has its
    turn every second step. The decision is ln Φ(ξ_0) of one more normal of chain i. Chains of a
    ladder are not independent. Raises ValueError for a ladder that is not of positive temperatures,
    or blocks of broken ones.
    """
    rungs = len(temperatures)
    if len(step_sizes) != rungs or not all(0 < t < math.inf for t in temperatures):
        raise ValueError(
            f"{len(step_sizes)} step sizes are given for temperatures {list(temperatures)}; "
            "give one for each of some positive temperatures"
        )
    evaluate = whitened_loss(model, x, y)

    @lru_cache(maxsize=1)
    def ladders_of(chains: int) -> _Ladders:
        count = chains // rungs
        inverse = (1 / x.new_tensor(temperatures, dtype=torch.float64)).repeat(count)
        gap = inverse - inverse.roll(-1)
        by = splitting(x.new_tensor(step_sizes).repeat(count)[:, None], friction)
        rung = torch.arange(rungs, device=x.device).repeat(count)
        place = torch.arange(chains, device=x.device)
        return _Ladders(inverse[:, None].to(x), gap, by, rung % 2, rung < rungs - 1, place)

    def init(position: Tensor, noise: Normals) -> ExchangeState:
        if len(position) % rungs:
            raise ValueError(
                f"a block has {len(position)} chains for {rungs} temperatures; "
                f"give a multiple of {rungs}"
            )
        momentum = noise(position.shape[1:], position.dtype)
        count = torch.zeros(len(position), dtype=torch.int64, device=position.device)
        return ExchangeState(position, momentum, *evaluate(position), count, count.clone())

    def step(state: ExchangeState, noise: Normals) -> ExchangeState:
        normals = noise((state.position.shape[1] + 1,), state.position.dtype)
        known = ladders_of(len(normals))
        phase = advanced(Phase(*state[:4]), evaluate, known.inverse, known.by, normals[:, :-1])
        turn = known.below & (known.parity == state.steps % 2)
        swap = turn & _accepted(phase.loss.double(), known.gap, normals[:, -1].double())
        source = known.place + swap - swap.roll(1).long()
        swapped = Phase(*(part[source] for part in phase))
        return ExchangeState(*swapped, state.steps + 1, state.swaps + swap)

    return Sampler(init, step)


def _accepted(loss: Tensor, gap: Tensor, normals: Tensor) -> Tensor:
    """Whether each chain would swap with the next one, (chain,); not where a loss is not finite."""
    gain = gap * (loss - loss.roll(-1))
    return (gain < math.inf) & (torch.special.log_ndtr(normals) < gain)
