"""The algorithm of each scheme: a record, under the name that it has in storage.campaign."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from storage.campaign.sampler_spec import LARGEST_ANGLE
from workers.devices.backends import backend_of
from workers.ensemble.problem import Problem
from workers.networks.convolution import PatchNetwork
from workers.networks.networks import Layered, Network
from workers.sampler import AnySampler, Gradient
from workers.samplers.baoab import BAOABState, baoab
from workers.samplers.collapsed import CollapsedState, collapsed, marginal
from workers.samplers.descent import AdamState, GDState, SGDState, adam, gd, sgd
from workers.samplers.exchange import ExchangeState, exchange
from workers.samplers.gibbs import GibbsState, LinearGibbsState, gibbs, linear_gibbs
from workers.samplers.linear_convolution import LinearConvolutionState, linear_convolution
from workers.samplers.linear_model import normals_needed
from workers.samplers.mala import mala
from workers.samplers.metropolis import MetropolisState
from workers.samplers.neurons import Neurons, NeuronsState, neurons
from workers.samplers.prior import PriorState, prior
from workers.samplers.sgld import SGLDState, sgld
from workers.samplers.trajectory import TrajectoryState, trajectory
from workers.samplers.ula import ULAState, ula

T = TypeVar("T")

LARGEST_RUNG_STEP = 1.0  # ε of a hot replica: the prior's own curvature is 1
# Of mala's proposals: Roberts and Rosenthal (1998, doi:10.1111/1467-9868.00123).
ACCEPTED_SHARE = 0.574
TURNED, KICKED = 0.6, 0.9  # of the turns of neurons, and of those that are kicked: as measured


class Proposals(NamedTuple):
    """How the steps of an adjusted scheme are found from what they propose."""

    wanted: float  # share that is accepted
    largest: float  # step
    made: int  # in each step


@dataclass(frozen=True)
class Scheme:
    """How a scheme moves chains."""

    state: Any  # the type of its states
    sampler: Callable[[Problem, float], AnySampler]  # of a step size
    moved: Callable[[Problem, Tensor], tuple[Gradient, Tensor]]  # what its steps move, and ∇U of it
    definite: bool = True  # whether the data only add to the curvature of what is moved
    proposals: Callable[[Problem, float], Proposals] | None = None  # of an adjusted scheme
    captured: bool = False  # whether the host need not know about its steps: a CUDA graph has them


def scheme_of(problem: Problem) -> Scheme:
    """The record of the scheme that the spec names."""
    if problem.settings.record.draws_linear and problem.settings.step_size is None:
        return LINEAR_PATCHES if isinstance(problem.network, PatchNetwork) else LINEAR
    return SCHEMES[problem.settings.scheme]


def sampler_of(problem: Problem, step_size: float) -> AnySampler:
    """The algorithm that the spec names, at this step."""
    return scheme_of(problem).sampler(problem, step_size)


def moving(problem: Problem, position: Tensor) -> tuple[Gradient, Tensor]:
    """What a scheme's steps move, and ∇U of it: all, or the hidden weights where it is those."""
    return scheme_of(problem).moved(problem, position)


# -- what moves -------------------------------------------------------------------------------


def _all(problem: Problem, position: Tensor) -> tuple[Gradient, Tensor]:
    return problem.gradient, position


def _hidden(problem: Problem, position: Tensor) -> tuple[Gradient, Tensor]:
    """The hidden weights, at the readout where it is."""
    start, readout = _split(problem, position)
    hidden = start.shape[1]

    def gradient(z: Tensor) -> tuple[Tensor, Tensor]:
        energy, slope = problem.gradient(torch.cat([z, readout], 1))
        return energy, slope[:, :hidden].contiguous()

    return gradient, start


def _marginal(problem: Problem, position: Tensor) -> tuple[Gradient, Tensor]:
    """The hidden weights, the readout integrated out."""
    start, readout = _split(problem, position)
    evaluate = marginal(_dense(problem), problem.x, problem.y, problem.temperature)
    none = position.new_zeros(len(position), normals_needed(len(problem.x), readout.shape[1]))
    return (lambda z: evaluate(z, none)[:2]), start


def _split(problem: Problem, position: Tensor) -> tuple[Tensor, Tensor]:
    hidden = _dense(problem).layers[-1].start
    return position[:, :hidden].contiguous(), position[:, hidden:]


# -- samplers ---------------------------------------------------------------------------------


def _baoab(problem: Problem, step_size: float) -> AnySampler:
    return baoab(problem.gradient, step_size, _given(problem.settings.damping))


def _ula(problem: Problem, step_size: float) -> AnySampler:
    return ula(problem.gradient, _by_parameter(problem, step_size))


def _mala(problem: Problem, step_size: float) -> AnySampler:
    return mala(problem.gradient, step_size)


def _collapsed(problem: Problem, step_size: float) -> AnySampler:
    friction = _given(problem.settings.damping)
    return collapsed(*_regression(problem), step_size, friction)


def _neurons(problem: Problem, angle: float) -> AnySampler:
    return neurons(neurons_of(problem, angle), backend_of(problem.placement).sweep)


def _gibbs(problem: Problem, step_size: float) -> AnySampler:
    chosen = problem.settings
    friction, moves = _given(chosen.damping), _given(chosen.moves)
    return gibbs(*_regression(problem), step_size, friction, moves)


def _linear_gibbs(problem: Problem, step_size: float) -> AnySampler:
    return linear_gibbs(*_regression(problem))


def _linear_convolution(problem: Problem, step_size: float) -> AnySampler:
    network = problem.network
    assert isinstance(network, PatchNetwork)
    return linear_convolution(network, problem.x, problem.y, problem.temperature)


def _exchange(problem: Problem, step_size: float) -> AnySampler:
    steps = [rung_step(step_size, rung / problem.temperature) for rung in problem.ladder]
    friction = _given(problem.settings.damping)
    return exchange(problem.network, problem.x, problem.y, problem.ladder, steps, friction)


def _sgld(problem: Problem, step_size: float) -> AnySampler:
    network, x, y, batch = problem.network, problem.x, problem.y, _given(problem.settings.batch)
    return sgld(network, x, y, problem.temperature, step_size, batch)


def _gd(problem: Problem, step_size: float) -> AnySampler:
    return gd(problem.gradient, step_size)


def _sgd(problem: Problem, step_size: float) -> AnySampler:
    network, x, y, batch = problem.network, problem.x, problem.y, _given(problem.settings.batch)
    return sgd(network, x, y, problem.temperature, step_size, batch)


def _adam(problem: Problem, step_size: float) -> AnySampler:
    return adam(problem.gradient, step_size)


def _prior(problem: Problem, step_size: float) -> AnySampler:
    return prior(problem.spec.network.prior)


def _trajectory(problem: Problem, step_size: float) -> AnySampler:
    lags = max(problem.spec.observe.lags, default=0)
    langevin = problem.settings.dynamics == "langevin"
    signs = _mirror(problem)
    return trajectory(problem.gradient, step_size, signs, langevin=langevin, lags=lags)


def neurons_of(problem: Problem, angle: float) -> Neurons:
    """What a sweep over the neurons of a problem knows."""
    return Neurons(*_regression(problem), angle)


def rung_step(step_size: float, ratio: float) -> float:
    """ε at `ratio` times the temperature: stiffness is 1/T, and never less than the prior's."""
    return min(step_size * ratio**0.5, max(LARGEST_RUNG_STEP, step_size))


def _regression(problem: Problem) -> tuple[Network, Tensor, Tensor, float]:
    return _dense(problem), problem.x, problem.y, problem.temperature


def _dense(problem: Problem) -> Network:
    assert isinstance(problem.network, Network)
    return problem.network


def _mirror(problem: Problem) -> Tensor:
    """-1 at the weights of the readout and 1 at all others, (parameter,): f of these is -f."""
    network = problem.network
    assert isinstance(network, Layered)
    signs, readout = problem.x.new_ones(network.size), network.layers[-1]
    signs[readout.start : readout.stop] = -1
    return signs


def _by_parameter(problem: Problem, step_size: float) -> Tensor:
    """The step of each parameter, where the spec gives one for each layer: ε times its mobility."""
    chosen, network = problem.settings.step_size, problem.network
    if not isinstance(chosen, tuple):
        return problem.x.new_tensor(step_size, dtype=torch.float64)
    assert isinstance(network, Layered)
    scale = step_size / chosen[0]
    steps = dict(zip([*_levels(network.depth), "readout"], chosen, strict=True))
    return torch.cat(
        [
            problem.x.new_full((layer.stop - layer.start,), scale * steps[_level(layer.name)])
            for layer in network.layers
        ]
    )


def _levels(depth: int) -> list[str]:
    return [str(level) for level in range(1, depth + 1)]


def _level(name: str) -> str:
    """weight_2 and bias_2 belong to 2; the readout to itself."""
    return name.rpartition("_")[2]


def _given(value: T | None) -> T:
    assert value is not None
    return value


# -- proposals --------------------------------------------------------------------------------


def _of_mala(problem: Problem, step_size: float) -> Proposals:
    return Proposals(ACCEPTED_SHARE, math.inf, 1)


def _of_neurons(problem: Problem, angle: float) -> Proposals:
    known = neurons_of(problem, angle)
    return Proposals(KICKED if known.kicks else TURNED, LARGEST_ANGLE, known.turns)


SCHEMES = {
    "baoab": Scheme(BAOABState, _baoab, _all, captured=True),
    "ula": Scheme(ULAState, _ula, _all, captured=True),
    "mala": Scheme(MetropolisState, _mala, _all, proposals=_of_mala, captured=True),
    "collapsed": Scheme(CollapsedState, _collapsed, _marginal, definite=False),
    "neurons": Scheme(NeuronsState, _neurons, _all, proposals=_of_neurons),
    "gibbs": Scheme(GibbsState, _gibbs, _hidden),
    "exchange": Scheme(ExchangeState, _exchange, _all, captured=True),
    "sgld": Scheme(SGLDState, _sgld, _all, captured=True),
    "gd": Scheme(GDState, _gd, _all, captured=True),
    "sgd": Scheme(SGDState, _sgd, _all, captured=True),
    "adam": Scheme(AdamState, _adam, _all, captured=True),
    "prior": Scheme(PriorState, _prior, _all, captured=True),
    "trajectory": Scheme(TrajectoryState, _trajectory, _all),
}
LINEAR = Scheme(LinearGibbsState, _linear_gibbs, _hidden)  # gibbs, where it needs no steps
LINEAR_PATCHES = Scheme(LinearConvolutionState, _linear_convolution, _all)
