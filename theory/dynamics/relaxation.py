"""The Volterra equation of a relaxation, on a mesh whose step doubles as time does.

    F(t) = D(t) - ∫_0^t R(t - s) F(s) ds

on the training points, and by the same integral at others. F starts with the fastest mode of the
tangent kernel R(0) and ends with the forgetting of weights, many decades later, and at each time it
varies on the scale of that time: so the first 2r steps are equal, and every following r are twice
as long. R varies on the scale of the forgetting alone. Between points of the mesh it is taken to be
linear, and the past enters by its integrals with hat functions, which are added up where the mesh
becomes coarser: nothing of a fast start is lost. The rule is the trapezoid's, of second order.

R has a root at τ = 0 where φ has a kink (relu). What the trapezoidal rule misses of ∫R dτ, which is
known, is therefore added at lag zero, so that the rule is of second order there, too, and the limit
of long times does not depend on the mesh.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from theory.dynamics.memory import Memory, MemoryKernel

STENCIL = 6  # points of the mesh from which what is between them is interpolated


class Forced(NamedTuple):
    """An equation: what networks remember, and the forcing made of it."""

    memory: MemoryKernel
    train: int  # n, the first of the p points
    forcing: Callable[[Tensor], Tensor]  # C_0 (..., p, p) to D (..., p, columns)


class Level(NamedTuple):
    """F at equally spaced times, from zero on."""

    step: float
    value: Tensor  # (points of the mesh, p, columns)

    @property
    def end(self) -> float:
        """The last of the times."""
        return self.step * (len(self.value) - 1)


def relax(
    equation: Forced, lags: Tensor, first: float, steps: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The place of each lag, and F and dF/dt there, (p, columns) each.

    `lags` (lag,) must increase from zero or later. `first` is the end of the first 2 `steps` steps,
    which should not be beyond the time of the fastest mode; `steps` are then taken in every time in
    which time doubles.
    """
    begun = 0
    for level in _levels(equation, first, steps, float(lags[-1])):
        until = int((lags <= level.end).sum())
        for place in range(begun, until):
            yield place, *_interpolated(level, float(lags[place]))
        begun = until


def mesh_size(first: float, steps: int, end: float) -> int:
    """How many steps there are."""
    count, reach = 2 * steps, first
    while reach < end:
        count, reach = count + steps, 2 * reach
    return count


def _levels(equation: Forced, first: float, steps: int, end: float) -> Iterator[Level]:
    size, n = 2 * steps, equation.train
    step = first / size
    places = torch.arange(size + 1, dtype=torch.float64)
    memory = equation.memory(places * step)
    forcing = equation.forcing(memory.correlation)
    value = torch.zeros_like(forcing)
    value[0] = forcing[0]
    past = value[:, :n] * step  # ∫ of F with the hat of each point of the mesh
    past[0] /= 2
    known = 0
    while True:
        _march(memory, step, forcing, value, past, known)
        yield Level(step, value)
        if step * size >= end:
            return
        past[size] /= 2  # what is to come is not past
        past, value = _coarser(past), _halved(value)
        step, known = 2 * step, steps
        past[steps] += step / 2 * value[steps, :n]
        memory = equation.memory(places * step)
        forcing = equation.forcing(memory.correlation)


def _march(
    memory: Memory, step: float, forcing: Tensor, value: Tensor, past: Tensor, known: int
) -> None:
    """Fill in F and its integrals beyond the points of the mesh that are known."""
    n, size = past.shape[1], len(value) - 1
    response = memory.response[:, :, :n]
    points = response.shape[1]
    backwards = response.flip(0).permute(1, 0, 2).reshape(points, -1)  # the longest lag first
    own = step * response[0] / 2 + _missed(memory.dissipated[:, :, :n], response, step)
    implicit = own[:, :n] + torch.eye(n).to(own)
    flat = past.view(-1, past.shape[2])
    for place in range(known + 1, size + 1):
        history = backwards[:, (size - place) * n : size * n] @ flat[: place * n]
        target = forcing[place] - history
        now = torch.linalg.solve(implicit[place], target[:n])
        value[place, :n] = now
        value[place, n:] = target[n:] - own[place, n:] @ now
        past[place] = step * now


def _missed(dissipated: Tensor, response: Tensor, step: float) -> Tensor:
    """What the trapezoidal rule misses of ∫R from zero to each lag, (lag, p, n)."""
    return dissipated - step * (response.cumsum(0) - (response[0] + response) / 2)


def _coarser(past: Tensor) -> Tensor:
    """Integrals with hats twice as wide, of which each holds one hat and half of its neighbours."""
    coarse = torch.zeros_like(past)
    half = len(past) // 2
    coarse[: half + 1] = past[::2]
    coarse[:half] += past[1::2] / 2
    coarse[1 : half + 1] += past[1::2] / 2
    return coarse


def _halved(value: Tensor) -> Tensor:
    """Every second point, and room for as many more."""
    halved = torch.zeros_like(value)
    halved[: len(value) // 2 + 1] = value[::2]
    return halved


def _interpolated(level: Level, lag: float) -> tuple[Tensor, Tensor]:
    """F and dF/dt at a time between the points of the mesh, by a polynomial through six of them."""
    place = lag / level.step
    begin = min(max(int(place) - STENCIL // 2 + 1, 0), len(level.value) - STENCIL)
    centre = begin + (STENCIL - 1) / 2
    nodes = torch.arange(STENCIL, dtype=torch.float64) - (STENCIL - 1) / 2
    powers = nodes ** torch.arange(STENCIL, dtype=torch.float64)[:, None]  # (power, node)
    away = place - centre
    wanted = torch.tensor(
        [[away**k, k * away ** (k - 1) if k else 0.0] for k in range(STENCIL)], dtype=torch.float64
    )
    weights = torch.linalg.solve(powers, wanted)
    near = level.value[begin : begin + STENCIL]
    value, slope = torch.tensordot(weights.T.to(near), near, dims=1)
    return value, slope / level.step
