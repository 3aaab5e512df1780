"""Finding a step size while a block warms up: from the curvature of U where the chains are.

The curvature that matters is that of the learned state: as a network learns, |a|² and with it the
stiffness grow several times over the prior's. It is therefore measured again and again on the way,
and the step is frozen after three quarters of the warm-up.

The largest eigenvalue λ alone says where a step is unstable, and not what it biases: positions of
the underdamped schemes have no bias at all on a quadratic, whatever its λ. Networks are none, since
the stiff directions turn while the weights move. What that makes of the training loss was measured
on wide and narrow networks, with few and many inputs (tests/benchmarks/REGIMES.md):

    bias/loss = 0.056 γ^-0.4 s (ε √λ)^2.6 λ^-0.4,

where s is the share of the n outputs that stiff directions hold: few of them bias few outputs. With
D = ∇²U - 1, r² = tr D²/n and outputs of which the data say little left out, by r²/(1 + r²),

    s = (tr D)²/(n tr D²) r²/(1 + r²),

and 0.6 r²/(1 + r²) where D has negative eigenvalues too, since the readout is integrated out. Both
traces are estimated from products of D with random vectors.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workers.ensemble.problem import Problem
from workers.ensemble.schemes import moving, scheme_of
from workers.sampler import Gradient

CALM = 1 / 4  # of the warm-up, while chains fall from the prior: without inertia
STAGES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)  # of the warm-up, and its beginning
REMEMBERED = 3  # of the last curvatures, whose largest decides
FIRST_ITERATIONS, LATER_ITERATIONS = 12, 4  # of the power method: later ones begin where it was
PROBE = 0.1  # length of the finite difference, in prior standard deviations
STABLE_STEP = 1.6  # ε √λ of the underdamped schemes, which are stable below 2
LONGEST_STEP = 0.8  # of them: where the data say little, 1.6 is stable and makes that little wrong
TOLERATED = 0.005  # bias of the training loss that they are given, relative to it
MEASURED, DRAINED, STEEP, SOFT = 0.056, 0.4, 2.6, 0.4  # of that bias: factor, and powers
INDEFINITE = 0.6  # share of the outputs where the readout is integrated out
VECTORS = 4  # random ones, for each chain and trace
BIAS = 0.05  # relative error of the stiffest variance that ula is given, ε λ/2
FIRST_ANGLE = math.pi / 4  # of a turn
WINDOW = 10  # steps between two looks at the acceptance


@dataclass(frozen=True)
class Curvature:
    """λ of each chain and the direction (chain, parameter) that has it."""

    values: Tensor
    direction: Tensor


def curvature(gradient: Gradient, position: Tensor, start: Tensor, iterations: int) -> Curvature:
    """Size of the largest eigenvalue of the Hessian of U at each chain's position, (chain,).

    The power method v ← (∇U(z + h v) - ∇U(z))/h, normalized, from `start` (chain, parameter), which
    comes to it from below. Where U has saddles, near the prior, the eigenvalue may be negative.
    Chains whose gradient is not finite have NaN.
    """
    base, vector = gradient(position)[1], _unit(start)
    product = vector
    for _ in range(iterations):
        product = (gradient(position + PROBE * vector)[1] - base) / PROBE
        vector = _unit(product)
    return Curvature(product.norm(dim=1).double(), vector)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True)


class Traces(NamedTuple):
    """tr D and tr D² of D = ∇²U - 1: what the data add to the curvature of the prior."""

    first: float
    second: float


def traces(gradient: Gradient, position: Tensor, probes: Sequence[Tensor]) -> Traces:
    """Means over chains and probes (chain, parameter), of any length, of v·Dv and |Dv|², |v|² = D.

    Chains whose gradient is not finite are left out; NaN where none is left.
    """
    base = gradient(position)[1]
    first, second = [], []
    for probe in probes:
        unit = _unit(probe)
        product = (gradient(position + PROBE * unit)[1] - base) / PROBE - unit
        first.append((unit * product).sum(1).double())
        second.append(product.square().sum(1).double())
    known = [part[part.isfinite()] for part in (torch.cat(first), torch.cat(second))]
    return Traces(*(position.shape[1] * float(part.mean()) for part in known))


def share(found: Traces, outputs: int, definite: bool) -> float:
    """s of the formula above, between 0 and 1, for that many outputs."""
    if not found.second > 0 or (definite and not found.first > 0):
        return 0.0
    strength = found.second / outputs
    held = min((found.first / outputs) ** 2 / strength, 1.0) if definite else INDEFINITE
    return held * strength / (1 + strength)


def unbiased(stiffest: float, held: float, friction: float) -> float:
    """The step at which the formula says `TOLERATED`; infinite where stiff directions hold none."""
    if not held:
        return math.inf
    reach = TOLERATED * friction**DRAINED * stiffest**SOFT / (MEASURED * held)
    return reach ** (1 / STEEP) / math.sqrt(stiffest)


def stages(warmup: int) -> list[int]:
    """Steps after which the step size is chosen anew; the last choice is frozen."""
    return [math.ceil(share * warmup) for share in STAGES]


@dataclass
class Adaptation:
    """The step size of one block on its way; nothing of it is used after the warm-up."""

    problem: Problem
    normals: Callable[[int], Tensor]  # the k-th ones for the target's chains, (chain, parameter)
    step_size: float = math.nan
    _drawn: int = 0
    _direction: Tensor | None = None
    _curvatures: list[float] = field(default_factory=list)
    _traces: list[Traces] = field(default_factory=list)
    _gain: float = 1.0
    _accepted: float = 0.0

    def look(self, position: Tensor) -> None:
        """Choose the step size from the curvature at the chains' positions."""
        if self.problem.settings.record.turns:  # acceptance alone decides
            self.step_size = FIRST_ANGLE if math.isnan(self.step_size) else self.step_size
            return
        gradient, moved = moving(self.problem, position[:: self.problem.replicas])
        first = self._direction is None
        start = self._draw(moved.shape[1]) if self._direction is None else self._direction
        count = FIRST_ITERATIONS if first else LATER_ITERATIONS
        found = curvature(gradient, moved, start, count)
        known = found.values[found.values.isfinite()]
        if len(known) == len(found.values):
            self._direction = found.direction
        if len(known):
            self._curvatures.append(max(float(known.max()), 1.0))  # never less than the prior's
            if self.problem.settings.damping is not None:
                probes = [self._draw(moved.shape[1]) for _ in range(VECTORS)]
                self._traces.append(traces(gradient, moved, probes))
        if self._curvatures:
            self._choose(max(self._curvatures[-REMEMBERED:]))

    def _draw(self, length: int) -> Tensor:
        """Fresh normals for what moves, (chain, length)."""
        self._drawn += 1
        return self.normals(self._drawn - 1)[:, :length]

    def _choose(self, stiffest: float) -> None:
        if scheme_of(self.problem).proposals is not None:
            if math.isnan(self.step_size):  # then the acceptance decides
                self.step_size = 1 / stiffest
        elif self.problem.settings.bias_order == 1:
            self.step_size = 2 * BIAS / stiffest
        else:
            self.step_size = min(
                STABLE_STEP / math.sqrt(stiffest), LONGEST_STEP, self._unbiased(stiffest)
            )

    def _unbiased(self, stiffest: float) -> float:
        """The longest step whose bias is tolerated, by the last traces together."""
        friction = self.problem.settings.damping
        assert friction is not None
        first, second = (fmean(part) for part in zip(*self._traces[-REMEMBERED:], strict=True))
        outputs = min(len(self.problem.y), self.problem.network.size)
        held = share(Traces(first, second), outputs, scheme_of(self.problem).definite)
        return unbiased(stiffest, held, friction)

    def accepted(self, state: Any, steps: int) -> None:
        """Move an adjusted scheme's step towards the wanted share of accepted proposals.

        By Robbins and Monro: less and less.
        """
        proposals = scheme_of(self.problem).proposals
        if proposals is None or not steps:
            return
        wanted, largest, made = proposals(self.problem, self.step_size)
        proposed = steps * made
        total = float(state.accepted.double().mean())
        share, self._accepted = (total - self._accepted) / proposed, total
        self.step_size = min(self.step_size * math.exp(self._gain * (share - wanted)), largest)
        self._gain *= 0.9
