"""Convolutional networks on patches as single-index problems of a filter."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from theory.single_index.gaussian_index import infinite_width
from theory.single_index.hermite_overlap import overlaps
from theory.single_index.order_parameter import order_parameter
from theory.single_index.patch_index import linear_filters, points_to_learn
from theory.single_index.problems import hermite_target, problem

TRAIN = torch.tensor([40.0, 80.0, 120.0])


def linear_cells(target=1.0, **changes):
    """4 patches of 20 inputs, 100 channels, χ = 100."""
    values = {
        "dimension": 20.0,
        "width": 100.0,
        "weight_variance": 1.0,
        "readout_variance": 0.01,
        "train": TRAIN,
        "temperature": 0.01,
        "patches": 4.0,
    }
    return problem("linear", hermite_target({1: target}, (1,)), **(values | changes))


def erf_cells(epsilon=0.1, **changes):
    """5 patches of 50 inputs, 1000 channels, χ = 100."""
    values = {
        "dimension": 50.0,
        "width": 1000.0,
        "weight_variance": 1.0,
        "readout_variance": 0.01,
        "train": torch.tensor([100.0, 400.0, 1600.0]),
        "temperature": 0.01,
        "patches": 5.0,
    }
    return problem("erf", hermite_target({1: 1.0, 3: epsilon}, (1, 3)), **(values | changes))


# -- the reduction --------------------------------------------------------------------------


def test_kernel_of_patches_on_the_target():
    """<Y_k K Y_l> = (σ_a²/P) g_k g_l for Y_k = Σ_i a*_i he_k(w*·x_i), by averages over inputs."""
    generator = np.random.default_rng(0)
    patches, size, points = 3, 8, 400_000
    x = generator.standard_normal((points, patches, size))
    w = 0.5 * generator.standard_normal(size)
    teacher = generator.standard_normal(size)
    teacher /= np.linalg.norm(teacher)
    readout = generator.standard_normal(patches)
    readout /= np.linalg.norm(readout)
    z, neuron = x @ teacher, special.erf(x @ w)
    modes = [(z * readout).sum(1), ((z**3 - 3 * z) / math.sqrt(6) * readout).sum(1)]
    felt = [mode[:, None] * neuron for mode in modes]  # <δ φ(w·x_i)> for every patch
    means = np.array([part.mean(0) for part in felt])
    errors = np.array([part.std(0) for part in felt]) / math.sqrt(points)
    q = w @ teacher
    place, rest = (torch.tensor([v], dtype=torch.float64) for v in (q, w @ w - q * q))
    overlap = overlaps("erf", place, rest, (1, 3))[:, 0].numpy()
    assert (np.abs(means - np.outer(overlap, readout)) < 5 * errors).all()
    # Summed over the patches: the force on a filter, and its kernel, times P.
    expected = np.outer(overlap, overlap)
    tolerance = 5 * 2 * np.abs(means).max() * errors.max() * math.sqrt(patches)
    assert np.abs(means @ means.T - expected).max() < tolerance


def test_channels_and_patches_enter_through_their_variance():
    """P patches of S inputs are a network on S inputs with the readout variance σ_a²/P, at a T."""
    cells = erf_cells()
    found = order_parameter(cells, "effective")
    dense = erf_cells(patches=1.0, readout_variance=0.01 / 5)
    same = order_parameter(dense._replace(temperature=found.temperature), "bare")
    torch.testing.assert_close(found.learnability, same.learnability, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.eigenvalue_ratio, same.eigenvalue_ratio, rtol=1e-9, atol=0)


def test_small_weights_make_a_linear_network():
    """erf(z) = (2/√π) z up to z³/3: σ_a² of the linear network is 4/π times as large."""
    small = 1e-4
    gap = []
    for scale in (1.0, 0.25):
        prior = {"weight_variance": small * scale, "readout_variance": 0.01 / (small * scale)}
        curved = order_parameter(erf_cells(0.0, **prior), "effective")
        prior["readout_variance"] *= 4 / math.pi
        straight = linear_filters(
            linear_cells(
                dimension=50.0,
                width=1000.0,
                train=torch.tensor([100.0, 400.0, 1600.0]),
                patches=5.0,
                **prior,
            ),
            "effective",
        )
        gap.append((curved.eigenvalue_ratio / straight.eigenvalue_ratio - 1).abs())
        torch.testing.assert_close(
            curved.learnability[:, 0], straight.learnability[:, 0], rtol=1e-3, atol=0
        )
    # First order in σ_w², a quarter of which is left; the second order is of the size of the gap.
    assert gap[0].max() < 0.05
    torch.testing.assert_close(gap[0] / gap[1], torch.full((3,), 4.0).double(), rtol=0.05, atol=0)


# -- linear networks ------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", ["bare", "effective"])
def test_linear_networks_in_closed_form(ridge):
    """1/b = S/σ_w² - (σ_a²/PC)(n/T)²(1 - L)², L = λ/(λ + T/n), λ = σ_a² b/P; and on a grid of q."""
    cells = linear_cells(target=1.3)
    found = linear_filters(cells, ridge)
    b = found.variance / 20
    T = found.temperature
    eigenvalue = 0.01 * b / 4
    learned = eigenvalue / (eigenvalue + T / TRAIN)
    torch.testing.assert_close(found.learnability[:, 0], learned, rtol=1e-12, atol=0)
    force = 0.01 / 400 * (TRAIN / T * 1.3 * (1 - learned)).square()
    torch.testing.assert_close(1 / b, 20 - force, rtol=1e-11, atol=0)
    if ridge == "effective":
        across = 0.01 / 80
        variance = 4 * eigenvalue * (1 - learned)
        variance += 4 * 19 * across * (T / TRAIN) / (across + T / TRAIN)
        torch.testing.assert_close(T, 0.01 + variance, rtol=1e-11, atol=0)
    grid = order_parameter(cells, ridge)
    for name in ("learnability", "variance", "readout_variance", "eigenvalue_ratio", "temperature"):
        torch.testing.assert_close(getattr(found, name), getattr(grid, name), rtol=1e-9, atol=0)


def test_linear_filters_against_exact_sampling():
    """L and the ratio at n = 80 and 120, above d/2, are within 5 % and 4 % of Gibbs samples."""
    found = linear_filters(linear_cells(), "effective")
    assert found.learnability[1:, 0].tolist() == pytest.approx([0.789, 0.880], rel=0.05)
    assert found.eigenvalue_ratio[1:].tolist() == pytest.approx([7.62, 8.44], rel=0.04)


def test_filters_learn_from_fewer_points_than_the_kernel():
    """n ~ d^(3/4) for P, S, C ∝ √d, approached from above; n ∝ d for the kernel."""
    size = torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0, 1e6, 2e6], dtype=torch.float64)
    cells = linear_cells(
        dimension=50 * size, width=1000 * size, patches=10 * size, train=100 * size**1.5
    )

    def exponents(points):
        return (points.log().diff() / (size.square()).log().diff()).tolist()

    adaptive = points_to_learn(
        cells, 0.5, lambda c: linear_filters(c, "effective").learnability[:, 0]
    )
    found = exponents(adaptive)
    assert found[:4] == pytest.approx([0.809, 0.795, 0.783, 0.775], abs=5e-4)
    assert found[-1] == pytest.approx(0.75, abs=1e-3)
    lazy = points_to_learn(cells, 0.5, lambda c: infinite_width(c, "effective").learnability[:, 0])
    assert exponents(lazy) == pytest.approx([1.0] * 6, abs=1e-9)


def test_level_out_of_reach_is_nan():
    cells = linear_cells()
    found = points_to_learn(cells, 1.5, lambda c: linear_filters(c, "bare").learnability[:, 0])
    assert found.isnan().all()


def test_closed_form_is_of_linear_networks():
    with pytest.raises(ValueError, match="activation erf"):
        linear_filters(erf_cells(), "bare")


# -- erf networks ---------------------------------------------------------------------------


def test_filters_see_the_teacher():
    """The ratio of eigenvalues grows with n and P; that of infinite width stays where it is."""
    ratios = [
        order_parameter(erf_cells(patches=p), "effective").eigenvalue_ratio
        for p in (1.0, 5.0, 10.0)
    ]
    assert all((ratio.diff() > -0.05).all() for ratio in ratios)
    assert ratios[0][-1] < ratios[1][-1] < ratios[2][-1]
    assert ratios[2][-1] > 8
    lazy = infinite_width(erf_cells(patches=10.0), "effective").eigenvalue_ratio
    assert (lazy < 1).all()
