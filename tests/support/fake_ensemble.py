"""Ensembles whose chains are drawn from a law that the test knows, stored as workers store them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from storage.arrays.schema import ensemble_sizes, ensemble_variables
from storage.planning.identity import NO_SOURCES, Sources
from storage.planning.plan import Plan, Shard, plan
from storage.reading.document import parse
from storage.store.store import Store

TEXT = """
version: 1
name: fake
data: {source: single_index, dimension: 6, train: 12, test: 40, teacher: {1: 1.0, 3: 0.3}}
network: {activation: erf, width: 64, weight_variance: [1, 2], scaling: mean_field, chi: 4}
sampler: {scheme: ula, temperature: 0.5, step_size: 0.1, warmup: 2, draws: 100, segment: 50,
          step_check: false}
ensemble: {datasets: 2, chains: 8, block: 4}
observe: {points: 12, kernels: false, overlaps: false}
theories: [nngp, kernel_scaling]
"""
WIDTHS = "\nsweep: {size: {network.width: [32, 64, 128, 256]}}\n"

Values = dict[str, np.ndarray]


def stored(
    folder: Path,
    text: str = TEXT,
    overrides: Iterable[str] = (),
    sources: Sources = NO_SOURCES,
) -> tuple[Store, Plan]:
    """A campaign whose arrays are allocated and hold nothing."""
    store = Store(str(folder))
    spec = parse(text, list(overrides))
    planned = plan(spec, store.add_spec(spec, sources), sources)
    store.allocate(planned)
    return store, planned


def fill(
    store: Store,
    planned: Plan,
    make: Callable[[Shard], Values],
    segments: int | None = None,
) -> None:
    """Store what `make` gives for whole chains of a block, by segments (by default all of them).

    What it does not give is zero. Each array has the chains of the block first, then the draws or
    segments, then what is left of its dimensions.
    """
    variables = ensemble_variables(planned.spec)
    sizes = ensemble_sizes(planned)
    assert planned.spec.ensemble is not None
    assert planned.spec.sampler is not None
    sizes |= {"chain": planned.spec.ensemble.block, "draw": planned.spec.sampler.segment}
    made: dict[tuple[int, int, int], Values] = {}
    for shard in planned.shards():
        if shard.kind != "ensemble" or (segments is not None and shard.segment >= segments):
            continue
        place = (shard.cell.index, shard.dataset, shard.block)
        whole = made.setdefault(place, make(shard))
        if shard.segment < 0:
            if shard.block == 0:
                store.write(shard, {"label": whole["label"]})
            continue
        part: Values = {}
        for name, variable in variables.items():
            dims = [dim for dim in variable.dims if dim not in _INDEXED]
            if "draw" in dims:
                draws = slice(shard.segment * sizes["draw"], (shard.segment + 1) * sizes["draw"])
                found = whole.get(name)
                part[name] = (
                    np.zeros([sizes[d] for d in dims]) if found is None else found[:, draws]
                )
            elif "segment" in variable.dims and name != "finished":
                found = whole.get(name)
                zero = np.zeros([sizes[dim] for dim in dims], variable.dtype)
                part[name] = zero if found is None else found[:, shard.segment]
        digests = store.write(shard, part)
        store.write(shard, {"finished": np.uint8(1)})
        store.ledger.commit(shard.name, {"shard": shard.name, "digests": digests})


_INDEXED = ("cell", "dataset", "block", "segment", "repeat")  # a shard has one index along these


def noise(shard: Shard) -> np.random.Generator:
    """A generator of the block's own."""
    return np.random.default_rng([shard.cell.index, shard.dataset, shard.block])
