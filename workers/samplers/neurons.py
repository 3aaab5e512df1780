"""Exact Gibbs sampling of one neuron after another, its readout integrated out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from workers.networks.networks import Network, check_labels
from workers.philox import Normals
from workers.sampler import Sampler

GROUP = 8  # neurons of which one, chosen at random in every sweep, moves on its slice
ANGLES = 15  # that are tried on a slice: they leave a part in 10^5 or so of the circle
STIFF = 1.5  # mean of c from which on turns are worth their kicks, as measured
KICKS = 2  # of such a turn
NODES = 40  # of a Gaussian average


class NeuronsState(NamedTuple):
    """z (chain, parameter), y - f (chain, target, point), turns accepted so far (chain,), int64.

    The residual is summed anew in every sweep, so that rounding does not add up.
    """

    position: Tensor
    residual: Tensor
    accepted: Tensor


@dataclass(frozen=True)
class Neurons:
    """What a sweep needs to know: the posterior of a network of one hidden layer, and its moves."""

    network: Network
    x: Tensor  # (n, d)
    y: Tensor  # (n · targets,)
    temperature: float
    angle: float

    @property
    def width(self) -> int:
        """The number of neurons."""
        return self.network.widths[0]

    @property
    def biased(self) -> bool:
        """Whether the neurons have biases."""
        return len(self.network.layers) == 3

    @property
    def fed(self) -> int:
        """How many weights a neuron has, its bias among them."""
        return self.network.inputs + self.biased

    @property
    def labels(self) -> Tensor:
        """y as (target, point)."""
        return self.y.view(len(self.x), -1).T

    @property
    def group(self) -> int:
        """How many neurons share a slice."""
        return GROUP

    @property
    def angles(self) -> int:
        """How many are tried on a slice."""
        return ANGLES

    @property
    def groups(self) -> int:
        """Of neurons, the last of which may be smaller."""
        return -(-self.width // self.group)

    @property
    def turns(self) -> int:
        """How many turns a sweep tries."""
        return self.width - self.groups

    @property
    def normals(self) -> tuple[int, int]:
        """Of each neuron in a sweep: direction, height, readout; of each group: choice, angles."""
        return self.fed + 2 + self.network.targets, 1 + self.angles

    @cached_property
    def inputs(self) -> Tensor:
        """X (n, fed), inputs and a one for the bias, times the widths of the prior: h = X v."""
        weight, *biases, _ = self.network.layers
        scaled = [self.x * weight.standard_deviation]
        scaled += [torch.full_like(self.x[:, :1], bias.standard_deviation) for bias in biases]
        return torch.cat(scaled, 1)

    @property
    def kicks(self) -> int:
        """Of a turn: none where the likelihood of a neuron of the prior hardly depends on it."""
        return KICKS if self.stiffness > STIFF else 0

    @cached_property
    def stiffness(self) -> float:
        """The mean of c = (s²/T) Σ φ(h)² over neurons of the prior, by Gauss-Hermite nodes."""
        nodes, weights = (torch.from_numpy(part).to(self.x.device) for part in _gauss(NODES))
        deviations = self.inputs.double().norm(dim=1)
        signal = self.network.activation.phi(deviations[:, None] * nodes)
        scale = self.network.layers[-1].standard_deviation
        return float(signal.square().sum(0) @ weights) * scale**2 / self.temperature


Sweep = Callable[[NeuronsState, Tensor], NeuronsState]
"""A state and the normals (chain, normal) of a sweep -> the state after it."""


def neurons(known: Neurons, make: Callable[[Neurons], Sweep]) -> Sampler[NeuronsState]:
    """Sweeps over the neurons, each drawn anew with the others fixed: no bias at any angle.

    Let v be the whitened weights of a neuron and its bias, h = X v its pre-activations, φ = φ(h),
    s the prior's deviation of a readout weight, and R_k the labels of target k less what the other
    neurons make of them. Given v its readout weights are Gaussian, and integrated out they leave

        ln L(v) = Σ_k (s φ·R_k/T)² / (2 (1 + c)) - (K/2) ln(1 + c),    c = s² |φ|²/T,

    for K targets, times the prior exp(-|v|²/2). Most neurons move v by a turn: p ~ N(0, 1), and
    (v, p) turn by `angle`, which the prior leaves as it is. Where neurons are stiff,
    p ← p + (angle/2) ∇ln L twice on the way, at a quarter and at three quarters; the end is
    accepted with min(1, exp(-ΔH)), H = (|v|² + |p|²)/2 - ln L. One of every eight, chosen at
    random, takes its angle from the slice of the ellipse through v and p instead (Murray, Adams and
    MacKay 2010, arXiv:1001.0175), which hardly ever leaves v where it is, so that no neuron can
    stick. Then z_k ~ N((s φ·R_k/T)/(1 + c), 1/(1 + c)) is drawn, and the residual moved.

    A slice is left after `ANGLES` angles, and v stays. That is exact: for each number of angles
    tried, the paths from v to v' and back have the same probability, so that a limit takes the
    same from both, and what is left stays where it is, which is its own reverse.

    `make` says what computes a sweep. Raises ValueError unless there is one hidden layer.
    """
    network = known.network
    check_labels(network, known.x, known.y)
    if network.depth != 1:
        raise ValueError(
            f"the network has {network.depth} hidden layers; neurons are drawn one after another "
            "where there is one: take baoab"
        )
    widths, labels = network.standard_deviations.to(known.x), known.labels
    each, choice = known.normals
    sweep, count = make(known), known.width * each + known.groups * choice

    def init(position: Tensor, noise: Normals) -> NeuronsState:
        outputs = network.outputs(position * widths, known.x)
        residual = labels - outputs.unflatten(1, (-1, network.targets)).mT
        none = torch.zeros(len(position), dtype=torch.int64, device=position.device)
        return NeuronsState(position, residual.contiguous(), none)

    def step(state: NeuronsState, noise: Normals) -> NeuronsState:
        return sweep(state, noise((count,), state.position.dtype))

    return Sampler(init, step)


def _gauss(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of an average over N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()
