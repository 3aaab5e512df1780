"""Expectations over one Gaussian pre-activation u ~ N(0, K), for many variances K at once.

Gauss-Legendre panels whose ends are the kinks of φ, 0 and powers of two, so that a φ of any scale
and of any kinks is analytic on each.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from theory.signal.elementwise import Shape

REACH = 12.0  # standard deviations
PANELS = 20  # of equal length, before they are cut
ORDER = 16  # nodes of a panel
NEAR_VARIANCES, FAR_VARIANCES = 2.0 ** torch.arange(-5, 1), 2.0 ** torch.arange(7, 12)
ENDS = torch.cat(
    [NEAR_VARIANCES, torch.arange(2, 65, 2), FAR_VARIANCES]
).double()  # of panels, in u
ROOM = 1 << 21  # numbers at a time
OUTER = 11.0  # standard deviations, beyond which no more than rounding may come from
ROUNDING = 1e-14


class Moments(NamedTuple):
    """What the flow of the variance needs to know of φ at each variance K."""

    second: Tensor
    """E[φ²]."""
    second_slope: Tensor
    """dE[φ²]/dK = E[φ φ' u]/K."""
    slope: Tensor
    """E[φ'²]."""


def moments(shape: Shape, variance: Tensor) -> Moments:
    """Of each variance, (n,), positive. Raises ValueError where φ is not finite or grows too fast.

    Errors are a few roundings: below 1e-13 of the expectation for φ analytic between its kinks.
    """

    def integrands(u: Tensor, z: Tensor, root: Tensor) -> Tensor:
        value, slope = shape.value(u), shape.slope(u)
        return torch.stack([value.square(), value * slope * (z / root), slope.square()])

    if shape.rays is not None:
        below, above = shape.rays
        mean = (below**2 + above**2) / 2
        whole = torch.full_like(variance, mean)
        return Moments(mean * variance, whole, whole.clone())
    return Moments(*expectations(shape, variance, integrands))


def expectations(
    shape: Shape, variance: Tensor, integrands: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """E of several functions of (u, z, √K) with u = √K z, (functions, n), of variances (n,)."""
    found, steepest = [], shape.steepest()
    for root, z, weight in _panels(shape, variance.sqrt()):
        terms = integrands(root * z, z, root) * weight
        total = terms.sum((-1, -2))
        outer = (terms.abs() * (z.abs() > OUTER)).sum((-1, -2))
        if not bool(terms.isfinite().all()):
            raise ValueError(
                f"activation {shape.name} is not a finite number at variances of {_largest(root)}"
            )
        ordinary = steepest * root[:, 0, 0].square().clamp_max(1)  # of a φ that is not all tail
        if bool((outer > ROUNDING * terms.abs().sum((-1, -2)).clamp_min(ordinary)).any()):
            raise ValueError(
                f"activation {shape.name} grows too fast for its moments to be known at variances "
                f"of {_largest(root)}"
            )
        found.append(total)
    return torch.cat(found, dim=1)


def legendre(order: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss and Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    return torch.from_numpy(nodes + 1) / 2, torch.from_numpy(weights) / 2


def _panels(shape: Shape, root: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """√K, nodes z and weights, (n, panels, nodes), some variances at a time."""
    regular = torch.linspace(-REACH, REACH, PANELS + 1, dtype=torch.float64)
    ends = torch.cat([-ENDS, ENDS.new_tensor([0.0, *shape.kinks]), ENDS])
    x, w = legendre(ORDER)
    count = ORDER * (len(regular) + len(ends))
    for some in root.split(max(1, ROOM // count)):
        cuts = (ends / some[:, None]).clamp(-REACH, REACH)
        edges = torch.cat([regular.expand(len(some), -1), cuts], 1).sort(1).values
        length = edges.diff(dim=1)[..., None]
        z = edges[:, :-1, None] + length * x
        density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
        yield some[:, None, None], z, length * w * density


def _largest(root: Tensor) -> str:
    return f"up to {float(root.max()) ** 2:.3g}"
