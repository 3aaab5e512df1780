"""What a segment of chains measures, summed as the draws come, at constant memory.

A pre-activation is observed along unit vectors v over the probe points: for each neuron
z = Σ_μ v_μ h(x_μ) / √(v'Kv), with K the prior covariance of the layer's pre-activations, so that z
is a standard normal under an infinitely wide prior. Where a layer has several positions for each
point, v is a vector over all positions of all points, the position running fastest; or, in the
layers of images, over the points at one position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

DENSE = 1024  # a kernel of at most so many rows is decomposed as a whole


@dataclass(frozen=True)
class Directions:
    """Unit vectors over the probe points and the prior deviation along each."""

    vectors: list[Tensor]  # of each layer, (direction, probe · position)
    deviations: Tensor  # (layer, direction)
    places: Sequence[slice]  # of each layer: what v is a vector over


def directions(
    kernels: list[Tensor],
    random: Tensor,
    target: Tensor,
    places: Sequence[slice] | None = None,
    *,
    point: bool = False,
) -> Directions:
    """The directions random, top and target for the prior kernels of the layers, and the point.

    A kernel is (probe · position, probe · position); `random` has numbers for the largest of them.
    `top` is the leading eigenvector of the layer's kernel, `target` the target at the probes;
    `point` the first probe alone, where it is asked for.
    `places` picks what the kernels are of from the layers' pre-activations; by default all.
    """
    vectors, deviations = [], []
    for kernel in kernels:
        positions = len(kernel) // len(target)
        along = [random[: len(kernel)], _leading(kernel), target.repeat_interleave(positions)]
        if point:
            along.append(torch.eye(1, len(kernel))[0])
        vectors.append(torch.stack([_unit(v.to(kernel)) for v in along]))
        deviations.append(torch.einsum("vp,pq,vq->v", vectors[-1], kernel, vectors[-1]).sqrt())
    return Directions(vectors, torch.stack(deviations), places or [slice(None)] * len(kernels))


def _leading(kernel: Tensor) -> Tensor:
    """The eigenvector of the largest eigenvalue; its sign is of no consequence."""
    if len(kernel) <= DENSE:
        return torch.linalg.eigh(kernel).eigenvectors[:, -1]
    start = np.ones(len(kernel))
    return torch.as_tensor(scipy.sparse.linalg.eigsh(kernel.numpy(), k=1, v0=start)[1][:, 0])


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


class Projections:
    """Histograms and raw moments of z, additive over draws, segments and chains."""

    def __init__(self, along: Directions, chains: int, edges: Tensor, orders: int) -> None:
        """`edges` (bin + 1,) lie where all is summed, on the device of the draws."""
        layers, count = along.deviations.shape
        self._scaled = [
            (vectors / deviations[:, None]).to(edges.device)
            for vectors, deviations in zip(along.vectors, along.deviations, strict=True)
        ]
        self._places = along.places
        self._inner_edges = edges[1:-1].contiguous()
        self._powers = torch.arange(orders, dtype=torch.float64, device=edges.device)
        place = (chains, layers, count)
        self.histogram = edges.new_zeros(*place, len(edges) - 1, dtype=torch.int64)
        self.moment = edges.new_zeros(*place, orders, dtype=torch.float64)

    def add(self, layer: int, pre_activations: Tensor) -> None:
        """Count one draw of a layer's pre-activations, (chain, width, probe · position)."""
        seen = pre_activations[..., self._places[layer]]
        scaled = self._scaled[layer].to(seen)
        z = (seen @ scaled.T).double().movedim(-1, 1).contiguous()  # (chain, direction, width)
        place = torch.bucketize(z, self._inner_edges)
        self.histogram[:, layer].scatter_add_(-1, place, torch.ones_like(place))
        self.moment[:, layer] += (z[..., None] ** self._powers).sum(dim=2)


class Kernels:
    """Sums of σ²·φφ'/width and of its square over the sound chains and draws."""

    def __init__(self, layers: int, probes: int, device: str | torch.device = "cpu") -> None:
        self._sum = torch.zeros(layers, probes, probes, dtype=torch.float64, device=device)
        self._square = torch.zeros_like(self._sum)
        self._count = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, activations: list[Tensor], variances: tuple[float, ...], sound: Tensor) -> None:
        """Add one draw: activations of each layer (chain, width, probe), σ² of the layer above."""
        for layer, (phi, variance) in enumerate(zip(activations, variances, strict=True)):
            kernel = of_sound(phi.mT @ phi, sound) * (variance / phi.shape[1])
            self._sum[layer] += kernel.sum(0, dtype=torch.float64)
            self._square[layer] += kernel.square().sum(0, dtype=torch.float64)
        self._count += sound.sum()

    def mean(self) -> Tensor:
        """Mean kernel of each layer, (layer, probe, probe); NaN where no chain is sound."""
        return self._mean(self._sum)

    def mean_square(self) -> Tensor:
        """Mean squared kernel of each layer, (layer, probe, probe)."""
        return self._mean(self._square)

    def _mean(self, total: Tensor) -> Tensor:
        return (total / self._count).masked_fill(self._count == 0, torch.nan)


def correlators(activations: list[Tensor], variances: Sequence[float]) -> Tensor:
    """σ²·φφ'/width of each layer at its first two points, as 11, 12 and 22: (chain, layer, pair).

    Activations are (chain, width, probe); σ² is that of the layer above.
    """
    layers = []
    for phi, variance in zip(activations, variances, strict=True):
        first, second = phi[..., 0].double(), phi[..., 1].double()
        products = (first.square(), first * second, second.square())
        layers.append(torch.stack([variance * each.mean(1) for each in products], 1))
    return torch.stack(layers, 1)


def of_sound(values: Tensor, sound: Tensor) -> Tensor:
    """What of values (chain, ...) is to be summed: sound chains, on a device with zeros for others.

    To leave chains out, a device would have to be asked, and waited for, which they are.
    """
    return values[sound] if values.is_cpu else zeroed(values, sound)


def zeroed(values: Tensor, sound: Tensor) -> Tensor:
    """Values (chain, ...) with zeros in the chains that are not sound, (chain,)."""
    return torch.where(sound.view(-1, *[1] * (values.ndim - 1)), values, 0)


class Learnability:
    """Coefficients of the joint regression of outputs on the parts of the target.

    L = (G'G)^-1 G'f for f (chain, test) and G (test, component): <f g>/<y g> for one component,
    and free of the leakage between components that a finite test set has. (chain, component); NaN
    for a component that is zero, and for all of them if there are fewer test points than parts.
    Raises torch.linalg.LinAlgError where parts of the target are the same function.
    """

    def __init__(self, components: Tensor, device: str | torch.device = "cpu") -> None:
        there = components.abs().amax(0) > 0
        there &= there.sum() <= len(components)
        parts = components[:, there]
        self._parts, self._count = parts.to(device), len(there)
        self._places = there.nonzero()[:, 0].to(device)
        self._factor, self._pivots = torch.linalg.lu_factor(parts.mT @ parts)
        self._factor, self._pivots = self._factor.to(device), self._pivots.to(device)

    def __call__(self, outputs: Tensor) -> Tensor:
        """L of outputs (chain, test)."""
        along = self._parts.mT @ outputs.mT.to(self._parts)
        solved = torch.linalg.lu_solve(self._factor, self._pivots, along)
        found = self._parts.new_full((len(outputs), self._count), torch.nan)
        return found.index_copy_(1, self._places, solved.mT)


def learnability(outputs: Tensor, components: Tensor) -> Tensor:
    """`Learnability` of outputs (chain, test) with components (test, component)."""
    return Learnability(components)(outputs)
