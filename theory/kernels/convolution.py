"""Kernels of convolutional networks with infinitely many channels.

Channels become independent Gaussian processes over points x and positions p, of covariance
K(x, p; x', p'). A convolution averages it over the windows around p and p', the activation maps it
to E[φφ], pooling averages both positions, and the readout sums the positions that share a weight.
No layer has a bias. In mean-field scaling the caller divides the readout's variance by χ.
Novak et al. (2019, arXiv:1810.05148), Garriga-Alonso et al. (2019, arXiv:1808.05587).
"""

import itertools
import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from theory.activations.expectations import Moment, moment, most_in_single
from theory.activations.records import Activation
from theory.kernels.coincidence import first_equal, met, settle
from theory.kernels.convolution_inputs import Head, check_images, check_patches, checked_weights
from theory.kernels.fully_connected import nngp
from theory.numerics.precision import check_diagonals, in_range, single_does

ALIGNED = 1 << 23  # covariances at a time where p = p', so that those of a position are many
ALL_PAIRS = 1 << 20  # covariances at a time of all pairs of positions, which stay in cache
ROWS = 512  # of a kernel at a time
WINDOW = 9  # positions that a 3 x 3 filter sees


def patch_nngp(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    patches: int,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
) -> Tensor:
    """Covariance of the outputs of filters on P patches x_i that do not overlap, (n1, n2).

    K_0(x_i, x'_i) = σ_0² x_i·x'_i/S for patches of S numbers, K_1 = (σ_1²/P) Σ_i E[φφ] over
    N(0, K_0(x_i, x'_i)): only patches at the same place meet. K_l = σ_l² E[φφ] over K_{l-1} for
    l = 2, ..., depth. Thus depth 1 is the convolution and its readout, and each further layer is
    dense. x1 is (n1, P S), x2 (n2, P S) or None for x1 itself; `weight_variance` is
    (σ_0², ..., σ_a²), depth + 1 numbers. Raises ValueError for what does not fit.
    """
    weights = checked_weights(weight_variance, depth)
    check_patches(x1, x2, patches)
    together, value = x1 if x2 is None else torch.cat([x1, x2]), moment(activation)
    variances = _patch_variances(together.double(), patches, value, weights)
    check_diagonals(variances[-1:], x1.dtype)
    dtype, most = x1.dtype, most_in_single(activation, value)
    if dtype != torch.float64 and not single_does(variances[:-1], most):
        x1, x2 = x1.double(), None if x2 is None else x2.double()
    kernel = x1.new_zeros(len(x1), len(x1 if x2 is None else x2))
    seconds = [None] * patches if x2 is None else x2.chunk(patches, 1)
    for first, second in zip(x1.chunk(patches, 1), seconds, strict=True):
        kernel += nngp(
            first,
            second,
            depth=1,
            activation=activation,
            weight_variance=[weights[0], weights[1] / patches],
            bias_variance=0.0,
        )
    for weight, variance in zip(weights[2:], variances[1:-1], strict=True):
        features = value.features(variance.to(kernel.dtype))
        columns = features if x2 is None else features[len(x1) :]
        for part, rows in zip(kernel.split(ROWS), features[: len(x1)].split(ROWS), strict=True):
            part.copy_(value.pairs(rows, part, columns)).mul_(weight)
    if x2 is None:
        kernel = kernel.tril() + kernel.tril(-1).T
    settle(kernel, variances[-1], first_equal(together), cross=x2 is not None)
    return kernel.to(dtype)


def patch_pre_activation_kernels(
    x: Tensor,
    *,
    patches: int,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
) -> tuple[Tensor, ...]:
    """Covariances of the pre-activations of every hidden layer: K_0, ..., K_{depth-1}.

    Arguments as in `patch_nngp`. K_0 is (n P, n P), over the patches of one point after those of
    the other, since patches at different places share their filters; the others are (n, n).
    """
    weights = checked_weights(weight_variance, depth)
    check_patches(x, None, patches)
    columns = x.unflatten(1, (patches, -1)).flatten(0, 1)
    dense = [
        patch_nngp(
            x,
            patches=patches,
            depth=level,
            activation=activation,
            weight_variance=weights[: level + 1],
        )
        for level in range(1, depth)
    ]
    scale = weights[0] / columns.shape[1]
    first = columns @ columns.T * scale
    first = first.tril() + first.tril(-1).T
    own = columns.square().sum(1) * scale
    check_diagonals([own], x.dtype)
    settle(first, own, first_equal(columns), cross=False)
    return (first, *dense)


def convolutional_nngp(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    image: tuple[int, int, int],
    pool_after: Collection[int],
    head: Head,
    activation: Activation,
    weight_variance: Sequence[float],
) -> Tensor:
    """Covariance of the outputs of 3 x 3 convolutions with zero padding and a readout, (n1, n2).

    K_0(p, p') = Σ_c x_c(p) x'_c(p') / channels. The pre-activations of layer l have covariance
    (σ_l²/9) Σ_δ K_{l-1}(p + δ, p' + δ) over the nine shifts δ, zero outside the image; K_l is E[φφ]
    over it, then averaged over squares of 2 x 2 of p and of p' if l, counted from 1, is in
    `pool_after`. The output has σ_a² times the mean of the last K over p = p' ("flatten") or over
    all p and p' ("average"). x1 is (n1, channels · height · width) for the image (channels, height,
    width), x2 likewise or None for x1; `weight_variance` is (σ_1², ..., σ_a²), one for each layer.

    With a flat head and no pooling only positions p = p' are needed, height · width numbers for
    each pair of points; otherwise all pairs of positions are. Raises ValueError for what does not
    fit.
    """
    weights = checked_weights(weight_variance, len(weight_variance) - 1)
    network = _Network(frozenset(pool_after), head, moment(activation), weights)
    check_images(network.head, len(network.weights) - 1, network.pools, x1, x2, image)
    aligned = head == "flatten" and not network.pools
    evaluate = _aligned if aligned else _all_pairs
    positions = image[1] * image[2]
    room = ALIGNED // positions if aligned else ALL_PAIRS // positions**2
    side = max(1, math.isqrt(room))

    together = x1 if x2 is None else torch.cat([x1, x2])
    points, own = _points(network, together.unflatten(1, image), aligned, activation)
    check_diagonals([own], x1.dtype)
    first = points.take(slice(0, len(x1)))
    second = first if x2 is None else points.take(slice(len(x1), None))
    kernel = x1.new_empty(len(first.x), len(second.x))
    for rows, columns in itertools.product(_parts(len(first.x), side), _parts(len(second.x), side)):
        if x2 is None and columns.start > rows.start:
            continue
        block = evaluate(network, first.take(rows), second.take(columns)).to(kernel.dtype)
        kernel[rows, columns] = block
        if x2 is None:
            kernel[columns, rows] = block.T if columns != rows else block.tril() + block.tril(-1).T
    settle(kernel, own, first_equal(together), cross=x2 is not None)
    return kernel


class _Network(NamedTuple):
    pools: frozenset[int]
    head: Head
    value: Moment
    weights: tuple[float, ...]


class Positions(NamedTuple):
    """What a layer needs to know of each position of each point."""

    features: Tensor  # of E[φφ]: (n, position, m)
    own: Tensor  # E[φ²], (n, position)
    same: Tensor  # a number that positions of equal pre-activations have in common, (n, position)

    def take(self, part: slice) -> "Positions":
        """Those of some points."""
        return Positions._make(values[part] for values in self)


class _Points(NamedTuple):
    """Some of the inputs, with what the layers need to know of each of their positions."""

    x: Tensor  # (n, channels, height, width)
    layers: list[Positions]

    def take(self, part: slice) -> "_Points":
        return _Points(self.x[part], [layer.take(part) for layer in self.layers])


def _points(
    network: _Network, images: Tensor, aligned: bool, activation: Activation
) -> tuple[_Points, Tensor]:
    """The inputs and the output's variance of each, (n,).

    Inputs in single precision become double where that would not do.
    """
    evaluate = _aligned_variances if aligned else _all_pairs_variances
    same = equal_positions(images, network.pools, len(network.weights) - 1)

    def made(x: Tensor) -> tuple[list[Tensor], _Points, Tensor]:
        variances, own = evaluate(network, x, same)
        in_range(own, *variances)
        layers = [positions_of(network.value, v, s) for v, s in zip(variances, same, strict=True)]
        return variances, _Points(x, layers), own

    if images.dtype != torch.float64:
        most = most_in_single(activation, network.value)
        if single_does([images.double().square().mean(1) * network.weights[0]], most):
            variances, points, own = made(images)
            if single_does(variances, most):
                return points, own
    _, points, own = made(images.double())
    return points, own


def positions_of(value: Moment, variance: Tensor, same: Tensor) -> Positions:
    """Of variances (n, position)."""
    flat = variance.flatten()
    features, own = value.features(flat), value.diagonal(flat)
    return Positions(
        features.unflatten(0, variance.shape), own.view_as(variance), _but_zeros(same, own)
    )


def _but_zeros(same: Tensor, own: Tensor) -> Tensor:
    """Numbers of equal positions, where zeros, of which there may be many, have each its own."""
    apart = -1 - torch.arange(own.numel(), device=own.device).view_as(same)
    return torch.where(own.view_as(same) > 0, same, apart)


def equal_positions(images: Tensor, pools: Collection[int], depth: int) -> list[Tensor]:
    """For each layer the numbers of positions, (n, position): equal ones see equal patches."""
    points, _, height, width = images.shape
    known = first_equal(images.movedim(1, 3).flatten(0, 2)).view(points, height, width)
    found = []
    for layer in range(1, depth + 1):
        around = pad(known, [1] * 4, value=-1).unfold(1, 3, 1).unfold(2, 3, 1)
        known = first_equal(around.flatten(3).flatten(0, 2)).view_as(known)
        found.append(known.flatten(1))
        if layer in pools:
            squares = known.unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)
            known = first_equal(squares.flatten(0, 2)).view(squares.shape[:3])
    return found


def _aligned(network: _Network, first: _Points, second: _Points) -> Tensor:
    """A tile of the kernel from covariances (height, width, n1, n2) of p = p'."""
    covariance = torch.einsum("acij,bcij->ijab", first.x, second.x) / first.x.shape[1]
    *hidden, readout = network.weights
    for weight, known, other in zip(hidden, first.layers, second.layers, strict=True):
        covariance = shifted(shifted(covariance, [0]), [1]) * (weight / WINDOW)
        features = known.features.unbind(1), other.features.unbind(1)
        matrices = zip(features[0], covariance.flatten(0, 1), features[1], strict=True)
        expectations = torch.stack([network.value.pairs(*matrix) for matrix in matrices])
        expectations = met(expectations, known.own.T, known.same.T, other.same.T)
        covariance = expectations.view_as(covariance)
    return covariance.mean((0, 1)) * readout


def _aligned_variances(
    network: _Network, x: Tensor, same: list[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Variances of pre-activations without pooling, by layer: (n, position); and the output's."""
    variance, found = x.square().mean(1), []
    for weight in network.weights[:-1]:
        variance = shifted(shifted(variance, [1]), [2]) * (weight / WINDOW)
        found.append(variance.flatten(1))
        variance = network.value.diagonal(variance.flatten()).view_as(variance)
    return found, variance.mean((1, 2)) * network.weights[-1]


def _all_pairs(network: _Network, first: _Points, second: _Points) -> Tensor:
    """A tile of the kernel from covariances (n1, height, width, n2, height, width)."""
    covariance = _input_covariance(first.x, second.x)
    for level, (known, other) in enumerate(zip(first.layers, second.layers, strict=True)):
        covariance = _convolved(network, level, covariance)
        covariance = _handed_on(network, level, known, covariance, other)
    return _read_out(network, covariance)


def _read_out(network: _Network, covariance: Tensor) -> Tensor:
    if network.head == "average":
        mean = covariance.mean((1, 2, 4, 5))
    else:
        mean = torch.einsum("aijbij->ab", covariance) / math.prod(covariance.shape[1:3])
    return mean * network.weights[-1]


def _all_pairs_variances(
    network: _Network, x: Tensor, same: list[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Variances of pre-activations, by layer: (n, position); and the output's.

    Pooling mixes positions, so that each point needs the covariances of all of its own.
    """
    found: list[list[Tensor]] = [[] for _ in network.weights[:-1]]
    own = []
    for place, point in enumerate(x.split(1)):
        covariance = _input_covariance(point, point)
        for level, variances in enumerate(found):
            covariance = _convolved(network, level, covariance)
            variance = _matrix(covariance).diagonal().clone()
            layer = positions_of(network.value, variance[None], same[level][place][None])
            covariance = _handed_on(network, level, layer, covariance, layer)
            variances.append(variance)
        own.append(_read_out(network, covariance).flatten())
    return [torch.stack(variances) for variances in found], torch.cat(own)


def _input_covariance(x1: Tensor, x2: Tensor) -> Tensor:
    """K_0, (n1, height, width, n2, height, width)."""
    return torch.einsum("acij,bckl->aijbkl", x1, x2) / x1.shape[1]


def _convolved(network: _Network, level: int, covariance: Tensor) -> Tensor:
    """Of the pre-activations of a layer, from that of its inputs."""
    scale = network.weights[level] / WINDOW
    return shifted(shifted(covariance, [1, 4]), [2, 5]) * scale


def _handed_on(
    network: _Network, level: int, first: Positions, covariance: Tensor, second: Positions
) -> Tensor:
    """E[φφ], averaged where the layer pools."""
    features = first.features.flatten(0, 1), second.features.flatten(0, 1)
    expectation = network.value.pairs(features[0], _matrix(covariance), features[1])
    same = first.same.flatten(), second.same.flatten()
    expectation = met(expectation, first.own.flatten(), *same).view_as(covariance)
    if level + 1 in network.pools:
        for axis in (1, 2, 4, 5):
            expectation = expectation.unflatten(axis, (-1, 2)).mean(axis + 1)
    return expectation


def _matrix(covariance: Tensor) -> Tensor:
    """(point · position, point · position)."""
    return covariance.flatten(3).flatten(0, 2)


def shifted(values: Tensor, axes: Sequence[int]) -> Tensor:
    """Σ_δ values(p + δ) over δ = -1, 0, 1 along all of these axes together, zero outside."""
    total, overlap = values.clone(), values.shape[axes[0]] - 1
    for start in (0, 1):
        source, target = values, total
        for axis in axes:
            source = source.narrow(axis, start, overlap)
            target = target.narrow(axis, 1 - start, overlap)
        target += source
    return total


def _patch_variances(
    x: Tensor, patches: int, value: Moment, weights: tuple[float, ...]
) -> list[Tensor]:
    """K_0(x_i, x_i) of the patches, (n, P), then K_1(x, x), ..., K_depth(x, x), (n,)."""
    columns = x.unflatten(1, (patches, -1))
    variance = columns.square().sum(2) * (weights[0] / columns.shape[2])
    after = value.diagonal(variance.flatten()).view_as(variance).mean(1) * weights[1]
    found = [in_range(variance, variance), in_range(after, variance)]
    for weight in weights[2:]:
        found.append(in_range(value.diagonal(found[-1]) * weight, found[-1]))
    return found


def _parts(count: int, side: int) -> list[slice]:
    return [slice(start, min(start + side, count)) for start in range(0, count, side)]
