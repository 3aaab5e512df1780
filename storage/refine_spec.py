"""Where a campaign adds cells of its own accord: the `refine` section."""

from typing import Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from storage.frozen import Count, Frozen


class Refine(Frozen):
    """Cells between those of one axis of the sweep, round after round, until the budget is spent.

    `gradient` halves the interval over which the observable changes most, `bimodality` those beside
    the cell where its draws have two lobes, `disagreement` those beside the cell where theories are
    farthest, in standard errors, from the measurement or from one another.
    """

    axis: str  # of the sweep; its settings are numbers
    by: Literal["gradient", "bimodality", "disagreement"]
    observable: str | None = None  # a scalar of every draw, such as learnability He3
    rounds: Count = 4
    budget: Count  # shards, over all rounds

    @model_validator(mode="after")
    def _consistent(self) -> "Refine":
        if (self.by == "disagreement") != (self.observable is None):
            verb = "looks at all observables: leave observable out"
            if self.observable is None:
                verb = "needs an observable"
            raise PydanticCustomError("observable", "by {by} {verb}", {"by": self.by, "verb": verb})
        return self
