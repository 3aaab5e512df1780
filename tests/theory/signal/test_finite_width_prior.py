"""Priors of networks at finite width: at order 1/N, and exactly for linear and relu."""

import math

import pytest
import scipy.special
import torch

from theory.signal import prior_density, prior_moments, width_corrections
from theory.signal.propagation import expectations_of

torch.set_num_threads(1)

FUNCTIONS = {
    "relu": torch.relu,
    "linear": lambda z: z,
    "erf": torch.erf,
    "silu": torch.nn.functional.silu,
    "sigmoid": torch.sigmoid,
}


def standard_error(values):
    return values.std().item() / math.sqrt(len(values))


def chains(activation, width, networks, depth, *, weights, bias, variance, seed):
    """Kernels (layer, network), and what is left of them without their linear innovations.

    Given the layer before, neurons are independent and Gaussian, so that networks need no weight
    matrices. E[k_{l+1} | k_l] is known, and so the sum of what k_{l+1} departs from it, each passed
    on linearly, has the mean 0 and takes the noise of order N^(-1/2) off the mean of k.
    """
    generator = torch.Generator().manual_seed(seed)
    phi, moments = FUNCTIONS[activation], expectations_of(activation).moments
    k = torch.full((networks,), variance, dtype=torch.float64)
    limit, noise = k[:1], torch.zeros_like(k)
    kernels, quiet = [k], [k]
    for _ in range(depth):
        z = torch.randn(networks, width, generator=generator, dtype=torch.float64)
        expected = bias + weights * moments(k).second
        chi = weights * moments(limit).second_slope
        limit = bias + weights * moments(limit).second
        k = bias + weights * phi(k.sqrt()[:, None] * z).square().mean(1)
        noise = chi * noise + k - expected
        kernels.append(k)
        quiet.append(k - noise - limit)
    return torch.stack(kernels), torch.stack(quiet)


@pytest.mark.parametrize("activation", ["erf", "silu", "sigmoid"])
def test_mean_and_fluctuation_of_kernels_at_order_one_over_width(activation):
    """Of random networks of two widths, from which the order 1/N² is extrapolated away."""
    settings = {"weights": 2.5, "bias": 0.1, "variance": 1.3}
    depth, networks = 3, 60_000
    theory = width_corrections(
        activation, weight_variance=2.5, bias_variance=0.1, variance=1.3, depth=depth
    )
    narrow, wide = (
        chains(activation, width, networks, depth, seed=width, **settings) for width in (24, 48)
    )
    for layer in range(1, depth + 1):
        for expected, of, pick in (
            (theory.fluctuation, lambda k, m=layer: (k[m] - k[m].mean()).square(), 0),
            (theory.mean, lambda k, m=layer: k[m], 1),
        ):
            few, many = 24 * of(narrow[pick]), 48 * of(wide[pick])
            found = 2 * many.mean().item() - few.mean().item()
            error = math.hypot(2 * standard_error(many), standard_error(few))
            # What is left is of order 1/(24 · 48) of the size of the terms.
            size = few.abs().mean().item()
            assert abs(found - expected[layer].item()) <= 5 * error + 5 * size / (24 * 48)


@pytest.mark.parametrize(("activation", "c"), [("relu", 5), ("linear", 2)])
def test_kurtosis_of_critical_networks_is_a_power_of_the_width(activation, c):
    """3 ((1 + c/N)^l - 1), of which the corrections are the first order."""
    weights = {"relu": 2.0, "linear": 1.0}[activation]
    exact = prior_moments(
        activation, weight_variance=weights, bias_variance=0.0, variance=1.7, widths=[100] * 5
    )
    power = (1 + c / 100) ** torch.arange(6, dtype=torch.float64)
    torch.testing.assert_close(exact.excess_kurtosis, 3 * (power - 1), rtol=1e-12, atol=1e-15)
    first = width_corrections(
        activation, weight_variance=weights, bias_variance=0.0, variance=1.7, depth=5
    )
    expected = 3 * c * torch.arange(6, dtype=torch.float64)
    torch.testing.assert_close(first.excess_kurtosis, expected, rtol=1e-12, atol=0)
    assert bool((first.mean == 0).all())


@pytest.mark.parametrize("activation", ["relu", "linear", torch.nn.functional.leaky_relu])
def test_corrections_are_the_first_order_of_the_exact_moments(activation):
    """With biases; the mean of the kernel is that of infinite width at any width."""
    settings = {"weight_variance": 1.6, "bias_variance": 0.2, "variance": 0.9}
    first = width_corrections(activation, depth=4, **settings)
    width = 10**6
    exact = prior_moments(activation, widths=[width] * 4, **settings)
    torch.testing.assert_close(exact.mean, first.variance, rtol=1e-13, atol=0)
    torch.testing.assert_close(width * exact.variance, first.fluctuation, rtol=1e-4, atol=0)


@pytest.mark.parametrize("activation", ["erf", "silu", "sigmoid", torch.nn.functional.elu])
def test_corrections_need_the_curvature_of_the_second_moment(activation):
    """G_2 = (σ_w²/2) V_1 d²E[φ²]/dK², the derivative by differences of the first."""
    k, h = 1.3, 1e-3
    theory = width_corrections(
        activation, weight_variance=2.0, bias_variance=0.0, variance=k, depth=2
    )
    moments = expectations_of(activation).moments
    at = theory.variance[1] * (1 + h * torch.tensor([-2, -1, 1, 2], dtype=torch.float64))
    far, near, after, beyond = moments(at).second_slope
    curvature = (8 * (after - near) - (beyond - far)) / (12 * h * theory.variance[1])
    assert theory.mean[2].item() == pytest.approx(
        (theory.fluctuation[1] * curvature).item(), rel=1e-8
    )


def networks_of(activation, widths, count, *, weights, bias, variance, seed):
    """Pre-activations after the last hidden layer of random networks with all their weights."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    field = math.sqrt(variance) * normal(count, widths[0], 1)
    for width, following in zip(widths, [*widths[1:], 1], strict=True):
        matrix = math.sqrt(weights / width) * normal(count, following, width)
        field = matrix @ FUNCTIONS[activation](field)
        field = field + math.sqrt(bias) * normal(count, following, 1)
    return field[:, 0, 0]


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_exact_moments_are_those_of_random_networks(activation, bias):
    widths, settings = [9, 6], {"weights": 1.5, "bias": bias, "variance": 0.8}
    z = networks_of(activation, widths, 60_000, seed=3, **settings)
    exact = prior_moments(
        activation, weight_variance=1.5, bias_variance=bias, variance=0.8, widths=widths
    )
    mean, fourth = exact.mean[-1].item(), (exact.variance + exact.mean**2)[-1].item() * 3
    assert abs(z.square().mean().item() - mean) < 5 * standard_error(z.square())
    assert abs((z**4).mean().item() - fourth) < 5 * standard_error(z**4)


@pytest.mark.parametrize(
    ("activation", "widths"), [("linear", [2, 3]), ("relu", [4, 5]), ("relu", [50])]
)
def test_density_is_the_histogram_of_random_networks(activation, widths):
    count = 40_000
    z = networks_of(activation, widths, count, weights=1.5, bias=0.0, variance=0.8, seed=4).abs()
    edges = torch.linspace(-2, 1, 13, dtype=torch.float64).exp()
    # In ln z the density is smooth, and 64 trapezoids a bin integrate it to 1e-6.
    fine = torch.linspace(-2, 1, 12 * 64 + 1, dtype=torch.float64).exp()
    of_log = (
        2 * fine * prior_density(activation, fine, weight_variance=1.5, variance=0.8, widths=widths)
    )
    steps = (of_log[1:] + of_log[:-1]) / 2 * fine.log().diff()
    expected = steps.reshape(12, 64).sum(1)
    found = torch.histogram(z, edges).hist / count
    error = (expected * (1 - expected) / count).sqrt()
    assert float(((found - expected) / error).abs().max()) < 5
    dead = (z == 0).double().mean().item()
    wanted = 1 - math.prod(1 - 2.0**-width for width in widths) if activation == "relu" else 0
    assert dead == pytest.approx(wanted, abs=5 * math.sqrt(max(wanted, 1e-12) / count))


def test_density_of_one_linear_neuron_is_a_bessel_function():
    """The product of two normals has the density K_0(|z|)/π."""
    z = torch.tensor([1e-3, -0.1, 1.0, 5.0], dtype=torch.float64)
    found = prior_density("linear", z, weight_variance=1.0, variance=1.0, widths=[1])
    expected = torch.from_numpy(scipy.special.k0(z.abs().numpy())) / math.pi
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize(("activation", "widths"), [("linear", [8, 9]), ("relu", [9, 8, 9])])
def test_density_has_the_exact_moments(activation, widths):
    settings = {"weight_variance": 1.7, "variance": 0.8}
    # Beyond z = 90 the law is over, and z⁴ would magnify the rounding.
    y = torch.linspace(-30, 4.5, 8001, dtype=torch.float64)
    z = y.exp()
    weight = 2 * z * prior_density(activation, z, widths=widths, **settings) * (y[1] - y[0])
    exact = prior_moments(activation, bias_variance=0.0, widths=widths, **settings)
    second = (weight * z**2).sum()
    assert second.item() == pytest.approx(exact.mean[-1].item(), rel=1e-9)
    kurtosis = (weight * z**4).sum() / second**2 - 3
    assert kurtosis.item() == pytest.approx(exact.excess_kurtosis[-1].item(), rel=1e-6)


def test_wide_networks_have_a_normal_prior():
    z = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64)
    for activation in ("linear", "relu"):
        found = prior_density(activation, z, weight_variance=2.0, variance=1.0, widths=[10**5])
        k = 2.0 if activation == "linear" else 1.0
        expected = torch.exp(-z.square() / (2 * k)) / math.sqrt(2 * math.pi * k)
        torch.testing.assert_close(
            found, expected, rtol=1e-3, atol=0
        )  # κ/24 of a few, at order 1/N


GOOD = {"weight_variance": 1.0, "bias_variance": 0.0, "variance": 1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: width_corrections("erf", depth=0, **GOOD), "depth is 0"),
        (lambda: width_corrections("erf", depth=1, **{**GOOD, "variance": 0.0}), "variance is 0"),
        (
            lambda: width_corrections(torch.exp, depth=1, **{**GOOD, "variance": 30.0}),
            "grows too fast",
        ),
        (lambda: prior_moments("erf", widths=[3], **GOOD), "erf is not linear on both sides"),
        (lambda: prior_moments("relu", widths=[], **GOOD), "widths are \\[\\]"),
        (lambda: prior_moments("relu", widths=[0], **GOOD), "widths are \\[0\\]"),
        (
            lambda: prior_density("linear", 0.0, weight_variance=1.0, variance=1.0, widths=[2]),
            "not known at z = 0",
        ),
        (
            lambda: prior_density(torch.abs, 1.0, weight_variance=1.0, variance=1.0, widths=[2]),
            "known for linear and relu",
        ),
    ],
)
def test_bad_input_is_answered_in_a_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
