"""Finding a step size while a block warms up: from the curvature of U where the chains are.

The curvature that matters is that of the learned state: as a network learns, |a|² and with it the
stiffness grow several times over the prior's. It is therefore measured again and again on the way,
and the step is frozen after three quarters of the warm-up.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from storage.campaign.sampler_spec import BIAS_ORDER, LARGEST_ANGLE
from workers.ensemble.schemes import Problem, moving, neurons_of
from workers.sampler import Gradient

CALM = 1 / 4  # of the warm-up, while chains fall from the prior: without inertia
STAGES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)  # of the warm-up, and its beginning
REMEMBERED = 3  # of the last curvatures, whose largest decides
FIRST_ITERATIONS, LATER_ITERATIONS = 12, 4  # of the power method: later ones begin where it was
PROBE = 0.1  # length of the finite difference, in prior standard deviations
STABLE = 1.6  # ε √λ of the underdamped schemes, which are stable below 2
LONGEST = 0.8  # of them: where the data say little, 1.6 is stable and makes that little wrong
BIAS = 0.05  # relative error of the stiffest variance that ula is given, ε λ/2
ACCEPTED = 0.574  # of mala's proposals: Roberts and Rosenthal (1998, doi:10.1111/1467-9868.00123)
TURNED, KICKED = 0.6, 0.9  # of the turns of neurons, and of those that are kicked: as measured
FIRST_ANGLE = math.pi / 4  # of such a turn
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


def stages(warmup: int) -> list[int]:
    """Steps after which the step size is chosen anew; the last choice is frozen."""
    return [math.ceil(share * warmup) for share in STAGES]


@dataclass
class Adaptation:
    """The step size of one block on its way; nothing of it is used after the warm-up."""

    problem: Problem
    start: Tensor  # (chain, parameter), normals from which the power method begins
    step_size: float = math.nan
    _direction: Tensor | None = None
    _curvatures: list[float] = field(default_factory=list)
    _gain: float = 1.0
    _accepted: float = 0.0

    def look(self, position: Tensor) -> None:
        """Choose the step size from the curvature at the chains' positions."""
        if self.problem.settings.scheme == "neurons":  # whose acceptance alone decides
            self.step_size = FIRST_ANGLE if math.isnan(self.step_size) else self.step_size
            return
        gradient, moved = moving(self.problem, position[:: self.problem.replicas])
        first = self._direction is None
        start = self.start[:, : moved.shape[1]] if first else self._direction
        assert start is not None
        count = FIRST_ITERATIONS if first else LATER_ITERATIONS
        found = curvature(gradient, moved, start, count)
        known = found.values[found.values.isfinite()]
        if len(known) == len(found.values):
            self._direction = found.direction
        if len(known):
            self._curvatures.append(max(float(known.max()), 1.0))  # never less than the prior's
        if self._curvatures:
            self._choose(max(self._curvatures[-REMEMBERED:]))

    def _choose(self, stiffest: float) -> None:
        scheme = self.problem.settings.scheme
        if scheme == "mala":
            if math.isnan(self.step_size):  # then the acceptance decides
                self.step_size = 1 / stiffest
        elif BIAS_ORDER[scheme] == 1:
            self.step_size = 2 * BIAS / stiffest
        else:
            self.step_size = min(STABLE / math.sqrt(stiffest), LONGEST)

    def accepted(self, state: Any, steps: int) -> None:
        """Move an adjusted scheme's step towards the wanted share of accepted proposals.

        By Robbins and Monro: less and less.
        """
        wanted, largest, proposed = self._proposals(steps)
        if not proposed:
            return
        total = float(state.accepted.double().mean())
        share, self._accepted = (total - self._accepted) / proposed, total
        self.step_size = min(self.step_size * math.exp(self._gain * (share - wanted)), largest)
        self._gain *= 0.9

    def _proposals(self, steps: int) -> tuple[float, float, int]:
        """What share is wanted, the largest step, and how many proposals some steps make."""
        scheme = self.problem.settings.scheme
        if scheme == "mala":
            return ACCEPTED, math.inf, steps
        if scheme == "neurons":
            known = neurons_of(self.problem, self.step_size)
            return KICKED if known.kicks else TURNED, LARGEST_ANGLE, steps * known.turns
        return math.nan, math.nan, 0
