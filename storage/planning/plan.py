"""From specs to work: cells, and the shards of each cell in the order in which they must run."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from storage.campaign.spec import Campaign
from storage.planning.identity import (
    NO_SOURCES,
    Sources,
    campaign_identity,
    cell_identity,
    regression_identity,
)
from storage.planning.sweep import Resolver, grid

WARMUP = -1  # the segment before the first: it adapts, keeps a checkpoint and no draws

Identity = Callable[[Campaign, Sources], str]
Kind = Literal["ensemble", "check", "regression", "spectrum"]
Place = tuple[str, str]  # the kind and the cell of a shard, as its name has them
SAMPLED = ("ensemble", "check")  # kinds of shards that are segments of a block of chains
_NAME = re.compile(
    r"(ensemble|check|regression|spectrum)/([^/]+)/"
    r"(?:d(\d+)-b(\d+)-)?(?:warmup|pool|s(\d+)|r(\d+))"
)


@dataclass(frozen=True)
class Cell:
    """A point of the grid, or between its points: place along `cell`, identity, settings."""

    index: int
    identity: str
    spec: Campaign
    settings: dict[str, Any]  # swept path -> value
    refined: bool = False  # added by the campaign itself, off the grid

    @property
    def words(self) -> str:
        """What the sweep sets in it: `network.width 4, data.train 20`; empty without a sweep."""
        return ", ".join(f"{path} {value}" for path, value in self.settings.items())

    @property
    def key(self) -> str:
        """The name of the cell in the ledger."""
        return self.identity[:16]


@dataclass(frozen=True)
class Shard:
    """The unit of work: a segment of a block of chains, or a repeat or spectrum of a regression."""

    kind: Kind
    cell: Cell
    dataset: int = 0
    block: int = 0
    segment: int = 0
    repeat: int = 0

    @property
    def name(self) -> str:
        """The name of the shard's receipt in the ledger."""
        last = "warmup" if self.segment == WARMUP else f"s{self.segment:05d}"
        if self.kind == "ensemble":
            return f"ensemble/{self.cell.key}/d{self.dataset:04d}-b{self.block:04d}-{last}"
        if self.kind == "check":
            return f"check/{self.cell.key}/{last}"
        if self.kind == "regression":
            return f"regression/{self.cell.key}/r{self.repeat:04d}"
        return f"spectrum/{self.cell.key}/pool"


@dataclass(frozen=True)
class Round:
    """Cells that the campaign added of its own accord, after it had seen so many specs."""

    specs: int
    points: tuple[Mapping[str, Any], ...]  # swept path -> value


Lane = tuple[Shard, ...]  # shards that must run one after another


@dataclass(frozen=True)
class Plan:
    """What a spec asks for, on top of the specs that its store has seen, in their order."""

    spec: Campaign
    specs: tuple[Campaign, ...]
    sources: Sources
    rounds: tuple[Round, ...] = ()

    @cached_property
    def identity(self) -> str:
        """The campaign's identity."""
        return campaign_identity(self.spec, self.sources)

    @property
    def directory(self) -> str:
        """The name of the campaign's directory."""
        return f"{self.spec.name}-{self.identity[:10]}"

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell of every spec, in order of first appearance."""
        return self._ensemble[0]

    @cached_property
    def regressions(self) -> tuple[Cell, ...]:
        """Every regression of every spec, in order of first appearance."""
        return self._regression[0]

    @cached_property
    def current(self) -> frozenset[str]:
        """Identities of the cells and regressions that the spec asks for."""
        return self._ensemble[1] | self._regression[1]

    @cached_property
    def _ensemble(self) -> tuple[tuple[Cell, ...], frozenset[str]]:
        return self._cells(cell_identity) if self.spec.ensemble else ((), frozenset())

    @cached_property
    def _regression(self) -> tuple[tuple[Cell, ...], frozenset[str]]:
        return self._cells(regression_identity) if self.spec.regression else ((), frozenset())

    def _cells(self, identity: Identity) -> tuple[tuple[Cell, ...], frozenset[str]]:
        """The cells of all specs, and the identities of those of the spec."""
        cells: dict[str, Cell] = {}
        current = set()
        for seen, spec in enumerate(self.specs, start=1):
            added = self._added(seen) if identity is cell_identity else []
            points = [(settings, False) for settings in grid(spec)]
            resolver = Resolver(spec)
            for settings, refined in points + [(settings, True) for settings in added]:
                resolved = resolver.at(settings)
                name = identity(resolved, self.sources)
                cells.setdefault(name, Cell(len(cells), name, resolved, settings, refined))
                if spec == self.spec or refined:
                    current.add(name)
        return tuple(cells.values()), frozenset(current)

    def _added(self, seen: int) -> list[dict[str, Any]]:
        """Settings of the cells that were added after so many specs."""
        rounds = [each for each in self.rounds if each.specs == seen]
        return [dict(point) for each in rounds for point in each.points]

    def most(self, section: str, key: str) -> int:
        """The largest value of a setting that an extension may raise, over all specs."""
        values = [getattr(getattr(spec, section), key) for spec in self.specs]
        return max(values)

    @cached_property
    def room(self) -> int:
        """How many cells the campaign may still add: whole ones, by what is left of its budget."""
        if self.spec.refine is None:
            return 0
        shards = sum(_counts("ensemble", self.spec, self.spec).values())
        added = sum(cell.refined for cell in self.cells)
        return max(self.spec.refine.budget // shards - added, 0)

    @cached_property
    def work(self) -> dict[Place, int]:
        """How many shards each cell has of each kind, (kind, key); none of them is made for it."""
        return {
            (kind, cell.key): count
            for cells, section in ((self.regressions, "regression"), (self.cells, "ensemble"))
            for cell in cells
            if cell.identity in self.current
            for kind, count in _counts(section, self.spec, cell.spec).items()
        }

    def of(self, names: Iterable[str]) -> Counter[Place]:
        """How many shards of the spec there are among these names, by (kind, key)."""
        return Counter(place for name in names if (place := self._place(name)) is not None)

    def chains_of(self, cell: Cell, finished: Mapping[Place, int]) -> tuple[int, int]:
        """Shards of a cell's chains: how many are finished, and all that the spec asks for."""
        places = [(kind, cell.key) for kind in SAMPLED]
        return sum(finished.get(p, 0) for p in places), sum(self.work.get(p, 0) for p in places)

    def _place(self, name: str) -> Place | None:
        """The kind and the cell of a shard, where the spec asks for it."""
        if (match := _NAME.fullmatch(name)) is None or (match[1], match[2]) not in self.work:
            return None
        dataset, block, segment, repeat = (int(each or 0) for each in match.groups()[2:])
        spec = self.spec
        asked = True
        if match[1] in SAMPLED:
            assert spec.ensemble is not None
            assert spec.sampler is not None
            asked = (
                dataset < spec.ensemble.datasets
                and block < spec.ensemble.chains // spec.ensemble.block
                and segment < spec.sampler.draws // spec.sampler.segment
            )
        elif spec.regression is not None:
            asked = repeat < spec.regression.repeats
        return (match[1], match[2]) if asked else None

    def lanes(self) -> Iterator[Lane]:
        """The work of the spec: regressions first, then one lane per block of chains.

        A step check is one more block of each cell, of the first dataset, at half the step.
        """
        for cell in self.regressions:
            if cell.identity in self.current:
                yield from _regression_lanes(cell, self.spec)
        for cell in self.cells:
            if cell.identity in self.current:
                yield from _ensemble_lanes(cell, self.spec)

    def shards(self) -> Iterator[Shard]:
        """All shards of the spec."""
        for lane in self.lanes():
            yield from lane


def _counts(section: str, spec: Campaign, cell: Campaign) -> dict[Kind, int]:
    """How many shards of each kind the spec asks of a cell."""
    if section == "regression":
        assert spec.regression is not None
        return {"spectrum": 1, "regression": spec.regression.repeats}
    assert spec.ensemble is not None
    assert spec.sampler is not None
    lane = 1 + spec.sampler.draws // spec.sampler.segment
    lanes = spec.ensemble.datasets * (spec.ensemble.chains // spec.ensemble.block)
    counts: dict[Kind, int] = {"ensemble": lanes * lane}
    if _is_checked(cell, spec):
        counts["check"] = lane
    return counts


def _is_checked(cell: Campaign, spec: Campaign) -> bool:
    """Whether the spec asks for a step check, and the cell's scheme has a bias."""
    assert spec.sampler is not None
    assert cell.sampler is not None
    return spec.sampler.step_check and cell.sampler.bias_order > 0


def _ensemble_lanes(cell: Cell, spec: Campaign) -> Iterator[Lane]:
    assert spec.ensemble is not None
    assert spec.sampler is not None
    segments = range(WARMUP, spec.sampler.draws // spec.sampler.segment)
    for dataset in range(spec.ensemble.datasets):
        for block in range(spec.ensemble.chains // spec.ensemble.block):
            yield tuple(Shard("ensemble", cell, dataset, block, segment) for segment in segments)
    if _is_checked(cell.spec, spec):
        yield tuple(Shard("check", cell, segment=segment) for segment in segments)


def _regression_lanes(cell: Cell, spec: Campaign) -> Iterator[Lane]:
    assert spec.regression is not None
    yield (Shard("spectrum", cell),)
    for repeat in range(spec.regression.repeats):
        yield (Shard("regression", cell, repeat=repeat),)


def plan(
    spec: Campaign,
    stored: Sequence[Campaign] = (),
    sources: Sources = NO_SOURCES,
    rounds: Sequence[Round] = (),
) -> Plan:
    """The plan of a spec in a store that has seen the specs `stored`, and refined them."""
    specs = stored if spec in stored else [*stored, spec]
    return Plan(spec, tuple(specs), sources, tuple(rounds))
