"""One segment of a block of chains: the spec's network, data and sampler put together."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from storage.arrays.schema import CHECKED, has_few_inputs
from storage.campaign.observables import function_of
from storage.campaign.plugins import Plugins
from storage.campaign.resolved import Sampled
from storage.campaign.sampler_spec import StepSize
from storage.campaign.schemes import AUTO
from storage.campaign.spec import Campaign, Observe, is_trajectory
from storage.planning.identity import Sources, seed_of
from storage.planning.plan import WARMUP, Shard
from workers.data.balance import stored_counts
from workers.data.dataset import Dataset
from workers.data.datasets import dataset
from workers.devices.backends import backend_of
from workers.devices.graphs import MOST_STEPS, Steps
from workers.devices.placement import CPU, CUDA, Placement
from workers.ensemble import trajectories
from workers.ensemble.adaptation import CALM, WINDOW, Adaptation, stages
from workers.ensemble.problem import Problem, overdamped
from workers.ensemble.schemes import sampler_of, scheme_of
from workers.ensemble.starts import aligned
from workers.measurement.observables import Directions, directions
from workers.measurement.record import Observed, Record
from workers.models import activation_of, network_of, prior_kernels
from workers.networks.convolution import ConvolutionalNetwork
from workers.philox import Noise
from workers.sampler import AnySampler, State
from workers.samplers.anneal import anneal, ramp
from workers.samplers.trajectory import TrajectoryState

Arrays = dict[str, np.ndarray]

# Streams of a chain's randomness: a number is never used for two purposes.
START, STEPS, DIRECTION, CURVATURE = 0, 1, 2, 3
POSITION, INIT, ANNEALED, READOUT = 0, 1, 2, 3  # steps of the stream START
FRICTION = 1.0  # of an annealed start whose scheme has none
NOTHING = Observe(histograms=False, kernels=False, overlaps=False)  # what a step check needs


class _State(NamedTuple):
    """Where a block of chains is: the sampler's state, steps made, and chains not yet diverged."""

    chains: State
    step: int
    sound: Tensor
    step_size: float


def run(
    shard: Shard,
    plugins: Plugins,
    sources: Sources,
    saved: Arrays | None,
    placement: Placement = CPU,
) -> tuple[Arrays, Arrays]:
    """Run the warm-up (from nothing) or a segment: what to store, and the state at its end.

    All tensors are born where the placement says, and come home once, at the end.
    """
    spec = shard.sampled
    data = dataset(spec, shard.dataset, plugins, sources)
    observed = observe(shard, data, plugins, placement)
    problem = make_problem(spec, observed, placement)
    steps = noise_of(shard, STEPS, placement)
    if shard.segment == WARMUP:
        state = _warmed_up(shard, problem, data, steps)
        return _fixed(shard, observed, state.step_size), _saved(state)
    assert saved is not None
    state = _loaded(problem, saved)
    sampler = sampler_of(problem, state.step_size)
    if is_trajectory(spec):
        return _in_time(shard, problem, observed, sampler, steps, state)
    record = Record(observed, state.sound, problem.x)
    widths = observed.network.standard_deviations.to(problem.x)
    advance = _advancing(problem, sampler, steps, state)
    for _ in range(spec.sampler.segment):
        state = advance(state)
        record.add(state.chains.position[:: problem.replicas] * widths)
    values = record.values()
    if shard.kind == "check":
        values = {name: value for name, value in values.items() if name in CHECKED}
    return values, _saved(state._replace(sound=torch.as_tensor(values["status"] == 0)))


def _in_time(
    shard: Shard,
    problem: Problem,
    observed: Observed,
    sampler: AnySampler,
    noise: Noise,
    state: _State,
) -> tuple[Arrays, Arrays]:
    """A segment of a trajectory."""
    assert isinstance(state.chains, TrajectoryState)
    begin = trajectories.Segment({}, state.chains, state.sound, state.step)
    end = trajectories.run(problem, observed, sampler, noise, begin, shard.segment)
    return end.values, _saved(_State(end.state, end.step, end.sound, state.step_size))


def _advancing(
    problem: Problem, sampler: AnySampler, noise: Noise, state: _State
) -> Callable[[_State], _State]:
    """What makes the steps between two draws; on a GPU they are captured, from `state` on."""
    thin = problem.settings.thin
    if problem.placement.device != CUDA or not scheme_of(problem).captured:
        return lambda state: _advance(sampler, noise, state, thin)
    count = max(count for count in range(1, MOST_STEPS + 1) if thin % count == 0)
    steps = Steps(sampler, noise, count, state.chains)

    def advance(state: _State) -> _State:
        chains = state.chains
        for first in range(state.step, state.step + thin, count):
            chains = steps(chains, first)
        return state._replace(chains=chains, step=state.step + thin)

    return advance


def _advance(sampler: AnySampler, noise: Noise, state: _State, steps: int) -> _State:
    chains = state.chains
    for step in range(state.step, state.step + steps):
        chains = sampler.step(chains, noise.at(step))
    return state._replace(chains=chains, step=state.step + steps)


# -- the warm-up ----------------------------------------------------------------------------


def _warmed_up(shard: Shard, problem: Problem, data: Dataset, steps: Noise) -> _State:
    """The block at the end of its warm-up, its step size frozen; half of it in a step check."""
    settings, noise = problem.settings, noise_of(shard, START, problem.placement)
    position, done = _start(shard, problem, data, noise), 0
    if settings.anneal is not None:
        position, done = _annealed(problem, position, noise, steps), settings.anneal.steps
    share = 0.5 if shard.kind == "check" else 1.0
    if settings.step_size == AUTO:
        return _adapted(shard, problem, position, share)
    step_size = share * _number(settings.step_size)
    sampler = sampler_of(problem, step_size)
    state = _State(sampler.init(position, noise.at(INIT)), done, _all(problem), step_size)
    return _advance(sampler, steps, state, settings.warmup - done)


def _start(shard: Shard, problem: Problem, data: Dataset, noise: Noise) -> Tensor:
    """Independent draws from the prior, N(0, 1) where it is white, or what is made of them."""
    ensemble = shard.sampled.ensemble
    position = noise.at(POSITION)((problem.network.size,), problem.x.dtype)
    if ensemble.start not in ("teacher", "both"):
        return position
    assert data.teacher is not None
    moved = aligned(problem, position, torch.as_tensor(data.teacher), noise.at(READOUT))
    if ensemble.start == "teacher":
        return moved
    stored = noise.chains.to(torch.int64) // problem.replicas
    return torch.where((stored % 2 == 1)[:, None], moved, position)  # every second chain


def _annealed(problem: Problem, position: Tensor, noise: Noise, steps: Noise) -> Tensor:
    """Positions after the temperature has come to the target's."""
    settings = problem.settings
    assert settings.anneal is not None
    begin, end = settings.anneal.temperature, settings.temperature
    ratio = problem.temperature / end  # the division by chi
    sampler = anneal(
        problem.network,
        problem.x,
        problem.y,
        ramp(ratio * begin, ratio * end, settings.anneal.steps),
        min(1.0, begin / end) ** 0.5 * _number(settings.step_size),  # stiffness is 1/T
        FRICTION if settings.damping is None else settings.damping,
    )
    state = sampler.init(position, noise.at(ANNEALED))
    for step in range(settings.anneal.steps):
        state = sampler.step(state, steps.at(step))
    return state.position


def _adapted(shard: Shard, problem: Problem, position: Tensor, share: float) -> _State:
    """A warm-up of which three quarters find the step size; the last one has `share` of it.

    In the first quarter momenta are drawn anew at every step: those that chains gather as they fall
    from the prior would carry them up where U is far stiffer than anywhere it matters.
    """
    warmup, steps = problem.settings.warmup, noise_of(shard, STEPS, problem.placement)
    curvature, targets = noise_of(shard, CURVATURE, problem.placement), problem.replicas

    def normals(number: int) -> Tensor:
        return curvature.at(number)(position.shape[1:], position.dtype)[::targets]

    found = Adaptation(problem, normals)
    found.look(position)
    sampler = sampler_of(problem, found.step_size)
    first = sampler.init(position, noise_of(shard, START, problem.placement).at(INIT))
    state = _State(first, 0, _all(problem), found.step_size)
    for stop in stages(warmup):
        now = overdamped(problem) if stop <= math.ceil(CALM * warmup) else problem
        while state.step < stop:
            few = min(WINDOW, stop - state.step)
            state = _advance(sampler_of(now, found.step_size), steps, state, few)
            found.accepted(state.chains, few)
        found.look(state.chains.position)
    state = state._replace(step_size=share * found.step_size)
    return _advance(sampler_of(problem, state.step_size), steps, state, warmup - state.step)


def _all(problem: Problem) -> Tensor:
    block = problem.spec.ensemble.block
    return torch.ones(block, dtype=torch.bool, device=problem.x.device)


def _number(step_size: StepSize | None) -> float:
    """The step size of a spec; the first layer's where there is one for each."""
    if isinstance(step_size, tuple):
        return step_size[0]
    assert not isinstance(step_size, str)  # then it is found
    return math.nan if step_size is None else step_size


# -- what a shard is made of ----------------------------------------------------------------


def noise_of(shard: Shard, stream: int, placement: Placement) -> Noise:
    """The noise of a block: keyed by seed, cell and dataset, and by the chain's own index."""
    spec = shard.sampled
    purpose = "noise" if shard.kind == "ensemble" else "check"
    seed = seed_of(spec.ensemble.seed, purpose, shard.cell.identity, shard.dataset)
    block = spec.ensemble.block * (1 + len(spec.sampler.ladder))
    chains = range(shard.block * block, (shard.block + 1) * block)
    return backend_of(placement).noise(seed, chains, stream, placement.device)


def make_problem(spec: Sampled, observed: Observed, placement: Placement) -> Problem:
    """What the chains of a block sample, on the data that are observed."""
    dtype, device = getattr(torch, spec.sampler.precision), placement.device
    x = torch.as_tensor(observed.data.x_train, dtype=dtype, device=device)
    y = torch.as_tensor(observed.data.y_train, dtype=dtype, device=device).flatten()
    return Problem(spec, observed.network, x, y, placement)


def observe(shard: Shard, data: Dataset, plugins: Plugins, placement: Placement) -> Observed:
    """What a shard observes: its network, and where and along what it looks."""
    spec = shard.sampled
    if shard.kind == "check":
        spec = spec.model_copy(update={"observe": NOTHING})
    activation = activation_of(spec, plugins)
    network = network_of(spec, data.x_train.shape[1], plugins, placement)
    along = None
    if spec.observe.histograms:
        kernels = prior_kernels(spec, _probes(spec, data), activation)
        places = network.centres if isinstance(network, ConvolutionalNetwork) else None
        along = observed_directions(spec, shard.dataset, data, kernels, places)
    measures = {
        name.partition(":")[2]: function_of(name, plugins.get(name))
        for name in spec.observe.measure
    }
    return Observed(spec, data, network, activation, along, measures)


def _probes(spec: Campaign, data: Dataset) -> Tensor:
    return torch.as_tensor(data.x_test[: spec.observe.points])


def observed_directions(
    spec: Sampled,
    index: int,
    data: Dataset,
    kernels: tuple[Tensor, ...],
    places: Sequence[slice] | None = None,
) -> Directions:
    """Directions over the probe points, the random one fixed by the dataset and not by the cell.

    `index` is the number of the dataset.
    """
    seed = seed_of(spec.ensemble.seed, "direction", index)
    most = max(len(kernel) for kernel in kernels)
    random = Noise(seed, [0], DIRECTION).at(0)((most,), torch.float64)[0]
    target = torch.as_tensor(data.y_test[: spec.observe.points])
    if target.ndim == 2:
        target = target[:, 0]
    point = spec.observe.correlators
    return directions(list(kernels), random, target, places, point=point)


def _fixed(shard: Shard, observed: Observed, step_size: float) -> Arrays:
    """What is decided before the first draw, and, once per dataset, what belongs to its points."""
    values: Arrays = {"step_size": np.array(step_size)}
    if shard.block == 0:
        data = observed.data
        values["label"] = data.y_test
        section = shard.cell.spec.data
        if shard.kind == "ensemble" and section.may_have_classes:
            targets = {"train": data.y_clean, "test": data.y_test}
            values |= stored_counts(targets, section.class_targets)
        if observed.along is not None:
            values["prior_deviation"] = observed.along.deviations.numpy()
        spec = observed.spec
        if spec.observe.correlators and has_few_inputs(spec):
            values["probe_input"] = data.x_test[: observed.probes]
    return values


def _saved(state: _State) -> Arrays:
    arrays = {name: value.cpu().numpy() for name, value in state.chains._asdict().items()}
    step, step_size = np.array(state.step), np.array(state.step_size)
    return {**arrays, "step": step, "sound": state.sound.cpu().numpy(), "step_size": step_size}


def _loaded(problem: Problem, arrays: Arrays) -> _State:
    kind = scheme_of(problem).state
    placed = {
        name: torch.as_tensor(arrays[name], device=problem.x.device)
        for name in (*kind._fields, "sound")
    }
    sound = placed.pop("sound")
    return _State(kind(**placed), int(arrays["step"]), sound, float(arrays["step_size"]))
