"""Running couplings: the differential equations that they solve, and the exponents they predict."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from theory.renormalization.rg import hard_flow
from theory.renormalization.wilson import (
    integrated,
    last_learned,
    local_dimensions,
    running_couplings,
    scaling_intervals,
)
from theory.spectrum.exponents import learning_exponent, learning_slope
from theory.spectrum.learning_curves import learning_curve

ALPHA, BETA = 0.8, 0.6
RANKS = torch.arange(1, 100_001, dtype=torch.float64)
SPECTRUM, POWER = RANKS ** -(1 + ALPHA), RANKS ** -(1 + BETA)


@pytest.mark.parametrize("coupling", [0.0, 1e-3, 0.3, 50.0])
def test_couplings_solve_their_equations(coupling):
    def slope(v, state):
        ridge, u = state
        return [1 - 6 * u * ridge, -3 * u / ridge - 6 * u * u]

    solved = integrate.solve_ivp(slope, (0, 3), [2.0, coupling], rtol=1e-11, atol=1e-14)
    ridge, u = integrated(*(torch.tensor(value).double() for value in (2.0, coupling, 3.0)))
    np.testing.assert_allclose([ridge, u], solved.y[:, -1], rtol=1e-7, atol=1e-12)


def test_a_gaussian_average_of_the_weight_is_the_heat_equation():
    """⟨exp(-V(h + g))⟩ over g ~ N(0, v): its curvature is 1/T(v) to second order in small steps."""
    ridge, u, v = 2.0, 0.3, 1e-3
    g = np.linspace(-8, 8, 4001) * math.sqrt(v)
    weight = np.exp(-np.square(g) / (2 * v))

    def averaged(h):
        field = h + g
        potential = (field**2 + u * field**4) / (2 * ridge)
        return -math.log((weight * np.exp(-potential)).sum() / weight.sum())

    step = 1e-2
    curvature = (averaged(step) - 2 * averaged(0.0) + averaged(-step)) / step**2
    found, _ = integrated(*(torch.tensor(value).double() for value in (ridge, u, v)))
    # The second differences see the fourth derivative, 12u/T step²/12 of 1/T; the flow drops h⁶.
    assert curvature == pytest.approx(1 / float(found), rel=2 * u * step**2 + 10 * v**2)


def test_without_a_quartic_term_the_flow_is_the_hard_decimation():
    train = torch.tensor([10.0, 1000.0]).double()[:, None]
    ridge = torch.tensor([1e-8, 0.1, 10.0]).double()
    found = running_couplings(SPECTRUM, POWER, train, ridge)
    flow = hard_flow(SPECTRUM, ridge)[:, 1:]
    torch.testing.assert_close(found.ridge, flow)
    assert found.mass.shape == (2, 3, len(RANKS))
    assert (found.quartic == 0).all()


def test_running_dimensions_are_those_of_the_flow_equations():
    ridge, coupling, train = 0.5, 0.02, 3000.0
    found = running_couplings(SPECTRUM, POWER, train, ridge, coupling)
    at = torch.tensor([20, 100, 1000, 10_000])
    log_step = torch.log((at + 1.0) / (at - 1.0))
    loop = found.spacing * found.mass

    def dimension(values):
        return -(values[at].log() - values[at - 2].log()) / log_step

    # A shell is one mode at 1/k: the difference across it is a derivative up to 1/k.
    for value, expected in (
        (found.mass, 1 + ALPHA - loop + found.quartic),
        (found.quartic, ALPHA - 3 * loop - found.quartic),
        (found.target, torch.full_like(RANKS, BETA - ALPHA)),
        (found.spacing, -torch.ones_like(RANKS)),
    ):
        difference = (dimension(value) - expected[at - 1]).abs()
        assert (difference < 2.0 / at).all()


def test_scaling_intervals_of_a_pure_power():
    (interval,) = scaling_intervals(RANKS.numpy() ** -1.3)
    assert interval.dimension == pytest.approx(1.3, abs=1e-10)
    assert interval.first > 50_000
    assert interval.last < 2
    assert interval.error < 1e-10
    cutoffs, slopes = local_dimensions(RANKS.numpy() ** 0.4)
    np.testing.assert_allclose(slopes, -0.4, atol=1e-10)
    assert (np.diff(cutoffs) > 0).all()


def test_two_intervals_meet_where_the_modes_outweigh_the_ridge():
    """r' ~ Λ^-(1+α) at high Λ and Λ^-1 at low, with the crossover at T = Λ^-α/α."""
    ranks = torch.arange(1, 3_000_001, dtype=torch.float64)
    crossover = 3000.0
    ridge = crossover**-ALPHA / ALPHA
    mass = running_couplings(ranks ** -(1 + ALPHA), ranks**-1, 1.0, ridge).mass
    intervals = scaling_intervals(mass.numpy(), tolerance=0.08)
    assert intervals[0].dimension == pytest.approx(1 + ALPHA, abs=0.1)
    assert intervals[-1].dimension == pytest.approx(1, abs=0.1)
    assert intervals[0].last > crossover > intervals[-1].first
    cutoffs, slopes = local_dimensions(mass.numpy())
    halfway = np.interp(math.log(crossover), np.log(cutoffs), slopes)
    # T and the modes weigh the same there: 1 + α - α/2.
    assert halfway == pytest.approx(1 + ALPHA / 2, abs=0.05)


@pytest.mark.parametrize(
    ("train", "ridge", "dimension"), [(1e5, 10.0, 1 + ALPHA), (300.0, 1e-8, 1.0)]
)
def test_the_dimension_at_the_end_of_the_flow_is_the_exponent_of_learning(train, ridge, dimension):
    mass = running_couplings(SPECTRUM, POWER, train, ridge).mass
    last = int(last_learned(mass))
    cutoffs, slopes = local_dimensions(mass.numpy())
    found = float(np.interp(math.log(last), np.log(cutoffs), slopes))
    assert found == pytest.approx(dimension, abs=0.05)
    sizes = torch.tensor([train / 1.2, train * 1.2]).double()
    curve = learning_curve(SPECTRUM, POWER, sizes, ridge)
    measured = learning_slope([1, 1.44], curve.error.numpy()).exponent
    # The target stops at the last mode, which bends its tail by (k*/100000)^β, at most 3 %.
    assert measured == pytest.approx(learning_exponent(ALPHA, BETA, found), rel=0.06)
    # The modes learned by the effective ridge, with L > 1/2, end at the same scale but for a
    # factor of order one, the difference of a hard and a soft cutoff.
    learned = int((curve.learnability[0] > 0.5).sum())
    assert 0.4 < learned / last < 2.5


def test_the_quartic_coupling_is_irrelevant_for_many_points():
    """u' at the end of the flow falls as n^(-α/(1+α)) where the ridge dominates."""
    train = torch.tensor([1e5, 8e5]).double()
    found = running_couplings(SPECTRUM, POWER, train, 50.0, 1e-4)
    last = last_learned(found.mass)
    quartic = found.quartic.expand(2, -1).gather(1, last[:, None] - 1)[:, 0]
    slope = -math.log(quartic[1] / quartic[0]) / math.log(8)
    assert slope == pytest.approx(ALPHA / (1 + ALPHA), abs=0.03)  # k* is a whole number near 150


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SPECTRUM.flip(0), POWER, 10.0, 1.0), "not positive and in order"),
        ((torch.tensor([1.0, 0.0]), torch.ones(2), 10.0, 1.0), "without zeros"),
        ((SPECTRUM, POWER, 10.0, 0.0), "ridge is 0"),
        ((SPECTRUM, POWER, 10.0, 1.0, -0.5), "quartic coupling -0.5"),
    ],
)
def test_what_a_user_can_get_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        running_couplings(*arguments)
