"""What a run takes, part by part: from a few real steps of each kind of cell on this machine.

Steps, draws and kernels are timed here and now, within `PATIENCE`; what is too large or too much is
scaled from the nearest kind that was timed, by its products. All else (imports, files, theories,
fits, the report) was measured once, and is scaled by how fast this machine is.

Rehearsals are imported where they are used: a campaign without an ensemble needs no samplers.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from pipelines.engine import blocks, needs
from pipelines.engine.engine import Prepared
from pipelines.estimates import particles, predictions
from pipelines.estimates.speeds import PATIENCE, Speeds
from storage.arrays import schema
from storage.campaign.network_spec import Kernel
from storage.campaign.resolved import Sampled, sampled
from storage.campaign.schemes import AUTO
from storage.campaign.spec import is_trajectory
from storage.errors import refused
from storage.planning.identity import digest
from storage.planning.plan import (
    SAMPLED,
    WARMUP,
    Cell,
    EnsembleCell,
    Place,
    Plan,
    RegressionCell,
    Shard,
)
from workers import numerics
from workers.devices.placement import placement_of
from workers.ensemble.adaptation import FIRST_ITERATIONS, LATER_ITERATIONS, STAGES, VECTORS
from workers.models import nngp_of
from workers.samplers.trajectory import NETWORKS

LONG_TRIAL = 0.5  # seconds: what would take longer is not timed
SLOW_RATE, USUAL_RATE = 2e9, 2e10  # products and sums per second: of a bad case, and in the mean
POINTS, FEW_POINTS = 128, 16  # of a kernel that is timed, and of one of images
PAIR = 1e-7  # seconds of a kernel that was never timed

# Seconds of one core, on the machine whose speeds are in `speeds.py`.
IMPORTS = 2.6
RAY, WORKER = 5.0, 2.5  # to start it, and each worker
VARIABLE, RECEIPT = 0.0009, 0.006  # of a shard: to write a variable, and all else
BYTES = 2e8  # written per second
ORDER, SIZE = 0.015, 0.004  # of a regression: an order, and each of its sizes and ridges
ASSESS, ASSESS_DATASET = 0.6, 0.06
FIT, FIT_DATASET = 1.0, 0.06
REPORT, REPORT_CELL = 5.0, 0.2


class Timing(NamedTuple):
    """Seconds of one core for a kind of cell."""

    data: float  # a dataset
    shard: float  # what each segment makes before its first step
    step: float  # of a block
    draw: float


class Lanes(NamedTuple):
    """Shards of one kind and cell, in lanes whose shards run one after another."""

    number: int
    first: float  # seconds of one core: the warm-up, or all there is
    more: int
    each: float  # of each of those behind the first

    @property
    def lane(self) -> float:
        """Seconds of one lane."""
        return self.first + self.more * self.each

    @property
    def seconds(self) -> float:
        """Of all."""
        return self.number * self.lane

    @property
    def shards(self) -> int:
        """How many there are."""
        return self.number * (1 + self.more)


@dataclass(frozen=True)
class Costs:
    """Seconds of one core."""

    lanes: Mapping[Place, Lanes]
    stages: Mapping[str, float]  # those after the simulation, in their order
    slowness: float

    @property
    def start(self) -> float:
        """Imports of the driver."""
        return IMPORTS * self.slowness

    def simulation(self, finished: Mapping[Place, int]) -> float:
        """All shards but those that are finished, so many of each cell."""
        left = 0.0
        for place, lanes in self.lanes.items():
            left += lanes.seconds * (1 - finished.get(place, 0) / lanes.shards)
        return left

    def seconds(self, shard: Shard) -> float:
        """One shard."""
        lanes = self.lanes[shard.kind, shard.cell.key]
        first = shard.kind not in SAMPLED or shard.segment == WARMUP
        return lanes.first if first else lanes.each

    def total(self, finished: Mapping[Place, int], cores: int) -> tuple[float, float]:
        """Core-seconds of a run on Ray, and its seconds by the clock on so many cores."""
        work = self.simulation(finished)
        serial = self.start + sum(self.stages.values())
        if not work:
            return serial, serial
        workers = min(cores, sum(lanes.number for lanes in self.lanes.values()))
        starting = self.slowness * (RAY + WORKER * workers)
        wall = self.slowness * (RAY + WORKER) + self.clock(finished, cores)
        return serial + starting + work, serial + wall

    def clock(self, finished: Mapping[Place, int], cores: int) -> float:
        """Seconds of the simulation by the clock: all lanes are shared out, none is split."""
        together = longest = 0.0
        for place, lanes in self.lanes.items():
            left = 1 - finished.get(place, 0) / lanes.shards
            together += left * lanes.seconds
            longest = max(longest, left * lanes.lane)
        return max(together / cores, longest)


def costs(prepared: Prepared, planned: Plan, speeds: Speeds, measure: bool = True) -> Costs:
    """What a plan takes; without measuring from what is known of this machine."""
    products, slowness = speeds.slowness
    kernel = partial(_pair, prepared, speeds, measure)
    lanes: dict[Place, Lanes] = {}
    current = [cell for cell in planned.cells if cell.identity in planned.current]
    sizes = {cell.key: blocks.size_key(cell.spec) for cell in current}
    one = {sizes[cell.key]: cell for cell in reversed(current)}  # the first of each size
    timings = _timings(prepared, one, speeds, measure)
    written = {size: _bytes(cell, prepared) for size, cell in one.items()}
    variables = schema.ensemble_variables(planned.spec) if current else {}
    for cell in current:
        spec, size = sampled(planned.spec), sizes[cell.key]
        for kind in ("ensemble", "check"):
            if count := planned.work.get((kind, cell.key)):
                write = slowness * (VARIABLE * len(variables) + RECEIPT) + written[size]
                lanes[kind, cell.key] = _lanes(spec, cell, count, timings[size], write)
    for cell in planned.regressions:
        if cell.identity in planned.current:
            pair = kernel(cell, cell.spec.kernel)
            lanes |= _regression(cell, pair, products, slowness)
    mean_field = particles.MeanField(prepared, speeds, measure)
    stages = _stages(planned, kernel, mean_field, products, slowness)
    speeds.keep()
    return Costs(lanes, stages, slowness)


# -- an ensemble ------------------------------------------------------------------------------


def _lanes(spec: Sampled, cell: EnsembleCell, count: int, timing: Timing, write: float) -> Lanes:
    sampler = cell.spec.sampler
    looks = 0
    if sampler.step_size == AUTO:
        looks = 1 + FIRST_ITERATIONS + len(STAGES) * (1 + LATER_ITERATIONS)
        if sampler.damping is not None:  # and traces
            looks += (1 + len(STAGES)) * (1 + VECTORS)
    more = spec.sampler.draws // sampler.segment
    first = timing.data + timing.shard + write + (sampler.warmup + looks) * timing.step
    each = timing.shard + write
    each += sampler.segment * (_steps(spec) * timing.step + timing.draw)
    return Lanes(count // (1 + more), first, more, each)


def _steps(spec: Sampled) -> float:
    """Steps from one draw to the next; of a trajectory pairs of them, on average."""
    sampler = spec.sampler
    if is_trajectory(spec):
        return sampler.pairs(sampler.draws)[-1] / sampler.draws
    return sampler.thin


def _bytes(cell: EnsembleCell, prepared: Prepared) -> float:
    """Seconds for the bytes that a shard writes: its checkpoint and its outputs."""
    return blocks.block_of(cell.spec, prepared).total / 2 / BYTES


class _Kind(NamedTuple):
    name: str
    cell: EnsembleCell
    step: float  # products of a step of a block
    draw: float


def _timings(
    prepared: Prepared, cells: Mapping[str, EnsembleCell], speeds: Speeds, measure: bool
) -> dict[str, Timing]:
    """For each size, of which a cell is given, what was timed, or is scaled from its neighbour."""
    kinds = {
        name: _Kind(name, cell, *products_of(cell.spec, prepared)) for name, cell in cells.items()
    }
    ordered = sorted(kinds.values(), key=lambda kind: kind.step)
    known, began = {}, time.process_time()
    for kind in (ordered[place] for place in _spread(len(ordered))):
        found = speeds.known(_name(kind, prepared))
        if found is None and measure and time.process_time() - began < PATIENCE:
            found = _time(kind, prepared, speeds)
        if found is not None:
            known[kind.name] = Timing(*found)
    near = [kinds[name] for name in known]
    return {kind.name: known.get(kind.name) or _scaled(kind, near, known) for kind in ordered}


def _name(kind: _Kind, prepared: Prepared) -> str:
    return f"block {digest([kind.name, prepared.sources])[:32]}"


def products_of(spec: Sampled, prepared: Prepared) -> tuple[float, float]:
    """Of a block: a step is a pass forward and two back, a draw one forward at all points."""
    each = blocks.model_of(spec, prepared).products * spec.ensemble.block
    replicas = 1 + len(spec.sampler.ladder)
    moves = spec.sampler.moves or 1
    if is_trajectory(spec):  # two steps of two networks, and one of two more
        each, moves = each * NETWORKS, 1.5
    points = spec.data.train + spec.data.test_points + spec.observe.points
    return 3.0 * each * replicas * moves * spec.data.train, float(each * points)


def _spread(count: int) -> list[int]:
    """All places below `count`: both ends first, then middles, so that any few are apart."""
    order, seen = [], set()
    parts = 1
    while len(order) < count:
        for part in range(parts + 1):
            place = round(part * (count - 1) / parts)
            if place not in seen:
                seen.add(place)
                order.append(place)
        parts *= 2
    return order


def _time(kind: _Kind, prepared: Prepared, speeds: Speeds) -> list[float] | None:
    """Time a kind, with fewer chains where a block is too large; None where a chain is."""
    from workers.ensemble.rehearsal import rehearse

    ensemble = kind.cell.spec.ensemble
    most = LONG_TRIAL * SLOW_RATE / max(kind.step, kind.draw)
    chains = min(ensemble.block, math.floor(most * ensemble.block))
    if chains < 1:
        return None
    few = ensemble.model_copy(update={"block": chains})
    spec = kind.cell.spec.model_copy(update={"ensemble": few})
    cell = EnsembleCell(kind.cell.index, kind.cell.identity, spec, kind.cell.settings)
    factor = ensemble.block / chains

    def act() -> list[float]:
        here, shard = placement_of(numerics.describe()), Shard("ensemble", cell)
        with _explained(cell):
            found = rehearse(shard, prepared.plugins, prepared.sources, here)
        return [found.data, found.shard, factor * found.step, factor * found.draw]

    return speeds.measure(_name(kind, prepared), act)


def _scaled(kind: _Kind, near: Sequence[_Kind], known: Mapping[str, Timing]) -> Timing:
    """From the nearest of those that were timed, or at a usual speed."""
    if not near:
        return Timing(0.0, 0.0, 2 * kind.step / USUAL_RATE, 2 * kind.draw / USUAL_RATE)
    nearest = min(near, key=lambda other: abs(math.log(other.step / kind.step)))
    data, shard, step, draw = known[nearest.name]
    return Timing(data, shard, step * kind.step / nearest.step, draw * kind.draw / nearest.draw)


# -- a regression -----------------------------------------------------------------------------


def _regression(
    cell: RegressionCell, pair: float, products: float, slowness: float
) -> dict[Place, Lanes]:
    regression = cell.spec.regression
    needed, points = needs.needs_of(cell.spec), regression.pool
    sizes = len(regression.train) * len(regression.ridges)
    overhead = slowness * (RECEIPT + 15 * VARIABLE)
    order = products * (needed.order.seconds + needed.quartic_seconds)
    order += overhead + slowness * (ORDER + sizes * SIZE)
    spectrum = products * 2 * needed.spectrum_seconds + pair * points**2 + overhead
    return {
        ("spectrum", cell.key): Lanes(1, spectrum, 0, 0.0),
        ("regression", cell.key): Lanes(regression.repeats, order, 0, 0.0),
    }


def _pair(prepared: Prepared, speeds: Speeds, measure: bool, cell: Cell, kernel: Kernel) -> float:
    """Seconds for the NNGP kernel of two points of a cell."""
    inputs = blocks.inputs_of(cell.spec, prepared)
    shape = kernel.model_dump(mode="json", include=blocks.SHAPE - {"width"})
    name = f"kernel {digest([shape, inputs, prepared.sources])[:32]}"
    if not measure:
        return (speeds.known(name) or [PAIR])[0]
    own = prepared.plugins.get(kernel.activation) if ":" in kernel.activation else None

    def act() -> list[float]:
        points = FEW_POINTS if kernel.image is not None else POINTS
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(points, inputs, generator=generator, dtype=torch.float64)
        with numerics.fixed_threads(), _explained(cell):
            nngp_of(kernel, x[:2], None, own)
            began = time.process_time()
            nngp_of(kernel, x, None, own)
            return [(time.process_time() - began) / points**2]

    return speeds.measure(name, act)[0]


@contextmanager
def _explained(cell: Cell) -> Iterator[None]:
    """What is tried here would fail in a run as well: code of the user's own may raise anything."""
    where = f"the cell {cell.words}" if cell.words else "its only cell"
    with refused(
        lambda problem: f"the first steps of {where} failed: {problem}; put right what it names"
    ):
        yield


# -- the stages after the simulation ----------------------------------------------------------


def _stages(
    planned: Plan,
    kernel: predictions.Pairs,
    mean_field: predictions.MeanField,
    products: float,
    slowness: float,
) -> dict[str, float]:
    cells = len(planned.cells)
    datasets = planned.most("ensemble", "datasets") if cells else 0
    together = cells * datasets
    theories = len(planned.spec.theories)
    return {
        "assess convergence": slowness * (ASSESS + ASSESS_DATASET * together),
        "predict": predictions.seconds(planned, kernel, mean_field, products, slowness),
        "fit": slowness * (FIT + FIT_DATASET * together * (1 + theories)),
        "report": slowness * (REPORT + REPORT_CELL * min(cells, 24)),
    }
