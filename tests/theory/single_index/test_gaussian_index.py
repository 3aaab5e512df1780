"""Gaussian feature learning: its variational equations, limits and branches."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from theory.single_index.gaussian_index import gaussian_features, infinite_width
from theory.single_index.order_parameter import features, order_parameter
from theory.single_index.problems import abs_target, hermite_target, problem, rescale

NODES, WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(120))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def erf_cells(epsilon=-0.3, **changes):
    """d = 150, N = χ = 700, n = 3000."""
    values = {
        "dimension": 150.0,
        "width": 700.0,
        "weight_variance": 0.5,
        "readout_variance": 8 / 700,
        "train": 3000.0,
        "temperature": torch.tensor([0.5, 0.2, 0.05]),
    }
    return problem("erf", hermite_target({1: 1.0, 3: epsilon}, (1, 3)), **(values | changes))


def relu_cells():
    return problem(
        "relu",
        abs_target(0.3),
        dimension=96.0,
        width=750.0,
        weight_variance=1.0,
        readout_variance=8 / 750,
        train=384.0,
        temperature=torch.tensor([0.05, 0.2]),
    )


CELLS = {"erf": erf_cells, "relu": relu_cells}


def free_energy(cells, ratio: float) -> float:
    """(N/2)(r - 1 - ln r) + (1/2) yᵀ[K(r) + T/n]^-1 y of the first cell, by Gauss and Hermite."""
    overlap, _ = features(cells, math.sqrt(ratio) * NODES)
    kernel = cells.kernel_variance[0] * (overlap[0] * WEIGHTS) @ overlap[0].T
    floor = cells.temperature[0] / cells.train[0] * torch.eye(len(kernel), dtype=torch.float64)
    data = cells.target[0] @ torch.linalg.solve(kernel + floor, cells.target[0]) / 2
    return (cells.width[0] / 2 * (ratio - 1 - math.log(ratio)) + data).item()


@pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)
def test_it_minimises_the_free_energy(make):
    cells = make()
    found = gaussian_features(cells, "bare")
    for cell in range(len(cells.train)):
        one = cells.of(torch.tensor([cell]))
        ratio, value = found.variance[cell].item(), found.free_energy[cell].item()
        assert value == pytest.approx(free_energy(one, ratio), rel=1e-8)
        least = optimize.minimize_scalar(
            lambda log, one=one: free_energy(one, math.exp(log)),
            bounds=(math.log(ratio) - 0.5, math.log(ratio) + 0.5),
            method="bounded",
            options={"xatol": 1e-9},
        )
        # The minimum of a function is found to the root of its rounding.
        assert least.x == pytest.approx(math.log(ratio), abs=1e-5)


def test_variance_is_that_of_the_mean_curvature():
    """1/r = 1 - (σ_w²/d) <V''> with V = m²/2, in q; by finite differences of m²."""
    cells = erf_cells()
    found = gaussian_features(cells, "bare")
    step = 1e-4
    field = torch.sqrt(cells.dimension * cells.coupling(cells.temperature))
    for cell, ratio in enumerate(found.variance.tolist()):
        x = math.sqrt(ratio) * NODES
        values = []
        for shift in (-step, 0.0, step):
            overlap, _ = features(cells.of(torch.tensor([cell])), x + shift)
            values.append((field[cell] * found.discrepancy[cell] @ overlap[0]).square() / 2)
        curvature = (values[0] - 2 * values[1] + values[2]) / step**2
        assert 1 / ratio == pytest.approx(1 - (WEIGHTS @ curvature).item(), abs=1e-6)


def test_leading_order_in_the_dimension():
    """1/r = 1 - 4 U σ_w² b²/(π (1 + 2 σ_w²)), with corrections of order 1/d."""
    sizes = []
    for beta in (1e2, 1e4):
        cells = rescale(erf_cells(), beta, beta)
        found = gaussian_features(cells, "bare")
        b = found.discrepancy[:, 0]
        force = 4 * cells.coupling(cells.temperature) * 0.5 * b.square() / (math.pi * 2)
        sizes.append((1 / found.variance - 1 + force).abs())
    torch.testing.assert_close(
        sizes[0] / sizes[1], torch.full((3,), 10.0).double(), rtol=0.1, atol=0
    )


def test_the_whole_action_comes_to_it_far_from_the_transition():
    """At T = 0.5 p(q) is Gaussian up to 1/d, to which orders the Gaussian theory sums."""
    gaps = []
    for beta in (1.0, 16.0):
        cells = rescale(erf_cells(temperature=0.5), beta, beta)
        whole, gaussian = order_parameter(cells, "bare"), gaussian_features(cells, "bare")
        gaps.append((whole.variance / gaussian.variance - 1).abs().item())
    assert gaps[0] < 1e-3
    assert gaps[1] < gaps[0] / 16  # d is four times as large: an error of order 1/d² at least


def test_the_whole_action_has_the_lower_free_energy():
    """The Gaussian is variational: F of the best Gaussian is above F of the best law."""
    for make in CELLS.values():
        cells = make()
        whole, gaussian = order_parameter(cells, "bare"), gaussian_features(cells, "bare")
        lazy = infinite_width(cells, "bare")
        assert (whole.free_energy < gaussian.free_energy).all()
        assert (gaussian.free_energy < lazy.free_energy).all()


def test_readouts_make_the_function():
    """σ_a² <m²>_r of the Gaussian, summed from its definition."""
    cells = erf_cells()
    found = gaussian_features(cells, "bare")
    overlap, _ = features(cells, found.variance.sqrt()[:, None] * NODES)
    field = torch.sqrt(cells.dimension * cells.coupling(cells.temperature))
    readout = field[:, None] * (found.discrepancy[:, None] @ overlap)[:, 0]
    expected = 1 + readout.square() @ WEIGHTS
    torch.testing.assert_close(found.readout_variance, expected, rtol=1e-7, atol=0)


def test_two_minima_and_their_branches():
    """Where F has two minima the branches differ, and the lowest is one of them."""
    cells = rescale(erf_cells(temperature=torch.linspace(0.004, 0.03, 27)), 16.0, 16.0)
    narrow, wide, lowest = (
        gaussian_features(cells, "bare", branch) for branch in ("narrow", "wide", "lowest")
    )
    two = lowest.minima > 1
    assert two.any()
    assert (wide.variance[two] > narrow.variance[two] * 1.05).all()
    torch.testing.assert_close(wide.variance[~two], narrow.variance[~two])
    least = torch.minimum(narrow.free_energy, wide.free_energy)
    torch.testing.assert_close(lowest.free_energy, least, rtol=1e-12, atol=0)


def test_effective_temperature_is_self_consistent():
    cells = erf_cells()
    found = gaussian_features(cells, "effective")
    assert (found.temperature > cells.temperature).all()
    same = gaussian_features(cells._replace(temperature=found.temperature), "bare")
    torch.testing.assert_close(found.variance, same.variance, rtol=1e-10, atol=0)
