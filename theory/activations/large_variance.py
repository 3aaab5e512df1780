"""E[g(u) g(v)] where the Hermite series of g is too long: u and v of a large variance.

With ρ = k12 / √(k11 k22) between 0 and 1, u and v share √ρ z and differ in the rest, so that

    E[g(u) g(v)] = E_z[G(k11, z) G(k22, z)],   G(k, z) = E_x[g(√k (√ρ z + √(1-ρ) x))],

over independent standard normals. Even and odd g extend it to negative ρ; any other g is the sum of
both. As a function of ρ and of the variances it is smooth on logarithmic scales, 1 - ρ counted from
1/k on, and interpolated in these by polynomials (barycentric: Berrut and Trefethen 2004,
doi:10.1137/S0036144502417715). The trapezoidal rule with nodes as close as g, of scale 1, demands
gives it where they have their nodes.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

Elementwise = Callable[[Tensor], Tensor]

REACH = 9.0  # standard deviations
STEP = 0.25  # of nodes in u: tanh, with poles at ±iπ/2, is summed to e^{-4π²} thereby
SMOOTHED = 0.5  # of nodes in units of the width of a Gaussian that smoothes or weighs
CORRELATIONS = 72
SHARPNESS = 2.0  # sinh t = √(k (1 - ρ)/2) times this, at the greatest k
VARIANCES = 16  # and so many more for each factor of e between the least and the greatest
MORE = 5
FEW_VARIANCES = 4  # variances, of which each is a node of its own
ROUNDED = 1.0  # factors of e to which the ends are, so that like variances have the same nodes
KEPT = 32  # laws, of a few megabytes each
ROOM = 1 << 21  # numbers at a time
CHECKED = 12  # variances
CLOSER = 0.6  # nodes of the check, in steps
NEARLY = 0.01  # (1 - ρ) k
ACCEPTED_ERROR = 1e-9  # relative error, above which more variances are tried
DOUBLINGS = 2
REFUSED_ERROR = 1e-3
LEAST_VARIANCE = 1e-12  # variance, below which g is as good as its first terms


def second_moment(function: Elementwise, variance: Tensor) -> Tensor:
    """E[g(√k z)²] of each variance, (n,)."""
    return _moments(function, variance).sum(0)


def table(function: Elementwise, parities: tuple[int, ...], variance: Tensor) -> Tensor:
    """What `interpolated` needs to know of points: (n, 2 + parity · node · variance).

    `parities` are those of g: (0,) if it is even, (1,) if it is odd, else (0, 1). First comes
    √k of the greatest variance, then √E[g²]. Raises ValueError where g is not smooth enough by
    1e-3.
    """
    known, place = variance.clamp_min(LEAST_VARIANCE).unique(return_inverse=True)
    if len(known) > FEW_VARIANCES:
        least, greatest = _range(variance)
        law = _law_of_range(function, parities, least, greatest, variance.dtype, variance.device)
        weights, factors, sharpness = law.weights(variance), law.factors, law.sharpness
        return _told(function, parities, variance, weights, factors, sharpness)
    weights = torch.eye(len(known), dtype=variance.dtype, device=variance.device)[place]
    sharpness = math.sqrt(float(known.max()))
    factors = _factors(function, parities, known, sharpness)
    found = _told(function, parities, variance, weights, factors, sharpness)
    _refuse(_error(function, parities, variance, found), sharpness)
    return found


def interpolated(
    first: Tensor, correlation: Tensor, second: Tensor, parities: tuple[int, ...]
) -> Tensor:
    """E[g(u) g(v)], (n1, n2), from ρ and parts of one `table`; at most √(E[g²]E[g²])."""
    sharpness = float(first[0, 0])
    nodes, barycentric = _chebyshev(CORRELATIONS, 0.0, _longest(sharpness), correlation)
    place = torch.asinh(((1 - correlation.abs()) / 2).sqrt() * (SHARPNESS * sharpness))
    rows, columns = (
        points[:, 2:].unflatten(1, (len(parities), CORRELATIONS, -1)).permute(1, 2, 0, 3)
        for points in (first, second)
    )
    signs = [torch.sign(correlation) if parity else None for parity in parities]
    total, norm = torch.zeros_like(correlation), torch.zeros_like(correlation)
    for m, (node, weight) in enumerate(zip(nodes.tolist(), barycentric.tolist(), strict=True)):
        share = weight / _apart(place - node)
        norm += share
        for row, column, sign in zip(rows[:, m], columns[:, m], signs, strict=True):
            value = row @ column.T
            total.addcmul_(value if sign is None else value.mul_(sign), share)
    most = torch.outer(first[:, 1], second[:, 1])
    return total.div_(norm).clamp_(-most, most)


class Law(NamedTuple):
    """E[g(u) g(v)] / √(E[g²]E[g²]) at nodes of the correlation and of the variances."""

    weights: Callable[[Tensor], Tensor]  # of the nodes, at variances: (n, variance)
    factors: Tensor  # (parity, node, variance, variance)
    sharpness: float  # √k of the greatest variance


@lru_cache(maxsize=KEPT)  # a search asks again and again for points that hardly move
def _law_of_range(
    function: Elementwise,
    parities: tuple[int, ...],
    least: float,
    greatest: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Law:
    """Interpolated in log(1 + k) between two ends, at as many variances as are needed."""
    like = torch.empty(0, dtype=dtype, device=device)
    sharpness = math.sqrt(math.expm1(greatest))
    ends = torch.linspace(least, greatest, CHECKED + 1, dtype=dtype, device=device)
    some = ((ends[1:] + ends[:-1]) / 2).expm1()
    count = VARIANCES + math.ceil(MORE * (greatest - least))
    most = count << DOUBLINGS
    while True:
        nodes, barycentric = _chebyshev(count, least, greatest, like)
        weights = partial(_lagrange_in_log, nodes, barycentric)
        factors = _factors(function, parities, nodes.expm1(), sharpness)
        told = _told(function, parities, some, weights(some), factors, sharpness)
        error = _error(function, parities, some, told)
        if error <= ACCEPTED_ERROR or count == most:
            _refuse(error, sharpness)
            return Law(weights, factors, sharpness)
        count *= 2


def _lagrange_in_log(nodes: Tensor, barycentric: Tensor, variance: Tensor) -> Tensor:
    return _lagrange(variance.clamp_min(LEAST_VARIANCE).log1p(), nodes, barycentric)


def _told(
    function: Elementwise,
    parities: tuple[int, ...],
    variance: Tensor,
    weights: Tensor,
    factors: Tensor,
    sharpness: float,
) -> Tensor:
    """The table of points of these variances, each with its weights of the nodes."""
    scale = _moments(function, variance).sqrt()
    rows = torch.einsum("pn,nr,pmrs->npms", scale[list(parities)], weights, factors)
    whole = torch.stack([torch.full_like(variance, sharpness), scale.norm(dim=0)], dim=1)
    return torch.cat([whole, rows.flatten(1)], dim=1)


def _refuse(error: float, sharpness: float) -> None:
    if error > REFUSED_ERROR:
        raise ValueError(
            f"the expectations of the activation are uncertain by {error:.1g} at variances up to "
            f"{sharpness**2:.3g}; scale the inputs down, or give a smoother activation"
        )


def _range(variance: Tensor) -> tuple[float, float]:
    """Rounded ends of log(1 + k), between which all variances lie."""
    least, greatest = (float(end) / ROUNDED for end in variance.log1p().aminmax())
    return ROUNDED * math.floor(least), ROUNDED * (math.floor(greatest) + 1)


def _moments(function: Elementwise, variance: Tensor) -> Tensor:
    """E[g(√k z)²] of the even and of the odd part of g, (2, n)."""
    root = variance.sqrt()[:, None]
    z, weight = _half_line(_spacing(float(root.max())), variance)
    found = []
    for some in root.split(max(1, ROOM // len(z))):
        above, below = function(some * z), function(-some * z)
        parts = torch.stack([above + below, above - below]) / 2
        found.append(2 * parts.square() @ weight)
    return torch.cat(found, dim=1)


def _factors(
    function: Elementwise,
    parities: tuple[int, ...],
    variance: Tensor,
    sharpness: float,
) -> Tensor:
    """A with A Aᵀ = E[g(u) g(v)] of unit g for all pairs of variances: (parity, node, n, n)."""
    size = _moments(function, variance)[list(parities)].sqrt()
    matrices = []
    for correlation in _correlations(sharpness, variance):
        smooth, weight = _smoothed(function, parities, variance, correlation)
        smooth = smooth / size.clamp_min(torch.finfo(size.dtype).tiny)[:, :, None]
        matrices.append(2 * (smooth * weight) @ smooth.mT)
    eigenvalues, vectors = torch.linalg.eigh(torch.stack(matrices, dim=1))
    return vectors * eigenvalues.clamp_min(0).sqrt()[..., None, :]


def _smoothed(
    function: Elementwise,
    parities: tuple[int, ...],
    variance: Tensor,
    correlation: float,
    closer: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The even and odd part of G(k, z) at nodes z > 0, (parity, n, nodes), and their weights."""
    shared, own = math.sqrt(correlation), math.sqrt(1 - correlation)
    root = variance.sqrt()
    longest = float(root.max())
    spacing = max(_spacing(longest * shared), SMOOTHED * min(1.0, own / shared))
    z, weight = _half_line(closer * spacing, variance)
    x, density = _half_line(closer * _spacing(longest * own), variance)
    x, density = own * torch.cat([-x, x]), torch.cat([density, density])

    def averaged(roots: Tensor, centres: Tensor) -> Tensor:
        return function(roots[:, None, None] * (shared * centres[:, None] + x)) @ density

    rows = []
    for roots in root.split(max(1, ROOM // (len(x) * len(z)))):
        columns = []
        for centres in z.split(max(1, ROOM // len(x))):
            above = averaged(roots, centres)
            if parities == (0, 1):
                below = averaged(roots, -centres)
                columns.append(torch.stack([above + below, above - below]) / 2)
            else:
                columns.append(above[None])
        rows.append(torch.cat(columns, dim=2))
    return torch.cat(rows, dim=1), weight


def _error(
    function: Elementwise, parities: tuple[int, ...], variance: Tensor, points: Tensor
) -> float:
    """Of the table with closer nodes, for u and v that coincide but for their variances and nearly
    do, where a structure much below scale 1 shows; in units of √(E[g²]E[g²]).
    """
    told = variance >= LEAST_VARIANCE
    variance, points = variance[told], points[told]
    some = variance.argsort()[:: -(-len(variance) // CHECKED)]
    errors, scale = [], variance.new_ones(())
    for correlation in (1.0, 1 - NEARLY / (1 + float(variance.max()))):
        smooth, weight = _smoothed(function, parities, variance[some], correlation, CLOSER)
        expected = (2 * (smooth * weight) @ smooth.mT).sum(0)
        if correlation == 1:
            size = expected.diagonal().sqrt().clamp_min(torch.finfo(expected.dtype).tiny)
            scale = torch.outer(size, size)
        known = torch.full_like(expected, correlation)
        found = interpolated(points[some], known, points[some], parities)
        errors.append(float(((found - expected).abs() / scale).max()))
    return max(errors)


def _spacing(root: float) -> float:
    """Of nodes z at which g(root · z) is wanted."""
    return min(SMOOTHED, STEP / max(root, STEP))


def _half_line(spacing: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes z > 0, none being 0, and weights of the normal density, whose sum is 1/2."""
    z = (
        torch.arange(math.ceil(REACH / spacing), dtype=like.dtype, device=like.device) + 0.5
    ) * spacing
    weight = torch.exp(-z.square() / 2)
    return z, weight / (2 * weight.sum())


def _longest(sharpness: float) -> float:
    """t at which ρ = 0."""
    return math.asinh(math.sqrt(0.5) * SHARPNESS * sharpness)


def _correlations(sharpness: float, like: Tensor) -> list[float]:
    """ρ at the nodes."""
    nodes, _ = _chebyshev(CORRELATIONS, 0.0, _longest(sharpness), like)
    return [1 - 2 * (math.sinh(t) / (SHARPNESS * sharpness)) ** 2 for t in nodes.tolist()]


def _chebyshev(count: int, least: float, greatest: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes of an interval, ends excluded, and their barycentric weights."""
    angle = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
    sign = 1 - 2 * (torch.arange(count) % 2)
    nodes = least + (greatest - least) * (1 - angle.cos()) / 2
    return nodes.to(like), (angle.sin() * sign).to(like)


def _lagrange(place: Tensor, nodes: Tensor, barycentric: Tensor) -> Tensor:
    """The polynomials that are 1 at one of the nodes: (n, nodes)."""
    share = barycentric / _apart(place[:, None] - nodes)
    return share / share.sum(1, keepdim=True)


def _apart(difference: Tensor) -> Tensor:
    """Never zero, so that a node has all of the weight of a place that is on it."""
    least = torch.finfo(difference.dtype).eps ** 2  # that and no less, to leave the values room
    return torch.where(difference == 0, least, difference)
