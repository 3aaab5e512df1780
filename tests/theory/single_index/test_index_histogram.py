"""Predicted histograms of order parameters and readouts."""

import itertools
import math

import pytest
import torch
from scipy import integrate

from theory.single_index.gaussian_index import gaussian_features
from theory.single_index.hermite_overlap import overlaps
from theory.single_index.index_histogram import histogram, joint_histogram
from theory.single_index.order_parameter import order_parameter
from theory.single_index.problems import abs_target, hermite_target, problem, rescale

EDGES = torch.linspace(-8, 8, 65, dtype=torch.float64)


@pytest.fixture
def cells():
    """From Gaussian p(q) to a mixture with droplets."""
    return problem(
        "erf",
        hermite_target({1: 1.0, 3: -0.3}, (1, 3)),
        dimension=150.0,
        width=700.0,
        weight_variance=0.5,
        readout_variance=8 / 700,
        train=3000.0,
        temperature=torch.tensor([0.5, 0.2, 0.1, 0.02]),
    )


def test_probabilities_add_up_and_are_even(cells):
    found = histogram(cells, order_parameter(cells, "bare"), EDGES)
    assert found.shape == (4, 64)
    torch.testing.assert_close(found.sum(1), torch.ones(4).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(found, found.flip(1), rtol=0, atol=1e-13)


def test_bins_are_integrals_of_the_density(cells):
    """exp(-S) with S = d q²/2σ_w² - m²/2 in the units of q, by adaptive quadrature."""
    solution = order_parameter(cells, "bare")
    found = histogram(cells, solution, EDGES)
    for cell in range(4):
        one = cells.of(torch.tensor([cell]))
        field = (one.train / one.temperature * torch.sqrt(one.readout_variance / one.width)).item()
        delta = solution.discrepancy[cell]

        def weight(q, one=one, field=field, delta=delta):
            place = torch.tensor([q], dtype=torch.float64)
            overlap = overlaps("erf", place, one.perpendicular[:, None], (1, 3))[0, :, 0]
            readout = field * float(overlap @ delta)
            return math.exp(readout**2 / 2 - 150 * q**2 / (2 * 0.5))

        unit = math.sqrt(0.5 / 150)
        pieces = [0, 8 * unit, 1.0, 2.0, 4.0]
        total = 2 * sum(
            integrate.quad(weight, a, b, epsabs=1e-12, limit=200)[0]
            for a, b in itertools.pairwise(pieces)
        )
        for place in (5, 30, 45):
            low, high = (EDGES[place + i].item() * unit for i in (0, 1))
            expected = integrate.quad(weight, low, high, epsabs=1e-12)[0] / total
            assert found[cell, place].item() == pytest.approx(expected, abs=1e-9)


def test_joint_histogram_has_the_right_margins(cells):
    solution = order_parameter(cells, "bare")
    wide = torch.linspace(-40, 40, 321, dtype=torch.float64)
    joint = joint_histogram(cells, solution, EDGES, wide)
    torch.testing.assert_close(joint.sum(2), histogram(cells, solution, EDGES), rtol=0, atol=1e-12)
    centres = (wide[1:] + wide[:-1]) / 2
    square = joint.sum(1) @ centres.square()
    # A bin of width w adds w²/12 to the variance of a smooth density.
    expected = solution.readout_variance + 0.25**2 / 12
    torch.testing.assert_close(square, expected, rtol=1e-3, atol=0)
    assert (joint[2].flip(0) - joint[2].flip(1)).abs().max() < 1e-12  # (q, a) → (-q, -a)


def test_moments_of_a_skewed_law():
    cells = problem(
        "relu",
        abs_target(0.3),
        dimension=96.0,
        width=750.0,
        weight_variance=1.0,
        readout_variance=8 / 750,
        train=384.0,
        temperature=0.05,
    )
    solution = order_parameter(cells, "effective")
    edges = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    found = histogram(cells, solution, edges)[0]
    x = (edges[1:] + edges[:-1]) / 2
    mean = found @ x
    assert mean.item() == pytest.approx(solution.mean.item(), abs=1e-6)
    variance = found @ (x - mean).square() - 0.01**2 / 12
    assert variance.item() == pytest.approx(solution.variance.item(), rel=1e-5)
    skewness = found @ (x - mean) ** 3 / variance**1.5
    assert skewness.item() == pytest.approx(solution.skewness.item(), rel=1e-4)


def test_droplets_are_rounded_by_the_size():
    """P(|q| > 1/2) just above the threshold, T = 0.2, falls as the network grows."""
    shares = []
    for beta in (0.5, 1.0, 2.0):
        cells = rescale(
            problem(
                "erf",
                hermite_target({1: 1.0, 3: -0.3}, (1, 3)),
                dimension=150.0,
                width=700.0,
                weight_variance=0.5,
                readout_variance=8 / 700,
                train=3000.0,
                temperature=0.2,
            ),
            beta,
            beta,
        )
        cut = 0.5 / cells.prior_deviation.item()
        edges = torch.tensor([-2 * cut, -cut, cut, 2 * cut], dtype=torch.float64)
        found = histogram(cells, order_parameter(cells, "bare"), edges)[0]
        shares.append(1 - found[1].item())
    assert shares == pytest.approx([8.5e-3, 2.7e-3, 6.5e-4], rel=0.02)


def test_gaussian_features_have_gaussian_histograms(cells):
    solution = gaussian_features(cells, "effective")
    found = histogram(cells, solution, EDGES)
    deviation = solution.variance.sqrt()[:, None]
    inner = torch.special.ndtr(EDGES[1:-1] / deviation)
    ends = torch.zeros_like(deviation)
    expected = torch.cat([ends, inner, ends + 1], 1).diff(dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    wide = torch.linspace(-40, 40, 321, dtype=torch.float64)
    joint = joint_histogram(cells, solution, EDGES, wide)
    torch.testing.assert_close(joint.sum(2), found, rtol=0, atol=1e-12)
    square = joint.sum(1) @ ((wide[1:] + wide[:-1]) / 2).square()
    expected = solution.readout_variance + 0.25**2 / 12
    torch.testing.assert_close(square, expected, rtol=1e-3, atol=0)


def test_unsolved_cells_are_nan(cells):
    solution = order_parameter(cells, "bare")
    lost = torch.tensor([False, True, False, False])
    broken = solution._replace(reach=solution.reach.masked_fill(lost, torch.nan))
    found = histogram(cells, broken, EDGES)
    assert found.isnan().all(1).tolist() == lost.tolist()
    assert joint_histogram(cells, broken, EDGES, EDGES)[1].isnan().all()


def test_edges_must_increase(cells):
    with pytest.raises(ValueError, match="give a row that increases"):
        histogram(cells, order_parameter(cells, "bare"), EDGES.flip(0))
