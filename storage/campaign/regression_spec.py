"""Parts of a campaign that belong to its regression: theories, their cutoff, a quartic loss."""

from typing import Annotated

from pydantic import BeforeValidator, Field, PositiveFloat, WithJsonSchema

from storage.campaign.frozen import LARGEST_COUNT, Count, Frozen, Many, refusal
from storage.campaign.theories import names

# Of the loss with a quartic term.
QUARTIC_THEORY = "quartic"
# From the spectrum of the pool alone.
SPECTRAL_THEORIES = names(lambda theory: theory.given == "pool" and theory.name != QUARTIC_THEORY)
# Regressions with the decimated kernel, on the points that the measured ones drew.
DECIMATED_THEORIES = names(lambda theory: theory.given == "draws")
# All that decimate modes of the kernel below a cutoff.
CUTOFF_THEORIES = names(lambda theory: theory.cuts)
REGRESSION_THEORIES = names(lambda theory: theory.of_regression)


class Quartic(Frozen):
    """Likelihoods exp(-(h² + u h⁴)/2T) of residuals h beside the Gaussian, sampled by HMC."""

    couplings: Annotated[Many[PositiveFloat], Field(min_length=1)]
    """Strengths u of the quartic term [1/y²]"""
    chains: Annotated[int, Field(ge=2, le=LARGEST_COUNT)]
    """Chains of each size, ridge and coupling [chains]"""
    warmup: Count
    """First paths, thrown away, which find the step size [paths]"""
    draws: Count
    """Paths whose ends are kept [draws]"""


def _cutoff(value: object) -> int | float:
    if type(value) is int and 1 <= value <= LARGEST_COUNT:
        return value
    if type(value) is float and 0 < value < 1:
        return value
    raise refusal(value, "wanted a learnability between 0 and 1, or a number of modes")


Cutoff = Annotated[
    int | float,
    BeforeValidator(_cutoff),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": LARGEST_COUNT},
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            ]
        }
    ),
]
