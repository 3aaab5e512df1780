"""Where a campaign adds cells of its own accord: the `refine` section."""

from typing import Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from storage.campaign.frozen import Count, Frozen


class Refine(Frozen):
    """Cells between those of one axis of the sweep, round after round, until the budget is spent.

    `gradient` halves the interval over which the observable changes most, `bimodality` those beside
    the cell where its draws have two lobes, `disagreement` those beside the cell where theories are
    farthest, in standard errors, from the measurement or from one another.
    """

    axis: str
    """Axis of the sweep along which cells are added; its settings are numbers"""
    by: Literal["gradient", "bimodality", "disagreement"]
    """What makes an interval worth a cell"""
    observable: str | None = None
    """Scalar of every draw to look at, such as learnability He3; for disagreement, all are"""
    rounds: Count = 4
    """Times that cells are added [rounds]"""
    budget: Count
    """Shards that may be added, over all rounds [shards]"""

    @model_validator(mode="after")
    def _consistent(self) -> "Refine":
        if (self.by == "disagreement") != (self.observable is None):
            verb = "looks at all observables: leave observable out"
            if self.observable is None:
                verb = "needs an observable"
            raise PydanticCustomError("observable", "by {by} {verb}", {"by": self.by, "verb": verb})
        return self
