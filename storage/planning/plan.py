"""From specs to work: cells, and the shards of each cell in the order in which they must run."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

from storage.campaign.messages import rounded
from storage.campaign.resolved import Regressed, Sampled, regressed, sampled
from storage.campaign.spec import Campaign, is_trajectory
from storage.planning.identity import (
    NO_SOURCES,
    Sources,
    campaign_identity,
    cell_identity,
    regression_identity,
)
from storage.planning.sweep import Resolver, grid

WARMUP = -1  # the segment before the first: it adapts, keeps a checkpoint and no draws

AnyCell = TypeVar("AnyCell", bound="Cell")
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
    settings: dict[str, object]  # swept path -> value
    refined: bool = False  # added by the campaign itself, off the grid

    @property
    def words(self) -> str:
        """What the sweep sets in it: `network.width 4, data.train 20`; empty without a sweep."""
        return ", ".join(f"{path} {rounded(value)}" for path, value in self.settings.items())

    @property
    def key(self) -> str:
        """The name of the cell in the ledger."""
        return self.identity[:16]


@dataclass(frozen=True)
class EnsembleCell(Cell):
    """A cell whose networks are sampled."""

    spec: Sampled


@dataclass(frozen=True)
class RegressionCell(Cell):
    """A cell that is a regression."""

    spec: Regressed


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
    def sampled(self) -> Sampled:
        """The settings of its cell, of a shard of an ensemble."""
        return sampled(self.cell.spec)

    @property
    def regressed(self) -> Regressed:
        """The settings of its cell, of a shard of a regression."""
        return regressed(self.cell.spec)

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
    points: tuple[Mapping[str, object], ...]  # swept path -> value


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
    def cells(self) -> tuple[EnsembleCell, ...]:
        """Every cell of every spec, in order of first appearance."""
        return self._ensemble[0]

    @cached_property
    def regressions(self) -> tuple[RegressionCell, ...]:
        """Every regression of every spec, in order of first appearance."""
        return self._regression[0]

    @cached_property
    def current(self) -> frozenset[str]:
        """Identities of the cells and regressions that the spec asks for."""
        return self._ensemble[1] | self._regression[1]

    @cached_property
    def _ensemble(self) -> tuple[tuple[EnsembleCell, ...], frozenset[str]]:
        if self.spec.ensemble is None:
            return (), frozenset()
        return self._cells(EnsembleCell, sampled, cell_identity)

    @cached_property
    def _regression(self) -> tuple[tuple[RegressionCell, ...], frozenset[str]]:
        if self.spec.regression is None:
            return (), frozenset()
        return self._cells(RegressionCell, regressed, regression_identity)

    def _cells(
        self, kind: type[AnyCell], view: Callable[[Campaign], Campaign], identity: Identity
    ) -> tuple[tuple[AnyCell, ...], frozenset[str]]:
        """The cells of all specs, and the identities of those of the spec."""
        cells: dict[str, AnyCell] = {}
        current = set()
        for seen, spec in enumerate(self.specs, start=1):
            added = self._added(seen) if identity is cell_identity else []
            points = [(settings, False) for settings in grid(spec)]
            resolver = Resolver(view(spec))
            for settings, refined in points + [(settings, True) for settings in added]:
                resolved = resolver.at(settings)
                name = identity(resolved, self.sources)
                cells.setdefault(name, kind(len(cells), name, resolved, settings, refined))
                if spec == self.spec or refined:
                    current.add(name)
        return tuple(cells.values()), frozenset(current)

    def _added(self, seen: int) -> list[dict[str, object]]:
        """Settings of the cells that were added after so many specs."""
        rounds = [each for each in self.rounds if each.specs == seen]
        return [dict(point) for each in rounds for point in each.points]

    def most(self, section: str, key: str) -> int:
        """The largest value of a setting that an extension may raise, over all specs."""
        values = [getattr(getattr(spec, section), key) for spec in self.specs]
        return max(values)

    @property
    def times(self) -> tuple[float, ...]:
        """At which networks are looked at in all specs, where they are followed in time."""
        if self.spec.sampler is None or not is_trajectory(self.spec):
            return ()
        return tuple(self.spec.sampler.moments(self.most("sampler", "draws")))

    @cached_property
    def room(self) -> int:
        """How many cells the campaign may still add: whole ones, by what is left of its budget."""
        if self.spec.refine is None:
            return 0
        spec = sampled(self.spec)
        shards = sum(_ensemble_counts(spec, spec).values())
        added = sum(cell.refined for cell in self.cells)
        return max(self.spec.refine.budget // shards - added, 0)

    @cached_property
    def work(self) -> dict[Place, int]:
        """How many shards each cell has of each kind, (kind, key); none of them is made for it."""
        counts = [(cell, _regression_counts(regressed(self.spec))) for cell in self.regressions]
        counts += [(cell, _ensemble_counts(cell.spec, sampled(self.spec))) for cell in self.cells]
        return {
            (kind, cell.key): count
            for cell, each in counts
            if cell.identity in self.current
            for kind, count in each.items()
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
        asked = True
        if match[1] in SAMPLED:
            spec = sampled(self.spec)
            asked = (
                dataset < spec.ensemble.datasets
                and block < spec.ensemble.chains // spec.ensemble.block
                and segment < spec.sampler.draws // spec.sampler.segment
            )
        else:
            asked = repeat < regressed(self.spec).regression.repeats
        return (match[1], match[2]) if asked else None

    def lanes(self) -> Iterator[Lane]:
        """The work of the spec: regressions first, then one lane per block of chains.

        A step check is one more block of each cell, of the first dataset, at half the step.
        """
        for cell in self.regressions:
            if cell.identity in self.current:
                yield from _regression_lanes(cell, regressed(self.spec))
        for cell in self.cells:
            if cell.identity in self.current:
                yield from _ensemble_lanes(cell, sampled(self.spec))

    def shards(self) -> Iterator[Shard]:
        """All shards of the spec."""
        for lane in self.lanes():
            yield from lane


def _regression_counts(spec: Regressed) -> dict[Kind, int]:
    """How many shards of each kind the spec asks of a regression."""
    return {"spectrum": 1, "regression": spec.regression.repeats}


def _ensemble_counts(cell: Sampled, spec: Sampled) -> dict[Kind, int]:
    """How many shards of each kind the spec asks of a cell."""
    lane = 1 + spec.sampler.draws // spec.sampler.segment
    lanes = spec.ensemble.datasets * (spec.ensemble.chains // spec.ensemble.block)
    counts: dict[Kind, int] = {"ensemble": lanes * lane}
    if _is_checked(cell, spec):
        counts["check"] = lane
    return counts


def _is_checked(cell: Sampled, spec: Sampled) -> bool:
    """Whether the spec asks for a step check, and the cell's scheme has a bias."""
    return spec.sampler.step_check and cell.sampler.bias_order > 0


def _ensemble_lanes(cell: EnsembleCell, spec: Sampled) -> Iterator[Lane]:
    segments = range(WARMUP, spec.sampler.draws // spec.sampler.segment)
    for dataset in range(spec.ensemble.datasets):
        for block in range(spec.ensemble.chains // spec.ensemble.block):
            yield tuple(Shard("ensemble", cell, dataset, block, segment) for segment in segments)
    if _is_checked(cell.spec, spec):
        yield tuple(Shard("check", cell, segment=segment) for segment in segments)


def _regression_lanes(cell: RegressionCell, spec: Regressed) -> Iterator[Lane]:
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
