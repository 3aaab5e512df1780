"""What draws are worth: effective samples, their price, and the bias of two expectations."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from ess_problem import NEURON, OUTPUTS, OVERLAP, TRAIN_ERROR, Array, Known

from pipelines.analysis.convergence import diagnostics

RESOLVED = 100  # effective samples below which their number is only known not to be larger
TOLERATED = 0.01  # bias of an expectation, in parts of it


class Round(NamedTuple):
    """What some CPU seconds gave."""

    seconds: float
    gradients: int
    draws: Array  # (chain, draw, quantity)


class Result(NamedTuple):
    """A sampler at one temperature, over all its rounds."""

    settings: str
    speeds: list[float]  # gradients per CPU second, of each round
    gradients: int
    outputs: float  # effective samples of f, the median over probes
    weights: float  # of w·w*, the median over neurons
    biases: dict[str, Known]  # in parts of the expectation


def result(settings: str, rounds: Sequence[Round], reference: Mapping[str, Known]) -> Result:
    """All rounds as one series of draws."""
    draws = np.concatenate([part.draws for part in rounds], axis=1).astype(np.float64)
    ess = diagnostics(draws).ess_bulk
    return Result(
        settings,
        [part.gradients / part.seconds for part in rounds],
        sum(part.gradients for part in rounds),
        float(np.median(ess[OUTPUTS])),
        float(np.median(ess[NEURON])),
        biases(draws, reference),
    )


def biases(draws: Array, reference: Mapping[str, Known]) -> dict[str, Known]:
    """Mean over the draws less the reference, in parts of it, with the errors of both.

    The error is infinite where too few draws are effective for an error to be known.
    """
    values = draws[..., [TRAIN_ERROR, OVERLAP]].astype(np.float64)
    found = diagnostics(values)
    errors = np.where(found.ess_bulk < RESOLVED, math.inf, found.mcse)
    return {
        name: Known(
            float(mean / known.value - 1),
            math.hypot(float(error), known.error) / known.value,
        )
        for (name, known), mean, error in zip(
            reference.items(), values.mean((0, 1)), errors, strict=True
        )
    }


def small(found: Mapping[str, Known]) -> bool:
    """Whether each bias is below 1 %, or below two errors; one that is not a number is neither."""
    return all(abs(bias.value) < max(TOLERATED, 2 * bias.error) for bias in found.values())


def rate(found: Result, effective: float) -> float:
    """Effective samples per CPU second, at the median speed."""
    return effective / found.gradients * statistics.median(found.speeds)


def ratio(ours: Result, theirs: Result, quantity: str) -> str:
    """How many times more effective samples a CPU second gives; a bound where theirs are few.

    Chains that hardly move have about as many effective samples as there are chains, whatever
    they would have in a longer run: too few of them are too many.
    """
    above, below = getattr(ours, quantity), getattr(theirs, quantity)
    each = (above / ours.gradients) / (below / theirs.gradients)
    faster = statistics.median(a / b for a, b in zip(ours.speeds, theirs.speeds, strict=True))
    return f"{'>= ' if below < RESOLVED else ''}{figures(each * faster)}"


def figures(value: float) -> str:
    """Two significant figures, and no exponent."""
    return f"{value:.2g}" if value < 10 else f"{float(f'{value:.2g}'):.0f}"
