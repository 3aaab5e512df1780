"""Gradient flow and Langevin dynamics at infinite width: identities, limits, other ways there."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from theory.dynamics import gradient_flow, volterra
from theory.dynamics.two_time import TwoTimeKernels
from theory.kernels.fully_connected import Kernels, nngp_and_ntk
from theory.regression.exact import posterior

ACTIVATIONS = ["linear", "erf", "relu", "tanh", "gelu", "sin", "quadratic"]
TRAIN, TEST, DIMENSION = 6, 3, 4
TIMES = [1e-3, 0.03, 0.3, 1.0, 4.0, 20.0]


def network(activation="erf", depth: int = 1, bias: float = 0.1) -> dict:
    weights = [*[1.4, 1.1, 1.2][:depth], 0.8]
    return {
        "depth": depth,
        "activation": activation,
        "weight_variance": weights,
        "bias_variance": bias,
    }


def data(train: int = TRAIN, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points of training and others after them, and labels of the former."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(train + TEST, DIMENSION, generator=generator, dtype=torch.float64)
    return x, torch.sin(2 * x[:train, 0]) + x[:train, 1]


def langevin(times, temperature: float, net: dict, **settings):
    x, y = data()
    return volterra(
        x[:TRAIN], y, times, x_test=x[TRAIN:], temperature=temperature, **net, **settings
    )


def nodes_and_weights(low: float, high: float, count: int = 40) -> tuple[Tensor, Tensor]:
    """Of Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    half = (high - low) / 2
    return torch.from_numpy(low + half * (nodes + 1)), torch.from_numpy(half * weights)


# -- gradient flow --------------------------------------------------------------------------


def flow_by_matrix_exponential(kernels: Kernels, y: Tensor, time: float) -> tuple[Tensor, Tensor]:
    """c and B of f(t) = B f_0 + c, of df/dt = -Θ (f - y), by its exponential with a row for y."""
    size, train = len(kernels.ntk), len(y)
    generator = torch.zeros(size + 1, size + 1, dtype=torch.float64)
    generator[:size, :train] = -kernels.ntk[:, :train]
    generator[:size, size] = kernels.ntk[:, :train] @ y
    moved = torch.linalg.matrix_exp(generator * time)[:size]
    return moved[:, size], moved[:, :size]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 3])
def test_gradient_flow_is_a_matrix_exponential(activation, depth):
    x, y = data()
    kernels = nngp_and_ntk(x, **network(activation, depth))
    rates = kernels.ntk[:TRAIN, :TRAIN]
    times = [s / float(rates.trace()) for s in (0.1, 1, 10, 100)]
    found = gradient_flow(kernels, y, times, two_time=True)
    exact = [flow_by_matrix_exponential(kernels, y, time) for time in times]
    scale = float(kernels.nngp.diagonal().max())
    assert found.two_time is not None
    for place, (mean, start) in enumerate(exact):
        torch.testing.assert_close(found.output[place], mean, rtol=1e-9, atol=1e-10)
        covariance = start @ kernels.nngp @ start.T
        torch.testing.assert_close(
            found.covariance[place], covariance, rtol=1e-8, atol=1e-10 * scale
        )
        for before, (_, other) in enumerate(exact):
            covariance = start @ kernels.nngp @ other.T
            torch.testing.assert_close(
                found.two_time[place, before], covariance, rtol=1e-8, atol=1e-10 * scale
            )


def test_gradient_flow_starts_from_the_prior_and_ends_on_the_labels():
    x, y = data()
    kernels = nngp_and_ntk(x, **network())
    found = gradient_flow(kernels, y, [0.0, 1e6])
    assert not found.output[0].any()
    torch.testing.assert_close(found.covariance[0], kernels.nngp, rtol=0, atol=1e-14)
    torch.testing.assert_close(found.output[1, :TRAIN], y)
    assert found.covariance[1, :TRAIN].abs().max() < 1e-12
    interpolated = kernels.ntk[TRAIN:, :TRAIN] @ torch.linalg.solve(kernels.ntk[:TRAIN, :TRAIN], y)
    torch.testing.assert_close(found.output[1, TRAIN:], interpolated)


def test_energy_is_lost_to_the_motion_of_the_weights():
    """L(0) - L(t) = ∫ rᵀ Θ r ds, averaged over initializations."""
    x, y = data()
    kernels = nngp_and_ntk(x, **network(depth=2))
    tangent = kernels.ntk[:TRAIN, :TRAIN]
    time = 2.0
    nodes, weights = nodes_and_weights(0, time)
    flow = gradient_flow(kernels, y, nodes)
    residual = y - flow.output[:, :TRAIN]
    spread = flow.covariance[:, :TRAIN, :TRAIN]
    lost = ((residual @ tangent) * residual).sum(1) + (spread * tangent).sum((1, 2))
    start, end = gradient_flow(kernels, y, [0, time]).loss
    assert float(weights @ lost) == pytest.approx(float(start - end), rel=1e-9)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_what_a_singular_kernel_does_not_see_stays(activation):
    """Of two labels at one point the mean is learned; their difference has no gradient."""
    x, y = data()
    x[1] = x[0]
    kernels = nngp_and_ntk(x, **network(activation))
    assert torch.linalg.matrix_rank(kernels.ntk[:TRAIN, :TRAIN]) < TRAIN
    found = gradient_flow(kernels, y, [1e-3, 1.0, 1e4])
    # Rounding splits the two by √eps at most where relu's tangent kernel has a cusp.
    torch.testing.assert_close(found.output[:, 0], found.output[:, 1], rtol=0, atol=1e-7)
    half = (y[0] - y[1]).square() / 4
    assert bool((found.loss >= half - 1e-7).all())
    assert found.output.isfinite().all()
    if activation == "relu":
        assert float(found.output[2, 0]) == pytest.approx(float(y[:2].mean()), abs=1e-5)


def test_outputs_of_several_labels_do_not_know_each_other():
    x, y = data()
    kernels = nngp_and_ntk(x, **network())
    both = gradient_flow(kernels, torch.stack([y, y.square()], 1), TIMES)
    alone = [gradient_flow(kernels, labels, TIMES) for labels in (y, y.square())]
    for output, one in enumerate(alone):
        torch.testing.assert_close(both.output[..., output], one.output)
    torch.testing.assert_close(both.loss, alone[0].loss + alone[1].loss)


# -- kernels between two times --------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_kernels_at_one_time_are_nngp_and_ntk(activation, depth):
    x, _ = data()
    net = network(activation, depth)
    found = TwoTimeKernels(x, **net).at(1.0)
    for kernel, expected in zip(found, nngp_and_ntk(x, **net), strict=True):
        # relu's tangent kernel has a cusp where points meet, of √eps.
        torch.testing.assert_close(kernel, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 3])
def test_response_is_the_derivative_of_the_correlation(activation, depth):
    """C_0(ρ_1) - C_0(ρ_0) = ∫ R dρ/ρ, which is fluctuation and dissipation."""
    x, _ = data()
    kernels = TwoTimeKernels(x, **network(activation, depth))
    # Nodes in √(1 - ρ), where relu is smooth, too.
    roots, weights = nodes_and_weights(0.0, math.sqrt(0.9))
    correlations = 1 - roots.square()
    responses = torch.stack([kernels.at(float(rho)).ntk for rho in correlations])
    integral = torch.einsum("k,kij->ij", weights * 2 * roots / correlations, responses)
    change = kernels.at(1.0).nngp - kernels.at(0.1).nngp
    # tanh and gelu go by a series of up to 512 orders, cut where 1e-9 of its weight is left.
    tolerance = 1e-9 if activation in ("tanh", "gelu") else 1e-11
    torch.testing.assert_close(integral, change, rtol=0, atol=tolerance * float(change.max()))


# -- Langevin dynamics ----------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2])
def test_linear_networks_in_closed_form(depth):
    """C_0 = ρ^{L+1} K has one rate: X = K (K + T)⁻¹ e^{-(L + 1)(K + T)t}.

    At training points outputs are the OU process df = -(L + 1)((K + T) f - K y) dt + noise from
    f ~ N(0, K), which has C(t, s) = e^{-(L + 1)(K + T)(t - s)} C(s, s).
    """
    temperature, net = 0.2, network("linear", depth, bias=0.0)
    found = langevin(TIMES, temperature, net, two_time=True)
    x, y = data()
    prior, _ = nngp_and_ntk(x, **net)
    ridge = prior[:TRAIN, :TRAIN] + temperature * torch.eye(TRAIN, dtype=torch.float64)
    start, scale = torch.linalg.solve(ridge, prior[:TRAIN]).T, float(prior.max())
    for place, time in enumerate(TIMES):
        left = start @ torch.linalg.matrix_exp(-(depth + 1) * time * ridge)
        mean = (start - left) @ y
        settled = prior - start @ prior[:TRAIN]
        covariance = settled + left @ ridge @ left.T
        bound = float(found.error[place]) + 1e-10
        assert (found.output[place] - mean).abs().max() <= bound
        bound = float(found.covariance_error[place]) + 1e-10
        assert (found.covariance[place] - covariance).abs().max() <= bound
        torch.testing.assert_close(found.correlation[place], temperature * left, rtol=0, atol=1e-6)
        torch.testing.assert_close(
            found.response[place], (depth + 1) * left @ ridge, rtol=0, atol=1e-5 * scale
        )
        assert found.two_time is not None
        here = found.covariance[place, :TRAIN, :TRAIN]
        for after in range(place, len(TIMES)):
            decayed = torch.linalg.matrix_exp(-(depth + 1) * (TIMES[after] - time) * ridge)
            torch.testing.assert_close(
                found.two_time[after, place, :TRAIN, :TRAIN], decayed @ here, rtol=0, atol=1e-5
            )
    assert found.error.max() < 1e-5


@pytest.mark.parametrize("activation", ["erf", "relu", "sin"])
def test_cold_networks_follow_the_tangent_kernel(activation):
    """As T t → 0, the mean and the covariance are those of gradient flow, to 1e-6."""
    x, y = data()
    net = network(activation, 2)
    # A kink takes corrections of √(T t), a smooth φ of T t: of 1e-14 and of 1e-9.
    temperature = 1e-14 if activation == "relu" else 1e-9
    times = [1e-4, 0.1, 1.0, 10.0]
    found = langevin(times, temperature, net)
    flow = gradient_flow(nngp_and_ntk(x, **net), y, times)
    torch.testing.assert_close(found.output, flow.output, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.covariance, flow.covariance, rtol=0, atol=1e-6)
    tangent = nngp_and_ntk(x, **net).ntk[:, :TRAIN]
    start = langevin([1e-12], temperature, net)
    torch.testing.assert_close(start.response[0], tangent, rtol=1e-6, atol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("temperature", [1e-3, 0.5])
@pytest.mark.slow
def test_long_times_are_regression_with_the_nngp(activation, temperature):
    x, y = data()
    net = network(activation)
    found = langevin([40 / temperature], temperature, net)
    prior, _ = nngp_and_ntk(x, **net)
    train = prior[:TRAIN, :TRAIN]
    expected = posterior(train, prior[:, :TRAIN], prior.diagonal(), y, temperature)
    torch.testing.assert_close(found.output[0], expected.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.covariance[0].diagonal(), expected.variance, rtol=0, atol=1e-6)


def by_matrices(net: dict, temperature: float, end: float, count: int):
    """Mean (time, n), C(t, s) and G at equally spaced times: the equation as one large matrix."""
    x, y = data()
    kernels = TwoTimeKernels(x[:TRAIN], **net)
    step = end / count
    lags = torch.arange(count + 1, dtype=torch.float64) * step
    found = [kernels.at(math.exp(-temperature * float(lag))) for lag in lags]
    correlation, response = (torch.stack(both) for both in zip(*found, strict=True))
    later, earlier = torch.meshgrid(torch.arange(count + 1), torch.arange(count + 1), indexing="ij")
    apart = (later - earlier).abs()
    weight = torch.full((count + 1, count + 1), step, dtype=torch.float64)
    weight[:, 0] /= 2
    weight[apart == 0] /= 2
    weight[later < earlier] = 0
    weight[0] = 0
    size = (count + 1) * TRAIN

    def flat(blocks: Tensor) -> Tensor:
        return blocks.permute(0, 2, 1, 3).reshape(size, size)

    memory = flat(response[apart] * weight[:, :, None, None])
    left = torch.eye(size, dtype=torch.float64) + memory
    mean = torch.linalg.solve(left, memory @ y.repeat(count + 1))
    half = torch.linalg.solve(left, flat(correlation[apart]))
    covariance = torch.linalg.solve(left, half.T).reshape(count + 1, TRAIN, count + 1, TRAIN)
    forced = torch.linalg.solve(left, response.reshape(size, TRAIN))
    return (
        mean.reshape(count + 1, TRAIN),
        covariance.permute(0, 2, 1, 3),
        forced.reshape(count + 1, TRAIN, TRAIN),
    )


@pytest.mark.parametrize("activation", ["erf", "sin"])
def test_the_equation_solved_as_one_matrix(activation):
    """Mean, response and covariances at two times, without fluctuation and dissipation."""
    temperature, end, net = 0.3, 4.0, network(activation, 2)
    coarse, fine = (by_matrices(net, temperature, end, count) for count in (64, 128))
    places = torch.tensor([4, 16, 40, 64])
    x, y = data()
    found = volterra(
        x[:TRAIN], y, places * (end / 64), temperature=temperature, two_time=True, **net
    )
    assert found.two_time is not None
    expected = []
    for one, other in zip(coarse, fine, strict=True):
        one, other = one[places], other[2 * places]
        if one.ndim == 4:
            one, other = one[:, places], other[:, 2 * places]
        expected.append((other + (other - one) / 3, float((other - one).abs().max())))
    seen = (found.output, found.two_time, found.response)
    for value, (target, error) in zip(seen, expected, strict=True):
        assert error < 0.02
        # The rule is of second order, of which a fifteenth is left once it is extrapolated.
        torch.testing.assert_close(value, target, rtol=0, atol=error / 10 + 1e-6)
    equal = found.two_time.diagonal(dim1=0, dim2=1).permute(2, 0, 1)
    torch.testing.assert_close(equal, found.covariance, rtol=0, atol=1e-6)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_the_rule_is_of_second_order(activation):
    """Half the step, a quarter of the error: for a kink, whose response has a root, as well."""
    net = network(activation, 2)
    errors = [langevin(TIMES, 0.1, net, steps=steps).error.max() for steps in (64, 128)]
    assert 3.3 < errors[0] / errors[1] < 5


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_the_error_is_reported(activation):
    net = network(activation, 2)
    found = langevin(TIMES, 0.1, net)
    exact = langevin(TIMES, 0.1, net, steps=128)
    assert bool(((found.output - exact.output).abs().amax(1) < found.error).all())
    apart = (found.covariance - exact.covariance).abs().amax((1, 2))
    assert bool((apart < found.covariance_error).all())


def test_two_times_of_test_points_are_a_covariance():
    """Symmetric, positive, and at equal times what the covariance says."""
    found = langevin([0.1, 1.0, 5.0], 0.2, network("relu"), two_time=True)
    assert found.two_time is not None
    both = found.two_time.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    torch.testing.assert_close(both, both.T, rtol=0, atol=1e-6)
    assert torch.linalg.eigvalsh((both + both.T) / 2)[0] > -1e-6
    for place in range(3):
        torch.testing.assert_close(
            found.two_time[place, place], found.covariance[place], rtol=0, atol=1e-6
        )


# -- networks of finite width ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_wide_networks_by_brute_force(temperature):
    """Antithetic pairs of erf networks, whose mean starts at zero, by Euler steps."""
    x, y = data()
    net = network(bias=0.0)
    width, pairs, step = 256, 48, 0.01
    times = [0.1, 0.5, 2.0, 4.0]
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = x * math.sqrt(net["weight_variance"][0] / DIMENSION)
    scale = math.sqrt(net["weight_variance"][1] / width)
    hidden = normal(pairs, width, DIMENSION).repeat(2, 1, 1)
    readout = normal(pairs, width)
    readout = torch.cat([readout, -readout])
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat_interleave(pairs)[:, None]
    spread = math.sqrt(2 * temperature * step)
    outputs = []
    for count in range(round(times[-1] / step) + 1):
        fields = hidden @ inputs.T
        phi = torch.erf(fields)
        output = scale * (readout[:, :, None] * phi).sum(1)
        if any(round(time / step) == count for time in times):
            outputs.append(output)
        force = (y - output[:, :TRAIN]) * scale
        slope = 2 / math.sqrt(math.pi) * torch.exp(-fields[:, :, :TRAIN].square())
        pull = (slope * force[:, None] * readout[:, :, None]) @ inputs[:TRAIN]
        push = (phi[:, :, :TRAIN] @ force[:, :, None])[:, :, 0]
        noise = [spread * normal(pairs, width).repeat(2, 1) * signs]
        noise.append(spread * normal(pairs, width, DIMENSION).repeat(2, 1, 1))
        readout = readout + step * (push - temperature * readout) + noise[0]
        hidden = hidden + step * (pull - temperature * hidden) + noise[1]
    if temperature:
        expected = langevin(times, temperature, net).output
    else:
        expected = gradient_flow(nngp_and_ntk(x, **net), y, times).output
    for found, theory in zip(outputs, expected, strict=True):
        units = (found[:pairs] + found[pairs:]) / 2
        error = units.std(0) / math.sqrt(pairs)
        # Beside chance, Euler's rule is off by up to λ h/2 ≈ 0.02 of what is left to learn, and
        # the width by a few 1/N.
        assert bool(((units.mean(0) - theory).abs() < 5 * error + 0.02 + 4 / width).all())
        assert error.max() < 0.012


# -- what is refused ------------------------------------------------------------------------

SOUND = {"temperature": 0.1, "times": [1.0]}
REFUSED = {
    "times that do not increase": ({"times": [1.0, 1.0]}, "times do not increase"),
    "times before the start": ({"times": [-1.0, 1.0]}, "times do not increase"),
    "times without end": ({"times": [1.0, math.inf]}, "times do not increase"),
    "times that are unknown": ({"times": [math.nan]}, "times do not increase"),
    "no times": ({"times": []}, "times have shape"),
    "no temperature": ({"temperature": 0.0}, "temperature is 0.0; .* gradient_flow"),
    "few steps": ({"steps": 4}, "steps are 4"),
    "odd steps": ({"steps": 65}, "steps are 65"),
    "memory": ({"times": np.arange(1, 1e6), "two_time": True}, "two-time covariances .* need"),
    "half a step": ({"steps": 64.5}, "steps are 64.5"),
    "other test points": ({"x_test": torch.zeros(2, 1)}, r"inputs are \(6, 4\) and \(2, 1\)"),
    "unknown test points": ({"x_test": torch.full((2, 4), math.nan)}, "not all finite"),
    "no weights": ({"weight_variance": [0.0, 1.0]}, "weight variances are .* positive"),
    "depth": ({"depth": 0}, "depth is 0"),
    "variances": ({"weight_variance": [1.0]}, "1 weight variances"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_langevin_dynamics_refuse_in_one_line(name):
    changes, message = REFUSED[name]
    settings = SOUND | network() | changes
    x, y = data()
    with pytest.raises(ValueError, match=message) as refusal:
        volterra(x[:TRAIN], y, settings.pop("times"), **settings)
    assert "\n" not in str(refusal.value)


def test_langevin_dynamics_refuse_what_is_not_positive_definite():
    x, y = data()
    x[1] = x[0]
    with pytest.raises(ValueError, match="not positive definite in float64"):
        volterra(x[:TRAIN], y, [1.0], temperature=1e-30, **network("linear"))


def test_gradient_flow_refuses_in_one_line():
    x, y = data()
    kernels = nngp_and_ntk(x, **network())
    for arguments, message in (
        ((kernels, y, [2.0, 1.0]), "times do not increase"),
        ((kernels, torch.zeros(99), [1.0]), "targets are"),
        ((kernels, y * math.nan, [1.0]), "targets are not all finite"),
        ((Kernels(kernels.nngp, kernels.ntk[:3]), y, [1.0]), "kernels are"),
        ((Kernels(kernels.nngp, -kernels.ntk), y, [1.0]), "eigenvalue -"),
        ((Kernels(kernels.nngp * math.nan, kernels.ntk), y, [1.0]), "kernels are not all finite"),
    ):
        with pytest.raises(ValueError, match=message) as refusal:
            gradient_flow(*arguments)
        assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match=r"two-time covariances of .* need"):
        gradient_flow(kernels, y, torch.arange(1e6), two_time=True)
