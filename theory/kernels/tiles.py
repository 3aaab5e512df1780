"""Covariances of the layers of a fully connected network on one tile: some points against others.

Every layer takes the covariance K of its pre-activations to σ² E[φφ] + σ_b², that of the next, and
to σ² E[φ'φ'], by which the tangent kernel goes on. Two activations have ways of their own: erf
shares the root of both expectations, relu follows the angle between the points.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from theory.activations.closed_forms import erf_at_half_angle, half_angle, saturates
from theory.activations.expectations import Moment, derivative_moment, moment, most_in_single
from theory.activations.records import Activation
from theory.numerics.precision import in_range, single_does

NARROW = 1 / 256  # sin² of half an angle below which single precision would not tell it from zero
NARROW_SINE = 1 / 64  # sine of half an angle below which it is the difference of two directions
FEW_OF_A_TILE = 1 / 64  # of a tile: so many narrow angles are found one by one
PAIRS = 64  # of points, in double precision
ROWS = 256
SUM = 256  # products that single precision adds one by one

Layer = tuple[Tensor, Tensor | None]  # K_l, and σ_l² E[φ'φ'] over K_{l-1} where it is wanted


class Network(NamedTuple):
    """φ and the variances; E[φ'φ'] where slopes are wanted."""

    activation: Activation
    value: Moment
    slope: Moment | None
    weights: tuple[float, ...]  # of each layer, the readout's last
    biases: tuple[float, ...]  # of each hidden layer

    @classmethod
    def of(
        cls,
        activation: Activation,
        weights: tuple[float, ...],
        biases: tuple[float, ...],
        slopes: bool,
    ) -> "Network":
        """A network of len(weights) - 1 hidden layers."""
        slope = derivative_moment(activation) if slopes else None
        return cls(activation, moment(activation), slope, weights, biases)

    @property
    def depth(self) -> int:
        """Hidden layers."""
        return len(self.weights) - 1

    def offset(self, layer: int) -> float:
        """Bias variance of a layer; the readout has none."""
        return self.biases[layer] if layer < self.depth else 0.0


class Points(NamedTuple):
    """Some of the inputs, with what the layers need to know of each of them."""

    x: Tensor  # (n, d), in the precision of the layers
    packed: tuple[Tensor, ...]  # the same, some dimensions at a time, as products want them
    variances: Tensor  # (n, depth + 1): K_l(x, x) and the output's; in float64 for relu
    tangent: Tensor | None  # (n,): Θ(x, x) where slopes are wanted
    values: list[Tensor]  # by layer: features of E[φφ]
    slopes: list[Tensor]  # by layer: features of E[φ'φ']

    def take(self, part: slice) -> "Points":
        """Some of the points."""
        values, slopes = ([f[part] for f in features] for features in (self.values, self.slopes))
        tangent = None if self.tangent is None else self.tangent[part]
        return Points(self.x[part], (), self.variances[part], tangent, values, slopes)

    def pack(self) -> "Points":
        """The same points, ready to be multiplied.

        torch has two libraries for single precision, and on some CPUs the one of its ordinary
        tensors uses half of their width. The other adds one product after the other, so that it
        gets no more than SUM of them at a time.
        """
        fits = self.x.device.type == "cpu" and self.x.dtype == torch.float32
        if not fits or self.x.requires_grad or not torch.backends.mkldnn.is_available():
            return self._replace(packed=(self.x,))
        pieces = self.x.tensor_split(-(-self.x.shape[1] // SUM), dim=1)
        return self._replace(packed=tuple(piece.contiguous().to_mkldnn() for piece in pieces))


def points_of(network: Network, x: Tensor) -> Points:
    """Variances of all layers at each input, and their features.

    Inputs in single precision become double where that would not do. Raises ValueError where double
    precision does not either.
    """
    if x.dtype != torch.float64:
        most = most_in_single(network.activation, network.value)
        if single_does([_first_variances(network, x, torch.float64)], most):
            points = _points(network, x)
            if single_does([points.variances[:, :-1]], most):
                return points
    return _points(network, x.double())


def _first_variances(network: Network, x: Tensor, dtype: torch.dtype) -> Tensor:
    norms = [part.to(dtype).square().sum(1) for part in x.split(ROWS)]
    return torch.cat(norms) * (network.weights[0] / x.shape[1]) + network.offset(0)


def _points(network: Network, x: Tensor) -> Points:
    dtype = torch.float64 if network.activation == "relu" else x.dtype
    variance = _first_variances(network, x, dtype)
    tangent = None if network.slope is None else variance
    variances, values, slopes = [variance], [], []
    for layer in range(1, network.depth + 1):
        weight, back = network.weights[layer], variance
        values.append(network.value.features(variance))
        variance = network.value.diagonal(variance) * weight + network.offset(layer)
        variances.append(in_range(variance, back))
        if network.slope is not None and tangent is not None:
            slopes.append(network.slope.features(back))
            tangent = tangent * (network.slope.diagonal(back) * weight) + variance
    return Points(x, (), torch.stack(variances, dim=1), tangent, values, slopes)


def _product(first: Points, second: Points) -> Tensor:
    """x1 x2ᵀ of packed points."""
    pairs = zip(first.packed, second.packed, strict=True)
    total, *others = (linear(x1, x2).to_dense() if x1.is_mkldnn else x1 @ x2.T for x1, x2 in pairs)
    for other in others:
        total += other
    return total


def layers(network: Network, first: Points, second: Points, same: bool) -> Iterator[Layer]:
    """K_0 of a tile, then K_1 to that of the output; `same` if the points are the same."""
    scale = network.weights[0] / first.x.shape[1]
    covariance = _product(first, second).mul_(scale).add_(network.offset(0))
    yield covariance, None
    match network.activation:
        case "erf" if saturates(first.variances, second.variances):
            yield from _saturated_layers(network, first, covariance, second)
        case "erf":
            yield from _erf_layers(network, first, covariance, second)
        case "relu":
            yield from _relu_layers(network, first, covariance, second, same)
        case _:
            yield from _general_layers(network, first, covariance, second)


def _general_layers(
    network: Network, first: Points, covariance: Tensor, second: Points
) -> Iterator[Layer]:
    for layer, weight in enumerate(network.weights[1:], start=1):
        known = first.values[layer - 1], second.values[layer - 1]
        following = network.value.pairs(known[0], covariance, known[1]) * weight
        back = None
        if network.slope is not None:
            known = first.slopes[layer - 1], second.slopes[layer - 1]
            back = network.slope.pairs(known[0], covariance, known[1]) * weight
        covariance = following.add_(network.offset(layer))
        yield covariance, back


def _erf_layers(
    network: Network, first: Points, covariance: Tensor, second: Points
) -> Iterator[Layer]:
    """σ² (2/π) arcsin s and σ² (2/π) r r' / √(1 - s²), with s = r r' K and r² = 2/(1 + 2k)."""
    for layer, weight in enumerate(network.weights[1:], start=1):
        rows, columns = (
            torch.sqrt(2 / (1 + 2 * points.variances[:, layer - 1])) for points in (first, second)
        )
        factor, back = weight * 2 / math.pi, None
        sine = (covariance * rows[:, None]).mul_(columns)
        if network.slope is not None:
            back = torch.addcmul(sine.new_ones(()), sine, sine, value=-1).rsqrt_()
            back.mul_(factor * rows[:, None]).mul_(columns)
        covariance = sine.asin_().mul_(factor)
        if offset := network.offset(layer):
            covariance.add_(offset)
        yield covariance, back


def _saturated_layers(
    network: Network, first: Points, covariance: Tensor, second: Points
) -> Iterator[Layer]:
    """erf where pre-activations are so large that it tells of points only how far apart they are.

    Then the kernel follows the angle itself, which for inputs that are near is their difference.
    """
    for layer, weight in enumerate(network.weights[1:], start=1):
        rows, columns = first.variances[:, layer - 1, None], second.variances[:, layer - 1]
        _, sine, cosine = half_angle(rows, covariance, columns)
        if layer == 1:
            _by_difference(network, first, second, sine, cosine)
        value, back = erf_at_half_angle(rows, sine, cosine, columns)
        covariance = value.mul_(weight).add_(network.offset(layer))
        yield covariance, back.mul_(weight)


def _by_difference(
    network: Network, first: Points, second: Points, sine: Tensor, cosine: Tensor
) -> None:
    """Sines and cosines of half of the angles near 0 and π anew."""
    rows, columns = _directions(network, first), _directions(network, second)
    for part, others in ((sine, columns), (cosine, -columns)):
        narrow = part < NARROW_SINE
        if int(narrow.sum()) > FEW_OF_A_TILE * narrow.numel():
            mode = "donot_use_mm_for_euclid_dist"
            part.copy_(torch.where(narrow, torch.cdist(rows, others, compute_mode=mode) / 2, part))
            continue
        for pairs in narrow.nonzero().split(PAIRS):
            some, those = pairs.T
            part[some, those] = (rows[some] - others[those]).norm(dim=1) / 2


def _directions(network: Network, points: Points) -> Tensor:
    """Inputs and the bias as unit vectors."""
    scale = math.sqrt(network.weights[0] / points.x.shape[1])
    bias = points.x.new_full((len(points.x), 1), math.sqrt(network.offset(0)))
    return torch.cat([points.x * scale, bias], dim=1) * _inverse_root(points)[:, None]


def _relu_layers(
    network: Network, first: Points, covariance: Tensor, second: Points, same: bool
) -> Iterator[Layer]:
    """σ² √(kk') (1/2 - b') and σ² (1 - θ/π)/2, where b = sin²(θ/2) tells the angle θ of two points.

    b' = b - (sin θ - θ cos θ)/2π is that of the next layer, but for its bias. Near zero b keeps its
    digits, which the covariance does not: they are all that the NTK sees of a small angle.
    """
    below, above = _half_angle(network, first, covariance, second, same)
    square, cosine = below * above, 0.5 - below  # sin²θ/4 and (cos θ)/2
    for layer, weight in enumerate(network.weights[1:], start=1):
        sine = square.sqrt_()
        angle = torch.atan2(sine, cosine)
        below = below.sub(torch.addcmul(sine, angle, cosine, value=-1), alpha=1 / math.pi)
        rows, columns = (
            (points.variances[:, layer - 1] * weight).sqrt().to(below.dtype)
            for points in (first, second)
        )
        offset = network.offset(layer)
        cosine = 0.5 - below
        covariance = (cosine * rows[:, None]).mul_(columns)
        if offset:
            covariance.add_(offset)
        yield covariance, angle.mul_(-weight / (2 * math.pi)).add_(weight / 2)
        if offset:
            below = _with_bias(below, rows / 2**0.5, columns / 2**0.5, offset)
            cosine = 0.5 - below
        square = torch.addcmul(below, below, below, value=-1)  # never near π any more


def _with_bias(below: Tensor, rows: Tensor, columns: Tensor, bias: float) -> Tensor:
    """sin²(θ/2) after a bias: 2 √((a² + β)(c² + β)) of it is 2ac of it before, and what the norms
    differ by, √((a² + β)(c² + β)) - ac - β = β (a - c)² / (√((a² + β)(c² + β)) + ac + β).
    """
    product = rows[:, None] * columns
    roots, others = (torch.sqrt(root.square() + bias) for root in (rows, columns))
    norm = roots[:, None] * others
    apart = rows[:, None] - columns
    apart = (apart * bias).div_(norm + product + bias).mul_(apart)
    return (below * product).add_(apart, alpha=0.5).div_(norm)


def _half_angle(
    network: Network, first: Points, covariance: Tensor, second: Points, same: bool
) -> tuple[Tensor, Tensor]:
    """sin² and cos² of half the angle between inputs, whose covariance is known."""
    rows, columns = (_inverse_root(points).to(covariance.dtype) for points in (first, second))
    halved = (covariance * (rows / 2)[:, None]).mul_(columns)
    if same:
        halved.diagonal().fill_(0)  # not narrow, for now
    below, above = (0.5 - halved).clamp_(0, 1), (0.5 + halved).clamp_(0, 1)
    least, most = torch.aminmax(below)
    if covariance.dtype != torch.float64 and (least < NARROW or most > 1 - NARROW):
        _exactly(network, first, second, below, above)
    if same:
        below.diagonal().fill_(0)
        above.diagonal().fill_(1)
    return below, above


def _inverse_root(points: Points) -> Tensor:
    """1/√k of the inputs, and zero for those of zero, which are at right angles to all."""
    variance = points.variances[:, 0]
    return 1 / torch.where(variance > 0, variance, torch.inf).sqrt()


def _exactly(network: Network, first: Points, second: Points, below: Tensor, above: Tensor) -> None:
    """Angles near 0 and π anew in double precision."""
    narrow = (below < NARROW) | (above < NARROW)
    scale = network.weights[0] / first.x.shape[1]
    inverse, others = _inverse_root(first), _inverse_root(second)
    if int(narrow.sum()) > FEW_OF_A_TILE * narrow.numel():
        covariance = first.x.double() @ second.x.double().T * scale + network.offset(0)
        halved = covariance * inverse[:, None] * others / 2
        below.copy_((0.5 - halved).clamp_(0, 1))
        above.copy_((0.5 + halved).clamp_(0, 1))
        return
    for pairs in narrow.nonzero().split(PAIRS):
        rows, columns = pairs.T
        products = torch.linalg.vecdot(first.x[rows].double(), second.x[columns].double())
        halved = (products * scale + network.offset(0)) * inverse[rows] * others[columns] / 2
        below[rows, columns] = (0.5 - halved).clamp_(0, 1).to(below.dtype)
        above[rows, columns] = (0.5 + halved).clamp_(0, 1).to(above.dtype)
