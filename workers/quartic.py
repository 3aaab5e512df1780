"""Gaussian process regression with a quartic loss, sampled in function space.

The values f at the training points have the prior N(0, K) and the likelihood exp(-Σ V(f - y)) with
V(h) = (h² + u h⁴)/2T. In the eigenbasis of K, whitened by the Gaussian posterior with the ridge T_u
that the quartic term makes of T, all directions have curvatures of order one, and the
Metropolis-adjusted Langevin algorithm (Roberts and Tweedie 1996) mixes in n^(1/3) steps.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from workers.philox import Noise
from workers.samplers.mala import mala

ROUNDS = 60  # of the iteration for T_u
STREAM = 16  # of a repeat's randomness, the first of one for each size, ridge and coupling


class QuarticSample(NamedTuple):
    """Averages over the draws of each chain."""

    weights: Tensor  # K⁻¹⟨f⟩ = -⟨V'(h)⟩, (chain, n): the mean output at x is k(x)ᵀ of these
    residual: Tensor  # mean of h² over draws and points, (chain,)
    accepted: Tensor  # share of the proposals, (chain,)


def quartic_curve(
    kernel: np.ndarray,
    y: Tensor,
    order: Tensor,
    labels: Tensor,
    sizes: Sequence[int],
    ridges: Sequence[float],
    couplings: Sequence[float],
    *,
    seed: int,
    chains: int,
    warmup: int,
    draws: int,
) -> dict[str, np.ndarray]:
    """Error over the pool, mean square residual and acceptance, (size, ridge, coupling).

    kernel (M, M) and y (M,) are those of the pool, of which a repeat draws `order` with `labels`.
    The error is a mean over pairs of different chains, so that their scatter does not count.
    """
    shape = len(sizes), len(ridges), len(couplings)
    error, residual, accepted = (np.empty(shape) for _ in range(3))
    for number, place in enumerate(np.ndindex(*shape)):
        drawn = order[: sizes[place[0]]]
        columns = torch.from_numpy(np.ascontiguousarray(kernel[:, drawn.numpy()])).double()
        found = quartic_sample(
            columns[drawn],
            labels[: len(drawn)],
            ridges[place[1]],
            couplings[place[2]],
            Noise(seed, range(chains), STREAM + number),
            warmup=warmup,
            draws=draws,
        )
        missed = found.weights @ columns.T - y
        pairs = missed.sum(0).square().mean() - missed.square().sum(0).mean()
        error[place] = float(pairs) / (chains * (chains - 1))
        residual[place] = float(found.residual.mean())
        accepted[place] = float(found.accepted.mean())
    return {"quartic_error": error, "quartic_residual": residual, "quartic_accepted": accepted}


def quartic_sample(
    kernel: Tensor,
    labels: Tensor,
    ridge: float,
    coupling: float,
    noise: Noise,
    *,
    warmup: int,
    draws: int,
) -> QuarticSample:
    """Sample with the kernel (n, n) of the training points and their labels (n,).

    Chains are those of the noise, and start at the mean of the Gaussian posterior with ridge T_u.
    Directions in which the kernel is zero to rounding, as of points drawn twice, are left out.
    """
    values, vectors = torch.linalg.eigh(kernel)
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    values, vectors = values[kept], vectors[:, kept]
    shifted = _quartic_ridge(values, vectors.T @ labels, labels, ridge, coupling)
    scale = (values / (1 + values / shifted)).sqrt()
    basis, prior = vectors * scale, 1 / (1 + values / shifted)

    def gradient(position: Tensor) -> tuple[Tensor, Tensor]:
        h = position @ basis.T - labels
        square = h.square()
        potential = (square + coupling * square.square()).sum(1) / (2 * ridge)
        force = (h + 2 * coupling * square * h) / ridge
        energy = (position.square() @ prior) / 2 + potential
        return energy, position * prior + force @ basis

    step_size = len(values) ** (-1 / 3)
    sampler = mala(gradient, step_size)
    mean = (vectors.T @ labels) * values / (values + shifted) / scale
    state = sampler.init(mean.expand(len(noise.chains), -1).contiguous(), noise.at(0))
    total, residual = torch.zeros_like(state.position), torch.zeros_like(state.energy)
    for step in range(1, warmup + draws + 1):
        state = sampler.step(state, noise.at(step))
        if step > warmup:
            total += state.position / draws
            residual += (state.position @ basis.T - labels).square().mean(1) / draws
    weights = (total * scale / values) @ vectors.T
    return QuarticSample(weights, residual, state.accepted / (warmup + draws))


def _quartic_ridge(
    values: Tensor, projected: Tensor, labels: Tensor, ridge: float, coupling: float
) -> float:
    """T_u = T/(1 + 6u M) with M = ⟨h²⟩ of the Gaussian posterior at T_u, by damped iteration."""
    shifted = ridge
    outside = (labels.square().sum() - projected.square().sum()).clamp_min(0)
    for _ in range(ROUNDS):
        missed = shifted / (values + shifted)
        thermal = (values * missed).sum()
        squared = ((missed * projected).square().sum() + outside + thermal) / len(labels)
        shifted = math.sqrt(shifted * ridge / (1 + 6 * coupling * float(squared)))
    return shifted
