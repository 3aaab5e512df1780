"""Roots of large systems by inexact Newton steps, and by continuation in a coupling's strength.

A step solves J δ = -r by restarted GMRES, with J δ from differences of the residual, no more
exactly than the distance from the root deserves (Eisenstat and Walker 1996, doi:10.1137/0917003),
and is halved until the residual falls by a part of what it promised. Knoll and Keyes (2004,
doi:10.1016/j.jcp.2003.08.010).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

Residual = Callable[[Tensor], Tensor | None]
"""r(z) of a vector z, or None where z lies outside the domain."""
Trusted = Callable[[Tensor], Callable[[Tensor], bool]]
"""Of one z whether r along a step to another is like its derivative at the first."""

NEWTON_STEPS = 20
DIRECTIONS = 40  # of the Krylov space before GMRES gives up
DIFFERENCE = 1e-7
SHORTEST_STEP = 1 / 64
CREEPING = 0.9  # of |r| is left after a step that leads nowhere
CREPT = 2  # such steps one after another, after which Newton's method has stalled
PROMISED = 0.1  # part of the fall of |r| along a step that must come true
TIGHTEST = 1e-3  # relative residual of GMRES
SMALLEST_STRENGTH = 1 / 128  # step of the continuation


class Root(NamedTuple):
    """Where the search ended, and the largest element of the residual there."""

    position: Tensor
    residual: float


def find_root(
    residual: Residual, start: Tensor, tolerance: float, trusted: Trusted | None = None
) -> Root:
    """z with |r(z)| ≤ tolerance in every element, or the last z reached if Newton's method stalls.

    r and z have units in which r ≈ z - g(z), with g not much steeper than one in most directions.
    The start lies in the domain. Steps that are not `trusted` are halved without a look at r.
    """
    position, value = start, residual(start)
    if value is None:
        return Root(start, float("inf"))
    forcing, crept = 0.1, 0
    for _ in range(NEWTON_STEPS):
        if float(value.abs().max()) <= tolerance or crept == CREPT:
            break
        direction = _gmres(_jacobian(residual, position, value), -value, forcing)
        within = residual if trusted is None else partial(_trying, trusted(position), residual)
        reached = _line_search(within, position, direction, float(value.norm()))
        if reached is None:
            break
        before = float(value.norm())
        position, value = reached
        left = float(value.norm()) / before
        forcing = min(0.1, max(TIGHTEST, 0.9 * left**2))
        crept = crept + 1 if left > CREEPING else 0
    return Root(position, float(value.abs().max()))


def continued(
    residual_at: Callable[[float], Residual],
    start: Tensor,
    tolerance: float,
    trusted: Trusted | None = None,
) -> Root:
    """The root at strength 1 of a coupling, followed from z = `start` where that is tried first.

    `residual_at(c)` is the residual at strength c, whose root at c = 0 is z = 0 and for small c
    proportional to it. Steps of c are halved where Newton's method stalls; the root at the largest
    c reached has a residual above the tolerance if that is below 1.
    """
    found = find_root(residual_at(1.0), start, tolerance, trusted)
    if found.residual <= tolerance:
        return found
    strength, step, root = 0.0, 0.5, Root(torch.zeros_like(start), 0.0)
    while strength < 1:
        following = min(1.0, strength + step)
        guess = root.position * (following / strength if strength else 0.0)
        found = find_root(residual_at(following), guess, tolerance, trusted)
        if strength and not found.residual <= tolerance:
            found = find_root(residual_at(following), root.position, tolerance, trusted)
        if found.residual <= tolerance:
            strength, root, step = following, found, 2 * step
        elif step > SMALLEST_STRENGTH:
            step /= 2
        else:
            return found
    return root


def _jacobian(residual: Residual, position: Tensor, value: Tensor) -> Callable[[Tensor], Tensor]:
    """J v by one-sided differences, on the other side where the first leaves the domain."""
    scale = DIFFERENCE * (1 + float(position.norm()))

    def apply(vector: Tensor) -> Tensor:
        step = scale / float(vector.norm())
        for sign in (step, -step, step / 100, -step / 100):
            shifted = residual(position + sign * vector)
            if shifted is not None:
                return (shifted - value) / sign
        return vector.clone()

    return apply


def _trying(
    trusted: Callable[[Tensor], bool], residual: Residual, reached: Tensor
) -> Tensor | None:
    return residual(reached) if trusted(reached) else None


def _line_search(
    residual: Residual, position: Tensor, direction: Tensor, before: float
) -> tuple[Tensor, Tensor] | None:
    length = 1.0
    while length >= SHORTEST_STEP:
        reached = position + length * direction
        value = residual(reached)
        if value is not None and float(value.norm()) <= (1 - PROMISED * length) * before:
            return reached, value
        length /= 2
    return None


def _gmres(apply: Callable[[Tensor], Tensor], target: Tensor, forcing: float) -> Tensor:
    """v in the Krylov space with the least |J v - target|, to `forcing` of |target|."""
    size = float(target.norm())
    basis = [target / size]
    hessenberg = target.new_zeros(DIRECTIONS + 1, DIRECTIONS, dtype=torch.float64)
    coefficients = hessenberg.new_zeros(0)
    for k in range(DIRECTIONS):
        vector = apply(basis[k])
        for j, known in enumerate(basis):
            hessenberg[j, k] = torch.dot(known, vector)
            vector = vector - hessenberg[j, k] * known
        hessenberg[k + 1, k] = vector.norm()
        right = hessenberg.new_zeros(k + 2)
        right[0] = size
        matrix = hessenberg[: k + 2, : k + 1]
        coefficients = torch.linalg.lstsq(matrix, right[:, None]).solution[:, 0]
        if float((matrix @ coefficients - right).norm()) <= forcing * size:
            break
        basis.append(vector / hessenberg[k + 1, k].clamp_min(torch.finfo(torch.float64).tiny))
    return sum(
        (float(c) * known for c, known in zip(coefficients, basis, strict=False)),
        start=torch.zeros_like(target),
    )
