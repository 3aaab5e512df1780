"""What a campaign would take on a GPU, by the figures of its maker: nothing here was measured.

A step of a block is its products in the full rate of arithmetic, its pre-activations through
memory (written and read thrice: h, φ and φ'), and its launches, one after another. The fused
kernels, which write no pre-activations, take less. GPU.md has what is aimed at. Factors of large
matrices are taken at half of the full rate, decompositions at some hundredths of it.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from pipelines.engine import blocks, needs
from pipelines.engine.engine import Prepared
from pipelines.estimates.costs import Costs, products_of
from pipelines.text.durations import duration
from storage.campaign.resolved import Regressed, Sampled
from storage.planning.plan import SAMPLED, EnsembleCell, Place, Plan
from theory.regression.curve_methods import DOUBLE
from workers.ensemble.schemes import SCHEMES
from workers.networks.networks import DEVICE_ELEMENTS

NAME = "NVIDIA H200"
RATE = {"float32": 66.9e12, "float64": 66.9e12}  # flop a second; float64 by tensor cores
TRAFFIC = 4.3e12  # bytes a second that a copy was seen to move
PASSES = 6  # over the pre-activations of a step
LAUNCH, LAUNCHED_ALONE = 2e-6, 7e-6  # seconds: in a graph, and by the host
LAUNCHES, LAYER, DRAW = 34, 11, 100  # of a step, of each further layer, and of what is recorded
FACTORS, DECOMPOSITIONS = 0.5 * 66.9e12, 0.03 * 66.9e12  # flop a second, in float64
MATRICES = 4  # of the draws, beside the kernel of the pool: K + T, L, the identity and L⁻¹
MEMORY = 141e9  # bytes
SHARD = 0.034  # seconds of each shard beside (deploy/SCALING.md)
SHORT_SEGMENT = 10.0  # seconds of a segment below which driver and store work more than the device


class Step(NamedTuple):
    """Of a block of chains."""

    step: float  # seconds
    draw: float
    bytes: float


def step_of(spec: Sampled, prepared: Prepared) -> Step:
    """Of a resolved cell."""
    precision, captured = spec.sampler.precision, SCHEMES[spec.sampler.scheme].captured
    step, draw = products_of(spec, prepared)
    item = 4 if precision == "float32" else 8
    chains = spec.ensemble.block * (1 + len(spec.sampler.ladder))
    units = chains * spec.data.train * blocks.model_of(spec, prepared).units
    launches = LAUNCHES + LAYER * (spec.network.depth - 1)
    seconds = launches * (LAUNCH if captured else LAUNCHED_ALONE)
    seconds += 2 * step / RATE[precision] + PASSES * item * units / TRAFFIC
    block = blocks.block_of(spec, prepared).total + 4 * item * min(units, DEVICE_ELEMENTS)
    return Step(seconds, DRAW * LAUNCHED_ALONE + 2 * draw / RATE[precision], block)


def on_a_gpu(costing: Costs, prepared: Prepared, planned: Plan) -> Costs:
    """The same with chains on a GPU in the place of a core."""
    lanes = dict(costing.lanes)
    for cell in planned.cells:
        for kind in SAMPLED:
            if (place := (kind, cell.key)) in lanes:
                sampler, each = cell.spec.sampler, step_of(cell.spec, prepared)
                first = SHARD + sampler.warmup * each.step
                segment = SHARD + sampler.segment * (sampler.thin * each.step + each.draw)
                lanes[place] = lanes[place]._replace(first=first, each=segment)
    for cell in planned.regressions:
        order, spectrum, _ = regression_of(cell.spec)
        for place, seconds in (("regression", order), ("spectrum", spectrum)):
            if (place, cell.key) in lanes:
                lanes[place, cell.key] = lanes[place, cell.key]._replace(first=SHARD + seconds)
    return replace(costing, lanes=lanes)


class Regression(NamedTuple):
    """Of one regression on a GPU."""

    order: float  # seconds
    spectrum: float
    bytes: float


def regression_of(spec: Regressed) -> Regression:
    """Of a resolved spec."""
    needed = needs.needs_of(spec)
    rate = DECOMPOSITIONS if "spectrum" in needed.order.methods else FACTORS
    order, spectrum = needed.order.seconds * DOUBLE, needed.spectrum_seconds * DOUBLE
    matrices = spec.regression.pool**2 + MATRICES * max(spec.regression.train) ** 2
    whole = 3 * spec.regression.pool**2  # of the decomposition: the kernel, its vectors, and room
    return Regression(order / rate, spectrum / DECOMPOSITIONS, 8.0 * max(matrices, whole))


def regression_lines(spec: Regressed) -> list[str]:
    """What it takes, and a warning where a GPU has not the memory."""
    found = regression_of(spec)
    lines = [
        f"    not measured, by the figures of an {NAME}: {_seconds(found.order)} an order, "
        f"{_seconds(found.spectrum)} the spectrum, {found.bytes / 1e9:.2g} GB in all"
    ]
    if found.bytes > MEMORY:
        lines.append(f"warning  a GPU of {MEMORY / 1e9:.0f} GB has no room for it: a smaller pool")
    return lines


def gpu_lines(
    costing: Costs, prepared: Prepared, planned: Plan, finished: Mapping[Place, int]
) -> list[str]:
    """What it takes, for `costing` on a GPU: of the chains that take longest, and of all."""
    chains = {place: of for place, of in costing.lanes.items() if place[0] in SAMPLED}
    said = f"gpu      not measured, by the figures of an {NAME}: "
    if chains:
        cells = {cell.key: cell for cell in planned.cells}
        slowest = max(chains, key=lambda place: chains[place].each)
        each = step_of(cells[slowest[1]].spec, prepared)
        said += (
            f"a step of a block takes at most {1e3 * each.step:.2g} ms and "
            f"{math.ceil(each.bytes / 1e6)} MB, a segment {_seconds(chains[slowest].each)}; "
        )
    one, four = (duration(costing.clock(finished, gpus)) for gpus in (1, 4))
    return [f"{said}all shards {one} with one GPU, {four} with four"]


def short_segments(costing: Costs, planned: Plan) -> list[str]:
    """A warning where segments are over before they are worth it, with those that would do."""
    cells = {cell.key: cell for cell in planned.cells}
    lanes = [(of.each, cells[key]) for (kind, key), of in costing.lanes.items() if kind in SAMPLED]
    each, cell = min(lanes, key=lambda found: found[0], default=(math.inf, None))
    if cell is None or each >= SHORT_SEGMENT:
        return []
    said = f"a segment takes {_seconds(each)}, wanted {SHORT_SEGMENT:.0f} s"
    return [f"warning  {said}; {_advice(each, cell)}"]


def _advice(each: float, cell: EnsembleCell) -> str:
    """The smallest segment that divides the draws and is long enough."""
    sampler = cell.spec.sampler
    draw, draws = each / sampler.segment, sampler.draws
    for segments in range(int(draws * draw / SHORT_SEGMENT), 0, -1):
        if draws % segments == 0:
            segment = draws // segments
            return f"sampler.segment={segment} would take {duration(segment * draw)}"
    return (
        f"all {draws} draws take {_seconds(draws * draw)}: more chains in a block "
        "(ensemble.block) leave fewer shards"
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < SHORT_SEGMENT else duration(seconds)
