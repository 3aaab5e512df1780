"""The adaptive kernel of one hidden layer: limits, quadrature, exact posteriors, sampling."""

import math

import pytest
import torch
from scipy import optimize
from torch import Tensor

from theory.activations.neurons import quasi_normals
from theory.finite_width.adaptive import AdaptiveKernel, adaptive_kernel
from theory.finite_width.scale_mixture import hidden_covariance, linear_posterior
from theory.kernels.fully_connected import nngp, pre_activation_kernels
from theory.regression.exact import posterior
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import fully_connected
from workers.philox import Noise
from workers.samplers.collapsed import collapsed

torch.set_num_threads(1)

FORCES = ["mean_field", "first_order", "cavity"]


def bent(z):
    """Neither even nor odd."""
    return torch.tanh(z) + 0.3 * z.square()


def problem(train: int, dimension: int, test: int = 10, seed: int = 0):
    """Inputs, targets of a teacher of one direction, test inputs and that direction."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(train + test, dimension, generator=generator, dtype=torch.float64)
    teacher = torch.randn(dimension, generator=generator, dtype=torch.float64)
    teacher = teacher / teacher.norm()
    noise = torch.randn(train, generator=generator, dtype=torch.float64)
    return x[:train], x[:train] @ teacher + 0.1 * noise, x[train:], teacher


def solved(x, y, ridge, width, activation, readout, force, *, draws, seed=0) -> AdaptiveKernel:
    """At σ_w = 1 and without biases."""
    return adaptive_kernel(
        x,
        y,
        ridge,
        width,
        quasi_normals(draws, x.shape[1], seed),
        activation=activation,
        weight_variance=(1.0, readout),
        bias_variance=0.0,
        force=force,
    )


@pytest.mark.parametrize("activation", ["linear", "erf", "relu", "tanh", bent])
def test_infinite_width_is_the_nngp(activation):
    x, y, test, _ = problem(12, 4)
    network = {"activation": activation, "weight_variance": (1.3, 1.5), "bias_variance": 0.2}
    found = adaptive_kernel(x, y, 0.3, 1e9, quasi_normals(1024, 5, 0), force="cavity", **network)
    points = torch.cat([x, test])
    kernel = nngp(points, depth=1, **network)
    expected = posterior(kernel[:12, :12], kernel[12:, :12], kernel.diagonal()[12:], y, 0.3)
    mean, variance = found.prediction(test)
    torch.testing.assert_close(mean, expected.mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(variance, expected.variance, rtol=1e-6, atol=1e-7)
    fields, outputs = found.covariances(test)
    (prior,) = pre_activation_kernels(test, depth=1, **network)
    torch.testing.assert_close(fields, prior, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(outputs, kernel[12:, 12:], rtol=1e-6, atol=1e-7)
    edges = torch.linspace(-6, 6, 41).double()
    along = torch.ones(1, 10).double() / prior.sum().sqrt()
    spread, histogram = found.pre_activations(test, along, edges)
    inner = torch.special.ndtr(edges[1:-1])
    gaussian = torch.cat([torch.zeros(1), inner, torch.ones(1)]).diff()
    torch.testing.assert_close(spread, torch.ones(1).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(histogram[0], gaussian, rtol=0, atol=1e-6)


@pytest.mark.parametrize("force", FORCES)
def test_training_points_are_missed_by_the_temperature_times_the_discrepancy(force):
    """y - f = T t at the training points, and what is learned lowers the variance there."""
    x, y, _, _ = problem(20, 4)
    found = solved(x, y, 0.05, 40, "erf", 0.1, force, draws=2048)
    mean, variance = found.prediction(x)
    torch.testing.assert_close(y - mean, 0.05 * found.discrepancy, rtol=1e-7, atol=1e-8)
    # c - c(c + T)⁻¹c = T - T(c + T)⁻¹T is below T, whatever c.
    assert ((variance > 0) & (variance < 0.05)).all()


def by_quadrature(x, y, ridge, width, readout, function, force) -> tuple[Tensor, float]:
    """t and ⟨w²⟩ in one dimension at σ_w = 1, on a grid of w: the equations as they are written."""
    w = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    features, prior, s = function(x * w), -w.square() / 2, readout / width
    identity = torch.eye(len(y)).double()
    plain = torch.softmax(prior, 0)
    response = torch.linalg.inv(readout * (features * plain) @ features.T + ridge * identity)
    t = response @ y
    for _ in range(200):
        screening = s * (features * (response @ features)).sum(0)
        offset, damping = {
            "mean_field": (0 * w, 1 + 0 * w),
            "first_order": (-screening / 2, 1 + 0 * w),
            "cavity": (-torch.log1p(screening) / 2, 1 + screening),
        }[force]

        def law(t: Tensor, offset=offset, damping=damping) -> Tensor:
            return torch.softmax(prior + offset + s * (t @ features).square() / (2 * damping), 0)

        def missing(values, law=law, damping=damping):
            t = torch.from_numpy(values)
            kernel = readout * (features * (law(t) / damping)) @ features.T
            return (ridge * t + kernel @ t - y).numpy()

        t = torch.from_numpy(optimize.root(missing, t.numpy(), tol=1e-14).x)
        weight, pulled = law(t), features * ((t @ features) / damping)
        mean = pulled @ weight
        spread = (pulled * weight) @ pulled.T - torch.outer(mean, mean)
        kernel = readout * ((features * (weight / damping)) @ features.T + s * spread)
        before, response = response, torch.linalg.inv(kernel + ridge * identity)
        if (response - before).abs().max() < 1e-12 * response.abs().max():
            return t, float(weight @ w.square())
    raise AssertionError("the response does not settle")


@pytest.mark.parametrize("force", FORCES)
@pytest.mark.parametrize("activation", ["erf", "relu", "gelu"])
def test_one_dimension_by_quadrature(activation, force):
    functions = {"erf": torch.erf, "relu": torch.relu, "gelu": torch.nn.functional.gelu}
    x = torch.tensor([[-1.2], [0.4], [0.9]], dtype=torch.float64)
    y = torch.tensor([-0.9, 0.8, 1.3], dtype=torch.float64)
    t, variance = by_quadrature(x, y, 0.1, 4.0, 0.6, functions[activation], force)
    assert abs(variance - 1) > 0.1  # weights adapt
    found = [
        solved(x, y, 0.1, 4.0, activation, 0.6, force, draws=4096, seed=seed) for seed in range(6)
    ]
    values = torch.stack([torch.cat([one.discrepancy, one.weight_covariance[0]]) for one in found])
    # Independent scramblings; a rule without noise is left with the tolerance of ln l.
    error = values.std(0) / math.sqrt(len(found))
    expected = torch.cat([t, torch.tensor([variance]).double()])
    assert ((values.mean(0) - expected).abs() < 5 * error + 1e-6).all()
    torch.testing.assert_close(values.mean(0), expected, rtol=2e-3, atol=2e-3)


def difference(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize(
    ("train", "dimension", "width"), [(30, 6, 5), (30, 6, 20), (30, 6, 100), (60, 50, 20)]
)
def test_linear_networks_down_to_fewer_neurons_than_degrees_of_freedom(train, dimension, width):
    """Beside the exact posterior the cavity errs by an eighth of what mean field does."""
    x, y, test, teacher = problem(train, dimension)
    variances, ridge = (1.0, 1.0), 0.2 if dimension < 10 else 0.5
    points = torch.cat([x, test])
    kernel = nngp(
        points, depth=1, activation="linear", weight_variance=variances, bias_variance=0.0
    )
    matrices = kernel[:train, :train], kernel[train:, :train], kernel.diagonal()[train:]
    exact = linear_posterior(*matrices, y, ridge, width)
    hidden = float(teacher @ hidden_covariance(x, y, ridge, width, variances) @ teacher)
    errors = {}
    for force in ("mean_field", "cavity"):
        found = solved(x, y, ridge, width, "linear", 1.0, force, draws=16_384)
        mean, variance = found.prediction(test)
        errors[force] = difference(mean, exact.mean)
        if force == "cavity":
            assert difference(variance, exact.variance) < 0.03
            learned = float(teacher @ found.weight_covariance @ teacher)
            assert learned == pytest.approx(hidden, rel=0.03)
    assert errors["cavity"] < errors["mean_field"] / 8
    assert errors["cavity"] < 0.02


@pytest.mark.parametrize(("force", "sign"), [("mean_field", 0), ("first_order", 1), ("cavity", 1)])
def test_weights_of_a_wide_linear_layer_adapt_to_first_order_as_they_should(force, sign):
    """N (⟨ww'⟩ - 1/d) → σ_a² X'(t t' - sign (K + T)⁻¹) X/d², with sign 1 as in the posterior."""
    x, y, _, _ = problem(30, 6)
    width, ridge, readout = 1e5, 0.5, 0.7
    total = readout * x @ x.T / 6 + ridge * torch.eye(30).double()
    t = torch.linalg.solve(total, y)
    force_matrix = torch.outer(t, t) - sign * torch.linalg.inv(total)
    expected = readout * x.T @ force_matrix @ x / 36
    runs = [
        solved(
            x, y, ridge, width, "linear", readout, force, draws=4096, seed=seed
        ).weight_covariance
        for seed in range(8)
    ]
    found = width * (torch.stack(runs) - torch.eye(6).double() / 6)
    error = found.std(0) / math.sqrt(len(runs))
    assert ((found.mean(0) - expected).abs() < 5 * error + 1e-3).all()
    assert error.max() < 0.03 * expected.abs().max()
    exact = hidden_covariance(x, y, ridge, width, (1.0, readout)) - torch.eye(6).double() / 6
    if sign:
        torch.testing.assert_close(width * exact, expected, rtol=1e-3, atol=1e-3)


def test_histogram_of_a_layer_that_adapts():
    """Against a weighted count of the draws; its variance is that of the covariances."""
    x, y, test, teacher = problem(40, 4)
    found = solved(x, y, 0.02, 40, "erf", 0.05, "cavity", draws=8192)
    along = torch.linalg.pinv(test.T) @ torch.stack([teacher, teacher.flip(0)], 1)
    along = 2 * along.T  # h along it is 2 w·v for the teacher's direction v, and for another one
    edges = torch.linspace(-6, 6, 13).double()
    spread, histogram = found.pre_activations(test, along, edges)
    fields, _ = found.covariances(test)
    expected = ((along @ fields) * along).sum(1)
    torch.testing.assert_close(spread, expected, rtol=1e-3, atol=0)  # up to the mean of the draws
    z = 2 * found.weights @ torch.stack([teacher, teacher.flip(0)], 1)
    counted = torch.stack(
        [
            (((z > low) & (z <= high)).double() * found.probability[:, None]).sum(0)
            for low, high in zip(
                [-math.inf, *edges[1:-1].tolist()], [*edges[1:-1].tolist(), math.inf], strict=True
            )
        ],
        1,
    )
    assert spread[0] > 1.4  # under the prior both are 1
    # Both have errors of about √(p/effective draws).
    torch.testing.assert_close(
        histogram, counted, rtol=0, atol=5 * (0.25 / found.effective_draws) ** 0.5
    )
    torch.testing.assert_close(histogram.sum(1), torch.ones(2).double())


ARGUMENTS = {
    "ridge": 0.1,
    "width": 20,
    "activation": "erf",
    "weight_variance": (1.0, 1.0),
    "bias_variance": 0.0,
    "force": "cavity",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ridge": 0.0}, "ridge is 0"),
        ({"y": torch.ones(15, 2)}, "network of one output"),
        ({"width": 0.5}, "widths are"),
        ({"weight_variance": (1.0,)}, "give 2, the last for the readout"),
        ({"normals": quasi_normals(256, 5, 0)}, r"give \(draws, 4\)"),
        ({"bias_variance": 1.0}, r"give \(draws, 5\)"),
        ({"activation": "cosine"}, "activation is 'cosine'; take one of"),
        ({"normals": quasi_normals(64, 4, 0)}, r"of the law, wanted 0\.3%; give more normals"),
    ],
)
def test_what_is_refused(change, message):
    x, y, _, _ = problem(15, 4)
    arguments = {"x": x, "y": y, "normals": quasi_normals(256, 4, 0), **ARGUMENTS, **change}
    with pytest.raises(ValueError, match=message):
        adaptive_kernel(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "even"), [("erf", 0.0), ("relu", 0.3)])
def test_narrow_networks_against_sampling(activation, even):
    """Twenty neurons, their readouts integrated out: closer than a fifth of mean field's error."""
    train, dimension, width, chains, ridge = 30, 6, 20, 64, 0.2
    x, y, test, teacher = problem(train, dimension)
    y = 1.5 * y + even * (x @ teacher).abs()
    network = fully_connected(
        dimension,
        [width],
        ACTIVATIONS[activation],
        weight_variance=[1.0, 1.0],
        bias_variance=0.0,
        chi=1.0,
    )
    sampler, noise = collapsed(network, x, y, ridge, 0.15, 1.0), Noise(17, range(chains), 0)
    start = Noise(17, range(chains), 1)(0, (network.size,), torch.float64)
    state, outputs, along = sampler.init(start, noise.at(0)), [], []
    for step in range(1, 2001):
        state = sampler.step(state, noise.at(step))
        if step > 300 and step % 4 == 0:
            position = state.position * network.standard_deviations
            outputs.append(network.outputs(position, test))
            weights = network.layers[0].of(position)
            along.append(dimension * (weights @ teacher).square().mean(1))
    chain_mean = torch.stack(outputs).mean(0)
    sampled, error = chain_mean.mean(0), chain_mean.std(0) / math.sqrt(chains)
    hidden = torch.stack(along).mean(0)
    errors = {}
    for force in ("mean_field", "cavity"):
        found = solved(x, y, ridge, width, activation, 1.0, force, draws=16_384)
        mean = found.prediction(test).mean
        errors[force] = float((mean - sampled).norm())
        if force == "cavity":
            variance = dimension * float(teacher @ found.weight_covariance @ teacher)
            spread = 5 * float(hidden.std() / math.sqrt(chains))
            assert variance == pytest.approx(float(hidden.mean()), abs=spread + 0.02)
    assert errors["cavity"] < errors["mean_field"] / 3 + float(error.norm())
