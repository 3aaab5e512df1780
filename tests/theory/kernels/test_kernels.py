"""Kernels of infinite width: closed forms, quadrature, limits and networks of finite width."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from theory.activations.closed_forms import relu_derivative_expectation, relu_expectation
from theory.activations.expectations import Moment, derivative_moment, moment
from theory.activations.records import RECORDS
from theory.kernels.fully_connected import nngp, nngp_and_ntk, ntk, pre_activation_kernels

EPS = torch.finfo(torch.float64).eps
COVARIANCES = [(1.0, 0.5, 2.0), (0.3, -0.2, 0.4), (1.0, 0.99, 1.0), (2.0, 0.0, 0.1)]
FUNCTIONS = {
    "linear": lambda z: z,
    "erf": torch.erf,
    "relu": torch.relu,
    "sin": torch.sin,
    "quadratic": torch.square,
    "tanh": torch.tanh,
    "gelu": torch.nn.functional.gelu,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "silu": torch.nn.functional.silu,
}
ACTIVATIONS = list(FUNCTIONS)
SMOOTH = [name for name in ACTIVATIONS if name != "relu"]


def points(count: int, dimension: int = 5, seed: int = 0, dtype=torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=generator, dtype=dtype)


def settings(activation, depth: int = 3, bias: float = 0.1) -> dict:
    weights = [*[1.2, 0.9, 1.1][:depth], 0.7]
    return {
        "depth": depth,
        "activation": activation,
        "weight_variance": weights,
        "bias_variance": bias,
    }


def pair(moment_: Moment, k11: float, k12: float, k22: float) -> float:
    features = moment_.features(torch.tensor([k11, k22], dtype=torch.float64))
    covariance = torch.tensor([[k12]], dtype=torch.float64)
    return moment_.pairs(features[:1], covariance, features[1:]).item()


def gauss_hermite(function, k11: float, k12: float, k22: float) -> float:
    """E[g(u) g(v)] on a product of 180 x 180 nodes."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(180))
    weights = weights / weights.sum()
    u = math.sqrt(k11) * nodes[:, None]
    v = k12 / k11 * u + math.sqrt(k22 - k12**2 / k11) * nodes
    return (weights[:, None] * weights * function(u) * function(v)).sum().item()


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_expectations_are_gaussian_integrals(name, covariance):
    # 180 nodes resolve tanh, whose poles are nearest, to e^{-π √(360/2k)} at variance k: 1e-13.
    expected = gauss_hermite(FUNCTIONS[name], *covariance)
    assert pair(moment(name), *covariance) == pytest.approx(expected, rel=1e-8, abs=1e-11)
    slope = torch.func.vmap(torch.func.vmap(torch.func.grad(FUNCTIONS[name])))
    expected = gauss_hermite(lambda z: slope(z + 0 * z), *covariance)
    assert pair(derivative_moment(name), *covariance) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_relu_expectations_are_orthant_integrals(covariance):
    k11, k12, k22 = covariance
    spread = math.sqrt(k22 - k12**2 / k11)
    density = partial(stats.norm.pdf, scale=math.sqrt(k11))

    def positive(u: float) -> float:
        """p(u) P(v > 0 | u)."""
        return float(density(u) * stats.norm.cdf(k12 / k11 * u / spread))

    def product(u: float) -> float:
        """p(u) u E[relu(v) | u]."""
        mean = k12 / k11 * u
        tail = float(spread * stats.norm.pdf(mean / spread) * density(u))
        return u * (mean * positive(u) + tail)

    for integrand, value in ((product, moment("relu")), (positive, derivative_moment("relu"))):
        expected, error = integrate.quad(integrand, 0, 12 * math.sqrt(k11), epsabs=1e-13)
        assert error < 1e-8
        assert pair(value, *covariance) == pytest.approx(expected, abs=error)


@pytest.mark.parametrize("name", ["linear", "erf", "sin", "quadratic"])
@pytest.mark.parametrize("covariance", [*COVARIANCES, (1.0, 1.0, 1.0), (1.0, -1.0, 1.0)])
def test_series_agree_with_closed_forms(name, covariance):
    # At k = 2 the weight of erf' beyond order 512 is about 1e-10 of the whole.
    function = FUNCTIONS[name]
    for series, closed in (
        (moment(function), moment(name)),
        (derivative_moment(function), derivative_moment(name)),
    ):
        expected = pair(closed, *covariance)
        assert pair(series, *covariance) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("correlation", [-1.0, -0.5, 0.0, 0.5, 0.9, 0.999, 1.0])
def test_series_of_a_function_with_a_kink(correlation):
    covariance = (1.5, 1.5 * correlation, 1.5)
    # The trapezoidal rule errs by h²/24 at a kink, h = √1.5/20; order 512 misses far less.
    expected = pair(moment("relu"), *covariance)
    assert pair(moment(torch.relu), *covariance) == pytest.approx(expected, abs=1e-4)


def test_functions_of_a_parity_need_half_of_the_orders():
    assert moment("tanh").features(torch.ones(1)).shape[1] < 40
    assert pair(moment("tanh"), 1.0, 0.3, 1.0) == -pair(moment("tanh"), 1.0, -0.3, 1.0)
    assert pair(moment(torch.cosh), 0.5, 0.3, 0.5) == pair(moment(torch.cosh), 0.5, -0.3, 0.5)


@pytest.mark.parametrize("formula", [relu_expectation, relu_derivative_expectation])
def test_relu_is_exact_for_points_that_coincide_or_oppose(formula):
    variance = torch.tensor([0.1, 1 / 3, 7.7], dtype=torch.float64)
    value = (
        torch.ones(3, dtype=torch.float64) if formula is relu_derivative_expectation else variance
    )
    assert torch.equal(formula(variance, variance, variance), value / 2)
    assert torch.equal(formula(variance, -variance, variance), 0 * value)


@pytest.mark.parametrize("kernel", [nngp, ntk])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, torch.sigmoid])
def test_symmetry_positivity_and_agreement_of_cross_kernels(kernel, activation):
    x = points(40)
    whole = kernel(x, **settings(activation))
    assert torch.equal(whole, whole.T)
    spectrum = torch.linalg.eigvalsh(whole)
    assert spectrum[0] >= -len(x) * EPS * spectrum[-1]
    cross = kernel(x, x[:7], **settings(activation))
    # Coinciding points meet with angles of √ε through relu, else to rounding.
    torch.testing.assert_close(
        cross, whole[:, :7], rtol=1e-7 if activation == "relu" else 1e-12, atol=1e-12
    )


@pytest.mark.parametrize("kernel", [nngp, ntk])
@pytest.mark.parametrize("activation", ["erf", "relu", "gelu"])
def test_tiles_do_not_matter(kernel, activation):
    x, other = points(30), points(11, seed=1)
    for second in (None, other):
        whole = kernel(x, second, **settings(activation))
        tiled = kernel(x, second, **settings(activation), tile=7)
        torch.testing.assert_close(tiled, whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_linear_networks_multiply_variances(depth):
    x = points(10)
    arguments = settings("linear", depth, bias=0.0)
    product = math.prod(arguments["weight_variance"]) / x.shape[1]
    torch.testing.assert_close(nngp(x, **arguments), product * x @ x.T, rtol=1e-13, atol=1e-13)
    tangent = (depth + 1) * product * x @ x.T
    torch.testing.assert_close(ntk(x, **arguments), tangent, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_relu_networks_keep_the_norm_at_variance_two(depth):
    x = points(10)
    arguments = {"depth": depth, "activation": "relu", "bias_variance": 0.0}
    arguments["weight_variance"] = [2.0] * (depth + 1)
    norm = 2 * x.square().mean(1)
    torch.testing.assert_close(nngp(x, **arguments).diagonal(), norm, rtol=1e-13, atol=0)
    torch.testing.assert_close(
        ntk(x, **arguments).diagonal(), (depth + 1) * norm, rtol=1e-13, atol=0
    )


def test_layers_follow_the_recursion():
    x, other = points(6), points(4, seed=1)
    arguments = settings("erf")
    weights, bias = arguments["weight_variance"], arguments["bias_variance"]
    layers = pre_activation_kernels(x, other, **arguments)
    own, others = (pre_activation_kernels(z, **arguments) for z in (x, other))
    assert len(layers) == 3
    torch.testing.assert_close(layers[0], bias + weights[0] * x @ other.T / 5)
    following = [*layers[1:], nngp(x, other, **arguments)]
    for layer, kernel in enumerate(following, start=1):
        expectation = RECORDS["erf"].value(
            own[layer - 1].diagonal()[:, None], layers[layer - 1], others[layer - 1].diagonal()
        )
        offset = bias if layer < 3 else 0.0
        torch.testing.assert_close(kernel, offset + weights[layer] * expectation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_layer_may_have_a_bias_of_its_own(activation):
    """Random networks of two hidden layers whose biases differ, by the kernels between them."""
    x = points(6)
    weights, biases = [1.2, 0.7, 1.0], [0.3, 0.05]
    arguments = {"depth": 2, "activation": activation, "weight_variance": weights}
    first, second = pre_activation_kernels(x, **arguments, bias_variance=biases)
    torch.testing.assert_close(first, 0.3 + 1.2 * x @ x.T / 5)
    alone = {"depth": 1, "activation": activation, "weight_variance": weights[:2]}
    hidden = nngp(x, **alone, bias_variance=0.3)  # without a bias, as a readout
    torch.testing.assert_close(second, 0.05 + hidden)
    same = nngp(x, **arguments, bias_variance=[0.3, 0.3])
    torch.testing.assert_close(same, nngp(x, **arguments, bias_variance=0.3), rtol=0, atol=0)
    with pytest.raises(ValueError, match="1 bias variances for 2 hidden layers; give one for each"):
        nngp(x, **arguments, bias_variance=[0.3])


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_tangent_kernel_is_the_response_to_decorrelated_parameters(activation, depth):
    """Θ = dK_ρ/dρ at ρ = 1, the two networks' parameters being correlated by ρ. Price (1958)."""
    x = points(6)
    arguments = settings(activation, depth)
    weights, bias = arguments["weight_variance"], arguments["bias_variance"]
    variances = [k.diagonal() for k in pre_activation_kernels(x, **arguments)]
    value = moment(activation)
    features = [value.features(variance) for variance in variances]

    def decorrelated(rho: float) -> Tensor:
        kernel = rho * (bias + weights[0] * x @ x.T / 5)
        for layer, known in enumerate(features, start=1):
            offset = bias if layer < depth else 0.0
            kernel = rho * (offset + weights[layer] * value.pairs(known, kernel, known))
        return kernel

    # Off the diagonal, where relu is analytic, the difference errs by h⁴ and rounding by ε/h.
    step = 1e-3
    response = (
        8 * (decorrelated(1 + step) - decorrelated(1 - step))
        - (decorrelated(1 + 2 * step) - decorrelated(1 - 2 * step))
    ) / (12 * step)
    apart = ~torch.eye(6, dtype=torch.bool)
    expected = ntk(x, **arguments)[apart]
    torch.testing.assert_close(response[apart], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize("dimension", [20, 784])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.slow
def test_single_precision(activation, dimension, bias):
    x = points(60, dimension, dtype=torch.float32)
    # Near copies and opposites too, where the angle has a singularity.
    near = x[:20] + 1e-4 * points(20, dimension, 1, torch.float32)
    x = torch.cat([x, x[:20] * 1.3, -x[:20], near])
    arguments = settings(activation, bias=bias)
    for single, double in zip(
        *(nngp_and_ntk(z, **arguments) for z in (x, x.double())), strict=True
    ):
        assert single.dtype == torch.float32
        scale = double.diagonal().sqrt()
        error = ((single - double) / torch.outer(scale, scale)).abs().max()
        assert error < 2e-6


def test_single_precision_where_all_angles_are_narrow():
    x = points(1, 50, dtype=torch.float32) + 1e-3 * points(40, 50, 1, torch.float32)
    for first, second in ((x, None), (x[:30], x[20:])):
        for single, double in zip(
            *(
                nngp_and_ntk(z, other, **settings("relu"))
                for z, other in (
                    (first, second),
                    (first.double(), None if second is None else second.double()),
                )
            ),
            strict=True,
        ):
            torch.testing.assert_close(single.double(), double, rtol=2e-6, atol=0)


@pytest.mark.parametrize("activation", ["erf", "relu", "tanh"])
def test_both_kernels_at_once_are_each_by_itself(activation):
    x, other = points(30), points(11, seed=1)
    for second in (None, other):
        both = nngp_and_ntk(x, second, **settings(activation), tile=8)
        assert torch.equal(both.nngp, nngp(x, second, **settings(activation), tile=8))
        assert torch.equal(both.ntk, ntk(x, second, **settings(activation), tile=8))


def test_a_kernel_is_written_where_it_is_wanted():
    x = points(30)
    out = torch.full((30, 30), math.nan, dtype=torch.float64)
    assert nngp(x, **settings("erf"), out=out) is out
    assert torch.equal(out, nngp(x, **settings("erf")))


def test_relu_after_a_bias_keeps_small_angles():
    """In the next layer the angle of near points, of unequal norm, is that of double precision."""
    x = points(12, 8, dtype=torch.float32)
    x = torch.cat([x, x * (1 + 1e-3) + 1e-3 * points(12, 8, 1, torch.float32)])
    double = ntk(x.double(), **settings("relu", bias=0.5))
    exact = ntk(x.double(), **settings(torch.relu, bias=0.5))
    # The series puts what is left beyond its orders on one more; see its own test.
    torch.testing.assert_close(double, exact, rtol=2e-2, atol=0)
    torch.testing.assert_close(
        ntk(x, **settings("relu", bias=0.5)).double(), double, rtol=2e-6, atol=0
    )


def sampled(value: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the first axis and its standard error."""
    return value.mean(0), value.std(0) / math.sqrt(len(value))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks_of_width_three(activation):
    """The mean of f f' over one-hidden-layer networks is the kernel at every width."""
    x, width, networks = points(3), 3, 40_000
    generator = torch.Generator().manual_seed(1)
    weights, bias = [1.2, 0.7], 0.1

    def normal(*shape: int) -> Tensor:
        return torch.randn(networks, *shape, generator=generator, dtype=torch.float64)

    hidden = normal(width, 5) @ x.T * math.sqrt(weights[0] / 5) + math.sqrt(bias) * normal(width, 1)
    readout = normal(1, width) * math.sqrt(weights[1] / width)
    output = (readout @ FUNCTIONS[activation](hidden)).squeeze(1)
    mean, error = sampled(output[:, :, None] * output[:, None, :])
    kernel = nngp(x, depth=1, activation=activation, weight_variance=weights, bias_variance=bias)
    assert ((mean - kernel).abs() < 5 * error).all()


@pytest.mark.parametrize("activation", ["erf", "relu", "tanh", "quadratic"])
def test_gradients_of_networks_of_width_three(activation):
    """The mean of Σ ∂f ∂f' over one-hidden-layer networks is the NTK at every width."""
    x, width, networks = points(3), 3, 10_000
    generator = torch.Generator().manual_seed(2)
    weights, bias = [1.2, 0.7], 0.1
    shapes = [(width, 5), (width,), (width,)]
    parameters = [
        torch.randn(networks, *shape, generator=generator, dtype=torch.float64) for shape in shapes
    ]

    def output(parameters: list[Tensor]) -> Tensor:
        w, b, a = parameters
        hidden = x @ w.T * math.sqrt(weights[0] / 5) + math.sqrt(bias) * b
        return FUNCTIONS[activation](hidden) @ a * math.sqrt(weights[1] / width)

    gradients = torch.func.vmap(torch.func.jacrev(output))(parameters)
    flat = torch.cat([g.reshape(networks, len(x), -1) for g in gradients], dim=2)
    mean, error = sampled(flat @ flat.transpose(1, 2))
    kernel = ntk(x, depth=1, activation=activation, weight_variance=weights, bias_variance=bias)
    assert ((mean - kernel).abs() < 5 * error).all()


def test_zero_input_without_bias_has_no_output():
    x = torch.cat([torch.zeros(1, 5, dtype=torch.float64), points(3)])
    for activation in ("erf", "relu", "tanh"):
        kernel = nngp(x, **settings(activation, bias=0.0))
        assert torch.equal(kernel[0], torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"weight_variance": [1.0, 1.0]}, "2 weight variances for 3 hidden layers"),
        ({"weight_variance": [1.0, 1.0, -1.0, 1.0]}, "none negative"),
        ({"bias_variance": math.nan}, "finite"),
        ({"activation": "softsign"}, "activation is 'softsign'; take one of linear, erf"),
        ({"tile": 0}, "tile is 0"),
        ({"x1": torch.ones(3)}, r"inputs are \(3,\)"),
        ({"x1": torch.ones(3, 5, dtype=torch.int64)}, "int64"),
        ({"x2": torch.ones(3, 4, dtype=torch.float64)}, "second inputs"),
    ],
)
def test_what_a_user_can_get_wrong(change, message):
    arguments = {"x1": points(3), **settings("erf"), **change}
    with pytest.raises(ValueError, match=message):
        nngp(**arguments)
