"""Descent on U(z), for comparison with sampling only: it targets no known law.

Temperature enters through U alone, and what spread there is comes from the start of the chains and
from minibatches.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from workers.networks.networks import Model
from workers.philox import Normals
from workers.sampler import Gradient, Sampler
from workers.samplers.sgld import minibatch_gradient

# β1, β2 and ε of Kingma and Ba (2015, arXiv:1412.6980).
FIRST_DECAY, SECOND_DECAY, FLOOR = 0.9, 0.999, 1e-8


class GDState(NamedTuple):
    """z and ∇U(z) (chain, parameter), U(z) (chain,)."""

    position: Tensor
    energy: Tensor
    gradient: Tensor


def gd(gradient: Gradient, step_size: float) -> Sampler[GDState]:
    """Gradient descent z ← z - ε ∇U(z) to a minimum of U; it targets no known law."""

    def init(position: Tensor, noise: Normals) -> GDState:
        return GDState(position, *gradient(position))

    def step(state: GDState, noise: Normals) -> GDState:
        position = torch.add(state.position, state.gradient, alpha=-step_size)
        return GDState(position, *gradient(position))

    return Sampler(init, step)


class SGDState(NamedTuple):
    """z (chain, parameter)."""

    position: Tensor


def sgd(
    model: Model, x: Tensor, y: Tensor, temperature: float, step_size: float, batch: int
) -> Sampler[SGDState]:
    """Stochastic gradient descent z ← z - ε ĝ(z); it targets no known law.

    ĝ is the estimate of ∇U from `batch` of the n points, as in `workers.samplers.sgld`.
    """
    gradient = minibatch_gradient(model, x, y, temperature, batch)

    def init(position: Tensor, noise: Normals) -> SGDState:
        return SGDState(position)

    def step(state: SGDState, noise: Normals) -> SGDState:
        slope = gradient(state.position, noise((len(x),), state.position.dtype))
        return SGDState(torch.add(state.position, slope, alpha=-step_size))

    return Sampler(init, step)


class AdamState(NamedTuple):
    """z, ∇U(z) and the means m and v (chain, parameter), U(z) and steps made, int64 (chain,)."""

    position: Tensor
    energy: Tensor
    gradient: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor


def adam(gradient: Gradient, step_size: float) -> Sampler[AdamState]:
    """Adam of Kingma and Ba (2015) on U; it targets no known law.

    With g = ∇U(z): m ← β1 m + (1 - β1) g, v ← β2 v + (1 - β2) g², and after k steps
    z ← z - α (m/(1 - β1^k)) / (√(v/(1 - β2^k)) + ε).
    """

    def init(position: Tensor, noise: Normals) -> AdamState:
        steps = torch.zeros(len(position), dtype=torch.int64, device=position.device)
        none = torch.zeros_like(position)
        return AdamState(position, *gradient(position), none, none.clone(), steps)

    def step(state: AdamState, noise: Normals) -> AdamState:
        first = torch.lerp(state.gradient, state.first, FIRST_DECAY)
        second = torch.lerp(state.gradient.square(), state.second, SECOND_DECAY)
        steps = state.steps + 1
        k = steps[:, None].double()
        mean = first / (1 - FIRST_DECAY**k).to(first)
        size = (second / (1 - SECOND_DECAY**k).to(second)).sqrt_().add_(FLOOR)
        position = torch.addcdiv(state.position, mean, size, value=-step_size)
        return AdamState(position, *gradient(position), first, second, steps)

    return Sampler(init, step)
