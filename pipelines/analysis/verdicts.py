"""What a comparison says: rejected, in doubt, unresolved, or in agreement.

A theory is rejected where its corrected p-value is below 10⁻³, and in doubt below 0.05. Agreement
is claimed only where a deviation of a tenth of the prediction would have been seen, which is to
say rejected in 19 cases of 20.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pipelines.text.rounding import plain, uncertain

REJECTED = 1e-3
DOUBTED = 0.05
ROUNDING = 1e-4
RESOLUTION = 0.1  # of the prediction
SEEN = 1.645  # standard errors above the threshold: 19 cases of 20
MOST_PLACES = 4  # named one by one

Kind = Literal["rejected", "doubtful", "unresolved", "agrees", "missing"]
KINDS: tuple[Kind, ...] = ("rejected", "doubtful", "unresolved", "agrees", "missing")


def kind_of(p_value: float, seen: float) -> Kind:
    """What a corrected p-value says, where a relative deviation of `seen` would have been found."""
    if not np.isfinite(p_value):
        return "missing"
    if p_value < REJECTED:
        return "rejected"
    if p_value < DOUBTED:
        return "doubtful"
    return "agrees" if seen < RESOLUTION else "unresolved"


def size_of(predicted: ArrayLike, residual: ArrayLike) -> NDArray[np.float64]:
    """What a residual is relative to: |predicted|, nan where it is zero but for rounding."""
    size = np.abs(np.asarray(predicted, dtype=np.float64))
    return np.where(size > ROUNDING * np.abs(residual), size, np.nan)


@dataclass(frozen=True)
class Judged:
    """A prediction held against a measurement at one place."""

    place: str
    relative: float  # (measured - predicted)/|predicted|
    error: float  # standard error of that
    degrees: float  # of freedom, of the error
    p_value: float  # corrected for `comparisons`
    comparisons: int

    @property
    def seen(self) -> float:
        """The relative deviation that would have been rejected in 19 cases of 20."""
        threshold = stats.t.isf(REJECTED / self.comparisons / 2, self.degrees)
        return float(threshold + SEEN) * self.error

    @property
    def kind(self) -> Kind:
        """What the comparison says."""
        return kind_of(self.p_value, self.seen)

    @property
    def off(self) -> str:
        """The relative deviation with its standard error, in percent."""
        if not np.isfinite(self.relative):
            return "not the zero that is predicted"
        return f"{uncertain(100 * self.relative, 100 * self.error)} % off"


def summary(found: Sequence[Judged], nouns: str = "cells") -> str:
    """'rejected at N = 16 (measured 7.3(1) % off); in agreement at N = 64 ...', worst first."""
    parts = []
    for kind in KINDS:
        alike = [judged for judged in found if judged.kind == kind]
        if alike:
            parts.append(_said(kind, alike, _places(alike, len(found), nouns)))
    return "; ".join(parts)


def _said(kind: Kind, alike: Sequence[Judged], places: str) -> str:
    worst = max(alike, key=lambda judged: abs(judged.relative))
    at = f" at {worst.place}" if len(alike) > 1 and worst.place else ""
    match kind:
        case "rejected":
            return f"rejected{places} (measured {worst.off}{at})"
        case "doubtful":
            least = min(judged.p_value for judged in alike)
            return f"in doubt{places} (measured {worst.off}{at}, p = {digits(least)})"
        case "unresolved":
            return f"not resolved{places} (measured {worst.off}{at})"
        case "agrees":
            seen = max(judged.seen for judged in alike)
            return (
                f"in agreement{places} (at most {worst.off}; {percent(seen)} would have been seen)"
            )
        case "missing":
            return (
                f"not compared{places} (not predicted, not converged on the same data, biased by "
                "the step, or fewer than 4 chains or datasets)"
            )


def _places(alike: Sequence[Judged], total: int, nouns: str) -> str:
    """' at N = 16, 64 and 256', ' everywhere', ' in 7 of 9 cells'."""
    names = [judged.place for judged in alike]
    if not any(names):
        return ""
    if len(alike) == total > 1:
        return " everywhere"
    if len(alike) > MOST_PLACES:
        return f" {'at' if nouns == 'times' else 'in'} {len(alike)} of {total} {nouns}"
    return f" at {joined(names)}"


def joined(names: Sequence[str]) -> str:
    """'N = 16, 64 and 256'; places of several settings are separated by semicolons."""
    symbols = {name.partition(" = ")[0] for name in names}
    if len(names) == 1 or len(symbols) > 1 or any("," in name for name in names):
        return "; ".join(names)
    values = [name.partition(" = ")[2] for name in names]
    return f"{symbols.pop()} = {', '.join(values[:-1])} and {values[-1]}"


def digits(value: float) -> str:
    """A p-value with two digits."""
    return plain(value, 2)


def percent(value: float) -> str:
    """A relative number in percent, with two digits."""
    return f"{plain(100 * value, 2)} %"
