"""What a segment stores: everything measured on its draws, and which of its chains are sound."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from storage.coordinates import bin_edges
from storage.schema import ORDERS, STATUS
from storage.spec import Campaign
from workers.activations import Activation
from workers.data.dataset import Dataset
from workers.networks import Model, Network
from workers.observables import Directions, Kernels, Projections, learnability

Measure = Callable[[Tensor, list[Tensor], Dataset], Tensor]


@dataclass(frozen=True)
class Observed:
    """What is observed, of which networks, at which points."""

    spec: Campaign
    data: Dataset
    network: Model
    activation: Activation
    along: Directions | None  # None where no histogram is kept
    measures: Mapping[str, Measure]  # observables of the user's own

    @property
    def probes(self) -> int:
        """How many test points, from the first, are probe points."""
        return min(self.spec.observe.points, len(self.data.x_test))


class Record:
    """Measures one draw after another; constant memory but for the scalars and probe outputs."""

    def __init__(self, observed: Observed, sound: Tensor, dtype: torch.dtype) -> None:
        """`sound` (chain,) says which chains had not diverged before."""
        assert observed.spec.sampler is not None
        self._observed = observed
        self._dtype = dtype
        data = observed.data
        self._x = torch.as_tensor(data.x_train, dtype=dtype)
        self._y = torch.as_tensor(data.y_train, dtype=dtype)
        self._x_test = torch.as_tensor(data.x_test, dtype=dtype)
        self._components = torch.as_tensor(data.components)
        self._sound = sound.clone()
        chains = len(sound)
        self._series: dict[str, list[Tensor]] = {}
        self._sum = torch.zeros(chains, len(data.x_test), dtype=torch.float64)
        self._square = torch.zeros_like(self._sum)
        self._draws = 0
        edges = torch.as_tensor(bin_edges())
        along = observed.along
        self._projections = None if along is None else Projections(along, chains, edges, ORDERS)
        self._kernels = None
        if observed.spec.observe.kernels and isinstance(observed.network, Network):
            self._kernels = Kernels(observed.network.depth, observed.probes)

    def add(self, parameters: Tensor) -> None:
        """Measure one draw of every chain, (chain, parameter)."""
        network, data = self._observed.network, self._observed.data
        outputs = network.outputs(parameters, self._x_test).double()
        residual = network.outputs(parameters, self._x).double() - self._y
        loss = residual.square().sum(1) / 2
        self._sound &= loss.isfinite() & outputs.isfinite().all(1)
        self._sum += outputs
        self._square += outputs.square()
        self._draws += 1
        self._keep("loss", loss)
        self._keep("learnability", learnability(outputs, self._components))
        self._keep("output", outputs[:, : self._observed.probes])
        fields = network.pre_activations(parameters, self._x_test[: self._observed.probes])
        self._add_layers(fields)
        self._add_weights(parameters)
        for name, measure in self._observed.measures.items():
            self._keep(name, measure(outputs, fields, data).double())

    def _keep(self, name: str, value: Tensor) -> None:
        self._series.setdefault(name, []).append(value)

    def _add_layers(self, fields: list[Tensor]) -> None:
        if self._projections is not None:
            for layer, field in enumerate(fields):
                self._projections.add(layer, field)
        if self._kernels is not None:
            assert self._observed.spec.network is not None
            variances = self._observed.spec.network.weight_variance[1:]
            activations = [self._observed.activation.phi(field) for field in fields]
            self._kernels.add(activations, variances, self._sound)

    def _add_weights(self, parameters: Tensor) -> None:
        network = self._observed.network
        if not isinstance(network, Network):
            self._keep("weight_norm", parameters.double().square().sum(1))
            return
        self._keep("weight_norm", network.layers[-1].of(parameters).double().square().sum(1))
        if self._observed.data.teacher is not None:
            teacher = torch.as_tensor(self._observed.data.teacher, dtype=parameters.dtype)
            overlaps = network.layers[0].of(parameters) @ teacher
            self._keep("max_overlap", overlaps.abs().amax(1).double())

    def values(self) -> dict[str, np.ndarray]:
        """Arrays for the store; a chain that diverged now or earlier is NaN, and counts nowhere."""
        sound = self._sound
        found: dict[str, Any] = {
            name: torch.stack(series, dim=1) for name, series in self._series.items()
        }
        found["output_mean"] = self._sum / self._draws
        found["output_square"] = self._square / self._draws
        for value in found.values():
            value[~sound] = torch.nan
        found["status"] = torch.where(sound, STATUS["ok"], STATUS["diverged"])
        if self._projections is not None:
            found["histogram"] = self._projections.histogram
            found["moment"] = self._projections.moment
            for name in ("histogram", "moment"):
                found[name][~sound] = 0
        if self._kernels is not None:
            found["kernel"] = self._kernels.mean()
            found["kernel_square"] = self._kernels.mean_square()
        return {name: value.numpy() for name, value in found.items()}
