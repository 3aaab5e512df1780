"""Random functions with uniform weights, whose kernel is not that of Gaussian ones."""

import math

import pytest
import torch

from theory.kernels.fully_connected import nngp
from theory.signal import uniform_nngp

torch.set_num_threads(1)

SETTINGS = {"depth": 1, "activation": "erf", "weight_variance": (1.0, 1.0), "bias_variance": 0.0}


def points(count, dimension, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=generator, dtype=torch.float64)


def test_two_dimensions_tell_uniform_from_gaussian_weights():
    """Weights between ±1/√d and readouts between ±1/√N, whose variances are 1/(3d) and 1/(3N).

    At x = (1, 0) by one integral: (1/3) ∫ erf²(w) dw from 0 to h, over h, h = 1/√2.
    """
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    settings = {**SETTINGS, "weight_variance": (1 / 3, 1 / 3)}
    found = uniform_nngp(x, **settings).item()
    h = math.sqrt(0.5)
    # ∫ erf² = h erf² + (2/√π) erf e^{-h²} - √(2/π) erf(√2 h)
    integral = h * math.erf(h) ** 2 + 2 / math.sqrt(math.pi) * math.erf(h) * math.exp(-(h**2))
    integral -= math.sqrt(2 / math.pi) * math.erf(math.sqrt(2) * h)
    assert found == pytest.approx(integral / h / 3, rel=1e-12)
    assert found == pytest.approx(0.05864747, abs=1e-8)
    assert nngp(x, **settings).item() == pytest.approx(0.05362042, abs=1e-8)


def test_linear_networks_see_variances_only():
    x = points(6, 2)
    settings = {
        "depth": 3,
        "activation": "linear",
        "weight_variance": (1.2, 0.8, 1.5, 0.7),
        "bias_variance": (0.3, 0.1, 0.2),
    }
    torch.testing.assert_close(uniform_nngp(x, **settings), nngp(x, **settings), rtol=1e-12, atol=0)


@pytest.mark.parametrize("activation", ["erf", "relu", torch.nn.functional.silu])
@pytest.mark.parametrize("depth", [1, 2])
def test_kernel_is_the_covariance_of_wide_random_networks(activation, depth):
    """Of two dimensions and biases; the width of the first layer moves the mean by 1/N of it."""
    x, width, count = points(3, 2, seed=1), 200, 1500
    weights, biases = (2.0, 1.5, 0.8)[: depth + 1], (0.4, 0.2)[:depth]
    generator = torch.Generator().manual_seed(2)

    def uniform(variance, *shape):
        draws = torch.rand(*shape, generator=generator, dtype=torch.float32)
        return (2 * draws - 1) * math.sqrt(3 * variance)

    phi = {"erf": torch.erf, "relu": torch.relu}.get(activation, activation)
    signal = x.T.float().expand(count, -1, -1)
    for weight, bias in zip(weights[:-1], biases, strict=True):
        fan_in, neurons = signal.shape[1], width if signal.shape[1] == 2 else 60
        signal = uniform(weight / fan_in, count, neurons, fan_in) @ signal
        signal = phi(signal + uniform(bias, count, neurons, 1))
    # The readout is averaged over exactly.
    kernels = weights[-1] * (signal.mT @ signal).double() / signal.shape[1]
    found = uniform_nngp(
        x, depth=depth, activation=activation, weight_variance=weights, bias_variance=biases
    )
    error = kernels.std(0) / math.sqrt(count)
    away = (kernels.mean(0) - found).abs()
    assert bool((away < 5 * error + (depth - 1) * found.abs().max() / width).all())


def test_second_points_are_a_part_of_all():
    x, other = points(4, 2), points(3, 2, seed=5)
    whole = uniform_nngp(torch.cat([x, other]), **SETTINGS)
    torch.testing.assert_close(
        uniform_nngp(x, other, **SETTINGS), whole[:4, 4:], rtol=0, atol=1e-14
    )


@pytest.mark.parametrize(
    ("x", "change", "message"),
    [
        (points(2, 4), {}, "4 dimensions"),
        (points(2, 3), {"bias_variance": 0.1}, "4 dimensions"),
        (points(2, 2).float(), {}, "give \\(points, dimension\\) float64"),
        (1e6 * points(2, 2), {"activation": "sin"}, "is uncertain by"),
        (1e4 * points(2, 2), {"activation": torch.exp}, "not finite on the cube"),
        (points(2, 2), {"depth": 2}, "2 weight variances for 2 hidden layers"),
    ],
)
def test_bad_input_is_answered_in_a_line(x, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        uniform_nngp(x, **{**SETTINGS, **change})
    assert "\n" not in str(caught.value)
