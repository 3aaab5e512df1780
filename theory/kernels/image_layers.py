"""Pre-activations of infinitely wide convolutional networks at the centres of their grids.

The covariance K(p, x; p', x') of pre-activations at positions p and p' depends on that of the layer
below at p + δ and p' + δ: without pooling p = p' suffices. An average over squares of 2 x 2 brings
positions together whose offset p' - p is at most 2 r + 1 if above it offsets up to r are needed.
So only offsets up to a few positions are followed. Novak et al. (2019, arXiv:1810.05148),
Garriga-Alonso et al. (2019, arXiv:1808.05587).
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from theory.activations.expectations import Moment, moment
from theory.activations.records import Activation
from theory.kernels.coincidence import first_equal, met, settle
from theory.kernels.convolution import WINDOW, Positions, equal_positions, positions_of, shifted
from theory.numerics.precision import check_diagonals, in_range

ROOM = 1 << 22  # covariances at a time
FEW_POINTS = 4  # points at a time where only each with itself is wanted
OUTSIDE = torch.iinfo(torch.int64).min  # which is the number of no position

Known = Callable[[int, Tensor], tuple[Positions, Positions]]


def central_pre_activation_kernels(
    x: Tensor,
    *,
    image: tuple[int, int, int],
    pool_after: Collection[int],
    activation: Activation,
    weight_variance: Sequence[float],
) -> tuple[Tensor, ...]:
    """Covariances of every convolution's pre-activations at one position: L matrices (n, n).

    The position is (height // 2, width // 2) of the grid that the layer has. Its kernel is
    (σ_l²/9) Σ_δ E[φφ](p + δ, p + δ) over the nine shifts, averaged over squares of 2 x 2 after each
    layer in `pool_after`, from K_0(p, p') = Σ_c x_c(p) x'_c(p') / channels. Arguments as in
    `theory.kernels.convolution.convolutional_nngp`; the readout's variance, the last, has no part
    in it. Computed in double precision. Raises ValueError for inputs that are no such images.
    """
    if x.ndim != 2 or x.shape[1] != math.prod(image):
        channels, height, width = image
        raise ValueError(
            f"inputs are {tuple(x.shape)} for images of {channels} x {height} x {width}; give "
            f"(points, {math.prod(image)})"
        )
    weights = tuple(float(variance) for variance in weight_variance[:-1])
    reaches = _reaches(len(weights), pool_after)
    network = _Network(frozenset(pool_after), moment(activation), weights, reaches)
    images = x.double().unflatten(1, image)
    same = equal_positions(images, network.pools, len(weights))
    variances = _variances(network, images, same)
    grids = [(v.shape[1] // 2) * v.shape[2] + v.shape[2] // 2 for v in variances]
    centres = [v.flatten(1)[:, centre] for v, centre in zip(variances, grids, strict=True)]
    check_diagonals(centres, x.dtype)
    known = [_positions(network.value, v, s) for v, s in zip(variances, same, strict=True)]
    kernels = tuple(x.new_empty(len(x), len(x)) for _ in weights)
    side = math.isqrt(ROOM // (math.prod(image[1:]) * (2 * reaches[0] + 1) ** 2))
    for rows, columns in itertools.combinations_with_replacement(_parts(len(x), side), 2):
        layers = _between(network, images, known, rows, columns)
        for kernel, covariance in zip(kernels, layers, strict=True):
            height, width, _, offsets, *_ = covariance.shape
            block = covariance[height // 2, width // 2, :, offsets // 2, offsets // 2]
            kernel[rows, columns] = block
            kernel[columns, rows] = block.T if rows != columns else block.tril() + block.tril(-1).T
    for kernel, own, layer, centre in zip(kernels, centres, same, grids, strict=True):
        settle(kernel, own, first_equal(layer[:, centre, None]), cross=False)
    return kernels


class _Network(NamedTuple):
    pools: frozenset[int]
    value: Moment
    weights: tuple[float, ...]  # of the convolutions
    reaches: list[int]  # largest offset to follow, by layer


def _reaches(depth: int, pool_after: Collection[int]) -> list[int]:
    reaches = [0]
    for level in range(depth - 1, 0, -1):
        reaches.insert(0, 2 * reaches[0] + 1 if level in pool_after else reaches[0])
    return reaches


def _variances(network: _Network, images: Tensor, same: list[Tensor]) -> list[Tensor]:
    """Variances of pre-activations at each position, by layer: (n, height, width)."""
    parts: list[list[Tensor]] = []
    for part in range(0, len(images), FEW_POINTS):
        some = slice(part, part + FEW_POINTS)

        def own(level: int, covariance: Tensor, some: slice = some) -> tuple[Positions, Positions]:
            found = _positions(network.value, _variance(covariance), same[level][some])
            return found, found

        layers = _covariances(network, images[some], images[some], own)
        parts.append([_variance(covariance) for covariance in layers])
    return [in_range(found, found) for found in map(torch.cat, zip(*parts, strict=True))]


def _positions(value: Moment, variance: Tensor, same: Tensor) -> Positions:
    """Of variances (n, height, width), in that shape."""
    found = positions_of(value, variance.flatten(1), same)
    return Positions._make(values.unflatten(1, variance.shape[1:]) for values in found)


def _variance(covariance: Tensor) -> Tensor:
    """K(p, x; p, x), (n, height, width)."""
    centre = covariance.shape[3] // 2
    return covariance[:, :, :, centre, centre].diagonal(dim1=2, dim2=3).movedim(2, 0)


def _between(
    network: _Network, images: Tensor, known: list[Positions], rows: slice, columns: slice
) -> Iterator[Tensor]:
    """Covariances of some points with others, whose positions are known."""

    def those(level: int, covariance: Tensor) -> tuple[Positions, Positions]:
        return known[level].take(rows), known[level].take(columns)

    return _covariances(network, images[rows], images[columns], those)


def _covariances(
    network: _Network, first: Tensor, second: Tensor, known: Known
) -> Iterator[Tensor]:
    """K(p, x; p + o, x') of pre-activations by layer, (row, column, x, down, across, x').

    It is zero where p + o is outside the grid. `known` gives the positions of both sets of points.
    """
    covariance = _input_covariance(first, second, network.reaches[0])
    for level, (weight, reach) in enumerate(zip(network.weights, network.reaches, strict=True)):
        covariance = shifted(shifted(covariance, [0]), [1]) * (weight / WINDOW)
        covariance *= _inside(covariance, 0) * _inside(covariance, 1)
        yield covariance
        if level + 1 == len(network.weights):
            return
        covariance = _activated(network.value, covariance, *known(level, covariance), reach)
        if level + 1 in network.pools:
            covariance = _pooled(_pooled(covariance, 0), 1)


def _input_covariance(first: Tensor, second: Tensor, reach: int) -> Tensor:
    """K_0, from images (n, channels, height, width)."""
    span = 2 * reach + 1
    around = pad(second, [reach] * 4).unfold(2, span, 1).unfold(3, span, 1)
    return torch.einsum("acij,bcijyx->ijayxb", first, around) / first.shape[1]


def _inside(covariance: Tensor, axis: int) -> Tensor:
    """Whether p + o is a position, along one axis of the image; in the axes of a covariance."""
    side, offsets = covariance.shape[axis], covariance.shape[axis + 3]
    place = torch.arange(side)[:, None] + torch.arange(offsets) - offsets // 2
    shape = [1] * covariance.ndim
    shape[axis], shape[axis + 3] = side, offsets
    return ((place >= 0) & (place < side)).reshape(shape).to(covariance)


def _activated(
    value: Moment, covariance: Tensor, first: Positions, second: Positions, reach: int
) -> Tensor:
    """E[φφ]; it is zero outside, where features are."""
    expectation, span = torch.empty_like(covariance), 2 * reach + 1
    around = pad(second.features.permute(1, 2, 0, 3), [0] * 4 + [reach] * 4)
    same = pad(second.same.permute(1, 2, 0), [0] * 2 + [reach] * 4, value=OUTSIDE)
    for row, column in itertools.product(*map(range, covariance.shape[:2])):
        window = slice(row, row + span), slice(column, column + span)
        here = first.features[:, row, column], first.own[:, row, column]
        others = around[window].flatten(0, 2)
        found = value.pairs(here[0], covariance[row, column].flatten(1), others)
        found = met(found, here[1], first.same[:, row, column], same[window].flatten())
        expectation[row, column] = found.view_as(covariance[row, column])
    return expectation


def _pooled(values: Tensor, axis: int) -> Tensor:
    """Averages over two positions of p and of p' along an axis, at every second offset."""
    moved = values.movedim((axis, axis + 3), (0, 1))
    offsets = moved.shape[1] // 2  # of those that are handed on
    parts = [moved[own::2, 1 + other - own :: 2][:, :offsets] for own in (0, 1) for other in (0, 1)]
    return (sum(parts[1:], parts[0]) / len(parts)).movedim((0, 1), (axis, axis + 3))


def _parts(count: int, side: int) -> list[slice]:
    side = max(1, side)
    return [slice(start, min(start + side, count)) for start in range(0, count, side)]
