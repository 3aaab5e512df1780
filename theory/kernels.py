"""Kernels of infinitely wide fully connected networks: NNGP, NTK and those of the hidden layers.

A network of `depth` hidden layers has pre-activation covariances

    K_0 = σ_b² + σ_w0² x·x'/d,   K_l = σ_b² + σ_wl² E[φ(u)φ(v)] over (u, v) ~ N(0, K_{l-1}),

l < depth, and a readout without bias, K = σ_a² E[φφ] over K_{depth-1}. `weight_variance` is
(σ_w0², ..., σ_a²): depth + 1 numbers. In mean-field scaling the caller divides the last one by χ.
Neal (1996), Lee et al. (2018), Jacot et al. (2018).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from theory.expectations import Activation, Moment, derivative_moment, moment

TILE = 512  # rows and columns of a tile, which stays in cache


def nngp(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float,
    tile: int = TILE,
) -> Tensor:
    """Covariance of the outputs: K = σ_a² E[φφ]_{K_{depth-1}}, (n1, n2).

    x1 is (n1, d), x2 (n2, d) or None for x1 itself; dtype and device are those of x1. Raises
    ValueError for an unknown activation, shapes or variances that do not fit.
    """
    network = _network(x1, depth, activation, weight_variance, bias_variance)

    def evaluate(first: _Points, second: _Points, same: bool) -> tuple[Tensor]:
        *_, last = _covariances(network, first, second, same)
        return (_expectation(network, depth, first, last, second) * network.weights[depth],)

    (kernel,) = _assemble(network, x1, x2, evaluate, 1, tile)
    return kernel


def pre_activation_kernels(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float,
    tile: int = TILE,
) -> tuple[Tensor, ...]:
    """Covariances K_0, ..., K_{depth-1} of the pre-activations of every hidden layer.

    Arguments as in `nngp`; the variance of the readout does not enter.
    """
    network = _network(x1, depth, activation, weight_variance, bias_variance)

    def evaluate(first: _Points, second: _Points, same: bool) -> Iterator[Tensor]:
        return _covariances(network, first, second, same)

    return _assemble(network, x1, x2, evaluate, depth, tile)


def ntk(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float,
    tile: int = TILE,
) -> Tensor:
    """Neural tangent kernel in NTK parametrisation, all weights and hidden biases trained.

    Θ_0 = K_0, Θ_l = K_l + σ_wl² Θ_{l-1} E[φ'φ']_{K_{l-1}}, (n1, n2): the sum over parameters of
    products of gradients of the output. Arguments as in `nngp`. Jacot et al. (2018).
    """
    slope = derivative_moment(activation, x1.dtype)
    network = _network(x1, depth, activation, weight_variance, bias_variance)._replace(slope=slope)

    def back(layer: int, first: _Points, covariance: Tensor, second: _Points) -> Tensor:
        """σ_wl² E[φ'φ'] that multiplies the tangent kernel of the layer below."""
        known = first.slopes[layer - 1], second.slopes[layer - 1]
        return slope.pairs(known[0], covariance, known[1]) * network.weights[layer]

    def evaluate(first: _Points, second: _Points, same: bool) -> tuple[Tensor]:
        covariances = _covariances(network, first, second, same)
        covariance = next(covariances)
        tangent = covariance
        for layer, following in enumerate(covariances, start=1):
            tangent = following + back(layer, first, covariance, second) * tangent
            covariance = following
        readout = _expectation(network, depth, first, covariance, second) * network.weights[depth]
        return (readout + back(depth, first, covariance, second) * tangent,)

    (kernel,) = _assemble(network, x1, x2, evaluate, 1, tile)
    return kernel


class _Network(NamedTuple):
    depth: int
    value: Moment
    slope: Moment | None  # E[φ'φ'], where it is needed
    weights: tuple[float, ...]
    bias: float
    dtype: torch.dtype  # of the tiles


class _Points(NamedTuple):
    """Some of the inputs, with what the layers need to know of each of them."""

    x: Tensor  # (n, d)
    variance: Tensor  # (n,): K_0(x, x)
    values: list[Tensor]  # by layer: features of E[φφ]
    slopes: list[Tensor]  # by layer: features of E[φ'φ']

    def take(self, part: slice) -> "_Points":
        values, slopes = ([f[part] for f in features] for features in (self.values, self.slopes))
        return _Points(self.x[part], self.variance[part], values, slopes)


Evaluate = Callable[[_Points, _Points, bool], "Iterator[Tensor] | tuple[Tensor]"]


def _network(
    x: Tensor,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float,
) -> _Network:
    weights = tuple(float(variance) for variance in weight_variance)
    if depth < 1:
        raise ValueError(f"depth is {depth}; give the number of hidden layers, at least 1")
    if len(weights) != depth + 1:
        raise ValueError(
            f"{len(weights)} weight variances for {depth} hidden layers; "
            f"give {depth + 1}, the last for the readout"
        )
    if not all(0 <= variance < math.inf for variance in (*weights, bias_variance)):
        raise ValueError(
            f"variances are {weights} and {bias_variance}; give finite numbers, none negative"
        )
    # The angle of relu is like the root of the distance of two points: rounding by ε near it would
    # become an error of √ε, so that its tiles need twice the digits.
    dtype = torch.float64 if activation == "relu" else x.dtype
    value = moment(activation, x.dtype)
    return _Network(depth, value, None, weights, float(bias_variance), dtype)


def _covariances(
    network: _Network, first: _Points, second: _Points, same: bool
) -> Iterator[Tensor]:
    """K_0, ..., K_{depth-1} of one tile."""
    scale = network.weights[0] / first.x.shape[1]
    covariance = (first.x @ second.x.T).mul_(scale).add_(network.bias)
    if same:  # so that a point coincides with itself exactly
        covariance.diagonal().copy_(first.variance)
    yield covariance
    for layer in range(1, network.depth):
        expectation = _expectation(network, layer, first, covariance, second)
        covariance = expectation * network.weights[layer] + network.bias
        yield covariance


def _expectation(
    network: _Network, layer: int, first: _Points, covariance: Tensor, second: _Points
) -> Tensor:
    """E[φφ] that enters a layer."""
    return network.value.pairs(first.values[layer - 1], covariance, second.values[layer - 1])


def _points(network: _Network, x: Tensor) -> _Points:
    """Variances of all layers at each input, and their features."""
    first = x.square().sum(1) * (network.weights[0] / x.shape[1]) + network.bias
    variance, values, slopes = first, [], []
    for layer in range(1, network.depth + 1):
        values.append(network.value.features(variance))
        if network.slope is not None:
            slopes.append(network.slope.features(variance))
        variance = network.value.diagonal(variance) * network.weights[layer] + network.bias
    return _Points(x, first, values, slopes)


def _assemble(
    network: _Network, x1: Tensor, x2: Tensor | None, evaluate: Evaluate, count: int, tile: int
) -> tuple[Tensor, ...]:
    """Matrices (n1, n2) put together from tiles; the lower half suffices where x2 is None."""
    _check_inputs(x1, x2, tile)
    columns = x1 if x2 is None else x2
    matrices = tuple(x1.new_empty(len(x1), len(columns)) for _ in range(count))
    points = _points(network, (x1 if x2 is None else torch.cat([x1, x2])).to(network.dtype))
    first = points.take(slice(0, len(x1)))
    second = first if x2 is None else points.take(slice(len(x1), None))
    for rows, cols in itertools.product(_parts(len(x1), tile), _parts(len(columns), tile)):
        if x2 is None and cols.start > rows.start:
            continue
        same = x2 is None and cols == rows
        blocks = evaluate(first.take(rows), second.take(cols), same)
        for matrix, block in zip(matrices, blocks, strict=True):
            matrix[rows, cols] = block.tril() + block.tril(-1).T if same else block
            if x2 is None and not same:
                matrix[cols, rows] = block.T
    return matrices


def _parts(count: int, tile: int) -> list[slice]:
    return [slice(start, min(start + tile, count)) for start in range(0, count, tile)]


def _check_inputs(x1: Tensor, x2: Tensor | None, tile: int) -> None:
    if tile < 1:
        raise ValueError(f"tile is {tile}; give a number of rows, at least 1")
    if x1.ndim != 2 or not x1.is_floating_point():
        raise ValueError(
            f"inputs are {tuple(x1.shape)} of {x1.dtype}; give (points, dimension) floats"
        )
    if x2 is not None and (x2.ndim != 2 or x2.shape[1] != x1.shape[1] or x2.dtype != x1.dtype):
        raise ValueError(
            f"the second inputs are {tuple(x2.shape)} of {x2.dtype}; give "
            f"(points, {x1.shape[1]}) of {x1.dtype} like the first"
        )
