"""Shards with numbers from a generator in the place of physics, stored as a worker stores them."""

from collections.abc import Iterable

import numpy as np

from storage.arrays.schema import (
    NEURONS,
    OVERLAP_BINS,
    READOUT_BINS,
    ensemble_variables,
    regression_variables,
)
from storage.files.checkpoint import save
from storage.planning.plan import WARMUP, Plan, Shard, plan
from storage.reading.document import parse
from storage.store.store import Store, checkpoint_name

TEXT = """
version: 1
name: fake
data: {source: linear, dimension: 3, train: 4, test: 5}
network: {activation: erf, width: 4, weight_variance: [1, 1]}
sampler: {scheme: ula, temperature: 1, step_size: 0.1, warmup: 2, draws: 4, segment: 2,
          step_check: false}
ensemble: {datasets: 1, chains: 4, block: 2}
regression:
  train: [2, 3]
  ridges: [0.5]
  repeats: 2
  pool: 6
  sampling: without
  evaluate: [pool, heldout]
observe: {points: 3}
sweep:
  phi: {network.activation: [erf, relu]}
  size: {network.width: [4, 8], data.train: [4, 6]}
"""
ONE_CELL = TEXT.split("sweep:")[0]
INDEXED = ("cell", "dataset", "block", "segment", "repeat")  # a shard has one index along these


def planned(store: Store, *overrides: str, text: str = TEXT) -> Plan:
    """The plan of a spec that is added to the store, its arrays allocated."""
    spec = parse(text, overrides)
    found = plan(spec, store.add_spec(spec, {}))
    store.allocate(found)
    return found


def values(shard: Shard) -> dict[str, np.ndarray]:
    """What the shard writes: the same whenever and wherever it is asked for."""
    spec, rng = shard.cell.spec, np.random.default_rng([*shard.name.encode()])
    assert spec.ensemble
    assert spec.sampler
    assert spec.regression
    lengths = {
        "chain": spec.ensemble.block,
        "draw": spec.sampler.segment,
        "layer": 1,
        "direction": 3,
        "bin": 200,
        "order": 7,
        "probe": 3,
        "probe_2": 3,
        "component": 1,
        "test": 5,
        "train": 2,
        "ridge": 1,
        "mode": 6,
        "neuron": NEURONS,
        "part": 2,
        "overlap_bin": OVERLAP_BINS,
        "readout_bin": READOUT_BINS,
    }
    found = {}
    variables = (ensemble_variables if shard.kind == "ensemble" else regression_variables)(spec)
    for name, variable in variables.items():
        if name != "finished" and _writes(shard, variable.dims):
            shape = [lengths[dim] for dim in variable.dims if dim not in INDEXED]
            whole = variable.dtype[0] == "u"
            made = rng.integers(0, 2, shape) if whole else rng.standard_normal(shape)
            found[name] = np.asarray(made, dtype=variable.dtype)
    return found


def _writes(shard: Shard, dims: tuple[str, ...]) -> bool:
    if shard.kind != "ensemble":
        return ("repeat" in dims) == (shard.kind == "regression")
    if shard.segment != WARMUP:
        return "segment" in dims or "draw" in dims
    return "segment" not in dims and "draw" not in dims and ("block" in dims or shard.block == 0)


def finish(store: Store, shard: Shard) -> dict[str, str]:
    """Data, checkpoint, `finished`, and last the receipt; the digests in it."""
    digests = store.write(shard, values(shard))
    receipt: dict[str, object] = {"shard": shard.name, "digests": digests}
    if shard.kind == "ensemble":
        state = {"position": np.arange(3.0) + shard.segment}
        receipt["checkpoint"] = save(store.objects, checkpoint_name(shard), state)
    if shard.kind == "regression" or (shard.kind == "ensemble" and shard.segment != WARMUP):
        store.write(shard, {"finished": np.uint8(1)})
    store.ledger.commit(shard.name, receipt)
    return digests


def finish_all(store: Store, shards: Iterable[Shard]) -> list[Shard]:
    """Finish shards in their order."""
    done = list(shards)
    for shard in done:
        finish(store, shard)
    return done


def finish_most(store: Store) -> None:
    """Finish three of four shards, and write the data of another whose worker is killed then."""
    shards = list(planned(store).shards())
    finish_all(store, [shard for i, shard in enumerate(shards) if i % 4])
    killed = next(shard for shard in shards[::4] if shard.segment == 1)
    store.write(killed, values(killed))
