"""Kernels of infinitely wide fully connected networks: NNGP, NTK and those of the hidden layers.

A network of `depth` hidden layers has pre-activation covariances

    K_0 = σ_b² + σ_w0² x·x'/d,   K_l = σ_b² + σ_wl² E[φ(u)φ(v)] over (u, v) ~ N(0, K_{l-1}),

l < depth, and a readout without bias, K = σ_a² E[φφ] over K_{depth-1}. `weight_variance` is
(σ_w0², ..., σ_a²): depth + 1 numbers; `bias_variance` is σ_b² of all hidden layers, or a number
for each. In mean-field scaling the caller divides the last weight variance by χ.
Neal (1996, doi:10.1007/978-1-4612-0745-0), Lee et al. (2018, arXiv:1711.00165), Jacot et al. (2018,
arXiv:1806.07572).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.records import Activation
from theory.kernels.coincidence import first_equal, settle
from theory.kernels.tiles import Network, Points, points_of
from theory.kernels.tiles import layers as layers_of
from theory.kernels.variances import layer_variances
from theory.numerics.precision import check_diagonals

TILE = 256  # rows and columns of a tile, of which four stay in cache
DEVICE_TILE = 2048  # elsewhere than on a CPU, where each tile is some dozens of launches
GROUP = 3  # tiles of columns that are ready at a time


class Kernels(NamedTuple):
    """Both kernels of one network, (n1, n2)."""

    nngp: Tensor
    ntk: Tensor


def nngp(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
    tile: int | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Covariance of the outputs: K = σ_a² E[φφ]_{K_{depth-1}}, (n1, n2).

    x1 is (n1, d), x2 (n2, d) or None for x1 itself; dtype and device are those of x1. `out` is the
    matrix to write, where there is one already. Raises ValueError for an unknown activation,
    shapes or variances that do not fit.
    """
    network = _network(x1, depth, activation, weight_variance, bias_variance, slopes=False)

    def evaluate(first: Points, second: Points, same: bool) -> tuple[Tensor]:
        *_, (last, _) = layers_of(network, first, second, same)
        return (last,)

    def own(points: Points) -> tuple[Tensor]:
        return (points.variances[:, -1],)

    (kernel,) = _assemble(network, x1, x2, evaluate, own, tile, () if out is None else (out,))
    return kernel


def pre_activation_kernels(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
    tile: int | None = None,
) -> tuple[Tensor, ...]:
    """Covariances K_0, ..., K_{depth-1} of the pre-activations of every hidden layer.

    Arguments as in `nngp`; the variance of the readout does not enter.
    """
    network = _network(x1, depth, activation, weight_variance, bias_variance, slopes=False)

    def evaluate(first: Points, second: Points, same: bool) -> Iterator[Tensor]:
        for covariance, _ in islice(layers_of(network, first, second, same), depth):
            yield covariance

    def own(points: Points) -> tuple[Tensor, ...]:
        return points.variances[:, :-1].unbind(1)

    return _assemble(network, x1, x2, evaluate, own, tile)


def ntk(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
    tile: int | None = None,
) -> Tensor:
    """Neural tangent kernel in NTK parametrisation, all weights and hidden biases trained.

    Θ_0 = K_0, Θ_l = K_l + σ_wl² Θ_{l-1} E[φ'φ']_{K_{l-1}}, (n1, n2): the sum over parameters of
    products of gradients of the output. Arguments as in `nngp`. Jacot et al. (2018).
    """
    network = _network(x1, depth, activation, weight_variance, bias_variance, slopes=True)

    def evaluate(first: Points, second: Points, same: bool) -> tuple[Tensor]:
        return (_both(network, first, second, same).ntk,)

    def own(points: Points) -> tuple[Tensor]:
        return (_both_own(points).ntk,)

    (kernel,) = _assemble(network, x1, x2, evaluate, own, tile)
    return kernel


def nngp_and_ntk(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
    tile: int | None = None,
) -> Kernels:
    """Both at the cost of the second. Arguments as in `nngp`."""
    network = _network(x1, depth, activation, weight_variance, bias_variance, slopes=True)

    def evaluate(first: Points, second: Points, same: bool) -> Kernels:
        return _both(network, first, second, same)

    return Kernels._make(_assemble(network, x1, x2, evaluate, _both_own, tile))


Evaluate = Callable[[Points, Points, bool], Iterable[Tensor]]
Own = Callable[[Points], tuple[Tensor, ...]]  # each matrix where a point meets itself, (n,)


def _both(network: Network, first: Points, second: Points, same: bool) -> Kernels:
    covariances = layers_of(network, first, second, same)
    covariance, _ = next(covariances)
    tangent = covariance.clone()
    for covariance, back in covariances:
        assert back is not None
        tangent.mul_(back).add_(covariance)
    return Kernels(covariance, tangent)


def _both_own(points: Points) -> Kernels:
    assert points.tangent is not None
    return Kernels(points.variances[:, -1], points.tangent)


def _network(
    x: Tensor,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
    slopes: bool,
) -> Network:
    if depth < 1:
        raise ValueError(f"depth is {depth}; give the number of hidden layers, at least 1")
    weights, biases = layer_variances(weight_variance, bias_variance, depth)
    return Network.of(activation, weights, biases, slopes)


def _assemble(
    network: Network,
    x1: Tensor,
    x2: Tensor | None,
    evaluate: Evaluate,
    own: Own,
    tile: int | None,
    out: tuple[Tensor, ...] = (),
) -> tuple[Tensor, ...]:
    """Matrices (n1, n2) put together from tiles; the lower half suffices where x2 is None.

    Where points are equal, each is a number of its own: see `theory.kernels.coincidence`.
    """
    if tile is None:
        tile = TILE if x1.device.type == "cpu" else DEVICE_TILE
    _check_inputs(x1, x2, tile)
    columns, together = (x1, x1) if x2 is None else (x2, torch.cat([x1, x2]))
    points = points_of(network, together)
    variances = own(points)
    check_diagonals(variances, x1.dtype)
    matrices = out or tuple(x1.new_empty(len(x1), len(columns)) for _ in variances)
    first = points.take(slice(len(x1)))
    second = first if x2 is None else points.take(slice(len(x1), None))
    for rows, some, cols, others in _tiles(first, second, tile, half=x2 is None):
        same = x2 is None and cols == rows
        blocks = evaluate(some, others, same)
        for matrix, block in zip(matrices, blocks, strict=True):
            matrix[rows, cols] = block.tril() + block.tril(-1).T if same else block
            if x2 is None and not same:
                matrix[cols, rows] = block.T.contiguous()  # faster than a copy of the transpose
    equal = first_equal(together)
    for matrix, variance in zip(matrices, variances, strict=True):
        settle(matrix, variance, equal, cross=x2 is not None)
    return matrices


def _tiles(
    first: Points, second: Points, tile: int, half: bool
) -> Iterator[tuple[slice, Points, slice, Points]]:
    """Places and points of the rows and columns of each tile; those below the diagonal if `half`.

    A few tiles of columns meet all rows, so that a few alone are held twice, as products want them.
    """
    starts = range(0, len(second.x), tile)
    for group in (starts[k : k + GROUP] for k in range(0, len(starts), GROUP)):
        columns = [(part := slice(s, s + tile), second.take(part).pack()) for s in group]
        for start in range(group[0] if half else 0, len(first.x), tile):
            rows = slice(start, start + tile)
            some = first.take(rows).pack()
            for cols, others in columns:
                if not half or cols.start <= start:
                    yield rows, some, cols, others


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
