"""Finished campaigns of any shape: real theories and fits on draws from a generator."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from pipelines.engine import stages
from storage.arrays.schema import (
    check_sizes,
    check_variables,
    ensemble_sizes,
    ensemble_variables,
    regression_sizes,
    regression_variables,
)
from storage.campaign.plugins import Plugins
from storage.planning.plan import WARMUP, Plan, Shard, plan
from storage.reading.document import parse
from storage.store.store import Store

INDEXED = ("cell", "dataset", "block", "segment", "repeat")  # a shard has one index along these
Change = Callable[[str, np.ndarray], np.ndarray]


def finished(
    folder: Path, text: str, overrides: Iterable[str] = (), change: Change | None = None
) -> Store:
    """The store of a campaign with its stages behind it, but for the report."""
    store = Store(str(folder))
    spec = parse(text, list(overrides))
    planned = plan(spec, store.add_spec(spec, {}))
    store.allocate(planned)
    for shard in planned.shards():
        values = _values(planned, shard)
        if change is not None:
            values = {name: change(name, value) for name, value in values.items()}
        digests = store.write(shard, values)
        if shard.segment != WARMUP and shard.kind != "spectrum":
            store.write(shard, {"finished": np.uint8(1)})
        store.ledger.commit(shard.name, {"shard": shard.name, "digests": digests})
    stages.analyze(store, Plugins(), [name for name in stages.STAGES if name != "report"])
    return store


def _values(planned: Plan, shard: Shard) -> dict[str, np.ndarray]:
    spec, rng = planned.spec, np.random.default_rng([*shard.name.encode()])
    if shard.kind in ("regression", "spectrum"):
        variables, sizes = regression_variables(spec), regression_sizes(planned)
    elif shard.kind == "check":
        variables, sizes = check_variables(spec), check_sizes(planned)
    else:
        variables, sizes = ensemble_variables(spec), ensemble_sizes(planned)
    if spec.ensemble is not None and spec.sampler is not None:
        sizes = sizes | {"chain": spec.ensemble.block, "draw": spec.sampler.segment}
    found = {}
    for name, variable in variables.items():
        if name != "finished" and _writes(shard, variable.dims):
            shape = [sizes[dim] for dim in variable.dims if dim not in INDEXED]
            found[name] = _drawn(rng, name, variable.dtype, shape)
    return found


def _drawn(rng: np.random.Generator, name: str, dtype: str, shape: list[int]) -> np.ndarray:
    if name in ("status", "refused"):
        return np.zeros(shape, dtype)
    if name == "moment":  # sums of powers of standard normal z
        z = rng.standard_normal((*shape[:-1], 50))
        return np.stack([(z**order).sum(-1) for order in range(shape[-1])], -1).astype(dtype)
    if dtype[0] in "ui":
        return rng.integers(0, 30, shape).astype(dtype)
    if name == "eigenvalue":
        return np.broadcast_to(np.arange(1, shape[-1] + 1) ** -1.5, shape).astype(dtype)
    values = rng.standard_normal(shape)
    positive = ("error", "variance", "loss", "norm", "square", "step_size", "overlap", "kernel")
    return np.asarray(np.abs(values) if any(w in name for w in positive) else values, dtype)


def _writes(shard: Shard, dims: tuple[str, ...]) -> bool:
    if shard.kind in ("regression", "spectrum"):
        return ("repeat" in dims) == (shard.kind == "regression")
    if shard.segment != WARMUP:
        return "segment" in dims or "draw" in dims
    return "segment" not in dims and "draw" not in dims and ("block" in dims or shard.block == 0)
