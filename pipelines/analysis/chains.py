"""The draws that may be used: those of sound chains, up to where enough blocks are finished."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage.arrays.schema import STATUS
from storage.campaign.resolved import sampled
from storage.planning.plan import Plan
from storage.store.hierarchy import Array

FEWEST_CHAINS = 2  # to tell chains from one another


class Arrays(Protocol):
    """A stored group, or its arrays by their names."""

    def __contains__(self, name: str, /) -> bool: ...

    def __getitem__(self, name: str, /) -> Array: ...


@dataclass(frozen=True)
class Chains:
    """Sound chains of one dataset of a cell, cut to draws that all of them have."""

    group: Arrays  # of the group `ensemble`
    cell: int
    dataset: int
    chains: NDArray[np.intp]  # places along `chain`
    segments: int
    diverged: int  # chains left out

    @property
    def enough(self) -> bool:
        """Whether there are chains to compare and draws of them."""
        return len(self.chains) >= FEWEST_CHAINS and self.segments > 0

    def draws(self, name: str, most: int | None = None) -> NDArray[np.float64]:
        """A variable with dimensions (cell, dataset, chain, draw, ...): (chain, draw, ...).

        `most` cuts what comes after the draws, all of it in one row.
        """
        array = self.group[name]
        draws = self.segments * array.shape[3] // self.group["status"].shape[3]
        values = np.asarray(array[self.cell, self.dataset, :, :draws], dtype=np.float64)
        values = values[self.chains]
        return values if most is None else values.reshape(*values.shape[:2], -1)[..., :most]

    def accumulated(self, name: str) -> NDArray[np.float64]:
        """The same where there is a number for each segment: (chain, segment, ...)."""
        array = self.group[name]
        values = np.asarray(array[self.cell, self.dataset, :, : self.segments], dtype=np.float64)
        return values[self.chains]


def sound_chains(group: Arrays, planned: Plan, cell: int, dataset: int) -> Chains:
    """The chains of a dataset that are sound, over the segments that leave the most draws."""
    finished = np.asarray(group["finished"][cell, dataset]) > 0  # (block, segment)
    done = np.minimum.accumulate(finished, axis=1).sum(axis=1)
    lengths = np.arange(finished.shape[1] + 1)
    segments = int(np.argmax([length * (done >= length).sum() for length in lengths]))
    begun = np.repeat(done >= max(segments, 1), sampled(planned.spec).ensemble.block)
    status = np.asarray(group["status"][cell, dataset])[:, :segments]  # (chain, segment)
    sound = (status == STATUS["ok"]).all(axis=1)
    usable = np.flatnonzero(begun & sound)
    return Chains(group, cell, dataset, usable, segments, int((begun & ~sound).sum()))


def finished_fraction(group: Arrays, planned: Plan) -> NDArray[np.float64]:
    """Shards finished of those that the newest spec with the cell asks for, (cell,)."""
    fractions = np.zeros(len(planned.cells))
    asked = asked_shards(planned)
    for cell in planned.cells:
        finished = np.asarray(group["finished"][cell.index])
        datasets, blocks, segments = asked[cell.identity]
        fractions[cell.index] = finished[:datasets, :blocks, :segments].mean()
    return fractions


def asked_shards(planned: Plan) -> dict[str, tuple[int, int, int]]:
    """Datasets, blocks and segments that the newest spec with a cell asks for, by its identity."""
    asked: dict[str, tuple[int, int, int]] = {}
    for spec in map(sampled, planned.specs):
        shape = (
            spec.ensemble.datasets,
            spec.ensemble.chains // spec.ensemble.block,
            spec.sampler.draws // spec.sampler.segment,
        )
        alone = Plan(spec, (spec,), planned.sources)
        asked |= {cell.identity: shape for cell in alone.cells}
        asked |= {cell.identity: shape for cell in planned.cells if cell.refined}
    return asked
