"""From the `sampler` section of a spec to an algorithm."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from storage.arrays.coordinates import physical_temperature
from storage.campaign.sampler_spec import Sampler as Settings
from storage.campaign.spec import Campaign
from workers.devices.backends import backend_of
from workers.devices.placement import CPU, Placement
from workers.networks.convolution import PatchNetwork
from workers.networks.networks import Layered, Model, Network
from workers.sampler import Gradient, Sampler
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

STATES: dict[str, Any] = {
    "baoab": BAOABState,
    "ula": ULAState,
    "mala": MetropolisState,
    "collapsed": CollapsedState,
    "neurons": NeuronsState,
    "exchange": ExchangeState,
    "sgld": SGLDState,
    "gd": GDState,
    "sgd": SGDState,
    "adam": AdamState,
    "prior": PriorState,
    "trajectory": TrajectoryState,
}
T = TypeVar("T")

NO_INERTIA = 1e9  # a friction that leaves nothing of a momentum at any step size in use
LARGEST_RUNG_STEP = 1.0  # ε of a hot replica: the prior's own curvature is 1


@dataclass(frozen=True)
class Problem:
    """A posterior: the network, its data and the physical temperature, and how to sample it."""

    spec: Campaign
    network: Model
    x: Tensor
    y: Tensor  # (n · targets,)
    placement: Placement = CPU

    @property
    def settings(self) -> Settings:
        """The `sampler` section."""
        assert self.spec.sampler is not None
        return self.spec.sampler

    @property
    def temperature(self) -> float:
        """The physical T."""
        return physical_temperature(self.spec)

    @property
    def replicas(self) -> int:
        """Chains that are simulated for each one that is stored, which is the first of them."""
        return 1 + len(self.settings.ladder)

    @property
    def ladder(self) -> list[float]:
        """Physical temperatures of the replicas, the target's first."""
        assert self.spec.network is not None
        chosen = (self.settings.temperature, *self.settings.ladder)
        return [temperature / self.spec.network.chi for temperature in chosen]

    @cached_property
    def gradient(self) -> Gradient:
        """U(z) = |z|²/2 + L/T and ∇U, in coordinates whitened by the prior."""
        make = backend_of(self.placement).potential
        return make(self.network, self.x, self.y, self.temperature)


def overdamped(problem: Problem) -> Problem:
    """The same, its momenta drawn anew at every step where the scheme has any."""
    settings = problem.settings
    if settings.damping is None:
        return problem
    heavy = settings.model_copy(update={"friction": NO_INERTIA})
    return replace(problem, spec=problem.spec.model_copy(update={"sampler": heavy}))


def sampler_of(problem: Problem, step_size: float) -> Sampler[Any]:
    """The algorithm that the spec names, at this step."""
    chosen, network = problem.settings, problem.network
    x, y, temperature = problem.x, problem.y, problem.temperature
    match chosen.scheme:
        case "prior":
            assert problem.spec.network is not None
            return prior(problem.spec.network.prior)
        case "trajectory":
            lags = max(problem.spec.observe.lags, default=0)
            langevin = chosen.dynamics == "langevin"
            signs = mirror(problem)
            return trajectory(problem.gradient, step_size, signs, langevin=langevin, lags=lags)
        case "ula":
            return ula(problem.gradient, _by_parameter(problem, step_size))
        case "mala":
            return mala(problem.gradient, step_size)
        case "neurons":
            return _one_after_another(problem, step_size)
        case "gd":
            return gd(problem.gradient, step_size)
        case "adam":
            return adam(problem.gradient, step_size)
        case "sgd":
            return sgd(network, x, y, temperature, step_size, _given(chosen.batch))
        case "sgld":
            return sgld(network, x, y, temperature, step_size, _given(chosen.batch))
        case "gibbs" if chosen.step_size is None:
            if isinstance(network, PatchNetwork):
                return linear_convolution(network, x, y, temperature)
            assert isinstance(network, Network)
            return linear_gibbs(network, x, y, temperature)
        case _:
            return _underdamped(problem, step_size)


def _underdamped(problem: Problem, step_size: float) -> Sampler[Any]:
    """Those with momenta and a friction."""
    chosen, network = problem.settings, problem.network
    x, y, temperature = problem.x, problem.y, problem.temperature
    friction = _given(chosen.damping)
    if chosen.scheme == "baoab":
        return baoab(problem.gradient, step_size, friction)
    if chosen.scheme == "exchange":
        steps = [rung_step(step_size, rung / temperature) for rung in problem.ladder]
        return exchange(network, x, y, problem.ladder, steps, friction)
    assert isinstance(network, Network)
    if chosen.scheme == "collapsed":
        return collapsed(network, x, y, temperature, step_size, friction)
    return gibbs(network, x, y, temperature, step_size, friction, _given(chosen.moves))


def _one_after_another(problem: Problem, angle: float) -> Sampler[Any]:
    """Neurons, by the sweep of the problem's backend."""
    return neurons(neurons_of(problem, angle), backend_of(problem.placement).sweep)


def neurons_of(problem: Problem, angle: float) -> Neurons:
    """What a sweep over the neurons of a problem knows."""
    network = problem.network
    assert isinstance(network, Network)
    return Neurons(network, problem.x, problem.y, problem.temperature, angle)


def rung_step(step_size: float, ratio: float) -> float:
    """ε at `ratio` times the temperature: stiffness is 1/T, and never less than the prior's."""
    return min(step_size * ratio**0.5, max(LARGEST_RUNG_STEP, step_size))


def state_of(settings: Settings, network: Model) -> Any:
    """The type of the scheme's state."""
    if settings.scheme != "gibbs":
        return STATES[settings.scheme]
    if settings.step_size is not None:
        return GibbsState
    return LinearConvolutionState if isinstance(network, PatchNetwork) else LinearGibbsState


def moving(problem: Problem, position: Tensor) -> tuple[Gradient, Tensor]:
    """What a scheme's steps move, and ∇U of it: all, or the hidden weights where it is those."""
    network = problem.network
    if problem.settings.scheme not in ("collapsed", "gibbs"):
        return problem.gradient, position
    assert isinstance(network, Network)
    hidden = network.layers[-1].start
    start, readout = position[:, :hidden].contiguous(), position[:, hidden:]
    if problem.settings.scheme == "collapsed":
        evaluate = marginal(network, problem.x, problem.y, problem.temperature)
        none = position.new_zeros(len(position), normals_needed(len(problem.x), readout.shape[1]))
        return (lambda z: evaluate(z, none)[:2]), start

    def gradient(z: Tensor) -> tuple[Tensor, Tensor]:
        energy, slope = problem.gradient(torch.cat([z, readout], 1))
        return energy, slope[:, :hidden].contiguous()

    return gradient, start


def mirror(problem: Problem) -> Tensor:
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
