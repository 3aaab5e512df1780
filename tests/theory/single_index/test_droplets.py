"""Droplets of the thermodynamic limit, the phases, and the branches of hysteresis."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize

from theory.single_index.droplets import PHASES, droplets, threshold
from theory.single_index.hermite_overlap import overlaps
from theory.single_index.index_histogram import histogram
from theory.single_index.metastable import branch
from theory.single_index.order_parameter import order_parameter
from theory.single_index.problems import abs_target, hermite_target, problem, rescale

TEMPERATURES = torch.tensor([0.5, 0.2, 0.17, 0.15, 0.1, 0.05, 0.02], dtype=torch.float64)


def cells_at(temperature=TEMPERATURES, epsilon=-0.3, orders=(1, 3), **changes):
    """d = 150, N = χ = 700, n = 3000."""
    values = {
        "dimension": 150.0,
        "width": 700.0,
        "weight_variance": 0.5,
        "readout_variance": 8 / 700,
        "train": 3000.0,
    }
    target = hermite_target({1: 1.0, 3: epsilon}, orders)
    return problem("erf", target, temperature=temperature, **(values | changes))


def fields(cells, delta, q):
    """h(q) = √(U σ_w²) δ·g(q)/q, (cells, q), from the overlaps themselves."""
    overlap = overlaps("erf", q, torch.tensor(0.5, dtype=torch.float64), cells.orders)
    size = torch.sqrt(cells.coupling(cells.temperature) * cells.weight_variance)
    return size[:, None] * (delta @ overlap) / q


# -- the thermodynamic limit ----------------------------------------------------------------


@pytest.mark.parametrize("orders", [(1, 3), (1, 3, 5, 7)])
def test_conditions_of_the_limit(orders):
    """1/r = 1 - h(0)², no |h| above 1, equality at q*, and δ from the kernel of both parts."""
    cells = cells_at(orders=orders)
    found = droplets(cells)
    assert (found.residual < 1e-12).all()
    q = torch.linspace(1e-6, 20, 40_001, dtype=torch.float64)
    field = fields(cells, found.discrepancy, q).abs()
    torch.testing.assert_close(1 / found.variance, 1 - field[:, 0].square(), rtol=0, atol=1e-9)
    mixed = found.phase == 1
    assert (field <= 1 + 1e-10).all()
    # The grid is at most 2.5e-4 from the maximum, where |h| has a second derivative of order 1.
    torch.testing.assert_close(
        field[mixed].amax(1), torch.ones(int(mixed.sum())).double(), atol=1e-6, rtol=0
    )
    place = q[field[mixed].argmax(1)]
    torch.testing.assert_close(place, found.position[mixed], rtol=0, atol=5e-4)

    for cell in range(len(TEMPERATURES)):
        at = found.position[cell].nan_to_num(1.0)
        points = torch.stack([torch.tensor(1e-9).double(), at])
        slopes = overlaps("erf", points, torch.tensor(0.5).double(), orders) / points
        droplet = slopes[:, 1] * at
        kernel = cells.readout_variance[cell] * (
            found.variance[cell] * 0.5 / 150 * torch.outer(slopes[:, 0], slopes[:, 0])
            + found.share[cell] * torch.outer(droplet, droplet)
        )
        stiffness = cells.train[cell] / cells.temperature[cell]
        left = found.discrepancy[cell] + stiffness * kernel @ found.discrepancy[cell]
        torch.testing.assert_close(left, cells.target[cell], rtol=0, atol=1e-8)


def test_the_whole_action_comes_to_the_limit():
    """Corrections are of order ln d/d."""
    cells = cells_at()
    limit = droplets(cells)
    for beta in (1e4, 1e6):
        large = rescale(cells, beta, beta)
        found = order_parameter(large, "bare")
        size = math.log(large.dimension[0]) / large.dimension[0].item()
        gap = (found.discrepancy - limit.discrepancy).abs().amax()
        assert gap < size
        per_neuron = (found.free_energy - droplets(large).free_energy) / large.width
        assert per_neuron.abs().max() < 1  # of terms that are of order √d
        one = droplets(large)
        torch.testing.assert_close(one.discrepancy, limit.discrepancy, rtol=0, atol=1e-10)
        torch.testing.assert_close(one.share * math.sqrt(beta), limit.share, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("width", [700.0, 16.0])
def test_free_energy_integrates_the_loss(width):
    """dF/d(1/T) = n |δ|²/2 in every phase, by central differences."""
    cells = cells_at(width=width, readout_variance=1e-4 if width < 100 else 8 / 700)
    inverse = 1 / cells.temperature
    step = 1e-4
    ends = [
        droplets(cells._replace(temperature=1 / (inverse * (1 + sign * step)))) for sign in (1, -1)
    ]
    slope = (ends[0].free_energy - ends[1].free_energy) / (2 * step * inverse)
    middle = droplets(cells)
    loss = cells.train * middle.discrepancy.square().sum(1) / 2
    torch.testing.assert_close(slope, loss, rtol=1e-6, atol=0)


def test_threshold_by_another_method():
    """min_q s(q) = 0 at b = (T/n)/(λ + T/n), with λ of the Gaussian: u_c = 30.67, b = 0.292."""
    d, N, n, sw2, sa2, epsilon = 150.0, 700.0, 3000.0, 0.5, 8 / 700, -0.3
    q = np.linspace(0.02, 3, 30_001)
    D = 1 + 2 * (sw2 + q**2)

    def lowest(T):
        U = n**2 * sa2 / (T**2 * d * N)

        def closure(b):
            width = d / sw2 - 4 * U * d * b * b / (math.pi * (1 + 2 * sw2))
            eigenvalue = 4 * sa2 / math.pi / (1 + 2 * sw2) / width
            return b - (T / n) / (eigenvalue + T / n)

        stable = math.sqrt(math.pi * (1 + 2 * sw2) / (4 * U * sw2))
        b = optimize.brentq(closure, 1e-9, min(1, stable * (1 - 1e-12)), xtol=1e-14)
        action = q**2 / (2 * sw2) - 2 * U / math.pi * q**2 / D * (b - 2 * epsilon * q**2 / D) ** 2
        return action.min(), b

    expected = optimize.brentq(lambda T: lowest(T)[0], 0.15, 0.25, xtol=1e-12)
    cells = cells_at(torch.tensor([0.3, 2.0]))
    found = threshold(cells)
    assert found.tolist() == pytest.approx([expected] * 2, rel=1e-7)
    at = cells._replace(temperature=found)
    assert at.coupling(found)[0].item() == pytest.approx(30.67, abs=0.005)
    assert droplets(at).discrepancy[0, 0].item() == pytest.approx(0.292, abs=5e-4)
    assert lowest(expected)[1] == pytest.approx(0.292, abs=5e-4)


def test_phases():
    """Droplets below the threshold; all neurons in them where they are few and read weakly."""
    cells = cells_at(threshold(cells_at(0.2)) * torch.tensor([1.001, 0.999]).double())
    assert [PHASES[i] for i in droplets(cells).phase.tolist()] == ["GFL", "GMFL-I"]
    narrow = cells_at(0.1, width=16.0, readout_variance=1e-4, dimension=50.0)
    found = droplets(narrow)
    assert PHASES[found.phase.item()] == "GMFL-II"
    assert found.share.item() == 1
    whole = order_parameter(narrow, "bare")
    assert whole.kurtosis.item() < -1.9  # two peaks: -2 if they are sharp
    assert whole.variance.item() == pytest.approx(found.position.item() ** 2 * 50 / 0.5, rel=0.05)
    edges = torch.tensor([-100.0, -4.0, 4.0, 100.0], dtype=torch.float64)
    assert histogram(narrow, whole, edges)[0, 1].item() < 1e-20  # nothing stays at q = 0


def test_share_grows_continuously_from_the_threshold():
    edge = threshold(cells_at(0.2))
    below = torch.tensor([1e-2, 1e-3, 1e-4, 1e-5], dtype=torch.float64)
    share = droplets(cells_at(edge * (1 - below))).share
    torch.testing.assert_close(
        share[:-1] / share[1:], torch.full((3,), 10.0).double(), rtol=0.1, atol=0
    )


def test_a_linear_target_forms_no_droplets():
    cells = cells_at(torch.tensor([1.0, 1e-3]), epsilon=0.0)
    assert droplets(cells).phase.tolist() == [0, 0]
    assert threshold(cells).isnan().all()


def test_droplets_are_of_erf_networks():
    values = {"dimension": 9.0, "width": 9.0, "weight_variance": 1.0, "readout_variance": 1.0}
    cells = problem("relu", abs_target(0.3), train=9.0, temperature=1.0, **values)
    for function in (droplets, threshold):
        with pytest.raises(ValueError, match="erf networks in odd modes"):
            function(cells)
    with pytest.raises(ValueError, match="give odd modes"):
        branch(cells, "prior", 3.0)
    with pytest.raises(ValueError, match="barrier is 0\\.5"):
        branch(cells_at(), "prior", 0.5)


# -- hysteresis -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large():
    """d = 600: barriers of many nats."""
    return rescale(cells_at(), 16.0, 16.0)


def test_one_well_is_equilibrium(large):
    """At T = 0.5 neurons have one well, and the start is forgotten."""
    equilibrium = order_parameter(large, "bare")
    for start in ("prior", "teacher"):
        found = branch(large, start, 3.0)
        assert found.share[0].isnan()
        torch.testing.assert_close(found.learnability[0], equilibrium.learnability[0])
        torch.testing.assert_close(found.variance[0], equilibrium.variance[0])


def test_branches_lie_on_both_sides_of_equilibrium(large):
    """Fewer droplets from the prior, more from the teacher, and a higher free energy."""
    barrier = 5.0
    prior, teacher = (branch(large, start, barrier) for start in ("prior", "teacher"))
    equilibrium = order_parameter(large, "bare")
    wells = teacher.share.isfinite()
    assert wells.sum() >= 4
    assert (prior.potential[wells] >= 0).all()
    assert (teacher.potential[wells] <= 0).all()
    cold = large.temperature < 0.11
    assert (prior.share[cold] < 0.5 * teacher.share[cold]).all()
    cubic = prior.learnability[:, 1], equilibrium.learnability[:, 1], teacher.learnability[:, 1]
    assert (cubic[0][cold] < cubic[1][cold]).all()
    for found in (prior, teacher):
        assert (found.residual < 1e-10).all()
        moved = found.potential != 0
        assert (found.free_energy[moved] > equilibrium.free_energy[moved]).all()
        same = found.free_energy[~moved] / equilibrium.free_energy[~moved] - 1
        assert same.abs().max() < 1e-9
    # Where neurons have stopped crossing, the barrier is the one asked for.
    stopped = (teacher.potential < 0) & (teacher.share < 0.9)
    height = teacher.outer_barrier[stopped]
    torch.testing.assert_close(height, torch.full_like(height, barrier), rtol=0, atol=1e-3)


def test_the_loss_integrates_to_the_free_energy_of_a_branch(large):
    """dF = (n|δ|²/2) d(1/T) - N μ dα, as F at a fixed share has the derivative -N μ in it."""
    inverse = 1 / large.temperature
    step = 1e-3
    ends = [
        branch(large._replace(temperature=1 / (inverse * (1 + sign * step))), "teacher", 5.0)
        for sign in (1, -1)
    ]
    middle = branch(large, "teacher", 5.0)
    moved = middle.potential < 0
    assert moved.sum() >= 3
    change = ends[0].free_energy - ends[1].free_energy
    growth = ends[0].share - ends[1].share
    expected = middle.loss * 2 * step * inverse - large.width * middle.potential * growth
    torch.testing.assert_close(change[moved], expected[moved], rtol=1e-4, atol=0)


def test_a_patient_network_is_in_equilibrium(large):
    """With time for every barrier there is no hysteresis."""
    found = branch(large, "prior", 1e4)
    equilibrium = order_parameter(large, "bare")
    torch.testing.assert_close(found.learnability, equilibrium.learnability, rtol=1e-6, atol=1e-9)
