"""Fixed points of deep random networks, and where they are critical."""

import math
import time

import pytest
import torch

from theory.activations.records import RECORDS
from theory.signal import (
    chi_parallel,
    chi_perpendicular,
    critical_bias,
    critical_point,
    fixed_point,
    fixed_points,
    flow,
    universality_class,
)

torch.set_num_threads(1)

F = torch.nn.functional
HALF_STABLE = {  # Roberts, Yaida and Hanin (2022), with the digits of an independent computation
    "silu": (1.988005, 0.555143, 14.3201),
    "swish": (1.988005, 0.555143, 14.3201),  # its other name
    "gelu": (1.983058, 0.172922, 3.56155),
}


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        ("relu", "scale-invariant"),
        ("linear", "scale-invariant"),
        (F.leaky_relu, "scale-invariant"),
        ("erf", "K* = 0"),
        ("tanh", "K* = 0"),
        ("sin", "K* = 0"),
        (F.hardtanh, "K* = 0"),
        ("silu", "half-stable"),
        ("gelu", "half-stable"),
        ("sigmoid", "none"),
        ("softplus", "none"),
        ("quadratic", "none"),
    ],
)
def test_universality_classes(activation, name):
    assert universality_class(activation) == name
    point = critical_point(activation)
    assert math.isnan(point.weight_variance) == (name == "none")
    assert (point.variance == 0) == (name == "K* = 0")


@pytest.mark.parametrize(
    ("activation", "weight_variance"),
    [("relu", 2.0), ("linear", 1.0), ("erf", math.pi / 4), ("tanh", 1.0), ("sin", 1.0)],
)
def test_critical_points_without_biases(activation, weight_variance):
    point = critical_point(activation)
    assert point.weight_variance == pytest.approx(weight_variance, rel=1e-12)
    assert point.bias_variance == 0


@pytest.mark.parametrize("activation", HALF_STABLE)
def test_half_stable_critical_points(activation):
    weights, biases, variance = HALF_STABLE[activation]
    point = critical_point(activation)
    assert point.weight_variance == pytest.approx(weights, abs=1e-6)
    assert point.bias_variance == pytest.approx(biases, abs=1e-6)
    assert point.variance == pytest.approx(variance, rel=1e-5)


@pytest.mark.parametrize("activation", HALF_STABLE)
def test_a_half_stable_point_is_a_fixed_point_reached_from_one_side(activation):
    point = critical_point(activation)
    for chi in (chi_parallel, chi_perpendicular):
        found = chi(activation, weight_variance=point.weight_variance, variance=point.variance)
        assert found.item() == pytest.approx(1, abs=1e-10)
    # Near enough: 2 % above that of silu there is another fixed point.
    starts = point.variance * torch.tensor([0.995, 1.005], dtype=torch.float64)
    after = flow(
        activation,
        weight_variance=point.weight_variance,
        bias_variance=point.bias_variance,
        variance=starts,
        correlation=1.0,
        depth=1,
    )
    moved = after.variance[-1] - starts
    assert bool((moved > 0).all()) or bool((moved < 0).all())


@pytest.mark.parametrize("activation", ["relu", F.leaky_relu, "linear"])
@pytest.mark.parametrize("variance", [1e-3, 1.0, 1e4])
def test_chi_of_scale_invariant_activations_is_one_at_every_variance(activation, variance):
    weights = critical_point(activation).weight_variance
    for chi in (chi_parallel, chi_perpendicular):
        found = chi(activation, weight_variance=weights, variance=variance)
        assert found.item() == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize("activation", ["erf", "tanh", F.hardtanh])
def test_the_critical_line_parts_order_from_chaos(activation):
    at_zero = critical_point(activation).weight_variance
    weights = torch.linspace(1.05, 4, 5, dtype=torch.float64) * at_zero
    line = critical_bias(activation, weights)
    on, above, below = (
        fixed_point(activation, weight_variance=weights, bias_variance=line * by)
        for by in (1, 1.05, 0.95)
    )
    one = torch.ones_like(weights)
    torch.testing.assert_close(on.chi_perpendicular, one, rtol=0, atol=1e-8)
    assert bool((above.correlation == 1).all())  # order
    assert bool((below.correlation < 1).all())  # chaos


def test_the_critical_line_starts_at_the_critical_point():
    assert critical_bias("erf", math.pi / 4).item() == pytest.approx(0, abs=1e-12)
    assert critical_bias("relu", 2.0).item() == 0
    for activation in ("erf", "tanh", "relu"):
        below = critical_point(activation).weight_variance * 0.9
        assert bool(critical_bias(activation, below).isnan())
    weights, biases, _ = critical_point("gelu")
    assert critical_bias("gelu", weights * (1 - 1e-7)).item() == pytest.approx(biases, rel=1e-3)


def test_the_critical_line_of_erf_in_closed_form():
    """χ_⊥ = 1 is (1 + 2K)² - 4K² = (4σ_w²/π)², so K = ((4σ_w²/π)² - 1)/4."""
    weights = torch.tensor([0.8, 1.0, 2.0, 5.0], dtype=torch.float64)
    k = ((4 * weights / math.pi).square() - 1) / 4
    expected = k - weights * RECORDS["erf"].value(k, k, k)
    torch.testing.assert_close(critical_bias("erf", weights), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "erf", "silu", "sigmoid", F.selu])
@pytest.mark.parametrize("bias", [0.05, 0.5])
def test_deep_layers_are_at_the_fixed_point(activation, bias):
    """And they come there as exp(-l/ξ), of both."""
    weights = 2.5 if activation in ("tanh", "erf") else 0.8
    point = fixed_point(activation, weight_variance=weights, bias_variance=bias)
    depth = math.ceil(20 * max(point.depth_variance.item(), point.depth_correlation.item()))
    after = flow(
        activation,
        weight_variance=weights,
        bias_variance=bias,
        variance=point.variance * 1.1,
        correlation=point.correlation - 0.05,
        depth=depth,
    )
    assert after.variance[-1].item() == pytest.approx(point.variance.item(), rel=1e-7)
    assert after.correlation[-1].item() == pytest.approx(point.correlation.item(), abs=1e-7)


@pytest.mark.parametrize(("weights", "bias"), [(3.0, 0.1), (1.0, 0.2)], ids=["chaos", "order"])
def test_depth_scales_are_the_rates_of_the_flow(weights, bias):
    point = fixed_point("tanh", weight_variance=weights, bias_variance=bias)
    assert (point.correlation.item() < 1) == (weights == 3.0)
    small = 1e-5
    settings = {"weight_variance": weights, "bias_variance": bias, "depth": 1}
    after = flow(
        "tanh", variance=point.variance * (1 + small), correlation=point.correlation, **settings
    )
    factor = (after.variance[1] - point.variance) / (small * point.variance)
    assert factor.item() == pytest.approx(
        math.exp(-1 / point.depth_variance.item()), abs=10 * small
    )
    assert factor.item() == pytest.approx(point.chi_parallel.item(), abs=10 * small)
    after = flow("tanh", variance=point.variance, correlation=point.correlation - small, **settings)
    factor = (point.correlation - after.correlation[1]) / small
    expected = math.exp(-1 / point.depth_correlation.item())
    assert factor.item() == pytest.approx(expected, abs=10 * small)


def test_fixed_points_of_erf_satisfy_the_closed_form():
    weights = torch.tensor([1.5, 2.0, 4.0], dtype=torch.float64)
    point = fixed_point("erf", weight_variance=weights, bias_variance=0.1)
    k, c = point.variance, point.correlation
    erf = RECORDS["erf"].value
    torch.testing.assert_close(0.1 + weights * erf(k, k, k), k, rtol=1e-11, atol=0)
    torch.testing.assert_close(0.1 + weights * erf(k, k * c, k), k * c, rtol=1e-10, atol=0)
    slope = weights * RECORDS["erf"].slope(k, k * c, k)
    torch.testing.assert_close(-1 / slope.log(), point.depth_correlation, rtol=1e-8, atol=0)


def test_odd_activations_without_biases_forget_the_correlation_in_chaos():
    point = fixed_point("tanh", weight_variance=2.0, bias_variance=0.0)
    assert point.correlation.item() == pytest.approx(0, abs=1e-12)


def test_there_is_no_fixed_point_where_variance_grows_or_runs_to_zero():
    none = [("relu", 2.1, 0.1), ("relu", 1.9, 0.0), ("relu", 2.0, 0.0), ("tanh", 0.9, 0.0)]
    none += [("tanh", 1.0, 0.0), ("gelu", 2.5, 0.1), ("quadratic", 1.0, 1.0)]
    for activation, weights, bias in none:
        point = fixed_point(activation, weight_variance=weights, bias_variance=bias)
        assert all(bool(some.isnan()) for some in point), (activation, weights, bias)
    point = fixed_point("relu", weight_variance=1.5, bias_variance=0.1)
    assert point.variance.item() == pytest.approx(0.1 / (1 - 0.75), rel=1e-13)


def test_all_fixed_points_are_found_and_the_outer_ones_are_stable():
    """Beside its half-stable point gelu has three, of which the middle one is unstable."""
    points = fixed_points("gelu", weight_variance=1.99, bias_variance=0.16)
    k = points.variance
    assert k.shape == (3,)
    assert bool((k.diff() > 0).all())
    assert (points.chi_parallel < 1).tolist() == [True, False, True]
    one = fixed_point("gelu", weight_variance=1.99, bias_variance=0.16)
    assert one.variance.item() == k[0].item()
    starts = k[:, None] * torch.tensor([0.99, 1.01], dtype=torch.float64)
    after = flow(
        "gelu",
        weight_variance=1.99,
        bias_variance=0.16,
        variance=starts,
        correlation=1.0,
        depth=1,
    )
    nearer = (after.variance[1] - k[:, None]).abs() < (starts - k[:, None]).abs()
    assert nearer.tolist() == [[True, True], [False, False], [True, True]]


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "gelu", F.selu], ids=["tanh", "gelu", "selu"])
def test_a_phase_diagram_of_40000_points_takes_seconds(activation):
    weights = torch.linspace(0.1, 4, 200, dtype=torch.float64)[:, None]
    biases = torch.linspace(0, 1, 200, dtype=torch.float64)
    start = time.process_time()
    points = fixed_point(activation, weight_variance=weights, bias_variance=biases)
    assert time.process_time() - start < 15  # 3 on an idle core
    assert points.variance.shape == (200, 200)
    # The border of chaos within the diagram is the critical line.
    line = critical_bias(activation, weights)
    there = ~(points.variance.isnan() | line.isnan())
    if activation == "tanh":  # chaos ends where variance grows for the others
        assert torch.equal((points.correlation < 1)[there], (biases < line)[there])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_variance": 0.0, "bias_variance": 0.0}, "weight_variance is 0"),
        ({"weight_variance": 1.0, "bias_variance": -1.0}, "bias_variance is -1"),
        ({"weight_variance": math.inf, "bias_variance": 0.0}, "not finite"),
    ],
)
def test_bad_input_is_answered_in_a_line(settings, message):
    with pytest.raises(ValueError, match=message):
        fixed_point("tanh", **settings)
    with pytest.raises(ValueError, match="weight_variance is 0"):
        critical_bias("tanh", 0.0)
    with pytest.raises(ValueError, match="variance is 0"):
        chi_parallel("tanh", weight_variance=1.0, variance=0.0)
