"""Draws of a neuron's weights: they are what they say, and stay so when adapted."""

import math

import pytest
import torch
from torch import Tensor

from theory.activations.kernel_map import KernelMap
from theory.activations.neurons import (
    Proposal,
    adapted,
    averaged,
    draw,
    effective,
    prior_proposal,
    quasi_normals,
    sample,
)

torch.set_num_threads(1)

DIMENSION, DRAWS = 5, 100_000


def normals(draws: int = DRAWS, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(draws, DIMENSION, generator=generator, dtype=torch.float64)


def two_directions() -> Proposal:
    """One of variance 4, one of 0.7, the others of 0.8; the density is not Gaussian."""
    generator = torch.Generator().manual_seed(1)
    turn, _ = torch.linalg.qr(
        torch.randn(DIMENSION, DIMENSION, generator=generator, dtype=torch.float64)
    )
    density = prior_proposal(turn[:, 0]).density.roll(7)
    return Proposal(turn[:, :2], torch.tensor([4.0, 0.7]).double(), 0.8, density)


@pytest.mark.parametrize("law", ["prior", "reference"])
@pytest.mark.parametrize("which", [0, 1], ids=["prior", "two directions"])
def test_weighted_draws_have_the_moments_of_the_law(law, which):
    """Of the prior N(0, 1), and of N(0, Σ): sums to five standard errors."""
    axis = torch.eye(DIMENSION).double()[0]
    proposal = [prior_proposal(axis), two_directions()][which]
    neurons = draw(proposal, normals())
    weight = torch.softmax(neurons.log_prior, 0) if law == "prior" else neurons.reference
    exact = torch.eye(DIMENSION).double() if law == "prior" else proposal.covariance
    w = neurons.weights
    for power, expected in (
        (w, torch.zeros(DIMENSION, 1).double()),
        (w.square(), exact.diagonal()[:, None]),
        (w.roll(1, 1) * w, (exact.roll(1, 1).diagonal())[:, None]),
        (w.square().square(), 3 * exact.diagonal().square()[:, None]),
    ):
        terms = (power - expected[:, 0]) * weight[:, None]
        assert (terms.sum(0).abs() < 5 * terms.square().sum(0).sqrt()).all()
    assert float(neurons.log_prior.exp().mean()) == pytest.approx(
        1, abs=5 * float(neurons.log_prior.exp().std()) / math.sqrt(DRAWS)
    )


@pytest.mark.parametrize("activation", ["erf", "relu", "tanh"])
def test_averages_over_the_gaussian_are_its_kernel_without_error(activation):
    proposal = two_directions()
    neurons = draw(proposal, normals(500))
    points = torch.randn(7, DIMENSION, generator=torch.Generator().manual_seed(2)).double()
    seen = sample(neurons, points, activation)
    kernel = KernelMap(activation)(points @ proposal.covariance @ points.T)
    reference = neurons.reference
    found = averaged(seen.features, seen.features, seen.kernel, 2 * reference, reference)
    torch.testing.assert_close(found, 2 * kernel, rtol=1e-12, atol=1e-12)


def test_a_tilted_law_is_learned():
    """Weights exp(-w·Bw/2) on draws of the prior are those of N(0, (1 + B)⁻¹)."""
    axis = torch.tensor([0.6, 0.8, 0, 0, 0]).double()
    target = torch.eye(DIMENSION).double() + 3 * torch.outer(axis, axis)
    proposal = prior_proposal(torch.eye(DIMENSION).double()[0])
    neurons = draw(proposal, normals())
    shares = []
    for _ in range(2):
        w = neurons.weights
        tilt = (w.square().sum(1) - ((w @ torch.linalg.inv(target)) * w).sum(1)) / 2
        weight = torch.softmax(neurons.log_prior + tilt, 0)
        shares.append(effective(weight) / DRAWS)
        proposal = adapted(neurons, weight, torch.eye(DIMENSION).double()[0])
        neurons = draw(proposal, normals())
    # An eigenvalue errs by √(2/effective draws) of itself, and so does a direction.
    torch.testing.assert_close(
        proposal.covariance, target, rtol=0, atol=5 * 4 * (2 / 30_000) ** 0.5
    )
    assert shares[1] > shares[0]
    assert shares[1] > 0.7  # a quarter of the draws looks for other peaks


def test_quasi_normals_have_smaller_errors_and_are_the_same_each_time():
    found = quasi_normals(4096, DIMENSION, 3)
    assert torch.equal(found, quasi_normals(4096, DIMENSION, 3))
    # Of independent draws both would have errors of about 1/64.
    assert found.mean(0).abs().max() < 1 / 640
    assert (found.var(0) - 1).abs().max() < 1 / 64
