"""BAOAB where the temperature is data: one for each chain, or one that moves.

U(z) = |z|²/2 + β L(σ z), β = 1/T. What is kept is L and σ ∇L, which hold at every temperature.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from workers.networks.networks import Model, check_labels
from workers.samplers.splitting import Splitting, drifted

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions (chain, parameter) -> the loss L (chain,) and σ ∇L (chain, parameter)."""


class Phase(NamedTuple):
    """z, p (chain, parameter), L(σ z) (chain,) and its gradient in z (chain, parameter)."""

    position: Tensor
    momentum: Tensor
    loss: Tensor
    force: Tensor


def whitened_loss(model: Model, x: Tensor, y: Tensor) -> Evaluate:
    """L(σ z) and its gradient in z, for parameters whitened by their prior's widths σ."""
    check_labels(model, x, y)
    widths = model.standard_deviations.to(x)

    def evaluate(position: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = model.loss_and_gradient(position * widths, x, y)
        return loss, gradient.mul_(widths)

    return evaluate


def advanced(
    phase: Phase, evaluate: Evaluate, inverse: float | Tensor, by: Splitting, normals: Tensor
) -> Phase:
    """A BAOAB step at β = `inverse`, a number or one per chain (chain, 1)."""
    slope = phase.position + inverse * phase.force
    position, momentum = drifted(phase.position, phase.momentum, slope, normals, by)
    loss, force = evaluate(position)
    momentum = momentum - by.half * torch.add(position, inverse * force)
    return Phase(position, momentum, loss, force)
