"""Single-index problems: overlaps of neurons with Hermite polynomials, targets, scaling."""

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import HermiteE
from scipy import integrate, special

from theory.single_index.hermite_overlap import overlaps, slope
from theory.single_index.problems import (
    abs_target,
    coupled_orders,
    hermite_target,
    learnability,
    problem,
    rescale,
    widen,
)

ACTIVATIONS = {"erf": special.erf, "relu": lambda z: np.maximum(z, 0), "linear": lambda z: z}


def he(order: int, z):
    """He_k/√k!."""
    return HermiteE.basis(order)(z) / math.sqrt(math.factorial(order))


def gaussian_mean(function, *breaks: float) -> float:
    """E[f(u)] for u ~ N(0, 1)."""
    edges = [-12.0, *breaks, 12.0]
    pieces = itertools.pairwise(edges)
    weight = 1 / math.sqrt(2 * math.pi)
    return sum(
        integrate.quad(lambda u: weight * math.exp(-u * u / 2) * function(u), a, b, epsabs=1e-12)[0]
        for a, b in pieces
    )


# -- overlaps -------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["erf", "relu", "linear"])
@pytest.mark.parametrize("order", range(11))
def test_overlaps_are_averages_over_the_input(activation, order):
    """g_k = ρ^k E[he_k(u) φ(|w| u)], since he_k(w*·x) has only ρ^k he_k(u) in common with u."""
    q, perpendicular = -0.7, 0.5
    norm = math.sqrt(q * q + perpendicular)
    function = ACTIVATIONS[activation]
    expected = (q / norm) ** order * gaussian_mean(lambda u: he(order, u) * function(norm * u), 0.0)
    place = torch.tensor([q], dtype=torch.float64)
    found = overlaps(activation, place, torch.tensor(perpendicular), [order])
    assert found.item() == pytest.approx(expected, abs=1e-10)


def test_overlaps_of_a_neuron_in_many_dimensions():
    """Weights and inputs drawn as they are, without the reduction to ρ and |w|."""
    generator = np.random.default_rng(0)
    dimension, points = 12, 200_000
    x = generator.standard_normal((points, dimension))
    w = generator.standard_normal(dimension) * 0.4
    teacher = generator.standard_normal(dimension)
    teacher /= np.linalg.norm(teacher)
    q = w @ teacher
    orders = [1, 2, 3]
    for activation, function in ACTIVATIONS.items():
        rest = torch.tensor([w @ w - q * q], dtype=torch.float64)
        found = overlaps(activation, torch.tensor([q], dtype=torch.float64), rest, orders)[:, 0]
        for order, value in zip(orders, found.tolist(), strict=True):
            samples = he(order, x @ teacher) * function(x @ w)
            error = samples.std() / math.sqrt(points)
            assert value == pytest.approx(samples.mean(), abs=5 * error)


@pytest.mark.parametrize("activation", ["erf", "relu", "linear"])
def test_slope_is_the_overlap_with_a_linear_function(activation):
    """<x_j φ(w·x)> = w_j E[φ'] also across w*; along it this is g_1 = q E[φ']."""
    q = torch.linspace(-2, 2, 9).double()
    found = overlaps(activation, q, torch.tensor(0.3), [1])[0]
    torch.testing.assert_close(found, q * slope(activation, 0.3 + q.square()))


# -- targets --------------------------------------------------------------------------------


def test_abs_target_is_what_it_says():
    """Its coefficients are <g he_k>, its power 1 - 2/π, of which the modes have all but 1.5 %."""
    target = abs_target(torch.tensor([0.3, -0.1], dtype=torch.float64))
    assert target.orders == (0, 1, 2, 4, 6, 8, 10) == coupled_orders("relu", 1)
    assert target.coefficients.shape == (2, 2, 7)
    for place, order in enumerate(target.orders):

        def even(z, order=order):
            return (abs(z) - math.sqrt(2 / math.pi)) * he(order, z)

        expected = gaussian_mean(even, 0.0)
        assert target.coefficients[0, 1, place].item() == pytest.approx(0.3 * expected, abs=1e-9)
    assert target.coefficients[:, 0].tolist() == [[0.0, 1.0] + [0.0] * 5] * 2
    power = 0.09 * (1 - 2 / math.pi)
    assert target.power[0].tolist() == pytest.approx([1.0, power])
    kept = target.coefficients[0, 1].square().sum().item()
    assert 0.985 * power < kept < power


def test_hermite_target_and_learnability():
    """y = Σ c_k He_k, <y²> = Σ c_k² k!; a discrepancy c He_3 leaves (ε - c)/ε learned."""
    epsilon = torch.tensor([-0.05, 0.2, 0.0], dtype=torch.float64)
    target = hermite_target({3: epsilon, 1: 2.0}, (1, 3, 5))
    assert target.coefficients.shape == (3, 2, 3)
    torch.testing.assert_close(target.power[:, 1], 6 * epsilon.square())
    cells = cells_of(target)
    delta = torch.tensor([[0.5, math.sqrt(6) * 0.01, 0.3]]).double().expand(3, -1)
    found = learnability(cells, delta)
    assert found[:, 0].tolist() == pytest.approx([0.75] * 3)
    assert found[:2, 1].tolist() == pytest.approx([(-0.05 - 0.01) / -0.05, (0.2 - 0.01) / 0.2])
    assert found[2, 1].isnan()


def test_modes_that_couple():
    assert coupled_orders("erf", 1) == (1, 3)
    assert coupled_orders("linear", 5) == (1, 3, 5)
    assert coupled_orders("relu", 3) == (0, 1, 2, 3, 4, 6, 8, 10)


# -- scaling --------------------------------------------------------------------------------


def cells_of(target, **changes):
    values = {
        "dimension": 150.0,
        "width": 700.0,
        "weight_variance": 0.5,
        "readout_variance": 8 / 700,
        "train": 3000.0,
        "temperature": 0.2,
    }
    return problem("erf", target, **(values | changes))


def test_rescaled_families_keep_the_coupling():
    """U and n λ/T, with λ = (4/π) σ_a² (σ_w²/d)/(1 + 2 σ_w²), for any split of n/T into n and T."""
    cells = cells_of(hermite_target({1: 1.0, 3: -0.3}, (1, 3)))
    for beta, alpha in ((2.0, 2.0), (0.5, 1.0), (100.0, 7.0)):
        other = rescale(cells, beta, alpha)
        assert other.width.item() == pytest.approx(700 * beta)
        assert other.dimension.item() == pytest.approx(150 * math.sqrt(beta))
        assert other.train.item() == pytest.approx(3000 * alpha)
        torch.testing.assert_close(
            other.coupling(other.temperature), cells.coupling(cells.temperature)
        )
        learned = [
            c.train / c.temperature * c.readout_variance / c.dimension for c in (cells, other)
        ]
        torch.testing.assert_close(*learned)


def test_a_wider_network_has_the_same_mean_field_values():
    """χ → cχ: σ_a² χ and T χ stay, and so does χ/N."""
    cells = cells_of(hermite_target({1: 1.0}, (1, 3)))
    other = widen(cells, 5.0)
    for name in ("readout_variance", "temperature"):
        product = getattr(other, name) * other.width
        torch.testing.assert_close(product, getattr(cells, name) * cells.width)
    torch.testing.assert_close(other.coupling(other.temperature), cells.coupling(cells.temperature))


# -- what a user can get wrong --------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0; give a positive number"),
        ({"width": torch.tensor([1.0, -3.0])}, "width is -3"),
        ({"dimension": 1.0}, "dimension is 1; give at least 2"),
    ],
)
def test_values_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        cells_of(hermite_target({1: 1.0}, (1, 3)), **changes)


def test_relu_has_no_patches():
    values = {"width": 10.0, "weight_variance": 1.0, "readout_variance": 1.0, "train": 10.0}
    with pytest.raises(ValueError, match="relu in 2 patches"):
        problem("relu", abs_target(0.3), dimension=9.0, temperature=1.0, patches=2.0, **values)
    with pytest.raises(ValueError, match="activation is 'tanh'; take one of erf, linear, relu"):
        problem("tanh", abs_target(0.3), dimension=9.0, temperature=1.0, **values)


def test_a_target_needs_its_modes():
    with pytest.raises(ValueError, match="target has He_3"):
        hermite_target({1: 1.0, 3: 0.1}, (1,))
