"""Theories of an ensemble on one dataset: what each predicts, in the shape of the measurement.

Per dataset: learnability (component,), output_mean and predictive_variance (test,), mse_mean and
mse_sample (); where the campaign observes them also kernel (layer, probe, probe), density (layer,
direction, bin) and pre_activation_variance (layer, direction).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from storage.arrays.coordinates import bin_edges, physical_temperature
from storage.arrays.schema import PARTS
from storage.campaign.data_spec import PLUGIN
from storage.campaign.network_spec import Network
from storage.campaign.plugins import Plugins
from storage.campaign.resolved import Sampled
from storage.campaign.spec import PAIR, PROBES, has_overlaps
from storage.planning.identity import digest
from theory.accuracy import gaussian_accuracy, largest_accuracy
from theory.activations.records import Activation
from theory.finite_width.kernel_scaling import kernel_scale, prediction
from theory.finite_width.scale_mixture import hidden_covariance, linear_posterior
from theory.kernels.fully_connected import pre_activation_kernels
from theory.regression.exact import Posterior, log_evidence, posterior
from theory.signal import uniform_pre_activation_kernels
from workers.data.balance import class_counts
from workers.data.dataset import Dataset
from workers.measurement.observables import learnability
from workers.models import nngp_of

Prediction = dict[str, np.ndarray]

CONVERGED = 1e-8  # of the stationarity condition of kernel scaling, whose terms are of order one
TILE = 256  # test points at a time where only the diagonal of a kernel is wanted


@dataclass(frozen=True)
class Problem:
    """A network, one dataset and a temperature: all that these theories see, but for the width."""

    spec: Sampled
    data: Dataset
    plugins: Plugins
    times: tuple[float, ...] = ()  # at which networks are looked at, where they are followed

    @property
    def network(self) -> Network:
        """The network of the spec."""
        return self.spec.network

    @property
    def prior(self) -> bool:
        """Whether the ensemble is the prior, which no data have touched."""
        return self.spec.sampler.record.law == "prior"

    @property
    def temperature(self) -> float:
        """T, the ridge of the regression."""
        return physical_temperature(self.spec)

    @cached_property
    def y(self) -> Tensor:
        """Labels of the training points, (train,)."""
        return torch.as_tensor(self.data.y_train)

    @cached_property
    def train(self) -> Tensor:
        """NNGP kernel of the training points, with the physical variance of the readout."""
        return self.nngp(torch.as_tensor(self.data.x_train))

    @cached_property
    def cross(self) -> Tensor:
        """NNGP kernel, (test, train)."""
        return self.nngp(torch.as_tensor(self.data.x_test), torch.as_tensor(self.data.x_train))

    @cached_property
    def diagonal(self) -> Tensor:
        """NNGP variance at the test points, (test,)."""
        tiles = torch.as_tensor(self.data.x_test).split(TILE)
        return torch.cat([self.nngp(tile).diagonal() for tile in tiles])

    def nngp(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """Prior covariance of the outputs."""
        return nngp_of(self.network, x1, x2, self.own_activation)

    @property
    def own_activation(self) -> Activation | None:
        """φ where it is the user's own function."""
        name = self.network.activation
        return self.plugins.get(name) if PLUGIN.fullmatch(name) else None


def key(spec: Sampled) -> str:
    """Equal for cells that are one `Problem`: those that differ in width or in how they sample."""
    return digest(
        [
            spec.data.model_dump(mode="json"),
            spec.network.model_dump(mode="json", exclude={"width"}),
            spec.sampler.temperature,
            spec.sampler.record.law == "prior",
        ]
    )


def nngp(problem: Problem) -> Prediction:
    """Regression with the NNGP kernel and ridge T; hidden layers as under the prior.

    An infinitely wide network in standard scaling, or at fixed χ, learns in its readout alone.
    """
    outputs = _posterior(problem, 1.0)
    found = summary(problem, outputs) | prior_layers(problem) | _regime(problem)
    found |= _accuracy(problem, outputs)
    if problem.y.ndim == 1:
        evidence = log_evidence(problem.train, problem.y, problem.temperature)
        found["free_energy"] = -evidence.numpy()
    return found | prior_weights(problem)


def prior_weights(problem: Problem) -> Prediction:
    """Weights that have not learned: first-layer ones in prior variances, and the readout's."""
    readout = problem.network.physical_weight_variance[-1]
    found = {"weight_norm": np.array(readout * problem.spec.data.number_of_outputs)}
    if has_overlaps(problem.spec) and problem.spec.observe.overlaps:
        found["hidden_variance"] = np.ones(len(PARTS))
    return found


def _regime(problem: Problem) -> Prediction:
    """Where a network stands between lazy and feature learning, but for the division by its width.

    The degrees of freedom are Tr K(K + T)⁻¹; the coupling U = n² σ_a²/(T² d N) has the physical
    readout variance and temperature.
    """
    values = torch.linalg.eigvalsh(problem.train).clamp_min(0)
    freedom = (values / (values + problem.temperature)).sum()
    points, inputs = problem.data.x_train.shape
    readout = problem.network.physical_weight_variance[-1]
    coupling = points**2 * readout / (problem.temperature**2 * inputs)
    return {"degrees_of_freedom": freedom.numpy(), "coupling_times_width": np.array(coupling)}


def kernel_scaling(problem: Problem, widths: Sequence[int]) -> Iterable[Prediction]:
    """Regression with the NNGP kernel times Q(N), at each width N, one after another.

    The law of a single pre-activation is that of the NNGP. Raises ValueError where the equation
    for Q is not solved.
    """
    layers = prior_layers(problem)
    if problem.prior:
        scales, residuals = np.ones(len(widths)), np.zeros(len(widths))
    else:
        width = torch.tensor(widths, dtype=torch.float64)
        found = kernel_scale(
            problem.train, problem.y, problem.temperature, width, depth=problem.network.depth
        )
        scales, residuals = found.scale.numpy(), found.residual.numpy()
    for width, scale, residual in zip(widths, scales, residuals, strict=True):
        if not abs(residual) < CONVERGED:
            raise ValueError(unsolved(width, residual))
        equations = {"scale": np.asarray(scale), "residual": np.asarray(residual)}
        outputs = _posterior(problem, float(scale))
        yield summary(problem, outputs) | _accuracy(problem, outputs) | layers | equations


def unsolved(width: int, residual: float) -> str:
    """What is said of a scale that does not solve its equation."""
    return (
        f"at width {width} the equation for the scale is left with {residual:.1e}, wanted "
        f"{CONVERGED:.0e}"
    )


def scale_mixture(problem: Problem, widths: Sequence[int]) -> Iterable[Prediction]:
    """The exact posterior of a linear network with one hidden layer, at each width N.

    Besides the outputs it knows the squared norm of the readout, and the kernel of the layer.
    """
    readout = problem.network.physical_weight_variance[-1]
    matrices = (problem.train, problem.cross, problem.diagonal, problem.y, problem.temperature)
    for width in widths:
        if problem.prior:
            found, norm = _posterior(problem, 1.0), readout
        else:
            exact = linear_posterior(*matrices, width)
            found, norm = Posterior(exact.mean, exact.variance), readout * float(exact.scale)
        values = summary(problem, found) | {"weight_norm": np.array(norm)}
        if problem.spec.observe.kernels:
            values["kernel"] = _linear_kernel(problem, width).numpy()
        yield values


def _linear_kernel(problem: Problem, width: int) -> Tensor:
    """σ_a² E[X W'W X' | y]/N at the probe points X, with σ_a² before the division by χ."""
    x = torch.as_tensor(problem.data.x_test[: min(problem.spec.observe.points, PROBES)])
    if problem.prior:
        return _layer_kernels(problem, x)
    covariance = hidden_covariance(
        torch.as_tensor(problem.data.x_train),
        problem.y,
        problem.temperature,
        width,
        (problem.network.weights[0], problem.network.physical_weight_variance[-1]),
    )
    return (problem.network.weights[-1] * x @ covariance @ x.mT)[None]


def _posterior(problem: Problem, scale: float) -> Posterior:
    """Mean and variance at the test points of the Gaussian process with kernel `scale` K."""
    if problem.prior:
        none = torch.zeros(problem.data.y_test.shape, dtype=torch.float64)
        return Posterior(none, scale * problem.diagonal)
    matrices = (problem.train, problem.cross, problem.diagonal, problem.y, problem.temperature)
    return posterior(*matrices) if scale == 1 else prediction(*matrices, scale)


def summary(problem: Problem, found: Posterior) -> Prediction:
    """What a mean and a variance at the test points say of the function."""
    y, parts = torch.as_tensor(problem.data.y_test), torch.as_tensor(problem.data.components)
    error = (found.mean - y).square().mean()
    flat = parts.reshape(-1, parts.shape[-1])  # (test · outputs, component)
    return {
        "learnability": learnability(found.mean.reshape(1, -1), flat)[0].numpy(),
        "output_mean": found.mean.numpy(),
        "predictive_variance": found.variance.numpy(),
        "mse_mean": error.numpy(),
        "mse_sample": (error + found.variance.mean()).numpy(),
    }


def _accuracy(problem: Problem, found: Posterior) -> Prediction:
    """Of one member of an ensemble with Gaussian outputs, where targets are one of some classes."""
    data, label = problem.data, torch.as_tensor(problem.data.y_test)
    if problem.spec.data.class_targets is not None:
        own = label.argmax(1)
        return {"accuracy": largest_accuracy(found.mean, found.variance, own).numpy()}
    classes = class_counts({"train": data.y_clean, "test": data.y_test})
    if classes is None or label.ndim > 1 or not problem.spec.data.may_have_classes:
        return {}
    values = torch.as_tensor(classes[0])
    return {"accuracy": gaussian_accuracy(found.mean, found.variance, label, values).numpy()}


def prior_layers(problem: Problem) -> Prediction:
    """Kernels of the layers, and Gaussian pre-activations of the prior's variance, if observed."""
    depth, observe = problem.network.depth, problem.spec.observe
    found: Prediction = {}
    if observe.kernels and problem.network.image is None:
        probes = problem.data.x_test[: min(observe.points, PROBES)]
        found["kernel"] = _layer_kernels(problem, torch.as_tensor(probes)).numpy()
    if observe.histograms:
        found["density"] = np.tile(gaussian_density(), (depth, 1, 1))
        found["pre_activation_variance"] = np.ones((depth, 1))
        if observe.correlators:
            found["pre_activation_kurtosis"] = np.zeros((depth, 1))
        if problem.network.prior == "uniform":  # the inputs are few, and their sum is no Gaussian
            for name in found.keys() & {"density", "pre_activation_kurtosis"}:
                found[name][0] = np.nan
    if observe.correlators:
        found |= _correlators(correlator_kernels(problem))
    return found


def gaussian_density() -> np.ndarray:
    """Probability of a standard normal in each bin, (bin,)."""
    edges = np.concatenate([[-np.inf], bin_edges()[1:-1], [np.inf]])
    return np.diff(ndtr(edges))


def correlator_kernels(problem: Problem) -> Tensor:
    """Kernels of the layers of the infinite network at the two points, (layer, 2, 2)."""
    network, x = problem.network, torch.as_tensor(problem.data.x_test[list(PAIR)])
    above = (*network.biases[1:], 0.0)
    of_pre_activations = (  # of one more layer, whose weights are the readout's
        uniform_pre_activation_kernels if network.prior == "uniform" else pre_activation_kernels
    )
    _, *found = of_pre_activations(
        x,
        depth=network.depth + 1,
        activation=problem.own_activation or network.activation,
        weight_variance=(*network.weights, 1.0),
        bias_variance=(*network.biases, 0.0),
    )
    return torch.stack([kernel - bias for kernel, bias in zip(found, above, strict=True)])


def _correlators(kernels: Tensor) -> Prediction:
    """What is measured of them, (layer,) each: they do not fluctuate at infinite width."""
    first, cross, second = kernels[:, 0, 0], kernels[:, 0, 1], kernels[:, 1, 1]
    return {
        "kernel_mean": first.numpy(),
        "kernel_variance": np.zeros(len(first)),
        "correlation": (cross / (first * second).sqrt()).numpy(),
    }


def _layer_kernels(problem: Problem, x: Tensor) -> Tensor:
    """σ² E[φφ'] with σ² of the layer above, before the division by χ; (layer, n, n)."""
    network = problem.network
    return torch.stack(
        [
            nngp_of(cut(network, level), x, phi=problem.own_activation)
            for level in range(1, network.depth + 1)
        ]
    )


def cut(network: Network, depth: int) -> Network:
    """The network whose readout is the layer above the first `depth` hidden ones."""
    variances = {
        "weight_variance": network.weights[: depth + 1],
        "bias_variance": network.biases[:depth],
    }
    standard = {"scaling": "standard", "chi": 1.0}
    return network.model_copy(update={"depth": depth, **variances, **standard})
