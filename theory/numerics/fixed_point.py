"""Fixed points by Anderson's mixing of the last steps.

Anderson (1965, doi:10.1145/321296.321305), Walker and Ni (2011, doi:10.1137/10078356X).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

MEMORY = 6
ITERATIONS = 100


class FixedPoint(NamedTuple):
    """Where the iteration ended, and the largest element of g(z) - z there."""

    position: Tensor
    residual: float


def fixed_point(update: Callable[[Tensor], Tensor], start: Tensor, tolerance: float) -> FixedPoint:
    """z = g(z) with |g(z) - z| ≤ tolerance in every element, or where the iterations ran out."""
    position, change = start, update(start) - start
    positions, changes = [position], [change]
    for _ in range(ITERATIONS):
        if float(change.abs().max()) <= tolerance:
            break
        position = position + change
        if len(changes) > 1:
            moved = torch.stack([b - a for a, b in pairwise(positions)], 1)
            turned = torch.stack([b - a for a, b in pairwise(changes)], 1)
            share = torch.linalg.lstsq(turned, change[:, None]).solution[:, 0]
            position = position - (moved + turned) @ share
        change = update(position) - position
        positions = [*positions[-MEMORY:], position]
        changes = [*changes[-MEMORY:], change]
    return FixedPoint(position, float(change.abs().max()))
