"""How the first layer follows the teacher: overlaps q_i = w_i·w*, and the weights around them.

Units are prior standard deviations: q in those of a weight, the readout in its own.
"""

import torch
from torch import Tensor

from workers.networks.networks import Layered


class Overlaps:
    """Joint histogram of (q, a), and variances of the weights along and across the teacher.

    Along w* it is the mean of q², across it the mean of |w - q w*|²/(fan_in - 1). A filter that is
    read at P patches has a = Σ_i a_i/√P.
    """

    def __init__(
        self, network: Layered, teacher: Tensor, chains: int, q_edges: Tensor, a_edges: Tensor
    ) -> None:
        """Edges lie where all is summed, on the device of the draws."""
        self._network = network
        self._teacher = teacher.to(q_edges.device)
        self._edges = q_edges[1:-1].contiguous(), a_edges[1:-1].contiguous()
        bins = len(q_edges) - 1, len(a_edges) - 1
        self.histogram = q_edges.new_zeros(chains, *bins, dtype=torch.int64)
        self._variance = q_edges.new_zeros(chains, 2, dtype=torch.float64)
        self._draws = 0
        self._last = q_edges.new_zeros(chains, network.widths[0], dtype=torch.float64)

    def add(self, parameters: Tensor) -> Tensor:
        """Measure one draw of every chain; its largest |w·w*|, in the weights' own units."""
        layer = self._network.layers[0]
        weights = layer.of(parameters) / layer.standard_deviation  # (chain, neuron, fan_in)
        q = (weights @ self._teacher.to(weights)).double()
        across = weights.double().square().sum(2) - q.square()
        self._variance[:, 0] += q.square().mean(1)
        self._variance[:, 1] += across.mean(1) / max(weights.shape[2] - 1, 1)
        self._draws += 1
        self._last = q
        if self._network.depth == 1:
            self._count(q, parameters)
        return q.abs().amax(1) * layer.standard_deviation

    def _count(self, q: Tensor, parameters: Tensor) -> None:
        readout = self._network.layers[-1]
        a = readout.of(parameters).double().unflatten(1, (q.shape[1], -1)) / (
            readout.standard_deviation
        )
        a = a.sum(2) / a.shape[2] ** 0.5
        row, column = (
            torch.bucketize(x, edges) for x, edges in zip((q, a), self._edges, strict=True)
        )
        place = row * self.histogram.shape[2] + column
        self.histogram.flatten(1).scatter_add_(1, place, torch.ones_like(place))

    def first_neurons(self, count: int) -> Tensor:
        """q of the last draw, (chain, count); NaN beyond the neurons that there are."""
        found = self._last.new_full((len(self._last), count), torch.nan)
        few = min(count, self._last.shape[1])
        found[:, :few] = self._last[:, :few]
        return found

    def variance(self) -> Tensor:
        """Mean over the draws, (chain, 2): along the teacher, and across it."""
        return self._variance / self._draws
