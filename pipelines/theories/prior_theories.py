"""Theories of networks that no data have touched, at finite width, on one dataset.

Per dataset: those of the outputs as in `ensemble_theories`; kernel_mean and kernel_variance
(layer,) at the first probe point; of pre-activations density (layer, direction, bin),
pre_activation_variance and pre_activation_kurtosis (layer, direction). NaN along directions that a
theory does not know.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from pipelines.theories.ensemble_theories import (
    Prediction,
    Problem,
    correlator_kernels,
    gaussian_density,
    summary,
)
from storage.arrays.coordinates import bin_edges
from storage.arrays.schema import BINS, direction_names
from theory.regression.exact import Posterior
from theory.signal import layered_corrections, prior_density, prior_moments
from theory.signal.finite_width import WidthCorrections

POINT = "point"
NODES = 12  # of a bin; the density has no scale below its distance to 0
FARTHEST, TAIL = 1e6, 400  # of z, and nodes from the last edge to there

Array = NDArray[np.float64]


def width_corrections(problem: Problem, widths: Sequence[int]) -> Iterable[Prediction]:
    """The prior to order 1/N at each width: its kernels, and pre-activations at a point.

    p(z) = φ(z) (1 + G/(2NK) He_2(z) + V/(8NK²) He_4(z)) of z in units of the infinite network. The
    mean output is 0 at any width, its variance that of the kernel above the last layer.
    """
    network = problem.network
    x = torch.as_tensor(problem.data.x_test)
    first = network.weights[0] * x.square().mean(1) + network.biases[0]
    found = layered_corrections(
        problem.own_activation or network.activation,
        weight_variance=network.weights[1:],
        bias_variance=(*network.biases[1:], 0.0),
        variance=first,
    )
    at_point = WidthCorrections(*(each[:, 0].numpy() for each in found))  # pyright: ignore
    for width in widths:
        variance = (found.variance + found.mean / width)[-1] / network.chi
        yield (
            summary(problem, _centred(problem, variance))
            | _kernels(problem, at_point, width)
            | _pre_activations(problem, at_point, width)
        )


def _centred(problem: Problem, variance: Tensor) -> Posterior:
    none = torch.zeros(problem.data.y_test.shape, dtype=torch.float64)
    return Posterior(none, variance)


def _kernels(problem: Problem, found: WidthCorrections, width: int) -> Prediction:
    """Of the kernel above each hidden layer, without the biases of the layer above."""
    biases = np.array([*problem.network.biases[1:], 0.0])
    return {
        "kernel_mean": (found.variance + found.mean / width)[1:] - biases,  # pyright: ignore
        "kernel_variance": found.fluctuation[1:] / width,  # pyright: ignore
    }


def _pre_activations(problem: Problem, found: WidthCorrections, width: int) -> Prediction:
    """Of each hidden layer at the point; of the first, a Gaussian, along all directions."""
    if not problem.spec.observe.histograms:
        return {}
    k, g, v = (np.asarray(each[:-1]) for each in found[:3])
    shift, spread = g / (width * k), v / (width * k**2)
    edges = bin_edges()[1:-1]
    normal = np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi)
    below = ndtr(edges) - normal * (  # ∫ φ He_n = -φ He_(n-1)
        shift[:, None] / 2 * edges + spread[:, None] / 8 * (edges**3 - 3 * edges)
    )
    return _along(
        problem,
        density=np.diff(below, prepend=0.0, append=1.0),
        pre_activation_variance=1 + shift,
        pre_activation_kurtosis=3 * spread,
    )


def _along(problem: Problem, **at_point: Array) -> Prediction:
    """What holds at the point, (layer, ...), as (layer, direction, ...)."""
    names = direction_names(problem.spec)
    found = {}
    for name, values in at_point.items():
        several = np.full((len(values), len(names), *values.shape[1:]), np.nan)
        several[0] = values[0]  # the first layer is Gaussian whatever the width
        several[:, names.index(POINT)] = values
        found[name] = several
    return found


def exact_prior(problem: Problem, widths: Sequence[int]) -> Iterable[Prediction]:
    """The prior of linear and relu networks without biases at each width, exactly.

    What is linear in the weights of a layer, as any direction is in linear networks, has the law of
    a point.
    """
    activation, depth = problem.network.activation, problem.network.depth
    unit = 2.0 if activation == "relu" else 1.0  # σ_w² that keeps the variance
    kernels = correlator_kernels(problem)[:, 0, 0].numpy()
    outputs = summary(problem, _centred(problem, problem.diagonal))
    for width in widths:
        law = prior_moments(
            activation,
            weight_variance=unit,
            bias_variance=0.0,
            variance=1.0,
            widths=[width] * depth,
        )
        yield (
            outputs
            | {"kernel_mean": kernels, "kernel_variance": kernels**2 * law.variance[1:].numpy()}
            | _exact_pre_activations(problem, width, law.excess_kurtosis[:-1].numpy())
        )


def _exact_pre_activations(problem: Problem, width: int, kurtosis: Array) -> Prediction:
    if not problem.spec.observe.histograms:
        return {}
    activation, depth = problem.network.activation, problem.network.depth
    densities = [gaussian_density()]
    densities += [binned(activation, [width] * layers) for layers in range(1, depth)]
    found = {
        "density": np.stack(densities),
        "pre_activation_variance": np.ones(depth),
        "pre_activation_kurtosis": kurtosis,
    }
    if activation == "linear":
        return {name: values[:, None] for name, values in found.items()}
    return _along(problem, **found)


def binned(activation: str, widths: Sequence[int]) -> Array:
    """Probability of z in each bin after hidden layers of these widths, (bin,).

    z is in units of its standard deviation. The bins beside 0, where the density may diverge, have
    what the others leave; that below it also the networks that are dead, z = 0.
    """
    unit = 2.0 if activation == "relu" else 1.0

    def density(z: Array) -> Array:
        points = torch.from_numpy(z)
        law = prior_density(
            activation, points, weight_variance=unit, variance=1.0, widths=[*widths]
        )
        return law.numpy()

    middle = BINS // 2
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    edges = bin_edges()[middle + 1 : -1]  # from the end of the bin above 0 to the last
    low, high = edges[:-1, None], edges[1:, None]
    z = (low + high) / 2 + (high - low) / 2 * nodes
    inner = (density(z) * weights).sum(1) * (edges[1] - edges[0]) / 2
    tail_nodes, tail_weights = np.polynomial.legendre.leggauss(TAIL)
    reach = np.log(FARTHEST / edges[-1]) / 2
    far = edges[-1] * np.exp(reach * (1 + tail_nodes))
    tail = (density(far) * far * tail_weights).sum() * reach
    alive = 1.0
    if activation == "relu":
        alive = float(np.prod([1 - 0.5**width for width in widths]))
    upper = np.concatenate([[0.0], inner, [tail]])
    upper[0] = alive / 2 - upper.sum()
    lower = upper[::-1].copy()
    lower[-1] += 1 - alive  # z = 0 is counted below
    return np.concatenate([lower, upper])
