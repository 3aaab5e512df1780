"""Theories of feature learning on one dataset: what each predicts, as `ensemble_theories` does.

Of fully connected networks of finite width. `index` is the number of the dataset, by which the
random direction of the pre-activations is drawn. Each function raises ValueError where its
equations are not solved.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from pipelines.theories.ensemble_theories import Prediction, Problem, prior_layers, summary
from storage.arrays.coordinates import bin_edges
from storage.arrays.schema import Variable
from storage.campaign.spec import PROBES, has_overlaps
from theory.activations.kernel_map import KernelMap
from theory.activations.neurons import quasi_normals
from theory.activations.records import Activation
from theory.finite_width import adaptive
from theory.finite_width import equations_of_state as gaussian_layers
from theory.finite_width.variational_gaussian import variational_gaussian
from theory.kernels.whitening import variance_along
from theory.regression.exact import Posterior
from workers.ensemble.ensemble import observed_directions
from workers.models import activation_of, prior_kernels

DRAWS = 8192  # of a neuron's weights
SEED = 0  # of the draws: a theory has the same numbers each time

_DATASET = ("cell", "dataset")
SOLVED = {"residual": Variable(_DATASET, "f8", "what is left of the equations")}
SAMPLED = SOLVED | {
    "effective_draws": Variable(_DATASET, "f8", "draws of a neuron's weights that count")
}
GAUSSIAN = SOLVED | {
    "free_energy": Variable(_DATASET, "f8", "Γ, minus the log evidence; the least of it holds")
}


# -- laws of the neurons --------------------------------------------------------------------


def adaptive_kernel(problem: Problem, widths: Sequence[int], index: int) -> Iterable[Prediction]:
    """The law of one neuron in the field of the others, at each width; one hidden layer."""
    network, spec = problem.network, problem.spec
    inputs = problem.data.x_train.shape[1] + any(network.biases)
    normals = quasi_normals(DRAWS, inputs, SEED)
    for width in widths:
        if problem.prior:
            yield _prior(problem)
            continue
        found = adaptive.adaptive_kernel(
            *_data(problem),
            width,
            normals,
            activation=_activation(problem),
            weight_variance=_two_variances(problem),
            bias_variance=network.bias_variance,
            force="cavity",
        )
        values = summary(problem, found.prediction(_test(problem)))
        values |= _weights(problem, found.weight_covariance, found.readout_norm())
        values |= {
            "residual": np.array(found.residual),
            "effective_draws": np.array(found.effective_draws),
        }
        if spec.observe.kernels:
            _, kernel = found.covariances(_probes(problem))
            values["kernel"] = (network.chi * kernel)[None].numpy()
        if spec.observe.histograms:
            (along,) = scaled_directions(problem, index)
            edges = torch.as_tensor(bin_edges())
            variance, density = found.pre_activations(_points(problem), along, edges)
            values["pre_activation_variance"] = variance[None].numpy()
            values["density"] = density[None].numpy()
        yield values


def vga(problem: Problem, widths: Sequence[int], index: int) -> Iterable[Prediction]:
    """The Gaussian nearest to the law of a neuron, at each width; one hidden layer."""
    for width in widths:
        if problem.prior:
            yield _prior(problem)
            continue
        found = variational_gaussian(
            *_data(problem),
            width,
            activation=_activation(problem),
            weight_variance=_two_variances(problem),
            bias_variance=problem.network.bias_variance,
        )
        yield _gaussian(problem, found, index)


def equations_of_state(problem: Problem, widths: Sequence[int], index: int) -> Iterable[Prediction]:
    """Gaussian layers that adapt, at each width; two hidden layers."""
    for width in widths:
        if problem.prior:
            yield _prior(problem)
            continue
        found = gaussian_layers.equations_of_state(
            *_data(problem),
            [width, width],
            activation=_activation(problem),
            weight_variance=problem.network.physical_weight_variance,
            bias_variance=problem.network.bias_variance,
        )
        yield _gaussian(problem, found, index)


def _gaussian(problem: Problem, found: gaussian_layers.Saddle, index: int) -> Prediction:
    """What Gaussian layers predict."""
    values = summary(problem, found.prediction(_test(problem)))
    values |= _weights(problem, found.weight_covariance, found.readout_norm())
    values |= {
        "residual": np.array(found.residual),
        "free_energy": np.array(found.free_energy),
    }
    observe, network = problem.spec.observe, problem.network
    if observe.kernels:
        activities = KernelMap(_activation(problem))
        fields = found.covariances(_probes(problem))[:-1]
        kernels = [
            variance * activities(covariance)
            for variance, covariance in zip(network.weights[1:], fields, strict=True)
        ]
        values["kernel"] = torch.stack(kernels).numpy()
    if observe.histograms:
        fields = found.covariances(_points(problem))[:-1]
        variance = torch.stack(
            [
                variance_along(covariance, along)
                for covariance, along in zip(fields, scaled_directions(problem, index), strict=True)
            ]
        )
        values["pre_activation_variance"] = variance.numpy()
        values["density"] = _bins(variance).numpy()
    return values


def _bins(variance: Tensor) -> Tensor:
    """Probabilities of the bins under N(0, variance), along a new last axis."""
    inner = torch.as_tensor(bin_edges()[1:-1])
    below = torch.special.ndtr(inner / variance[..., None].sqrt())
    ends = torch.zeros_like(below[..., :1])
    return torch.cat([ends, below, ends + 1], -1).diff(dim=-1)


def _weights(problem: Problem, covariance: Tensor, readout_norm: float) -> Prediction:
    """Squared norm of the readout, and first-layer weights along and across the teacher."""
    values = {"weight_norm": np.array(readout_norm)}
    if has_overlaps(problem.spec) and problem.spec.observe.overlaps:
        teacher = torch.as_tensor(problem.data.teacher)
        along = teacher @ covariance @ teacher
        across = (covariance.trace() - along) / max(1, len(teacher) - 1)
        prior = problem.network.weights[0] / len(teacher)
        values["hidden_variance"] = (torch.stack([along, across]) / prior).numpy()
    return values


def scaled_directions(problem: Problem, index: int) -> list[Tensor]:
    """Vectors over the points that make z of the pre-activations, (direction, point) per layer."""
    spec = problem.spec
    kernels = prior_kernels(spec, _points(problem), activation_of(spec, problem.plugins))
    along = observed_directions(spec, index, problem.data, kernels)
    return [
        vectors / deviations[:, None]
        for vectors, deviations in zip(along.vectors, along.deviations, strict=True)
    ]


# -- of the problem -------------------------------------------------------------------------


def _prior(problem: Problem) -> Prediction:
    """An ensemble that no data have touched."""
    values = summary(problem, Posterior(torch.zeros_like(problem.diagonal), problem.diagonal))
    identity = torch.eye(problem.data.x_train.shape[1], dtype=torch.float64)
    covariance = identity * (problem.network.weights[0] / len(identity))
    readout = problem.network.physical_weight_variance[-1]
    return values | prior_layers(problem) | _weights(problem, covariance, readout)


def _activation(problem: Problem) -> Activation:
    return problem.own_activation or problem.network.activation


def _two_variances(problem: Problem) -> tuple[float, float]:
    first, readout = problem.network.physical_weight_variance
    return first, readout


def _data(problem: Problem) -> tuple[Tensor, Tensor, float]:
    return torch.as_tensor(problem.data.x_train), problem.y, problem.temperature


def _test(problem: Problem) -> Tensor:
    return torch.as_tensor(problem.data.x_test)


def _points(problem: Problem) -> Tensor:
    """Where pre-activations are observed."""
    return _test(problem)[: problem.spec.observe.points]


def _probes(problem: Problem) -> Tensor:
    """Where kernels are observed."""
    return _test(problem)[: min(problem.spec.observe.points, PROBES)]
