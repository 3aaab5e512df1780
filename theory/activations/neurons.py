"""Averages over the weights of one neuron, by importance sampling with fixed normals.

Weights ŵ in units of their prior are drawn from N(0, Σ), where Σ differs from 1 along a few
directions, but for one coordinate whose density is a table: the direction that adapts most, along
which the law may have several peaks. Draws far from the origin are always among them, so that a
second minimum of the action is not overlooked. What the draws are needed for is the difference from
N(0, Σ), whose kernel is known in closed form.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.kernel_map import KernelMap
from theory.activations.records import Activation, function_of

GRID = torch.linspace(-60, 60, 2401, dtype=torch.float64)  # standard deviations of the prior
BANDWIDTH = 0.2  # likewise, by which the table is smoothed
REACH = (4.0, 16.0)  # standard deviations of the two Gaussians that look for other peaks
SEARCHING = 0.25  # share of the draws that do so
MOST_DIRECTIONS = 16
LEAST_VARIANCE = 0.01  # variance, in units of the prior's
NOISE = 3.0  # how far an eigenvalue of Σ is from the bulk, in its random error, to be told from it


class Proposal(NamedTuple):
    """Σ = b + V (g - b) Vᵀ, and the density of v₁·ŵ, which need not be Gaussian."""

    directions: Tensor  # V, (d, r), orthonormal
    variances: Tensor  # g, (r,)
    bulk: float  # b, the variance of all other directions
    density: Tensor  # of the coordinate along the first direction, on GRID

    @property
    def covariance(self) -> Tensor:
        """Σ, (d, d)."""
        bulk = self.bulk * torch.eye(len(self.directions)).to(self.directions)
        return bulk + (self.directions * (self.variances - self.bulk)) @ self.directions.T


class Neurons(NamedTuple):
    """Draws ŵ, and what turns averages over them into averages under the prior and N(0, Σ)."""

    weights: Tensor  # ŵ, (draws, d)
    log_prior: Tensor  # ln of the prior over the density of the draws, (draws,)
    reference: Tensor  # N(0, Σ) over the density of the draws, adding up to one, (draws,)
    covariance: Tensor  # Σ


def prior_proposal(axis: Tensor) -> Proposal:
    """Nothing known but a direction (d,) in which weights may go far."""
    return Proposal(axis[:, None], torch.ones(1).to(axis), 1.0, _spread(_gaussian(1.0)))


def draw(proposal: Proposal, normals: Tensor) -> Neurons:
    """Turn standard normals (draws, d) into draws; ever the same for the same normals."""
    axis, variance = proposal.directions[:, 0], proposal.variances[0]
    along = normals @ axis
    coordinate, log_density = _quantile(proposal.density, torch.special.ndtr(along))
    root, common = proposal.variances.sqrt(), math.sqrt(proposal.bulk)
    turned = (normals @ proposal.directions) * (root - common)
    weights = common * normals + turned @ proposal.directions.T
    weights = weights + (coordinate - root[0] * along)[:, None] * axis
    gaussian = -coordinate.square() / (2 * variance) - (2 * math.pi * variance).log() / 2
    # The density of a draw is N(0, Σ) times the table over the Gaussian of this coordinate.
    log_ratio = log_density - gaussian
    within = normals.square().sum(1) - along.square() + coordinate.square() / variance
    rest = normals.shape[1] - len(root)
    log_prior = (within - weights.square().sum(1)) / 2 - log_ratio
    log_prior = log_prior + root.log().sum() + rest * math.log(common)
    return Neurons(weights, log_prior, torch.softmax(-log_ratio, 0), proposal.covariance)


def adapted(neurons: Neurons, weight: Tensor, axis: Tensor) -> Proposal:
    """The proposal for the law that gives the draws these weights, which add up to one.

    `axis` is the direction of the table where none stands out.
    """
    moments = averaged(
        neurons.weights.T, neurons.weights.T, neurons.covariance, weight, neurons.reference
    )
    values, vectors = torch.linalg.eigh(moments)
    bulk = float(values.median())
    error = NOISE * bulk * (len(values) / effective(weight)) ** 0.5
    order = (values - bulk).abs().argsort(descending=True)[:MOST_DIRECTIONS]
    seen = order[(values[order] - bulk).abs() > error]
    seen = seen[values[seen].argsort(descending=True)]
    if len(seen) == 0 or values[seen[0]] < bulk:
        directions, variances = axis[:, None], ((moments @ axis) @ axis)[None]
    else:
        directions, variances = vectors[:, seen], values[seen]
    bulk = float(moments.trace() - variances.sum()) / max(1, len(values) - len(variances))
    coordinate = neurons.weights @ directions[:, 0]
    density = _spread(_smoothed(coordinate, weight))
    return Proposal(
        directions, variances.clamp_min(LEAST_VARIANCE), max(bulk, LEAST_VARIANCE), density
    )


def effective(weight: Tensor) -> float:
    """How many equal draws tell as much as these, whose weights add up to one. Kish (1965)."""
    return float(1 / weight.square().sum())


class Sample(NamedTuple):
    """Activations of the draws at some points, and the kernel under N(0, Σ) there."""

    features: Tensor  # φ(ŵ·x̂), (n, draws)
    variance: Tensor  # of ŵ·x̂ under N(0, Σ), (n,)
    kernel: Tensor  # E[φφᵀ] under N(0, Σ), (n, n)


def sample(neurons: Neurons, inputs: Tensor, activation: Activation) -> Sample:
    """Activations at the points x̂ (n, d)."""
    covariance = inputs @ neurons.covariance @ inputs.T
    features = function_of(activation)(inputs @ neurons.weights.T)
    return Sample(features, covariance.diagonal(), KernelMap(activation)(covariance))


def averaged(
    left: Tensor, right: Tensor, exact: Tensor, weight: Tensor, reference: Tensor
) -> Tensor:
    """Σ_m ω_m φ_m φ_mᵀ (n1, n2), less the error that the draws make for N(0, Σ).

    left is (n1, draws), right (n2, draws), exact the average under N(0, Σ), (n1, n2); the weights ω
    (draws,) may have any sum.
    """
    total = weight.sum()
    return total * exact + (left * (weight - total * reference)) @ right.T


def _gaussian(width: float) -> Tensor:
    return torch.exp(-(GRID.square()) / (2 * width**2)) / (width * math.sqrt(2 * math.pi))


def _spread(density: Tensor) -> Tensor:
    """A density on GRID, a share of its root, for peaks of little weight, and of wide Gaussians."""
    wide = torch.stack([_gaussian(width) for width in REACH]).mean(0).to(density)
    root = density.sqrt()
    root = root / (root.sum() * float(GRID[1] - GRID[0]))
    return (1 - SEARCHING) * density + SEARCHING * (wide + root) / 2


def _smoothed(coordinate: Tensor, weight: Tensor) -> Tensor:
    """The density of weighted values on GRID, smoothed by a Gaussian."""
    grid = GRID.to(coordinate.device)
    spacing = float(grid[1] - grid[0])
    place = ((coordinate - grid[0]) / spacing).round().long().clamp(0, len(grid) - 1)
    counts = torch.zeros_like(grid).index_add(0, place, weight)
    reach = math.ceil(5 * BANDWIDTH / spacing)
    offsets = spacing * torch.arange(-reach, reach + 1).to(grid)
    window = torch.exp(-offsets.square() / (2 * BANDWIDTH**2))
    smooth = torch.nn.functional.conv1d(
        counts[None, None], (window / window.sum())[None, None], padding=reach
    )[0, 0]
    return smooth / (smooth.sum() * spacing)


def _quantile(density: Tensor, probability: Tensor) -> tuple[Tensor, Tensor]:
    """Where a density on GRID has that probability below it, and ln of the density there.

    Between two points it is constant, at their mean.
    """
    grid = GRID.to(density.device)
    spacing = float(grid[1] - grid[0])
    between = (density[1:] + density[:-1]) / 2
    between = between / (between.sum() * spacing)
    below = torch.cat([density.new_zeros(1), between.cumsum(0) * spacing])
    cell = (torch.searchsorted(below, probability) - 1).clamp(0, len(between) - 1)
    inside = (probability - below[cell]) / between[cell]
    return grid[cell] + inside.clamp(0, spacing), between[cell].log()


def quasi_normals(draws: int, dimension: int, seed: int) -> Tensor:
    """Normals (draws, dimension) of a scrambled Sobol sequence, for averages of smaller error.

    Best for powers of two. Matousek (1998, doi:10.1006/jcom.1998.0489).
    """
    engine = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=seed)
    uniform = engine.draw(draws, dtype=torch.float64)
    edge = torch.finfo(torch.float64).eps
    return torch.special.ndtri(uniform.clamp(edge, 1 - edge))
