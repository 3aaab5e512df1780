"""How variance and correlation go through the layers of an infinite random network."""

import math
from itertools import pairwise

import pytest
import torch
from scipy import integrate, stats

from theory.activations.expectations import moment
from theory.activations.records import RECORDS
from theory.signal import flow
from theory.signal.elementwise import Shape
from theory.signal.gaussian import moments
from theory.signal.propagation import Expectations, expectations_of

torch.set_num_threads(1)

CORRELATIONS = torch.tensor([-1, -0.97, -0.4, 0, 0.3, 0.9, 0.999, 1 - 1e-7, 1]).double()
VARIANCES = torch.tensor([1e-6, 0.05, 0.7, 4.0, 60.0]).double()


def expectation(activation, variance, correlation):
    """E[φ(u)φ(v)] as the flow has it: the next K c of σ_w² = 1 and no bias."""
    after = flow(
        activation,
        weight_variance=1.0,
        bias_variance=0.0,
        variance=variance,
        correlation=correlation,
        depth=1,
    )
    return after.variance[1] * after.correlation[1]


@pytest.mark.parametrize("activation", ["linear", "erf", "relu", "sin", "quadratic"])
def test_one_layer_is_the_closed_form(activation):
    variance = VARIANCES[:, None].expand(-1, len(CORRELATIONS))
    expected = RECORDS[activation].value(variance, variance * CORRELATIONS, variance)
    found = expectation(activation, variance, CORRELATIONS)
    scale = RECORDS[activation].value(variance, variance, variance)
    assert float(((found - expected) / scale).abs().max()) < 1e-10


@pytest.mark.parametrize("activation", ["tanh", "gelu", "silu", "sigmoid", "softplus"])
def test_one_layer_is_the_hermite_series(activation):
    """Another route to the same number, whose own error is 1e-9."""
    series = moment(activation)
    for k in (0.05, 0.7, 4.0):
        variance = torch.full_like(CORRELATIONS, k)
        features = series.features(variance[:1])
        expected = series.pairs(features, k * CORRELATIONS[None], features.expand(9, -1))[0]
        found = expectation(activation, k, CORRELATIONS)
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-8


def above(x, mean, deviation):
    """E[max(0, v - x)] of a Gaussian v."""
    z = (mean - x) / deviation
    return (mean - x) * stats.norm.cdf(z) + deviation * stats.norm.pdf(z)


def mean_hardtanh(mean, deviation):
    return -1 + above(-1, mean, deviation) - above(1, mean, deviation)


def mean_selu(mean, deviation):
    """λ E[v; v > 0] + λα E[e^v - 1; v < 0]."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    shifted = math.exp(mean + deviation**2 / 2) * stats.norm.cdf(-mean / deviation - deviation)
    below = shifted - stats.norm.cdf(-mean / deviation)
    return scale * (above(0, mean, deviation) + alpha * below)


def mean_beyond(mean, deviation):
    return above(2, mean, deviation)


KINKED = {
    "relu(u - 2)": (lambda u: torch.relu(u - 2), mean_beyond, (2,)),
    "hardtanh": (torch.nn.functional.hardtanh, mean_hardtanh, (-1, 1)),
    "selu": (torch.nn.functional.selu, mean_selu, (0,)),
}


@pytest.mark.parametrize("name", KINKED)
@pytest.mark.parametrize("k", [0.2, 10.0])
@pytest.mark.parametrize("c", [-0.9, 0.9999])
def test_kinked_activations_without_a_closed_form(name, k, c):
    """Over v given u in closed form, over u by adaptive quadrature between the kinks."""
    activation, mean, kinks = KINKED[name]

    def inner(z):
        u = math.sqrt(k) * z
        value = float(activation(torch.tensor(u, dtype=torch.float64)))
        return value * mean(c * u, math.sqrt(k * (1 - c * c))) * stats.norm.pdf(z)

    cuts = [x / math.sqrt(k) for kink in kinks for x in (kink, kink / c)]
    ends = sorted({x for x in [-12, *cuts, 12] if abs(x) <= 12})
    expected = sum(integrate.quad(inner, a, b, epsabs=1e-12)[0] for a, b in pairwise(ends))
    found = expectation(activation, k, c)
    assert found.item() == pytest.approx(expected, abs=1e-6 * k)


@pytest.mark.parametrize("k", [0.01, 1.0, 30.0])
def test_quadrature_of_rays_is_their_closed_form(k):
    """The general path for kinks, on relu whose formula it would otherwise take."""
    expectations, table = expectations_of("relu"), Expectations(bent_relu())
    distance = 1 - CORRELATIONS[:-1]
    variance = torch.full_like(distance, k)
    exact, found = (x.chords(variance) for x in (expectations, table))
    assert float((found.slope(distance) / exact.slope(distance) - 1).abs().max()) < 1e-6
    near = distance[distance <= 1]
    variance = variance[: len(near)]
    exact, found = (x.chords(variance) for x in (expectations, table))
    assert float((found.derivative(near) - exact.derivative(near)).abs().max()) < 1e-6
    for one, other in zip(table.moments(variance), expectations.moments(variance), strict=True):
        assert float((one / other - 1).abs().max()) < 1e-12


def bent_relu():
    shape = Shape.of("relu")
    return Shape(shape.name, shape.value, shape.slope, shape.kinks, shape.bends, None)


def test_kinks_are_found_where_they_are():
    F = torch.nn.functional
    assert Shape.of(F.relu6).kinks == pytest.approx((0, 6), abs=1e-12)
    assert Shape.of(F.hardswish).bends == pytest.approx((-0.5, -0.5), abs=1e-9)
    assert Shape.of(F.elu).kinks == (0,)  # of φ'' alone
    assert Shape.of(F.elu).bends == pytest.approx((0,), abs=1e-9)
    for smooth in ("erf", "tanh", "gelu", "silu", "sigmoid", "softplus", "sin", "quadratic"):
        assert Shape.of(smooth).kinks == ()


@pytest.mark.parametrize("activation", ["erf", "tanh", "silu", torch.nn.functional.selu])
def test_the_slope_of_the_second_moment_is_its_derivative(activation):
    k, h = VARIANCES, 1e-3
    below, above = (
        [moments(Shape.of(activation), k * (1 + sign * n * h)).second for n in (1, 2)]
        for sign in (-1, 1)
    )
    # Of the fourth order: its error is about h⁴/30 of the fifth derivative, and rounding ε/h.
    expected = (8 * (above[0] - below[0]) - (above[1] - below[1])) / (12 * h * k)
    found = moments(Shape.of(activation), k).second_slope
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_critical_relu_decorrelates_as_the_inverse_square_of_depth():
    """1 - c_l → (9π²/2)/l². Corrections are of order ln(l)/l."""
    depth = 2000
    found = flow(
        "relu", weight_variance=2.0, bias_variance=0.0, variance=1.0, correlation=0.0, depth=depth
    )
    limit = 9 * math.pi**2 / 2
    scaled = [(1 - found.correlation[n].item()) * n * n for n in (depth // 2, depth)]
    assert scaled[0] < scaled[1] < limit
    assert scaled[1] == pytest.approx(limit, rel=math.log(depth) * 5 / depth)


@pytest.mark.parametrize("slope", [0.01, 0.3])
def test_critical_leaky_relu_decorrelates_more_slowly(slope):
    """By ((1 + a²)/(1 - a)²)², from the expansion of the closed form about c = 1."""
    depth = 2000

    def leaky(u):
        return torch.nn.functional.leaky_relu(u, slope)

    found = flow(
        leaky,
        weight_variance=2 / (1 + slope**2),
        bias_variance=0.0,
        variance=1.0,
        correlation=0.5,
        depth=depth,
    )
    limit = 9 * math.pi**2 / 2 * ((1 + slope**2) / (1 - slope) ** 2) ** 2
    scaled = (1 - found.correlation[-1].item()) * depth**2
    assert scaled == pytest.approx(limit, rel=math.log(depth) * 20 / depth)


@pytest.mark.parametrize(("activation", "critical"), [("tanh", 1.0), ("erf", math.pi / 4)])
def test_critical_variance_falls_as_the_inverse_of_depth(activation, critical):
    """K_l → 1/(2l) for both; corrections are of order ln(l)/l."""
    depth = 400
    found = flow(
        activation,
        weight_variance=critical,
        bias_variance=0.0,
        variance=0.5,
        correlation=0.5,
        depth=depth,
    )
    assert 2 * depth * found.variance[-1].item() == pytest.approx(
        1, abs=3 * math.log(depth) / depth
    )


def test_on_the_semi_critical_line_of_relu_variance_grows_linearly():
    found = flow(
        "relu", weight_variance=2.0, bias_variance=0.3, variance=0.7, correlation=0.2, depth=50
    )
    expected = 0.7 + 0.3 * torch.arange(51, dtype=torch.float64)
    torch.testing.assert_close(found.variance, expected, rtol=1e-14, atol=0)


def test_arguments_broadcast_and_layer_0_is_the_inputs():
    weights, biases = torch.tensor([1.0, 2.0])[:, None], torch.tensor([0.0, 0.1, 0.2])
    found = flow(
        "erf", weight_variance=weights, bias_variance=biases, variance=1.5, correlation=0.4, depth=3
    )
    assert found.variance.shape == found.correlation.shape == (4, 2, 3)
    assert found.variance.dtype == torch.float64
    assert bool((found.variance[0] == 1.5).all() and (found.correlation[0] == 0.4).all())
    alone = flow(
        "erf", weight_variance=2.0, bias_variance=0.1, variance=1.5, correlation=0.4, depth=3
    )
    torch.testing.assert_close(found.correlation[:, 1, 1], alone.correlation, rtol=1e-6, atol=0)


def test_equal_inputs_stay_equal():
    for activation in ("relu", "tanh", "silu"):
        found = flow(
            activation,
            weight_variance=3.0,
            bias_variance=0.1,
            variance=1.0,
            correlation=1.0,
            depth=9,
        )
        assert bool((found.correlation == 1).all())


GOOD = {
    "weight_variance": 1.0,
    "bias_variance": 0.1,
    "variance": 1.0,
    "correlation": 0.5,
    "depth": 3,
}
BAD = [
    ({"variance": 0.0}, "variance is 0; give positive"),
    ({"variance": -1.0}, "variance is -1; give positive"),
    ({"variance": math.nan}, "variance has elements that are not finite"),
    ({"weight_variance": 0.0}, "weight_variance is 0; give positive"),
    ({"bias_variance": -0.1}, "bias_variance is -0.1; give numbers from 0 on"),
    ({"correlation": 1.1}, "correlation is 1.1; give -1 to 1"),
    ({"depth": 0}, "depth is 0; give a number of layers"),
    ({"depth": 2.0}, "depth is 2.0; give a number of layers"),
    ({"activation": "swoosh"}, "activation is 'swoosh'; take one of"),
    ({"activation": torch.sign}, "activation sign jumps at"),
    ({"activation": torch.log}, "activation log is not finite between -1 and 1"),
    ({"activation": torch.zeros_like}, "activation zeros_like is zero"),
    ({"activation": torch.sum}, "activation sum is not elementwise"),
    ({"activation": torch.exp, "variance": 400.0}, "a variance is 400, and expectations are known"),
    ({"activation": "sin", "variance": 1e5}, "a variance is 1e\\+05, and expectations are known"),
    ({"activation": "quadratic", "weight_variance": 9.0, "depth": 20}, "a variance is"),
    ({"activation": "relu", "weight_variance": 1e200, "depth": 5}, "leaves what float64 holds"),
    ({"variance": torch.ones(2), "correlation": torch.zeros(3)}, "shapes do not broadcast"),
    ({"activation": torch.ones_like}, "activation ones_like is constant, or not differentiated"),
    ({"activation": torch.detach}, "activation detach is constant, or not differentiated"),
    ({"weight_variance": "two"}, "weight_variance is 'two'; give a number"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input_is_answered_in_a_line(change, message):
    settings = {**GOOD, **change}
    activation = settings.pop("activation", "tanh")
    with pytest.raises(ValueError, match=message) as caught:
        flow(activation, **settings)
    assert "\n" not in str(caught.value)
