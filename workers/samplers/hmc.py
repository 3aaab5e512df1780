"""Hamiltonian Monte Carlo."""

from typing import NamedTuple

from torch import Tensor

from workers.philox import Normals
from workers.sampler import Gradient, Sampler
from workers.samplers.metropolis import MetropolisState, decided, started


def hmc(gradient: Gradient, step_size: float, leaps: int) -> Sampler[MetropolisState]:
    """Momenta p ~ N(0, 1), then leapfrog steps of size ε: targets exp(-U) without bias.

    Duane, Kennedy, Pendleton and Roweth (1987, doi:10.1016/0370-2693(87)91197-X).

    Each leap is p ← p - (ε/2) ∇U(z), z ← z + ε p,
    p ← p - (ε/2) ∇U(z); the end is accepted with min(1, exp(H(z, p) - H(z', p'))), where
    H = U + |p|²/2. Each chain decides for itself: ln Φ(ξ_0) < H - H', with one normal ξ_0 more
    than there are parameters and Φ the normal distribution. A proposal whose energy is not finite
    is refused. In a harmonic well of curvature 1 a path of length π leads nowhere but to -z, and
    one of 2π back to z: keep leaps times ε at about π/2.
    """

    def init(position: Tensor, noise: Normals) -> MetropolisState:
        return started(gradient, position)

    def step(state: MetropolisState, noise: Normals) -> MetropolisState:
        normals = noise((state.position.shape[1] + 1,), state.position.dtype)
        momentum, decider = normals[:, :-1], normals[:, -1].double()
        before = state.energy.double() + _kinetic(momentum)
        path = leapfrog(
            gradient, state.position, momentum, state.energy, state.gradient, step_size, leaps
        )
        gain = before - path.energy.double() - _kinetic(path.momentum)
        return decided(state, path.position, path.energy, path.gradient, gain, decider)

    return Sampler(init, step)


class Path(NamedTuple):
    """The end of a path: z, p and ∇U(z) (chain, parameter), U(z) (chain,)."""

    position: Tensor
    momentum: Tensor
    energy: Tensor
    gradient: Tensor


def leapfrog(
    gradient: Gradient,
    position: Tensor,
    momentum: Tensor,
    energy: Tensor,
    slope: Tensor,
    step_size: float,
    leaps: int,
) -> Path:
    """So many leaps from z and p, with U and ∇U known at z."""
    for _ in range(leaps):
        momentum = momentum - step_size / 2 * slope
        position = position + step_size * momentum
        energy, slope = gradient(position)
        momentum = momentum - step_size / 2 * slope
    return Path(position, momentum, energy, slope)


def _kinetic(momentum: Tensor) -> Tensor:
    return momentum.double().square().sum(1) / 2
