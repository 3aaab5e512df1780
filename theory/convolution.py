"""Kernels of convolutional networks with infinitely many channels.

Channels become independent Gaussian processes over points x and positions p, of covariance
K(x, p; x', p'). A convolution averages it over the windows around p and p', the activation maps it
to E[φφ], pooling averages both positions, and the readout sums the positions that share a weight.
No layer has a bias. In mean-field scaling the caller divides the readout's variance by χ.
Novak et al. (2019), Garriga-Alonso et al. (2019).
"""

import itertools
import math
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from theory.expectations import Activation, Moment, moment
from theory.kernels import nngp

ALIGNED = 1 << 23  # covariances at a time where p = p', so that those of a position are many
ALL_PAIRS = 1 << 20  # covariances at a time of all pairs of positions, which stay in cache
ROWS = 512  # of a kernel at a time
WINDOW = 9  # positions that a 3 x 3 filter sees

Head = Literal["flatten", "average"]


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
    weights = _weights(weight_variance, depth)
    _check_patches(x1, x2, patches)
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
    value = moment(activation)
    variance = _dense_variance(x1 if x2 is None else torch.cat([x1, x2]), patches, value, weights)
    for weight in weights[2:]:
        features = value.features(variance)
        columns = features if x2 is None else features[len(x1) :]
        for part, rows in zip(kernel.split(ROWS), features[: len(x1)].split(ROWS), strict=True):
            part.copy_(value.pairs(rows, part, columns)).mul_(weight)
        variance = value.diagonal(variance) * weight
    return kernel


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
    weights = _weights(weight_variance, depth)
    _check_patches(x, None, patches)
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
    return (columns @ columns.T * (weights[0] / columns.shape[1]), *dense)


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
    weights = _weights(weight_variance, len(weight_variance) - 1)
    network = _Network(frozenset(pool_after), head, moment(activation), weights)
    _check_images(network, x1, x2, image)
    aligned = head == "flatten" and not network.pools
    variances = _aligned_variances if aligned else _all_pairs_variances
    evaluate = _aligned if aligned else _all_pairs
    positions = image[1] * image[2]
    room = ALIGNED // positions if aligned else ALL_PAIRS // positions**2
    side = max(1, math.isqrt(room))

    images = (x1 if x2 is None else torch.cat([x1, x2])).unflatten(1, image)
    points = _Points(images, _features(network, variances(network, images)))
    first = points.take(slice(0, len(x1)))
    second = first if x2 is None else points.take(slice(len(x1), None))
    kernel = x1.new_empty(len(first.x), len(second.x))
    for rows, columns in itertools.product(_parts(len(first.x), side), _parts(len(second.x), side)):
        if x2 is None and columns.start > rows.start:
            continue
        block = evaluate(network, first.take(rows), second.take(columns))
        kernel[rows, columns] = block
        if x2 is None:
            kernel[columns, rows] = block.T if columns != rows else block.tril() + block.tril(-1).T
    return kernel


class _Network(NamedTuple):
    pools: frozenset[int]
    head: Head
    value: Moment
    weights: tuple[float, ...]


class _Points(NamedTuple):
    """Some of the inputs, with what the layers need to know of each of their positions."""

    x: Tensor  # (n, channels, height, width)
    features: list[Tensor]  # by layer: (n, position, m)

    def take(self, part: slice) -> "_Points":
        return _Points(self.x[part], [features[part] for features in self.features])


def _features(network: _Network, variances: list[Tensor]) -> list[Tensor]:
    """Features of E[φφ] by layer, (n, position, m), from variances (n, position)."""
    return [network.value.features(v.flatten()).unflatten(0, v.shape) for v in variances]


def _aligned(network: _Network, first: _Points, second: _Points) -> Tensor:
    """A tile of the kernel from covariances (height, width, n1, n2) of p = p'."""
    covariance = torch.einsum("acij,bcij->ijab", first.x, second.x) / first.x.shape[1]
    *hidden, readout = network.weights
    for weight, known, other in zip(hidden, first.features, second.features, strict=True):
        covariance = shifted(shifted(covariance, [0]), [1]) * (weight / WINDOW)
        matrices = zip(known.unbind(1), covariance.flatten(0, 1), other.unbind(1), strict=True)
        expectations = [network.value.pairs(*matrix) for matrix in matrices]
        covariance = torch.stack(expectations).view_as(covariance)
    return covariance.mean((0, 1)) * readout


def _aligned_variances(network: _Network, x: Tensor) -> list[Tensor]:
    """Variances of pre-activations without pooling, by layer: (n, position)."""
    variance, found = x.square().mean(1), []
    for weight in network.weights[:-1]:
        variance = shifted(shifted(variance, [1]), [2]) * (weight / WINDOW)
        found.append(variance.flatten(1))
        variance = network.value.diagonal(variance.flatten()).view_as(variance)
    return found


def _all_pairs(network: _Network, first: _Points, second: _Points) -> Tensor:
    """A tile of the kernel from covariances (n1, height, width, n2, height, width)."""
    covariance = _input_covariance(first.x, second.x)
    for level, (known, other) in enumerate(zip(first.features, second.features, strict=True)):
        covariance = _convolved(network, level, covariance)
        covariance = _handed_on(
            network, level, known.flatten(0, 1), covariance, other.flatten(0, 1)
        )
    if network.head == "average":
        mean = covariance.mean((1, 2, 4, 5))
    else:
        mean = torch.einsum("aijbij->ab", covariance) / math.prod(covariance.shape[1:3])
    return mean * network.weights[-1]


def _all_pairs_variances(network: _Network, x: Tensor) -> list[Tensor]:
    """Variances of pre-activations, by layer: (n, position).

    Pooling mixes positions, so that each point needs the covariances of all of its own.
    """
    found: list[list[Tensor]] = [[] for _ in network.weights[:-1]]
    for point in x.split(1):
        covariance = _input_covariance(point, point)
        for level, variances in enumerate(found):
            covariance = _convolved(network, level, covariance)
            variance = _matrix(covariance).diagonal()
            features = network.value.features(variance)
            covariance = _handed_on(network, level, features, covariance, features)
            variances.append(variance)
    return [torch.stack(variances) for variances in found]


def _input_covariance(x1: Tensor, x2: Tensor) -> Tensor:
    """K_0, (n1, height, width, n2, height, width)."""
    return torch.einsum("acij,bckl->aijbkl", x1, x2) / x1.shape[1]


def _convolved(network: _Network, level: int, covariance: Tensor) -> Tensor:
    """Of the pre-activations of a layer, from that of its inputs."""
    scale = network.weights[level] / WINDOW
    return shifted(shifted(covariance, [1, 4]), [2, 5]) * scale


def _handed_on(
    network: _Network, level: int, first: Tensor, covariance: Tensor, second: Tensor
) -> Tensor:
    """E[φφ], averaged where the layer pools; features are (point · position, m)."""
    expectation = network.value.pairs(first, _matrix(covariance), second).view_as(covariance)
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


def _dense_variance(x: Tensor, patches: int, value: Moment, weights: tuple[float, ...]) -> Tensor:
    """K_1(x, x), (n,)."""
    columns = x.unflatten(1, (patches, -1))
    variance = columns.square().sum(2) * (weights[0] / columns.shape[2])
    return value.diagonal(variance.flatten()).view_as(variance).mean(1) * weights[1]


def _parts(count: int, side: int) -> list[slice]:
    return [slice(start, min(start + side, count)) for start in range(0, count, side)]


def _weights(weight_variance: Sequence[float], depth: int) -> tuple[float, ...]:
    weights = tuple(float(variance) for variance in weight_variance)
    if depth < 1 or len(weights) != depth + 1:
        raise ValueError(
            f"{len(weights)} weight variances for {depth} hidden layers; give one for each of at "
            "least 1 layer, and one for the readout"
        )
    if not all(0 <= variance < math.inf for variance in weights):
        raise ValueError(f"variances are {weights}; give finite numbers, none negative")
    return weights


def _check_patches(x1: Tensor, x2: Tensor | None, patches: int) -> None:
    if x1.ndim != 2 or patches < 1 or x1.shape[1] % patches:
        raise ValueError(
            f"inputs are {tuple(x1.shape)}, with {patches} patches; give (points, dimension) and "
            "a number of patches that divides the dimension"
        )
    _check_second(x1, x2)


def _check_images(
    network: _Network, x1: Tensor, x2: Tensor | None, image: tuple[int, int, int]
) -> None:
    channels, height, width = image
    if x1.ndim != 2 or x1.shape[1] != math.prod(image):
        raise ValueError(
            f"inputs are {tuple(x1.shape)} for images of {channels} x {height} x {width}; give "
            f"(points, {math.prod(image)})"
        )
    _check_second(x1, x2)
    if network.head not in ("flatten", "average"):
        raise ValueError(f"head is {network.head!r}; take 'flatten' or 'average'")
    depth, pools = len(network.weights) - 1, network.pools
    if not pools <= set(range(1, depth + 1)):
        raise ValueError(
            f"pool_after is {sorted(pools)} for {depth} convolutions; count them from 1 to {depth}"
        )
    if height % 2 ** len(pools) or width % 2 ** len(pools):
        raise ValueError(
            f"{len(pools)} times pooling halves {height} x {width} positions to no whole number; "
            "pool after fewer layers"
        )


def _check_second(x1: Tensor, x2: Tensor | None) -> None:
    if x2 is not None and (x2.shape[1:] != x1.shape[1:] or x2.dtype != x1.dtype):
        raise ValueError(
            f"the second inputs are {tuple(x2.shape)} of {x2.dtype}; give "
            f"(points, {x1.shape[1]}) of {x1.dtype} like the first"
        )
