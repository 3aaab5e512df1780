"""What is said of one theory: a record, which a theory of the user's own has in its plug-in."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from storage.campaign.theory_conditions import Condition, with_times, without_times
from storage.errors import CampaignError

Given = Literal["data", "average", "pool", "draws"]
Colour = Literal["blue", "orange", "green", "purple", "yellow", "sky", "grey", ""]
Line = str | tuple[float, tuple[float, ...]]  # dashes, as Matplotlib has them


@dataclass(frozen=True)
class Theory:
    """What a theory is called, what it is given, where it holds and how it is drawn."""

    name: str = ""  # in a spec; of a plug-in module:attribute
    title: str = ""  # in legends and tables; by default the name
    words: str = ""  # in a sentence: the NNGP
    meaning: str = ""  # in the methods
    papers: tuple[str, ...] = ()  # keys of theory/references.bib
    bibtex: str = ""  # of papers that are not there
    colour: Colour = ""  # by default one that follows from the name
    line: Line = "-."
    given: Given = "data"  # of each dataset; averaged over data; the pool's spectrum; its draws
    times: Literal["", "too", "only"] = ""  # whether it speaks of networks in time
    particles: bool = False  # whether its numbers have errors of their own
    learns: bool = False  # whether features adapt to data
    cuts: bool = False  # whether modes below a cutoff are integrated out
    needs: tuple[str, ...] = ()  # settings of the campaign without which it says nothing
    holds: tuple[Condition, ...] = ()  # all must; what a cell lacks is stored as the reason
    predict: Callable[..., object] | None = None  # of a plug-in: (spec, dataset) -> numbers

    @property
    def of_regression(self) -> bool:
        """Whether it speaks of the regression, and not of the ensemble."""
        return self.given in ("pool", "draws")

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What must hold: of its own, and that networks are followed in time, or are not."""
        if self.of_regression or self.times == "too":
            return self.holds
        return (with_times, *self.holds) if self.times == "only" else (*self.holds, without_times)


def own(name: str, found: object) -> Theory:
    """The record of a theory of the user's own: theirs, or one around a function.

    Raises CampaignError where it is neither.
    """
    if isinstance(found, Theory):
        if not callable(found.predict) or found.given != "data" or found.times:
            raise CampaignError(
                f"{name}: wanted a Theory of given data, without times, that has predict"
            )
        return replace(found, name=name)
    if not callable(found):
        raise CampaignError(
            f"{name} is {type(found).__name__}; wanted a function of spec and dataset, or a Theory"
        )
    return Theory(name, predict=found)


def described(theory: Theory) -> dict[str, object]:
    """What a store keeps of a record: all but its functions."""
    kept = ("title", "words", "meaning", "papers", "bibtex", "colour")
    return {name: value for name in kept if (value := getattr(theory, name))}
