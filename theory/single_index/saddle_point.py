"""The discrepancy of a mean-field network, as the maximum of a concave function.

With neurons that have log-weights l(q) = l_0(q) + m(q)²/2, m = A Σ_k δ_k g_k, the free energy

    F = (n/T) [Σ_k δ_k y_k - δ_k²/2] - N ln ∫ dq e^l / ∫ dq e^l_0

is stationary in δ at y - δ = (n/T) Q δ with Q = σ_a² <g gᵀ>. The logarithm of a sum of exponentials
of convex functions is convex, so that F is strictly concave: there is one stationary point, its
maximum, whatever minima the action of a neuron has. Newton's method with backtracking finds it;
the first step from δ = 0 is regression with the kernel of infinite width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

STEPS = 60
SOFTNESS = (1024.0, 256.0, 64.0, 16.0, 4.0, 1.0)
ROUGH = 1e-10  # residual above which softer actions are tried
SHORTEST_STEP = 1e-18  # step
PRECISION = 1e-13  # of δ, in units of y
SUFFICIENT = 1e-4  # Armijo's share of the expected increase
CHUNK = 2**15  # numbers per mode that stay in cache


class Neurons(NamedTuple):
    """A quadrature over the order parameter of a neuron, for each of several cells."""

    overlap: Tensor  # A g_k, (cells, mode, point)
    log_prior: Tensor  # l_0, normalised, (cells or 1, point)
    target: Tensor  # y_k, (cells, mode)
    stiffness: Tensor  # κ = N T/n, (cells,)


class Saddle(NamedTuple):
    """The stationary point of every cell."""

    discrepancy: Tensor  # δ_k, (cells, mode)
    probability: Tensor  # p(q) of the points, (cells, point)
    mean_readout: Tensor  # m(q), in prior deviations of a readout, (cells, point)
    log_partition: Tensor  # ln Z of a neuron, relative to the prior, (cells,)
    residual: Tensor  # |y - δ - κ <m A g>| / |y|, (cells,)


class _Point(NamedTuple):
    discrepancy: Tensor
    readout: Tensor
    logits: Tensor
    log_partition: Tensor
    value: Tensor  # F T/n


def saddle_point(neurons: Neurons, start: Tensor | None = None) -> Saddle:
    """Maximise F over δ in every cell, from `start` (cells, mode) or from the prior.

    Where large actions make F all but kinked it is reached through softer ones, in which the
    actions are divided and their number multiplied by 4^5, ..., 4. Cells that do not converge keep
    the residual that they have.
    """
    cells, _, points = neurons.overlap.shape
    size = max(1, CHUNK // points)
    parts = [slice(first, first + size) for first in range(0, cells, size)]
    starts = [None if start is None else start[part] for part in parts]
    found = [_maximise(_part(neurons, p), s) for p, s in zip(parts, starts, strict=True)]
    return Saddle(*(torch.cat(values) for values in zip(*found, strict=True)))


def _part(neurons: Neurons, part: slice | Tensor) -> Neurons:
    shared = len(neurons.log_prior) == 1
    prior = neurons.log_prior if shared else neurons.log_prior[part]
    return Neurons(neurons.overlap[part], prior, neurons.target[part], neurons.stiffness[part])


def _maximise(neurons: Neurons, start: Tensor | None) -> Saddle:
    first = torch.zeros_like(neurons.target) if start is None else start
    discrepancy = _newton(neurons, first)
    found = _saddle(neurons, discrepancy)
    hard = torch.nonzero(~(found.residual <= ROUGH)).flatten()
    if len(hard) == 0:
        return found
    some = _part(neurons, hard)
    softly = torch.zeros_like(some.target)
    for softness in SOFTNESS:
        softly = _newton(_softened(some, softness), softly)
    return _saddle(neurons, discrepancy.index_copy(0, hard, softly))


def _newton(neurons: Neurons, start: Tensor) -> Tensor:
    """Newton's method from `start`, in ever fewer cells as they converge."""
    found = start.clone()
    active = torch.arange(len(start), device=start.device)
    point = _at(neurons, start)
    for _ in range(STEPS):
        gradient, curvature = _derivatives(neurons, point)
        step = _solve(curvature, gradient)
        slope = torch.linalg.vecdot(step, gradient)
        point, moved = _line_search(neurons, point, step, slope)
        found[active] = point.discrepancy
        # The step that nothing of was taken would be tried again.
        going = moved & (step.norm(dim=1) > PRECISION * neurons.target.norm(dim=1))
        if not bool(going.any()):
            break
        if int(going.sum()) <= len(active) / 2:
            active, neurons = active[going], _part(neurons, going)
            point = _Point(*(value[going] for value in point))
    return found


def _solve(curvature: Tensor, gradient: Tensor) -> Tensor:
    """curvature^-1 gradient, of eigenvalues that are 1 at least but may lose it in rounding."""
    factor, failed = torch.linalg.cholesky_ex(curvature)
    if not bool(failed.any()):
        return torch.cholesky_solve(gradient[..., None], factor)[..., 0]
    values, vectors = torch.linalg.eigh(curvature)
    turned = (vectors.mT @ gradient[..., None])[..., 0] / values.clamp_min(1)
    return (vectors @ turned[..., None])[..., 0]


def _softened(neurons: Neurons, softness: float) -> Neurons:
    return Neurons(
        neurons.overlap / softness**0.5,
        torch.log_softmax(neurons.log_prior / softness, 1),
        neurons.target,
        neurons.stiffness * softness,
    )


def _saddle(neurons: Neurons, discrepancy: Tensor) -> Saddle:
    point = _at(neurons, discrepancy)
    gradient, _ = _derivatives(neurons, point)
    probability = torch.softmax(point.logits, 1)
    residual = gradient.norm(dim=1) / neurons.target.norm(dim=1)
    return Saddle(discrepancy, probability, point.readout, point.log_partition, residual)


def _at(neurons: Neurons, discrepancy: Tensor) -> _Point:
    readout = (discrepancy[:, None] @ neurons.overlap)[:, 0]
    logits = torch.addcmul(neurons.log_prior, readout, readout, value=0.5)
    partition = torch.logsumexp(logits, 1)
    data = torch.linalg.vecdot(discrepancy, neurons.target - discrepancy / 2)
    return _Point(discrepancy, readout, logits, partition, data - neurons.stiffness * partition)


def _derivatives(neurons: Neurons, point: _Point) -> tuple[Tensor, Tensor]:
    """The gradient of F T/n, (cells, mode), and minus its second derivatives.

    With r = m A g: y - δ - κ <r> and 1 + κ [A² <g gᵀ> + <r rᵀ> - <r> <r>ᵀ].
    """
    probability = torch.softmax(point.logits, 1)
    response = neurons.overlap * point.readout[:, None]
    mean = (response @ probability[..., None])[..., 0]
    root = probability.sqrt()[:, None]
    both = torch.cat([neurons.overlap * root, (response - mean[..., None]) * root], 2)
    one = torch.eye(neurons.target.shape[1], dtype=torch.float64, device=mean.device)
    stiffness = neurons.stiffness[:, None]
    gradient = neurons.target - point.discrepancy - stiffness * mean
    return gradient, one + stiffness[..., None] * (both @ both.mT)


def _line_search(
    neurons: Neurons, point: _Point, step: Tensor, slope: Tensor
) -> tuple[_Point, Tensor]:
    """Halve the steps that do not increase F enough, or more than its rounding allows to see.

    Also which cells move: those whose step has not shrunk to nothing.
    """
    rounding = 1e-14 * (1 + point.value.abs() + neurons.stiffness)
    length = torch.ones_like(slope)
    while True:
        following = _at(neurons, point.discrepancy + length[:, None] * step)
        low = following.value < point.value + SUFFICIENT * length * slope - rounding
        if not bool((low & (length > SHORTEST_STEP)).any()):
            return following, length > SHORTEST_STEP
        length = torch.where(low, length / 2, length)
