"""Branches of a network in which neurons do not cross a barrier: hysteresis of droplets.

Below the threshold of `theory.single_index.droplets` the action S(x) of a neuron has wells at q = 0
and ±q*. Neurons change wells in a time exp(barrier), and until they do the share α of neurons in
the outer wells is what it was. A network with any such share is in equilibrium in a potential μ
that is felt in the outer wells only, p(x) ∝ exp(-S(x) - μ [|x| > x_b]) with x_b at the top of the
barrier; its free energy at that share is F_μ - N μ α, lowest at μ = 0.

From the prior, α grows from 0 until the barrier on the side of q = 0 is too high to cross; from the
teacher it falls from 1 until the barrier on the side of q* is. Which barrier that is in nats, about
the logarithm of the time in relaxation times, is up to the caller. The loss n|δ|²/2 integrates to
the free energy along a branch of fixed share: dF/d(1/T) = n|δ|²/2.
"""

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from theory.single_index.order_grid import Grid
from theory.single_index.order_parameter import (
    features,
    free_energy,
    is_even,
    neurons,
    order_parameter,
)
from theory.single_index.problems import Problem, learnability
from theory.single_index.saddle_point import Neurons, saddle_point
from theory.words import check_word

Start = Literal["prior", "teacher"]

SPACING = 0.25  # prior deviations
SETTLING = 8  # times that the top of the barrier is looked for again
DOUBLINGS = 16  # of μ, from 1/4 nat
BISECTIONS = 40
EMPTY_WELL = 40.0  # nats by which a well without neurons is above the others


class Branch(NamedTuple):
    """A state of every cell, (cells,) but for learnability and discrepancy."""

    learnability: Tensor  # <f̄ g_j>/<g_j²>, (cells, component)
    share: Tensor  # α of the neurons beyond the barrier; NaN without outer wells, as
    position: Tensor  # q*, and
    inner_barrier: Tensor  # nats from q = 0 to the top, and
    outer_barrier: Tensor  # nats from q* to the top
    potential: Tensor  # μ in nats; 0 in equilibrium
    variance: Tensor  # of x = q/√(σ_w²/d)
    discrepancy: Tensor  # δ_k, (cells, mode)
    free_energy: Tensor  # -ln Z of the network at this share
    loss: Tensor  # n|δ|²/2, of the mean predictor
    residual: Tensor  # of the closure, in units of y


class _State(NamedTuple):
    potential: Tensor  # μ
    top: Tensor  # x_b
    discrepancy: Tensor
    probability: Tensor
    log_partition: Tensor
    residual: Tensor
    inner: Tensor
    outer: Tensor
    place: Tensor  # of the outer minimum


class _Grid(NamedTuple):
    x: Tensor
    neurons: Neurons


def branch(cells: Problem, start: Start, barrier: float) -> Branch:
    """The state that training from the prior or from the teacher stays in, at the bare T.

    Neurons cross barriers of less than `barrier` nats; where those of equilibrium are less, it is
    the equilibrium. Raises ValueError for problems whose p(q) is not even, and a barrier below one
    nat, which separates nothing.
    """
    check_word("start", start, get_args(Start))
    if not is_even(cells):
        raise ValueError(
            "branches are of problems with p(q) = p(-q); give odd modes, erf or linear"
        )
    if not 1 <= barrier < math.inf:
        raise ValueError(f"barrier is {barrier}; give one nat or more")
    grid = _grid(cells)
    sign = 1 if start == "prior" else -1
    resting = _equilibrium(grid)

    def stays(state: _State) -> Tensor:
        return (state.inner if sign > 0 else state.outer) >= barrier

    low, kept = torch.zeros_like(resting.potential), resting
    high = torch.where(stays(resting), math.inf, 0.0)
    for doubling in range(DOUBLINGS):
        going = high.isinf() & ~_emptied(kept, sign)
        if not bool(going.any()):
            break
        size = torch.where(going, 0.25 * 2.0**doubling, low)
        tried = _settle(grid, sign * size, kept)
        high = torch.where(going & ~stays(tried), size, high)
        going &= stays(tried)
        low, kept = torch.where(going, size, low), _where(going, tried, kept)
    high = torch.where(high.isinf(), low, high)
    for _ in range(BISECTIONS):
        size = (low + high) / 2
        tried = _settle(grid, sign * size, kept)
        fine = stays(tried)
        high = torch.where(fine, high, size)
        low, kept = torch.where(fine, size, low), _where(fine, tried, kept)
    return _branch(cells, grid, kept)


def _branch(cells: Problem, grid: _Grid, state: _State) -> Branch:
    share = _share(grid, state)
    delta = state.discrepancy
    value = free_energy(cells, cells.temperature, delta, state.log_partition)
    constrained = value - cells.width * state.potential * share
    alone = torch.where(state.outer > 0, 1.0, torch.nan)
    return Branch(
        learnability(cells, delta),
        share * alone,
        state.place * cells.prior_deviation * alone,
        state.inner * alone,
        state.outer * alone,
        state.potential,
        state.probability @ grid.x.square(),
        delta,
        constrained,
        cells.train * delta.square().sum(1) / 2,
        state.residual,
    )


def _grid(cells: Problem) -> _Grid:
    reach = float(order_parameter(cells, "bare").reach.nan_to_num(0).max()) * 2
    x, log_prior = Grid(SPACING, max(reach, 32.0), math.inf).points(even=True)
    overlap, _ = features(cells, x)
    return _Grid(x, neurons(cells, cells.temperature, log_prior, overlap))


def _equilibrium(grid: _Grid) -> _State:
    saddle = saddle_point(grid.neurons)
    zero = torch.zeros_like(saddle.residual)
    action = grid.x.square() / 2 - saddle.mean_readout.square() / 2
    rise = action.diff(dim=1)
    # Where there is no barrier, the shoulder of the action is where it rises least past a bend.
    steep = (rise[:, 1:-1] > rise[:, :-2]) & (rise[:, 1:-1] >= rise[:, 2:])
    after = (steep.cumsum(1) > 0).roll(1, 1)
    shoulder = torch.where(after, rise[:, 1:-1], math.inf).argmin(1)
    return _settle(grid, zero, _State(zero, grid.x[shoulder + 1], *saddle[:1], *[zero] * 6))


def _settle(grid: _Grid, potential: Tensor, near: _State) -> _State:
    """The saddle point in a potential μ beyond the top of the barrier, which δ decides."""
    top, delta = near.top, near.discrepancy
    prior = grid.neurons.log_prior
    rounds = 0
    while True:
        # The step of μ is as wide as the grid resolves.
        felt = potential[:, None] * torch.sigmoid((grid.x - top[:, None]) / SPACING)
        saddle = saddle_point(grid.neurons._replace(log_prior=prior - felt), delta)
        delta = saddle.discrepancy
        action = grid.x.square() / 2 - saddle.mean_readout.square() / 2
        inner, outer, following, place = _wells(grid.x, action)
        parts = saddle.probability, saddle.log_partition, saddle.residual
        found = _State(potential, top, delta, *parts, inner, outer, place)
        before, top = top, torch.where(following.isfinite(), following, top)
        rounds += 1
        if rounds == SETTLING or bool(((top - before).abs() <= SPACING / 100).all()):
            return found


def _wells(x: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Barriers from inside and outside, the top (NaN without one), and the outer minimum."""
    middle = action[:, 1:-1]
    minimum = (middle < action[:, :-2]) & (middle <= action[:, 2:])
    outer_action, outer_place = _extremum(x, action, torch.where(minimum, -middle, -math.inf))
    below = x[1:-1] < outer_place[:, None]
    top_action, top_place = _extremum(x, action, torch.where(below, middle, -math.inf))
    there = minimum.any(1)
    top = top_action.clamp_min(0)
    inner, outer = (torch.where(there, top - low, 0.0) for low in (0.0, outer_action))
    return inner, outer, torch.where(there & (top_action > 0), top_place, torch.nan), outer_place


def _extremum(x: Tensor, action: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
    """The action where `height` (cells, point - 2) is greatest, and that x, on a parabola."""
    place = height.argmax(1, keepdim=True) + 1
    left, here, right = (action.gather(1, place + i)[:, 0] for i in (-1, 0, 1))
    bend = left - 2 * here + right
    shift = torch.where(bend != 0, (left - right) / (2 * bend), 0.0).clamp(-1, 1)
    return here - (left - right) * shift / 4, x[place[:, 0]] + shift * (x[1] - x[0])


def _share(grid: _Grid, state: _State) -> Tensor:
    beyond = torch.sigmoid((grid.x - state.top[:, None]) / SPACING)
    return torch.linalg.vecdot(state.probability, beyond)


def _emptied(state: _State, sign: int) -> Tensor:
    """Whether the wells that neurons leave hold none any more."""
    return sign * (state.potential + state.inner - state.outer) > EMPTY_WELL


def _where(condition: Tensor, new: _State, old: _State) -> _State:
    return _State(
        *(
            torch.where(condition if a.ndim == 1 else condition[:, None], a, b)
            for a, b in zip(new, old, strict=True)
        )
    )
