"""One segment of a block of chains: the spec's network, data and sampler put together."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from storage.coordinates import physical_temperature
from storage.errors import CampaignError
from storage.identity import Sources, seed_of
from storage.plan import WARMUP, Shard
from storage.plugins import Plugins
from storage.spec import Campaign
from theory.kernels import pre_activation_kernels
from workers.activations import ACTIVATIONS, Activation, differentiable
from workers.data.dataset import Dataset
from workers.datasets import dataset
from workers.networks import Model, from_function, fully_connected, potential
from workers.observables import Directions, directions
from workers.philox import Noise
from workers.record import Observed, Record
from workers.samplers.baoab import BAOABState, baoab
from workers.samplers.prior import PriorState, prior
from workers.samplers.sampler import Sampler
from workers.samplers.ula import ULAState, ula

Arrays = dict[str, np.ndarray]

# Streams of a chain's randomness: a number is never used for two purposes.
START, STEPS, DIRECTION = 0, 1, 2
STATES = {"baoab": BAOABState, "ula": ULAState, "prior": PriorState}


class _State(NamedTuple):
    """Where a block of chains is: the sampler's state, steps made, and chains not yet diverged."""

    chains: Any
    step: int
    sound: Tensor


def run(
    shard: Shard, plugins: Plugins, sources: Sources, saved: Arrays | None
) -> tuple[Arrays, Arrays]:
    """Run the warm-up (from nothing) or a segment: what to store, and the state at its end."""
    spec = shard.cell.spec
    assert spec.sampler is not None
    data = dataset(spec, shard.dataset, plugins, sources)
    observed = _observed(shard, data, plugins)
    sampler = _sampler(spec, observed)
    steps = _noise(shard, STEPS)
    if shard.segment == WARMUP:
        state = _start(shard, sampler, observed.network)
        state = _advance(sampler, steps, state, spec.sampler.warmup)
        return _fixed(shard, observed), _saved(state)
    assert saved is not None
    state = _loaded(spec, saved)
    record = Record(observed, state.sound, _dtype(spec))
    widths = observed.network.standard_deviations.to(_dtype(spec))
    for _ in range(spec.sampler.segment):
        state = _advance(sampler, steps, state, spec.sampler.thin)
        record.add(state.chains.position * widths)
    values = record.values()
    sound = torch.as_tensor(values["status"] == 0)
    return values, _saved(state._replace(sound=sound))


def _advance(sampler: Sampler[Any], noise: Noise, state: _State, steps: int) -> _State:
    chains = state.chains
    for step in range(state.step, state.step + steps):
        chains = sampler.step(chains, noise.at(step))
    return _State(chains, state.step + steps, state.sound)


def _start(shard: Shard, sampler: Sampler[Any], network: Model) -> _State:
    """Chains that begin at independent draws from the prior, which is N(0, 1) where it is white."""
    noise = _noise(shard, START)
    position = noise.at(0)((network.size,), _dtype(shard.cell.spec))
    sound = torch.ones(len(position), dtype=torch.bool)
    return _State(sampler.init(position, noise.at(1)), 0, sound)


def _noise(shard: Shard, stream: int) -> Noise:
    """The noise of a block: keyed by seed, cell and dataset, and by the chain's own index."""
    ensemble = shard.cell.spec.ensemble
    assert ensemble is not None
    seed = seed_of(ensemble.seed, "noise", shard.cell.identity, shard.dataset)
    first = shard.block * ensemble.block
    return Noise(seed, range(first, first + ensemble.block), stream)


def _sampler(spec: Campaign, observed: Observed) -> Sampler[Any]:
    """Langevin dynamics on U(z) = |z|²/2 + L/T in coordinates whitened by the prior."""
    chosen, dtype = spec.sampler, _dtype(spec)
    assert chosen is not None
    if chosen.scheme == "prior":
        return prior()
    x = torch.as_tensor(observed.data.x_train, dtype=dtype)
    y = torch.as_tensor(observed.data.y_train, dtype=dtype)
    gradient = potential(observed.network, x, y, physical_temperature(spec))
    assert chosen.step_size is not None
    if chosen.scheme == "ula":
        return ula(gradient, chosen.step_size)
    assert chosen.friction is not None
    return baoab(gradient, chosen.step_size, chosen.friction)


def _observed(shard: Shard, data: Dataset, plugins: Plugins) -> Observed:
    spec = shard.cell.spec
    assert spec.network is not None
    activation = activation_of(spec, plugins)
    network = _network(spec, data.x_train.shape[1], activation, plugins)
    along = _along(shard, data, activation) if spec.observe.histograms else None
    measures = {name.partition(":")[2]: plugins.get(name) for name in spec.observe.measure}
    return Observed(spec, data, network, activation, along, measures)


def activation_of(spec: Campaign, plugins: Plugins) -> Activation:
    """φ and φ' of a spec, built in or the user's own."""
    assert spec.network is not None
    name = spec.network.activation
    return ACTIVATIONS[name] if name in ACTIVATIONS else differentiable(plugins.get(name))


def _network(spec: Campaign, inputs: int, activation: Activation, plugins: Plugins) -> Model:
    chosen = spec.network
    assert chosen is not None
    if chosen.architecture == "fcn":
        return fully_connected(
            inputs,
            [chosen.width] * chosen.depth,
            activation,
            weight_variance=chosen.weight_variance,
            bias_variance=chosen.bias_variance,
            chi=chosen.chi,
        )
    made = plugins.get(chosen.architecture)(inputs, chosen)
    try:
        deviations, function = made
    except (TypeError, ValueError):
        raise CampaignError(
            f"{chosen.architecture} must return (standard deviations, function)"
        ) from None
    deviations = torch.as_tensor(deviations, dtype=torch.float64)
    return from_function(function, len(deviations), deviations)


def _along(shard: Shard, data: Dataset, activation: Activation) -> Directions:
    """Directions over the probe points, the random one fixed by the data and not by the cell."""
    spec = shard.cell.spec
    network = spec.network
    assert network is not None
    assert spec.ensemble is not None
    probes = min(spec.observe.points, len(data.x_test))
    kernels = pre_activation_kernels(
        torch.as_tensor(data.x_test[:probes]),
        depth=network.depth,
        activation=network.activation if network.activation in ACTIVATIONS else activation.phi,
        weight_variance=network.weight_variance,
        bias_variance=network.bias_variance,
    )
    seed = seed_of(spec.ensemble.seed, "direction", shard.dataset)
    random = Noise(seed, [0], DIRECTION).at(0)((probes,), torch.float64)[0]
    return directions(list(kernels), random, torch.as_tensor(data.y_test[:probes]))


def _fixed(shard: Shard, observed: Observed) -> Arrays:
    """What is decided before the first draw, and, once per dataset, what belongs to its points."""
    sampler = shard.cell.spec.sampler
    assert sampler is not None
    step = np.nan if sampler.step_size is None else sampler.step_size
    values: Arrays = {"step_size": np.array(step)}
    if shard.block == 0:
        values["label"] = observed.data.y_test
        if observed.along is not None:
            values["prior_deviation"] = observed.along.deviations.numpy()
    return values


def _dtype(spec: Campaign) -> torch.dtype:
    assert spec.sampler is not None
    return getattr(torch, spec.sampler.precision)


def _saved(state: _State) -> Arrays:
    arrays = {name: value.numpy() for name, value in state.chains._asdict().items()}
    return {**arrays, "step": np.array(state.step), "sound": state.sound.numpy()}


def _loaded(spec: Campaign, arrays: Arrays) -> _State:
    assert spec.sampler is not None
    kind = STATES[spec.sampler.scheme]
    chains = kind(**{name: torch.as_tensor(arrays[name]) for name in kind._fields})
    return _State(chains, int(arrays["step"]), torch.as_tensor(arrays["sound"]))
