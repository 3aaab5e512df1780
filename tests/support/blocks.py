"""Blocks of chains run as the engine runs them, from a spec and without a store."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from storage.arrays.schema import ensemble_variables
from storage.campaign.plugins import Plugins
from storage.campaign.spec import Campaign
from storage.planning.plan import WARMUP, Shard, plan
from storage.reading.document import parse
from workers.data.datasets import dataset
from workers.devices.placement import TORCH, Placement
from workers.ensemble import ensemble

Arrays = Mapping[str, np.ndarray]

# A linear teacher with noise, and a linear network whose posterior is known at every width.
LINEAR = """
version: 1
name: exact
data: {source: linear, dimension: 3, train: 6, test: 4, label_noise: 0.3}
network: {activation: linear, width: 3, weight_variance: [1.2, 2]}
sampler: {scheme: gibbs, temperature: 0.5, warmup: 20, draws: 20, thin: 1, segment: 20}
ensemble: {datasets: 1, chains: 1500, block: 1500}
observe: {points: 4, histograms: false, kernels: false, overlaps: false}
"""


class Block(NamedTuple):
    """What a block leaves: numbers fixed in its warm-up, all its segments, and its last state."""

    fixed: Arrays
    values: Arrays
    state: Arrays


def campaign(text: str, *overrides: str) -> Campaign:
    """A campaign of one cell, changed as `--set` would."""
    return parse(text, list(overrides))


def data_of(spec: Campaign, index: int = 0):
    """The data of one of its datasets."""
    return dataset(spec, index, Plugins(), {})


def shard_of(spec: Campaign, segment: int = WARMUP, *, kind="ensemble", index=0, block=0) -> Shard:
    """A segment of a block of the campaign's only cell."""
    (cell,) = plan(spec).cells
    return Shard(kind, cell, index, block, segment)


def step(shard: Shard, saved: Arrays | None = None, backend: str = TORCH) -> tuple[Arrays, Arrays]:
    """What a shard stores, and the state at its end."""
    before = None if saved is None else dict(saved)
    return ensemble.run(shard, Plugins(), {}, before, Placement(backend=backend))


def block_of(spec: Campaign, *, backend: str = TORCH, **place) -> Block:
    """A block from its warm-up to its last segment; (chain, draw, ...) or (chain, segment, ...)."""
    assert spec.sampler is not None
    fixed, state = step(shard_of(spec, **place), None, backend)
    parts = []
    for segment in range(spec.sampler.draws // spec.sampler.segment):
        values, state = step(shard_of(spec, segment, **place), state, backend)
        parts.append(values)
    variables = ensemble_variables(spec)
    joined = {}
    for name in parts[0]:
        found = [part[name] for part in parts]
        if "draw" in variables[name].dims:
            joined[name] = np.concatenate(found, axis=1)
        else:
            joined[name] = np.stack(found, axis=int("chain" in variables[name].dims))
    return Block(fixed, joined, state)
