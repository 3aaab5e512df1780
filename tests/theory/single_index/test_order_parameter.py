"""The law of the order parameter and the closure of the discrepancy, against other ways to them."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize

from theory.activations.expectations import moment
from theory.single_index.gaussian_index import gaussian_features, infinite_width
from theory.single_index.order_parameter import features, neurons, order_parameter
from theory.single_index.problems import abs_target, hermite_target, problem, widen
from theory.single_index.saddle_point import saddle_point
from theory.spectrum.learning_curves import learning_curve

EPSILON = torch.tensor([-0.05, 0.05], dtype=torch.float64)


def erf_cells(epsilon=EPSILON, orders=(1, 3), **changes):
    """d = 50, N = χ = 1000, n = 1000."""
    values = {
        "dimension": 50.0,
        "width": 1000.0,
        "weight_variance": 0.5,
        "readout_variance": 8 / 1000,
        "train": 1000.0,
        "temperature": 0.1,
    }
    return problem("erf", hermite_target({1: 1.0, 3: epsilon}, orders), **(values | changes))


def relu_cells(**changes):
    """N = 750, d = 96, n = 4d."""
    values = {
        "dimension": 96.0,
        "width": 750.0,
        "weight_variance": 1.0,
        "readout_variance": 8 / 750,
        "train": 384.0,
        "temperature": 0.05,
    }
    return problem("relu", abs_target(0.3), **(values | changes))


def linear_cells(**changes):
    values = {
        "dimension": 40.0,
        "width": 80.0,
        "weight_variance": 1.0,
        "readout_variance": torch.tensor([0.001, 0.01, 0.1]),
        "train": 100.0,
        "temperature": 0.01,
    }
    return problem("linear", hermite_target({1: 1.0}, (1,)), **(values | changes))


CELLS = {"erf": erf_cells, "relu": relu_cells, "linear": linear_cells}


@pytest.fixture(params=CELLS)
def cells(request):
    return CELLS[request.param]()


# -- the equations --------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [-0.05, 0.05])
def test_erf_as_the_paper_writes_it(epsilon):
    """The explicit action in (b, c), its closure solved by another method on another grid."""
    d, N, n, T, sw2, sa2 = 50, 1000, 1000, 0.1, 0.5, 8 / 1000
    U = n**2 * sa2 / (T**2 * d * N)
    q = np.linspace(-3, 3, 6001)
    square = sw2 * (d - 1) / d + q**2
    D = 1 + 2 * square
    overlap = np.stack(
        [2 * q / np.sqrt(math.pi * D), -4 * q**3 / (math.sqrt(6 * math.pi) * D**1.5)]
    )

    def law(b, c):
        action = d * (q**2 / (2 * sw2) - (2 * U / math.pi) * q**2 / D * (b - 2 * c * q**2 / D) ** 2)
        weight = np.exp(-(action - action.min()))
        return weight / weight.sum()

    def closure(unknown):
        b, c = unknown
        kernel = sa2 * (overlap * law(b, c)) @ overlap.T
        expected = T / n * np.linalg.solve(kernel + T / n * np.eye(2), [1, math.sqrt(6) * epsilon])
        return [expected[0] - b, expected[1] / math.sqrt(6) - c]

    b, c = optimize.root(closure, [0.4, epsilon], method="hybr", tol=1e-13).x
    found = order_parameter(erf_cells(torch.tensor([epsilon]).double()), "bare")
    assert found.learnability[0].tolist() == pytest.approx([1 - b, 1 - c / epsilon], abs=1e-7)
    weight = law(b, c)
    variance = weight @ q**2
    assert found.variance.item() == pytest.approx(variance * d / sw2, rel=1e-9)
    kurtosis = weight @ q**4 / variance**2 - 3
    assert found.kurtosis.item() == pytest.approx(kurtosis, abs=1e-8)


def test_closure_holds_when_plugged_in(cells):
    """δ = (T/n) [σ_a² <g gᵀ> + T/n]^-1 y over p ∝ exp(-x²/2 + m²/2), by adaptive quadrature."""
    found = order_parameter(cells, "effective")
    for cell in range(len(cells.train)):
        one = cells.of(torch.tensor([cell]))
        delta, T = found.discrepancy[cell], found.temperature[cell]
        field = torch.sqrt(one.dimension * one.coupling(T))
        scale = found.log_partition[cell].item()

        def overlap(x, one=one):
            return features(one, torch.tensor([x], dtype=torch.float64))[0][0, :, 0]

        def product(x, i, j, overlap=overlap, delta=delta, field=field, scale=scale):
            g = overlap(x)
            exponent = ((field * (g @ delta)) ** 2 - x * x) / 2 - scale
            factor = 1.0 if i < 0 else g[i] * g[j]
            return float(exponent.exp() * factor) / math.sqrt(2 * math.pi)

        def mean(i, j, product=product):
            return integrate.quad(product, -30, 30, (i, j), points=[0], epsabs=1e-10, limit=200)[0]

        assert mean(-1, -1) == pytest.approx(1, abs=1e-8)
        modes = range(min(len(delta), 3))
        kernel = cells.readout_variance[cell] * torch.tensor(
            [[mean(i, j) for j in range(len(delta))] for i in modes], dtype=torch.float64
        )
        left = cells.target[cell, : len(modes)] - delta[: len(modes)]
        torch.testing.assert_close(one.train / T * (kernel @ delta), left, rtol=0, atol=1e-6)


def test_there_is_one_solution(cells):
    """F is concave in δ: Newton's method comes to the same point from anywhere."""
    x = torch.linspace(-25, 25, 201, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    overlap, _ = features(cells, x)
    quadrature = neurons(cells, cells.temperature, torch.log_softmax(-x.square() / 2, 0), overlap)
    expected = saddle_point(quadrature)
    assert (expected.residual < 1e-12).all()
    for size in (0.1, 1.0, 10.0):
        shape = cells.target.shape
        start = size * torch.randn(shape, generator=generator, dtype=torch.float64)
        found = saddle_point(quadrature, start)
        torch.testing.assert_close(found.discrepancy, expected.discrepancy, rtol=0, atol=1e-10)


def test_free_energy_integrates_the_loss(cells):
    """dF/d(1/T) = n |δ|²/2, by central differences, whose error is of the third order."""
    step = 1e-4
    inverse = 1 / cells.temperature
    ends = [
        order_parameter(cells._replace(temperature=1 / (inverse * (1 + sign * step))), "bare")
        for sign in (1, -1)
    ]
    slope = (ends[0].free_energy - ends[1].free_energy) / (2 * step * inverse)
    middle = order_parameter(cells, "bare")
    loss = cells.train * middle.discrepancy.square().sum(1) / 2
    torch.testing.assert_close(slope, loss, rtol=1e-6, atol=0)


def test_readouts_make_the_function(cells):
    """f̄ = N E[a] g summed over p: N √(σ_a²/N) <m g> = y - δ, and E[a²] = 1 + <m²>."""
    found = order_parameter(cells, "bare")
    half = torch.arange(0.05, 40, 0.1, dtype=torch.float64)
    x = torch.cat([-half.flip(0), half])
    overlap, _ = features(cells, x)
    field = torch.sqrt(cells.dimension * cells.coupling(cells.temperature))
    readout = field[:, None] * (found.discrepancy[:, None] @ overlap)[:, 0]
    exponent = (readout.square() - x.square()) / 2 - found.log_partition[:, None]
    weight = 0.1 * exponent.exp() / math.sqrt(2 * math.pi)
    total = torch.sqrt(cells.width * cells.readout_variance)
    function = total[:, None] * (overlap @ (weight * readout)[..., None])[..., 0]
    torch.testing.assert_close(function, cells.target - found.discrepancy, rtol=0, atol=1e-10)
    torch.testing.assert_close((weight * readout.square()).sum(1) + 1, found.readout_variance)
    torch.testing.assert_close(weight @ x, found.mean, rtol=0, atol=1e-10)


# -- the effective temperature --------------------------------------------------------------


def test_effective_temperature_is_that_of_its_spectrum(cells):
    """T_eff of the eigenvalues that the theory ends with, by the effective ridge of a spectrum."""
    found = order_parameter(cells, "effective")
    half = torch.arange(0.05, 40, 0.1, dtype=torch.float64)
    x = torch.cat([-half.flip(0), half])
    overlap, square = features(cells, x)
    field = torch.sqrt(cells.dimension * cells.coupling(found.temperature))
    readout = field[:, None] * (found.discrepancy[:, None] @ overlap)[:, 0]
    weight = torch.softmax((readout.square() - x.square()) / 2, 1)
    variance = cells.readout_variance
    for cell in range(len(cells.train)):
        block = variance[cell] * (overlap[cell] * weight[cell]) @ overlap[cell].T
        # One eigenvalue for each of the d - 1 linear functions: Σ_j w_j² over x_j across w*.
        slopes = {
            "erf": 4 / (math.pi * (1 + 2 * square[cell])),
            "relu": torch.full_like(square[cell], 0.25),
            "linear": torch.ones_like(square[cell]),
        }[cells.activation]
        across = variance[cell] * cells.weight_variance[cell] / cells.dimension[cell]
        across = across * (weight[cell] @ slopes)
        total = variance[cell] * (weight[cell] @ moment(cells.activation).diagonal(square[cell]))
        rest = total - block.trace() - (cells.dimension[cell] - 1) * across
        along = torch.linalg.eigvalsh(block).clamp_min(0)
        small = torch.tensor([1e-12], dtype=torch.float64)  # never learned
        spectrum = torch.cat([along, across[None], small])
        many = torch.stack([cells.dimension[cell] - 1, rest.clamp_min(0) / 1e-12])
        counts = torch.cat([torch.ones_like(along), many])
        curve = learning_curve(
            spectrum,
            0.0,
            cells.train[cell : cell + 1],
            cells.temperature[cell : cell + 1],
            noise_variance=1.0,
            multiplicities=counts,
        )
        # Nothing but noise of variance one to be learned: the error is E_0 - 1.
        assert found.error_factor[cell].item() == pytest.approx(1 + curve.error.item(), rel=1e-7)
        assert found.temperature[cell].item() == pytest.approx(
            curve.effective_ridge.item(), rel=1e-7
        )
        ratio = block[cells.orders.index(1), cells.orders.index(1)] / across
        assert found.eigenvalue_ratio[cell].item() == pytest.approx(ratio.item(), rel=1e-9)


def test_theory_at_the_effective_temperature_is_that_of_a_bare_one(cells):
    found = order_parameter(cells, "effective")
    assert (found.temperature > cells.temperature).all()
    same = order_parameter(cells._replace(temperature=found.temperature), "bare")
    torch.testing.assert_close(found.discrepancy, same.discrepancy, rtol=0, atol=1e-11)


# -- limits ---------------------------------------------------------------------------------


def test_wide_networks_are_gaussian_processes():
    """At fixed σ_a² and T the coupling is 1/N: nothing is left of it at N = 10⁹."""
    for make in CELLS.values():
        cells = make(width=1e9, readout_variance=0.01)
        found, limit = order_parameter(cells, "effective"), infinite_width(cells, "effective")
        torch.testing.assert_close(found.learnability, limit.learnability, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.temperature, limit.temperature, rtol=1e-6, atol=0)
        torch.testing.assert_close(found.variance, limit.variance, rtol=1e-4, atol=0)


def test_linear_networks_have_gaussian_order_parameters():
    """The variational Gaussian is exact there."""
    cells = linear_cells()
    found, gaussian = order_parameter(cells, "effective"), gaussian_features(cells, "effective")
    assert (found.variance > 1.5).any()
    torch.testing.assert_close(found.kurtosis, 0 * found.kurtosis, rtol=0, atol=1e-12)
    for name in ("variance", "learnability", "readout_variance", "temperature", "free_energy"):
        torch.testing.assert_close(getattr(found, name), getattr(gaussian, name), rtol=1e-9, atol=0)


@pytest.mark.parametrize("ridge", ["bare", "effective"])
def test_predictions_do_not_depend_on_the_width_at_fixed_ratio(cells, ridge):
    """Hyper-parameter transfer: N → cN at fixed χ/N, to rounding."""
    found, wider = (order_parameter(c, ridge) for c in (cells, widen(cells, 7.0)))
    for name in ("learnability", "variance", "kurtosis", "readout_variance"):
        torch.testing.assert_close(getattr(found, name), getattr(wider, name), rtol=0, atol=1e-9)
    torch.testing.assert_close(wider.temperature * 7, found.temperature)


def test_cells_are_independent_of_each_other():
    """A grid of very different cells gives what each gives alone."""
    cells = erf_cells(
        torch.tensor([-0.3, 0.1, -0.05, 0.3]).double(),
        temperature=torch.tensor([1e-3, 0.1, 10.0, 0.02]),
        dimension=torch.tensor([20.0, 3e4, 50.0, 300.0]),
    )
    together = order_parameter(cells, "effective")
    for cell in range(4):
        alone = order_parameter(cells.of(torch.tensor([cell])), "effective")
        for name in ("learnability", "variance", "temperature", "reach", "spacing"):
            value = getattr(together, name)[cell : cell + 1]
            torch.testing.assert_close(value, getattr(alone, name), rtol=1e-9, atol=1e-12)


def test_more_modes_change_little():
    """The kernel is not closed on H1 and H3; the fifth and higher modes are hardly learned."""
    few, many = (
        order_parameter(erf_cells(orders=orders), "bare") for orders in ((1, 3), (1, 3, 5, 7, 9))
    )
    torch.testing.assert_close(few.learnability, many.learnability, rtol=2e-2, atol=0)
    assert (many.discrepancy[:, 2:].abs() < 1e-2).all()


# -- what it is for -------------------------------------------------------------------------


def test_feature_learning_is_far_from_the_gaussian_process():
    """The linear part is learned 1.8 times better, and p(q) is narrower than a Gaussian."""
    cells = erf_cells()
    found, lazy = order_parameter(cells, "effective"), infinite_width(cells, "effective")
    assert (found.learnability[:, 0] > 1.7 * lazy.learnability[:, 0]).all()
    assert (found.kurtosis < -0.3).all()
    assert found.learnability[0, 1] > 0 > found.learnability[1, 1]  # ε < 0 helps, ε > 0 hinders


def test_relu_learns_the_even_part_through_skewness():
    """Which a Gaussian of zero mean does not have: it misses the even part, not the odd one."""
    cells = relu_cells()
    found, gaussian = order_parameter(cells, "effective"), gaussian_features(cells, "effective")
    assert found.skewness.item() > 0.3
    assert found.mean.item() > 0
    odd, even = (found.learnability / gaussian.learnability)[0].tolist()
    assert odd == pytest.approx(1, abs=0.02)
    assert even > 8


def test_a_droplet_beyond_the_first_grid_is_found():
    """At d = 15000 droplets are 140 prior deviations from q = 0, in a well of their own."""
    cells = erf_cells(
        torch.tensor([-0.3]).double(),
        dimension=15000.0,
        width=7e6,
        readout_variance=8 / 700 / 100,
        train=3e7,
        temperature=0.1,
    )
    found = order_parameter(cells, "bare")
    assert found.reach.item() > 150
    assert found.learnability[0, 1].item() > 0.1
    assert found.kurtosis.item() > 1000


def test_what_is_not_solved_is_nan():
    """Thousands of prior deviations away, on a grid that would be too long."""
    cells = linear_cells(readout_variance=1e9, temperature=1e-9, width=2.0, train=1e9)
    found = order_parameter(cells, "bare")
    assert found.learnability.isnan().all()
    assert found.variance.isnan().all()
    assert not found.residual.isnan().any()
