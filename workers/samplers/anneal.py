"""Langevin dynamics at a temperature that moves: annealing up, down, and up and down."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from workers.networks.networks import Model
from workers.philox import Normals
from workers.sampler import Sampler
from workers.samplers.splitting import splitting
from workers.samplers.tempered import Phase, advanced, whitened_loss

Schedule = Callable[[int], float]
"""The number of a step, 1 for the first -> its temperature."""


class AnnealState(NamedTuple):
    """z, p and σ ∇L (chain, parameter), L (chain,), steps made, int64 (chain,)."""

    position: Tensor
    momentum: Tensor
    loss: Tensor
    force: Tensor
    steps: Tensor


def ramp(start: float, stop: float, steps: int) -> Schedule:
    """ln T linear from `start` at step 0 to `stop` at step `steps`, and `stop` from there on."""
    _positive(start, stop)

    def temperature(step: int) -> float:
        share = min(step / steps, 1.0)
        return start ** (1 - share) * stop**share

    return temperature


def there_and_back(start: float, turn: float, steps: int) -> Schedule:
    """ln T linear from `start` to `turn` at half of the steps and back, then `start` for ever.

    T(k) = T(steps - k): a measured quantity that is not as symmetric shows hysteresis.
    """
    _positive(start, turn)

    def temperature(step: int) -> float:
        share = max(1 - abs(2 * step / steps - 1), 0.0)
        return start ** (1 - share) * turn**share

    return temperature


def anneal(
    model: Model, x: Tensor, y: Tensor, schedule: Schedule, step_size: float, friction: float
) -> Sampler[AnnealState]:
    """BAOAB whose k-th step is at the temperature schedule(k), as a function of k alone.

    While the temperature moves no law is known; where it rests, the target is that of
    `workers.samplers.baoab`. The stored losses integrate to a free energy,
    dF/d(1/T) = E[L], along a path slow enough to be in equilibrium.
    """
    evaluate = whitened_loss(model, x, y)
    by = splitting(step_size, friction)

    def init(position: Tensor, noise: Normals) -> AnnealState:
        momentum = noise(position.shape[1:], position.dtype)
        steps = torch.zeros(len(position), dtype=torch.int64)  # here: a device would be waited for
        return AnnealState(position, momentum, *evaluate(position), steps)

    def step(state: AnnealState, noise: Normals) -> AnnealState:
        steps = state.steps + 1
        inverse = 1 / schedule(int(steps[0]))
        normals = noise(state.position.shape[1:], state.position.dtype)
        phase = advanced(Phase(*state[:4]), evaluate, inverse, by, normals)
        return AnnealState(*phase, steps)

    return Sampler(init, step)


def _positive(*temperatures: float) -> None:
    if not all(0 < temperature < math.inf for temperature in temperatures):
        raise ValueError(f"temperatures are {temperatures}; give positive numbers")
