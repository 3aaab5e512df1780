"""When a trajectory is looked at: log-spaced times, each a whole number of steps."""

import itertools
from typing import Annotated

from pydantic import Field, PositiveFloat

from storage.campaign.frozen import LARGEST_COUNT, Frozen


class Times(Frozen):
    """Times first, first·ratio, first·ratio², ..., as many as there are draws."""

    first: PositiveFloat
    """The first time, before which nothing is looked at [relaxation time of the prior]"""
    ratio: Annotated[float, Field(gt=1)]
    """Each time over the one before [1]"""

    def pairs(self, step_size: float, count: int) -> list[int]:
        """Pairs of steps up to each time: 2εk is as close to it as a whole number k comes."""
        wanted, found = self.first / (2 * step_size), []
        for _ in range(count):  # products are the same on every machine, which powers are not
            found.append(max(1, round(min(wanted, 10 * LARGEST_COUNT))))
            wanted *= self.ratio
        return found

    def moments(self, step_size: float, count: int) -> list[float]:
        """The times themselves, steps times step size."""
        return [2 * step_size * pairs for pairs in self.pairs(step_size, count)]

    def problem(self, step_size: float, count: int) -> str | None:
        """Why there are no such times; None where there are."""
        pairs = self.pairs(step_size, count)
        if pairs[-1] > LARGEST_COUNT:
            return f"they need more than {LARGEST_COUNT} pairs of steps; take fewer draws"
        if any(one >= other for one, other in itertools.pairwise(pairs)):
            return (
                "they do not increase: two of them fall into the same pair of steps; raise first "
                "or ratio, or take a smaller step_size"
            )
        return None
