"""Deep linear networks in mean field: closed forms, limits, networks and particles."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from theory.dynamics import deep_linear, gradient_flow, mean_field
from theory.kernels.fully_connected import nngp_and_ntk

TRAIN, TEST, DIMENSION = 3, 1, 4
VARIANCE, WIDTH = 0.05, 4.0  # γ_0² = 5
TIMES = [2.0, 5.0, 10.0]


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(TRAIN + TEST, DIMENSION, generator=generator, dtype=torch.float64)
    return x, torch.tensor([1.0, -0.5, 0.7], dtype=torch.float64)


def variances(depth: int) -> list[float]:
    return [*[1.2, 0.9, 1.1][:depth], VARIANCE]


def dynamics(depth: int, times=TIMES, **changes):
    x, y = data()
    settings = {"width": WIDTH, "weight_variance": variances(depth), "x_test": x[TRAIN:]}
    return deep_linear(x[:TRAIN], y, times, **(settings | changes))


@pytest.mark.parametrize("width", [2.0, 10.0, 1e6])
def test_one_point_of_one_hidden_layer(width):
    """df/dt = 2 σ_a² √(1 + γ_0² f²) (y - f), and with it the tangent kernel."""
    y, strength = 1.7, 1 / (width * VARIANCE)
    times = [1.0, 4.0, 10.0, 40.0]

    def speed(time, f):
        return 2 * VARIANCE * math.sqrt(1 + strength * f[0] ** 2) * (y - f[0])

    expected = solve_ivp(speed, (0, times[-1]), [0.0], t_eval=times, rtol=1e-11, atol=1e-12).y[0]
    found = deep_linear(
        torch.ones(1, 1, dtype=torch.float64),
        torch.tensor([y], dtype=torch.float64),
        times,
        width=width,
        weight_variance=(1.0, VARIANCE),
        step=0.5,
    )
    apart = (found.output[:, 0] - torch.from_numpy(expected)).abs()
    assert bool((apart < found.error + 1e-9).all())
    assert found.error.max() < 2e-3
    tangent = 2 * VARIANCE * np.sqrt(1 + strength * expected**2)
    assert found.tangent[:, 0, 0].tolist() == pytest.approx(tangent.tolist(), rel=5e-3)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_wide_networks_in_standard_scaling_are_lazy(depth):
    x, y = data()
    found = dynamics(depth, width=1e12)
    kernels = nngp_and_ntk(
        x, depth=depth, activation="linear", weight_variance=variances(depth), bias_variance=0.0
    )
    expected = gradient_flow(kernels, y, TIMES).output
    apart = (found.output - expected).abs().amax(1)
    assert bool((apart < found.error + 1e-5).all())
    lazy = kernels.ntk.expand(len(TIMES), -1, -1)
    torch.testing.assert_close(found.tangent, lazy, rtol=0, atol=1e-5)
    assert (dynamics(depth).output - expected).abs().max() > 0.03  # what features are worth


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_readout_grows_by_what_is_learned(depth):
    """d<â²>/dt = (2/N) Σ_μ Δ_μ f_μ, as for the weights of every layer."""
    end = 6.0
    nodes, weights = np.polynomial.legendre.leggauss(8)
    times = torch.tensor([*(end / 2 * (nodes + 1)), end])
    _, y = data()
    missed = []
    for step in (0.4, 0.2):
        found = dynamics(depth, times, step=step)
        trained = found.output[:, :TRAIN]
        power = ((y - trained) * trained).sum(1)
        gained = 2 / WIDTH * end / 2 * float(torch.from_numpy(weights) @ power[:-1])
        missed.append(float(found.gradients[-1, -1]) - 1 - gained)
        assert gained > 0.05
        assert abs(missed[-1]) < 0.05 * gained
    # Outputs are extrapolated, the kernels are of second order in the step.
    assert abs(missed[1]) < abs(missed[0]) / 2.5 + 1e-6


def test_particles_and_matrices_agree():
    x, y = data()
    found = dynamics(1)
    net = {"activation": "linear", "weight_variance": tuple(variances(1))}
    particles = mean_field(
        x[:TRAIN], y, TIMES, width=WIDTH, temperature=0.0, x_test=x[TRAIN:], **net
    )
    # 4 replicas: t_3 at 1e-4 is 11.
    bound = 11 * particles.error.output + particles.step_error.output + found.error[:, None]
    assert bool(((found.output - particles.output).abs() < bound).all())
    assert particles.error.output.max() < 0.01
    readout = particles.readout_variance
    torch.testing.assert_close(found.gradients[:, 0], readout, rtol=0.01, atol=0)


def test_the_rule_is_of_second_order():
    errors = [dynamics(2, [2.0], step=step).error[0] for step in (0.2, 0.1)]
    assert 3.3 < errors[0] / errors[1] < 5


def finite_network(depth: int, width: int, times: list[float], seed: int, sign: float) -> Tensor:
    """Outputs of one network by Heun's rule; its readout starts with the sign given."""
    x, y = data()
    generator = torch.Generator().manual_seed(seed)
    sizes = [DIMENSION, *[width] * depth]
    pairs = list(zip(sizes[1:], sizes[:-1], strict=True))
    normal = [torch.randn(*pair, generator=generator, dtype=torch.float64) for pair in pairs]
    weights = [*normal, sign * torch.randn(1, width, generator=generator, dtype=torch.float64)]
    # In mean field σ_a² goes as 1/N and time as N.
    readout = VARIANCE * WIDTH / width
    scales = [math.sqrt(v / n) for v, (_, n) in zip(variances(depth), pairs, strict=False)]
    scales.append(math.sqrt(readout / width))

    def layers(weights):
        found = [x.T]
        for scale, weight in zip(scales, weights, strict=True):
            found.append(scale * weight @ found[-1])
        return found

    def force(weights):
        hidden = layers(weights)
        back, forces = y - hidden[-1][:, :TRAIN], []
        for place in reversed(range(len(weights))):
            forces.append(scales[place] * back @ hidden[place][:, :TRAIN].T)
            back = scales[place] * weights[place].T @ back
        return forces[::-1]

    outputs, now = [], 0.0
    for time in times:
        steps = math.ceil((time - now) / 0.2)
        step = (time - now) / steps * VARIANCE / readout
        for _ in range(steps):
            first = force(weights)
            there = [w + step * f for w, f in zip(weights, first, strict=True)]
            second = force(there)
            weights = [
                w + step / 2 * (f + g) for w, f, g in zip(weights, first, second, strict=True)
            ]
        now = time
        outputs.append(layers(weights)[-1][0])
    return torch.stack(outputs)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3])
def test_networks_of_finite_width_by_brute_force(depth):
    """Antithetic pairs, from whose mean the start is gone."""
    width, pairs = 200, 8
    found = dynamics(depth)
    units = torch.stack(
        [
            (finite_network(depth, width, TIMES, s, 1) + finite_network(depth, width, TIMES, s, -1))
            / 2
            for s in range(pairs)
        ]
    )
    error = units.std(0) / math.sqrt(pairs)
    # t_7 at 1e-3 is 5.4; at finite width outputs are off by a few 1/N.
    bound = 5.4 * error + found.error[:, None] + 4 / width
    assert bool(((units.mean(0) - found.output).abs() < bound).all())
    assert error.max() < 0.025
    lazy = dynamics(depth, width=1e12).output
    assert bool(((units.mean(0) - lazy).abs() > bound).any())


REFUSED = {
    "times that do not increase": ({"times": [2.0, 1.0]}, "times do not increase"),
    "a step beyond stability": ({"step": 1e3}, "step is 1000; give a positive one of at most"),
    "no hidden layer": ({"weight_variance": (1.0,)}, "weight variances are"),
    "no variance": ({"weight_variance": (0.0, 1.0)}, "weight variances are"),
    "no neuron": ({"width": 0.5}, "width is 0.5"),
    "all pairs of many times": ({"times": [1e6]}, "kernels of .* need .* GB"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_in_one_line(name):
    changes, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as refusal:
        dynamics(1, **({"times": [1.0]} | changes))
    assert "\n" not in str(refusal.value)
