"""Stochastic gradient Langevin dynamics."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from workers.networks.networks import Model, Network, check_labels
from workers.philox import Normals
from workers.sampler import Sampler


class SGLDState(NamedTuple):
    """z (chain, parameter)."""

    position: Tensor


def sgld(
    model: Model, x: Tensor, y: Tensor, temperature: float, step_size: float, batch: int
) -> Sampler[SGLDState]:
    """z ← z - ε ĝ(z) + √(2ε) ξ, where ĝ estimates ∇U(z) from `batch` of the n points.

    Welling and Teh (2011), at a constant step. It has the bias of order ε of `ula`, and one more:
    the estimate's noise, of covariance C(z), heats the chain like a temperature 1 + ε C/2. With
    U = λ z²/2 and C constant the stationary variance is (1 + ε C/2) / (λ (1 - ε λ/2)). C is
    n (n - B)/B times the variance over points of the gradient of one's loss over T, so that small
    T asks for steps far smaller than stability does. With B = n it is `ula`. Each chain has a
    batch of its own; on a CPU they are done one by one.
    """
    gradient = minibatch_gradient(model, x, y, temperature, batch)

    def init(position: Tensor, noise: Normals) -> SGLDState:
        return SGLDState(position)

    def step(state: SGLDState, noise: Normals) -> SGLDState:
        size = state.position.shape[1]
        normals = noise((size + len(x),), state.position.dtype)
        slope = gradient(state.position, normals[:, size:])
        position = torch.add(state.position, normals[:, :size], alpha=math.sqrt(2 * step_size))
        return SGLDState(position.add_(slope, alpha=-step_size))

    return Sampler(init, step)


def minibatch_gradient(
    model: Model, x: Tensor, y: Tensor, temperature: float, batch: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """ĝ(z) = z + (n/B) σ Σ_{μ in batch} ∇L_μ(σ z)/T, whose mean over batches is ∇U(z).

    The function takes z (chain, parameter) and normals (chain, n), which decide the batch of each
    chain: the B points with the smallest ones, a random set without repetition.
    """
    check_labels(model, x, y)
    if not 1 <= batch <= len(x):
        raise ValueError(f"a batch has {batch} points of {len(x)}; give from 1 to {len(x)}")
    widths, labels = model.standard_deviations.to(x), y.view(len(x), -1)
    scale = widths * (len(x) / (batch * temperature))

    def gradient(position: Tensor, normals: Tensor) -> Tensor:
        chosen = normals.argsort(dim=1, stable=True)[:, :batch]
        parameters = position * widths
        if isinstance(model, Network) and not x.is_cpu:
            slope = model.minibatch_gradient(parameters, x[chosen], labels[chosen])
        else:
            slope = one_by_one(model, parameters, x, labels, chosen)
        return torch.addcmul(position, slope, scale)

    return gradient


def one_by_one(
    model: Model, parameters: Tensor, x: Tensor, labels: Tensor, chosen: Tensor
) -> Tensor:
    """∇L (chain, parameter) at the points (chain, batch) that are chosen for each chain."""
    slopes = [
        model.loss_and_gradient(own, x[points], labels[points].flatten())[1]
        for own, points in zip(parameters.split(1), chosen, strict=True)
    ]
    return torch.cat(slopes)
