"""One segment of a block of networks in time: some of the times, one after another."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from storage.arrays.schema import STATUS
from workers.ensemble.problem import Problem
from workers.measurement.instant import Instant
from workers.measurement.record import Observed
from workers.philox import Noise
from workers.sampler import Sampler
from workers.samplers.trajectory import TrajectoryState, remembered

Arrays = dict[str, np.ndarray]


class Segment(NamedTuple):
    """What a segment stores, where it ends, which chains are still sound, and steps made."""

    values: Arrays
    state: TrajectoryState
    sound: Tensor
    step: int


def run(
    problem: Problem,
    observed: Observed,
    sampler: Sampler[TrajectoryState],
    noise: Noise,
    begin: Segment,
    segment: int,
) -> Segment:
    """The times of a segment; `begin` holds where the one before has ended."""
    settings, lags = problem.settings, problem.spec.observe.lags
    first, last = segment * settings.segment, (segment + 1) * settings.segment
    instant = Instant(observed, problem.x)
    _, state, sound, step = begin
    found: dict[str, list[Tensor]] = {}
    for pairs in settings.pairs(last)[first:]:
        for number in range(step, pairs):
            state = sampler.step(state, noise.at(number))
        step = pairs
        sound = sound & instant.sound(state)
        measured = instant.series(state)
        if observed.spec.observe.kernels:
            measured["kernel"] = instant.kernels(state, sound)
            if lags:
                measured["kernel_lag"] = instant.lagged(state, lags, sound)
        state = remembered(state)
        for name, value in measured.items():
            found.setdefault(name, []).append(value)
    values = {
        name: torch.stack(each, 0 if name.startswith("kernel") else 1).cpu()
        for name, each in found.items()
    }
    sound = sound & values["loss"].isfinite().all(1).to(sound.device)
    home = sound.cpu()
    for name, value in values.items():
        if not name.startswith("kernel"):
            value[~home] = torch.nan
    values["status"] = torch.where(home, STATUS["ok"], STATUS["diverged"])
    return Segment({name: each.numpy() for name, each in values.items()}, state, sound, step)
