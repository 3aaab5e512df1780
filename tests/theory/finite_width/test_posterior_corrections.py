"""The posterior to first order in 1/width, against exact posteriors and sampled ones."""

import math

import pytest
import torch
from torch import Tensor

from theory.activations.neurons import quasi_normals
from theory.activations.records import function_of
from theory.finite_width.posterior_corrections import deep_linear_corrections, shallow_corrections
from theory.finite_width.scale_mixture import hidden_covariance, linear_posterior
from theory.kernels.fully_connected import nngp
from theory.regression.exact import posterior

TRAIN, DIMENSION, RIDGE = 4, 3, 0.3


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(TRAIN + 2, DIMENSION, generator=generator, dtype=torch.float64)
    return x, x[:TRAIN, 0] + 0.5 * torch.sin(3 * x[:TRAIN, 1])


def linear(depth: int):
    x, y = data()
    variances = [*[1.3, 0.8, 1.1][:depth], 0.9]
    return deep_linear_corrections(x[:TRAIN], y, RIDGE, x_test=x[TRAIN:], weight_variance=variances)


def slope(exact, leading: Tensor, width: float) -> Tensor:
    """What multiplies 1/N, from an exact mean at N and 2N: without the next order."""
    one, two = ((exact(n) - leading) * n for n in (width, 2 * width))
    return 2 * two - one


def test_leading_order_is_regression():
    found, (_, y) = linear(2), data()
    kernel = found.kernel
    train = kernel[:TRAIN, :TRAIN]
    expected = posterior(train, kernel[:, :TRAIN], kernel.diagonal(), y, RIDGE)
    torch.testing.assert_close(found.output, expected.mean)


def test_two_layers_of_linear_networks_against_their_exact_posterior():
    found, (x, y) = linear(1), data()
    kernel, width = found.kernel, 2000.0
    train = kernel[:TRAIN, :TRAIN]

    def mean(n):
        return linear_posterior(train, kernel[:, :TRAIN], kernel.diagonal(), y, RIDGE, n).mean

    # The order after the next leaves c/N² of what multiplies 1/N.
    expected = slope(mean, found.output, width)
    torch.testing.assert_close(found.output_slope, expected, rtol=1e-3, atol=1e-4)

    def hidden(n):
        return 0.9 * x @ hidden_covariance(x[:TRAIN], y, RIDGE, n, (1.3, 0.9)) @ x.T

    expected = slope(hidden, kernel, width)
    torch.testing.assert_close(found.kernel_slope, expected, rtol=1e-3, atol=1e-4)


def test_the_order_fails_where_it_is_said_to():
    """Near the width at which it is as large as what it corrects; above, 1/N² is left."""
    found, (_, y) = linear(1), data()
    kernel = found.kernel
    train, scale = kernel[:TRAIN, :TRAIN], float(found.output.abs().max())

    def left(factor: float) -> float:
        width = factor * found.least_width
        exact = linear_posterior(train, kernel[:, :TRAIN], kernel.diagonal(), y, RIDGE, width)
        return float((found.at(width)[0] - exact.mean).abs().max()) / scale

    assert left(2) > 0.01
    assert left(16) < 0.01
    assert left(64) / left(128) == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("depth", [2, 3])
def test_deep_linear_networks_against_their_exact_posterior(depth):
    """Given s = Π_j χ²_N/N, which in its logarithm has known cumulants, k = s K."""
    found, (_, y) = linear(depth), data()
    kernel = found.kernel
    values, vectors = torch.linalg.eigh(kernel[:TRAIN, :TRAIN])
    turned, across = vectors.T @ y, kernel[:, :TRAIN] @ vectors

    def mean(width):
        # The density of Σ_j ln(χ²/N) by repeated convolution on a grid.
        spread = 12 * math.sqrt(2 / width)
        grid = torch.linspace(-spread, spread, 4001, dtype=torch.float64)
        one = torch.softmax(width / 2 * (grid - grid.exp()), 0)
        density, places = one, grid
        for _ in range(depth - 1):
            density = torch.nn.functional.conv1d(
                density[None, None], one.flip(0)[None, None], padding=len(one) - 1
            )[0, 0]
            places = torch.linspace(
                float(places[0] + grid[0]), float(places[-1] + grid[-1]), len(density)
            ).double()
        s = places.exp()[:, None]
        shifted = s * values + RIDGE
        evidence = -(turned.square() / shifted + shifted.log()).sum(1) / 2
        weight = torch.softmax(density.clamp_min(1e-300).log() + evidence, 0)
        return (weight[:, None] * (s / shifted * turned)).sum(0) @ across.T

    expected = slope(mean, found.output, 2000.0)
    torch.testing.assert_close(found.output_slope, expected, rtol=5e-3, atol=1e-3)


def test_a_neuron_drawn_and_by_wick():
    x, y = data()
    normals = quasi_normals(2**16, DIMENSION, 1)
    found = shallow_corrections(
        x[:TRAIN],
        y,
        RIDGE,
        normals,
        x_test=x[TRAIN:],
        activation="linear",
        weight_variance=(1.3, 0.9),
    )
    # Scrambled draws leave a hundredth of what as many independent ones would, √(96/draws) of it.
    for value, expected in zip(found, linear(1), strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(value, expected, rtol=0, atol=0.01 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_shallow_networks_against_sampled_ones(activation):
    """Networks from the prior, weighed by the evidence of the labels given their kernel."""
    x, y = data()
    variances, bias, width = (1.5, 1.2), 0.2, 40
    found = shallow_corrections(
        x[:TRAIN],
        y,
        RIDGE,
        quasi_normals(2**16, DIMENSION + 1, 1),
        x_test=x[TRAIN:],
        activation=activation,
        weight_variance=variances,
        bias_variance=bias,
    )
    exact = nngp(x, depth=1, activation=activation, weight_variance=variances, bias_variance=bias)
    torch.testing.assert_close(found.kernel, exact)
    one, two = (sampled(activation, variances, bias, n, seed=n) for n in (width, 2 * width))
    for place, (zero, first) in enumerate(
        ((found.output, found.output_slope), (exact, found.kernel_slope))
    ):
        slopes = [(one[place] - zero) * width, (two[place] - zero) * (2 * width)]
        mean = 2 * slopes[1].mean(0) - slopes[0].mean(0)
        errors = [slope.std(0) / math.sqrt(len(slope)) for slope in slopes]
        error = (4 * errors[1].square() + errors[0].square()).sqrt()
        # Without the next order, a few 1/N² are left.
        bound = 5 * error + 0.05 * first.abs().max()
        assert bool(((mean - first).abs() < bound).all())
        assert error.max() < 0.05 * first.abs().max()


def sampled(activation, variances, bias: float, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Posterior means of outputs and kernel at a width, (batch, ...), from networks of the prior
    weighed by the evidence of the labels given their kernels.

    Less what a batch's mean kernel, which is K, happens to add to leading order.
    """
    x, y = data()
    batches, networks = 40, 4000
    generator = torch.Generator().manual_seed(seed)
    scaled = x * (variances[0] / DIMENSION) ** 0.5
    inputs = torch.cat([scaled, torch.full((len(x), 1), bias**0.5)], 1)
    prior = nngp(x, depth=1, activation=activation, weight_variance=variances, bias_variance=bias)
    noise = RIDGE * torch.eye(TRAIN, dtype=torch.float64)
    gain = prior[:, :TRAIN] @ torch.linalg.inv(prior[:TRAIN, :TRAIN] + noise)
    first = torch.linalg.solve(prior[:TRAIN, :TRAIN] + noise, y)
    outputs, kernels = [], []
    for _ in range(batches):
        shape = (networks, width, DIMENSION + 1)
        weights = torch.randn(shape, generator=generator, dtype=torch.float64)
        phi = function_of(activation)(weights @ inputs.T)
        kernel = phi.mT @ phi * (variances[1] / width)
        ridge = kernel[:, :TRAIN, :TRAIN] + noise
        t = torch.linalg.solve(ridge, y.expand(networks, -1))
        evidence = torch.softmax(-(t @ y) / 2 - torch.logdet(ridge) / 2, 0)
        chance = kernel.mean(0) - prior
        moved = (chance[:, :TRAIN] - gain @ chance[:TRAIN, :TRAIN]) @ first
        outputs.append(evidence @ (kernel[:, :, :TRAIN] @ t[..., None])[..., 0] - moved)
        kernels.append(torch.tensordot(evidence, kernel, dims=1) - chance)
    return torch.stack(outputs), torch.stack(kernels)


REFUSED = {
    "ridge": ({"ridge": 0.0}, "ridge is 0.0"),
    "targets": ({"y": torch.ones(2)}, "inputs are"),
    "unknown targets": ({"y": torch.full((TRAIN,), math.nan)}, "not all finite"),
    "other test points": ({"x_test": torch.ones(2, DIMENSION + 1)}, "inputs are .* of one"),
    "normals": ({"normals": torch.ones(5, 9)}, "normals are"),
    "unknown normals": ({"normals": torch.full((5, DIMENSION), math.nan)}, "normals are not all"),
    "three layers": ({"weight_variance": (1.0, 1.0, 1.0)}, "give those of w and of a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_in_one_line(name):
    changes, message = REFUSED[name]
    x, y = data()
    settings = {"y": y[:TRAIN], "ridge": RIDGE, "normals": torch.ones(5, DIMENSION)}
    settings |= {"weight_variance": (1.0, 1.0)} | changes
    with pytest.raises(ValueError, match=message) as refusal:
        shallow_corrections(x[:TRAIN], activation="erf", **settings)
    assert "\n" not in str(refusal.value)
