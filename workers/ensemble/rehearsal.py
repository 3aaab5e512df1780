"""What a few real steps and one recorded draw of a block of chains take on this machine."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from storage.campaign.plugins import Plugins
from storage.campaign.spec import is_trajectory
from storage.planning.identity import Sources
from storage.planning.plan import Shard
from workers import numerics
from workers.data.datasets import dataset
from workers.devices.placement import Placement
from workers.ensemble import ensemble
from workers.ensemble.problem import Problem
from workers.ensemble.schemes import sampler_of
from workers.measurement.instant import Instant
from workers.measurement.record import Observed, Record

ENOUGH_SECONDS = 0.1  # seconds that steps are repeated for
MOST_STEPS = 40  # steps at most
CAREFUL = 1e-3  # a step size at which nothing diverges: what a step takes does not depend on it


class Rehearsal(NamedTuple):
    """Seconds of one core."""

    data: float  # to draw a dataset
    shard: float  # to make what each segment needs before its first step
    step: float  # of a block
    draw: float  # to record one of a block


def rehearse(shard: Shard, plugins: Plugins, sources: Sources, placement: Placement) -> Rehearsal:
    """Make what a shard is made of, and time steps and draws of it; nothing is kept."""
    spec = shard.sampled
    with numerics.fixed_threads():
        began = time.process_time()
        data = dataset(spec, shard.dataset, plugins, sources)
        drawn = time.process_time()
        ensemble.observe(shard, data, plugins, placement)  # what is begun once is by now
        again = time.process_time()
        observed = ensemble.observe(shard, data, plugins, placement)
        problem = ensemble.make_problem(spec, observed, placement)
        made = time.process_time()
        noise = ensemble.noise_of(shard, ensemble.STEPS, placement)
        sampler = sampler_of(problem, CAREFUL)
        position = noise.at(0)((observed.network.size,), problem.x.dtype)
        state = [sampler.init(position, noise.at(0))]

        def step() -> None:
            state[0] = sampler.step(state[0], noise.at(1))

        look = _looking(observed, problem, len(position) // problem.replicas)
        draw = lambda: look(state[0])  # noqa: E731
        return Rehearsal(drawn - began, made - again, _each(step), _each(draw))


def _looking(observed: Observed, problem: Problem, chains: int) -> Callable[..., object]:
    """What measures a state of the sampler."""
    if is_trajectory(problem.spec):
        return Instant(observed, problem.x).series
    sound = torch.ones(chains, dtype=torch.bool, device=problem.x.device)
    record = Record(observed, sound, problem.x)
    widths = observed.network.standard_deviations.to(problem.x)
    return lambda state: record.add(state.position[:: problem.replicas] * widths)


def _each(act: Callable[[], object]) -> float:
    """Seconds of an act: the median of a few, behind the first, which warms up.

    Unless it is long: then it stands for all.
    """
    seconds = [_timed(act)]
    while sum(seconds) < ENOUGH_SECONDS and len(seconds) < MOST_STEPS:
        seconds.append(_timed(act))
    return statistics.median(seconds[1:] or seconds)


def _timed(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began
