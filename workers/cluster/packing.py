"""How many lanes share a GPU: as many as its memory takes and as still make it do more a second.

A GPU begins with one lane, whose first segment says what memory a lane takes. Then lanes are
doubled as long as what is done a second rises by a tenth. Memory that did not suffice after all
halves them for good. A block's chains are never divided, so that no bit depends on any of this.
"""

import math
from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

SHARE = 0.85  # of the free memory of a GPU
RISE = 1.1  # of the rate, for which twice as many lanes are kept
MOST_LANES = 16  # lanes of a GPU: so many blocks of the usual size fill the largest one


class Ran(NamedTuple):
    """What an attempt saw of its GPU."""

    seconds: float
    lanes: float  # at work while it was, itself among them, in the mean
    most: int  # at once since the GPU was taken
    peak: int  # bytes, of all of them together, since then


class Packing:
    """Lanes at once on a GPU of one class, for one kind of shards."""

    def __init__(self, free: int, known: Mapping[str, int] | None = None) -> None:
        """`free` bytes before the first lane; `known` is what an earlier run has `kept`."""
        self._room = SHARE * free
        known = known or {}
        self.lanes = known.get("lanes", 1)
        self._most = known.get("most", MOST_LANES)
        self._bytes = known.get("bytes", 0)  # of a lane
        self._growing = not known
        self._fewer, self._rate = 1, 0.0  # what was tried before, and what it did a second
        self._rates: list[float] = []  # of the lanes of now

    @property
    def kept(self) -> dict[str, int]:
        """What another run may begin with."""
        return {"lanes": self.lanes, "most": self._most, "bytes": self._bytes}

    def ran(self, ran: Ran, work: float) -> None:
        """An attempt that did so much work; the unit is the caller's."""
        self._bytes = max(self._bytes, math.ceil(ran.peak / ran.most))
        self.lanes = min(self.lanes, self._fitting)
        if not self._growing or ran.lanes < self.lanes - 0.5:
            return
        self._rates.append(ran.lanes * work / ran.seconds)
        if len(self._rates) >= self.lanes:
            self._compare(fmean(self._rates))

    def short(self, beside: int) -> bool:
        """Memory did not suffice for so many lanes; False where there was one, which has all.

        Lanes of before the last halving, which end as it had to be, halve nothing again.
        """
        if beside < 2:
            return False
        if beside <= self.lanes:
            self.lanes = self._most = max(min(self.lanes // 2, beside - 1), 1)
            self._rates = []
        return True

    @property
    def _fitting(self) -> int:
        """Lanes that memory takes: one has to be tried in any case."""
        by_memory = int(self._room / self._bytes) if self._bytes else MOST_LANES
        return max(min(self._most, by_memory), 1)

    def _compare(self, rate: float) -> None:
        self._rates = []
        if rate < RISE * self._rate:
            self.lanes, self._growing = min(self._fewer, self._fitting), False
            return
        more = min(2 * self.lanes, self._fitting)
        self._growing = more > self.lanes
        self._fewer, self._rate, self.lanes = self.lanes, rate, more
