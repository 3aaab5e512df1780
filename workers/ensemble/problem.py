"""What a scheme samples: a network on its data, at its temperature."""

from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from storage.arrays.coordinates import physical_temperature
from storage.campaign.resolved import Sampled
from storage.campaign.sampler_spec import Sampler as Settings
from workers.devices.backends import backend_of
from workers.devices.placement import CPU, Placement
from workers.networks.networks import Model
from workers.sampler import Gradient

NO_INERTIA = 1e9  # a friction that leaves nothing of a momentum at any step size in use


@dataclass(frozen=True)
class Problem:
    """A posterior: the network, its data and the physical temperature, and how to sample it."""

    spec: Sampled
    network: Model
    x: Tensor
    y: Tensor  # (n · targets,)
    placement: Placement = CPU

    @property
    def settings(self) -> Settings:
        """The `sampler` section."""
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
