"""What a segment of chains measures, summed as the draws come, at constant memory.

A pre-activation is observed along unit vectors v over the probe points: for each neuron
z = Σ_μ v_μ h(x_μ) / √(v'Kv), with K the prior covariance of the layer's pre-activations, so that z
is a standard normal under an infinitely wide prior.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Directions:
    """Unit vectors over the probe points and the prior deviation along each."""

    vectors: Tensor  # (layer, direction, probe)
    deviations: Tensor  # (layer, direction)


def directions(kernels: list[Tensor], random: Tensor, target: Tensor) -> Directions:
    """The directions random, top and target for the prior kernels (probe, probe) of the layers.

    `top` is the leading eigenvector of the layer's kernel, `target` the target at the probes.
    """
    vectors = []
    for kernel in kernels:
        top = torch.linalg.eigh(kernel).eigenvectors[:, -1]
        vectors.append(torch.stack([_unit(v.to(kernel)) for v in (random, top, target)]))
    stacked = torch.stack(vectors)
    variances = torch.einsum("lvp,lpq,lvq->lv", stacked, torch.stack(kernels), stacked)
    return Directions(stacked, variances.sqrt())


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


class Projections:
    """Histograms and raw moments of z, additive over draws, segments and chains."""

    def __init__(self, along: Directions, chains: int, edges: Tensor, orders: int) -> None:
        layers, count, _ = along.vectors.shape
        self._scaled = along.vectors / along.deviations[..., None]
        self._inner_edges = edges[1:-1].contiguous()
        self._powers = torch.arange(orders, dtype=torch.float64)
        self.histogram = torch.zeros(chains, layers, count, len(edges) - 1, dtype=torch.int64)
        self.moment = torch.zeros(chains, layers, count, orders, dtype=torch.float64)

    def add(self, layer: int, pre_activations: Tensor) -> None:
        """Count one draw of a layer's pre-activations at the probes, (chain, width, probe)."""
        scaled = self._scaled[layer].to(pre_activations)
        z = (pre_activations @ scaled.T).double().movedim(-1, 1).contiguous()  # (chain, dir, width)
        place = torch.bucketize(z, self._inner_edges)
        self.histogram[:, layer].scatter_add_(-1, place, torch.ones_like(place))
        self.moment[:, layer] += (z[..., None] ** self._powers).sum(dim=2)


class Kernels:
    """Sums of σ²·φφ'/width and of its square over the sound chains and draws."""

    def __init__(self, layers: int, probes: int) -> None:
        self._sum = torch.zeros(layers, probes, probes, dtype=torch.float64)
        self._square = torch.zeros_like(self._sum)
        self._count = 0

    def add(self, activations: list[Tensor], variances: tuple[float, ...], sound: Tensor) -> None:
        """Add one draw: activations of each layer (chain, width, probe), σ² of the layer above."""
        for layer, (phi, variance) in enumerate(zip(activations, variances, strict=True)):
            kernel = (phi.mT @ phi)[sound] * (variance / phi.shape[1])
            self._sum[layer] += kernel.sum(0, dtype=torch.float64)
            self._square[layer] += kernel.square().sum(0, dtype=torch.float64)
        self._count += int(sound.sum())

    def mean(self) -> Tensor:
        """Mean kernel of each layer, (layer, probe, probe); NaN where no chain is sound."""
        return self._sum / self._count if self._count else self._sum * torch.nan

    def mean_square(self) -> Tensor:
        """Mean squared kernel of each layer, (layer, probe, probe)."""
        return self._square / self._count if self._count else self._square * torch.nan


def learnability(outputs: Tensor, components: Tensor) -> Tensor:
    """Coefficients of the joint regression of outputs on the parts of the target.

    L = (G'G)^-1 G'f for f (chain, test) and G (test, component): <f g>/<y g> for one component,
    and free of the leakage between components that a finite test set has. (chain, component).
    """
    gram = components.mT @ components
    return torch.linalg.solve(gram, components.mT @ outputs.mT.to(components)).mT
