"""Kernels between two times of a chain, σ²·φ(t) φ'(t + lag)/width, at constant memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.measurement.observables import of_sound


class TwoTimes:
    """Means over sound chains and over first times t, which lie the longest lag apart."""

    def __init__(
        self, lags: Sequence[int], layers: int, probes: int, device: str | torch.device = "cpu"
    ) -> None:
        self._lags = list(lags)
        size = (len(lags), layers, probes, probes)
        self._sum = torch.zeros(size, dtype=torch.float64, device=device)
        self._count = torch.zeros(len(lags), dtype=torch.int64, device=device)
        self._first: list[Tensor] = []  # the activations at t
        self._since = 0

    def add(self, activations: list[Tensor], variances: Sequence[float], sound: Tensor) -> None:
        """Add one draw: activations of each layer (chain, width, probe), σ² of the layer above."""
        if self._first:
            self._since += 1
            if self._since in self._lags:
                self._pair(activations, variances, sound)
        if not self._first or self._since == max(self._lags):
            self._first, self._since = [phi.clone() for phi in activations], 0

    def _pair(self, activations: list[Tensor], variances: Sequence[float], sound: Tensor) -> None:
        place = self._lags.index(self._since)
        for layer, (one, other) in enumerate(zip(self._first, activations, strict=True)):
            kernel = of_sound(one.mT @ other, sound) * (variances[layer] / one.shape[1])
            self._sum[place, layer] += kernel.sum(0, dtype=torch.float64)
        self._count[place] += sound.sum()

    def mean(self) -> Tensor:
        """(lag, layer, probe, probe), the first time's point first; NaN where there is no pair."""
        return self._sum / self._count[:, None, None, None]
