"""Gaussian process regression with a quartic loss, sampled in function space.

The values f at the training points have the prior N(0, K) and the likelihood exp(-Σ V(f - y)) with
V(h) = (h² + u h⁴)/2T. In the eigenbasis of K, whitened by the Gaussian posterior with the ridge T_u
that the quartic term makes of T, all directions have curvatures of order one, and paths of a
quarter of a period forget where they began. Chains start at independent draws of that Gaussian
posterior, so that those which do not move are seen to differ: what is not known to be mixed is
refused.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.philox import Noise
from workers.sampler import Gradient
from workers.samplers.hmc import hmc
from workers.samplers.metropolis import MetropolisState

ROUNDS = 60  # of the iteration for T_u
STREAM = 16  # of a repeat's randomness, the first of one for each size, ridge and coupling
LEAPS = 4  # of a proposal
LONGEST_STEP = math.pi / 2 / LEAPS  # step size: a quarter of a period where the curvature is 1
WANTED_SHARE = 0.7  # of the proposals, which a smaller step size serves where it must
# Of ln ε, as GAIN/step^DECAY: Robbins and Monro (1951, doi:10.1214/aoms/1177729586).
GAIN, DECAY = 2.0, 0.6
LEAST_ACCEPTED = 0.1  # below that chains stand still
LARGEST_R_HAT = 1.1  # of runs that are not refused; Gelman et al., third edition, section 11.4


class QuarticSample(NamedTuple):
    """Averages over the draws of each chain."""

    weights: Tensor  # K⁻¹⟨f⟩ = -⟨V'(h)⟩, (chain, n): the mean output at x is k(x)ᵀ of these
    residual: Tensor  # mean of h² over draws and points, (chain,)
    accepted: Tensor  # share of the proposals after the warm-up, (chain,)
    rhat: float  # the larger split R-hat of the mean of h² and of the fit along the labels, f·y

    @property
    def sound(self) -> bool:
        """Whether the chains move and agree; too few draws to tell are not sound."""
        moving = float(self.accepted.mean()) >= LEAST_ACCEPTED
        return moving and self.rhat <= LARGEST_R_HAT


class _Posterior(NamedTuple):
    """f = basis z in whitened coordinates z, whose Gaussian posterior at T_u is N(mean, 1)."""

    basis: Tensor  # (n, direction)
    dual: Tensor  # K⁻¹ basis, (n, direction)
    prior: Tensor  # precision of z in the prior, (direction,)
    mean: Tensor  # (direction,)


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
    """Error over the pool, mean square residual, acceptance and R-hat, (size, ridge, coupling).

    kernel (M, M) and y (M,) are those of the pool, of which a repeat draws `order` with `labels`.
    The error is a mean over pairs of different chains, so that their scatter does not count. Error
    and residual are nan where the chains are not sound, which acceptance and R-hat explain.
    """
    shape = len(sizes), len(ridges), len(couplings)
    error, residual, accepted, rhat = (np.full(shape, np.nan) for _ in range(4))
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
        accepted[place], rhat[place] = float(found.accepted.mean()), found.rhat
        if found.sound:
            missed = found.weights @ columns.T - y
            pairs = missed.sum(0).square().mean() - missed.square().sum(0).mean()
            error[place] = float(pairs) / (chains * (chains - 1))
            residual[place] = float(found.residual.mean())
    return {
        "quartic_error": error,
        "quartic_residual": residual,
        "quartic_accepted": accepted,
        "quartic_rhat": rhat,
    }


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

    Chains are those of the noise, and start at draws of the Gaussian posterior with ridge T_u. All
    have one step size, which the warm-up finds and the draws keep.
    """
    posterior = _whitened(kernel, labels, ridge, coupling)

    def gradient(position: Tensor) -> tuple[Tensor, Tensor]:
        h = position @ posterior.basis.T - labels
        square = h.square()
        potential = (square + coupling * square.square()).sum(1) / (2 * ridge)
        force = (h + 2 * coupling * square * h) / ridge
        energy = (position.square() @ posterior.prior) / 2 + potential
        return energy, position * posterior.prior + force @ posterior.basis

    mean = posterior.mean
    position = mean + noise(0, mean.shape, mean.dtype)
    state = hmc(gradient, LONGEST_STEP, LEAPS).init(position, noise.at(0))
    state, step_size = _warm_up(gradient, state, noise, warmup)
    sampler, before = hmc(gradient, step_size, LEAPS), state.accepted
    total = torch.zeros_like(state.position)
    traces = state.position.new_empty(len(position), draws, 2)
    for draw in range(draws):
        state = sampler.step(state, noise.at(warmup + 1 + draw))
        total += state.position / draws
        h = state.position @ posterior.basis.T - labels
        traces[:, draw, 0], traces[:, draw, 1] = h.square().mean(1), h @ labels
    return QuarticSample(
        weights=total @ posterior.dual.T,
        residual=traces[:, :, 0].mean(1),
        accepted=(state.accepted - before) / draws,
        rhat=float(split_r_hat(traces.numpy()).max()),
    )


def split_r_hat(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """R-hat over the halves of the chains, (chain, draw, quantity) -> (quantity,).

    √((m - 1)/m + B/W), with the mean W of the variances within the halves, which have m draws, and
    the variance B of their means. The first draw is left out where their number is odd. 1 where a
    quantity never varies, infinite where it varies between halves alone, nan below 4 draws.
    Gelman et al., Bayesian Data Analysis, third edition, section 11.4.
    """
    half = values.shape[1] // 2
    if half < 2:
        return np.full(values.shape[2], np.nan)
    halves = np.concatenate([values[:, -2 * half : -half], values[:, -half:]])
    between = halves.mean(1).var(0, ddof=1)
    within = halves.var(1, ddof=1).mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.sqrt((half - 1) / half + between / within)
    return np.where((between == 0) & (within == 0), 1.0, found)


def _warm_up(
    gradient: Gradient, state: MetropolisState, noise: Noise, steps: int
) -> tuple[MetropolisState, float]:
    """The chains after so many steps, and the step size at which `WANTED` are accepted."""
    step_size = LONGEST_STEP
    for step in range(1, steps + 1):
        moved = hmc(gradient, step_size, LEAPS).step(state, noise.at(step))
        share = float((moved.accepted - state.accepted).double().mean())
        step_size *= math.exp(GAIN / step**DECAY * (share - WANTED_SHARE))
        step_size, state = min(step_size, LONGEST_STEP), moved
    return state, step_size


def _whitened(kernel: Tensor, labels: Tensor, ridge: float, coupling: float) -> _Posterior:
    """The coordinates in which the Gaussian posterior with ridge T_u is white.

    Directions in which the kernel is zero to rounding, as of points drawn twice, are left out.
    """
    values, vectors = torch.linalg.eigh(kernel)
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    values, vectors = values[kept], vectors[:, kept]
    projected = vectors.T @ labels
    shifted = _quartic_ridge(values, projected, labels, ridge, coupling)
    scale = (values / (1 + values / shifted)).sqrt()
    return _Posterior(
        basis=vectors * scale,
        dual=vectors * (scale / values),
        prior=1 / (1 + values / shifted),
        mean=projected * values / (values + shifted) / scale,
    )


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
