"""What a segment stores: everything measured on its draws, and which of its chains are sound."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from storage.arrays.coordinates import bin_edges, overlap_edges, readout_edges
from storage.arrays.schema import NEURONS, ORDERS, STATUS, layers
from storage.campaign.observables import Measure
from storage.campaign.resolved import Sampled
from storage.campaign.source_spec import Data
from storage.campaign.spec import PAIR, has_overlaps
from theory.accuracy import right_class
from workers.data.balance import class_counts
from workers.data.dataset import Dataset
from workers.measurement.observables import (
    Directions,
    Kernels,
    Learnability,
    Projections,
    correlators,
)
from workers.measurement.overlaps import Overlaps
from workers.measurement.two_times import TwoTimes
from workers.networks.activations import Activation
from workers.networks.networks import Layered, Model

OUT_OF_BOUNDS = 1e6  # prior standard deviations, which no parameter is from zero in a sound chain


@dataclass(frozen=True)
class Observed:
    """What is observed, of which networks, at which points."""

    spec: Sampled
    data: Dataset
    network: Model
    activation: Activation
    along: Directions | None  # None where no histogram is kept
    measures: Mapping[str, Measure]  # observables of the user's own

    @property
    def probes(self) -> int:
        """How many test points, from the first, are probe points."""
        return min(self.spec.observe.points, len(self.data.x_test))


def classes_of(data: Dataset, section: Data) -> Tensor | None:
    """The targets of the classes, (class, output); None where targets are no classes."""
    if not section.may_have_classes:
        return None
    targets = {"train": data.y_clean, "test": data.y_test}
    found = class_counts(targets, section.class_targets)
    return None if found is None else torch.as_tensor(found[0]).reshape(len(found[0]), -1)


class Record:
    """Measures one draw after another; constant memory but for the scalars and probe outputs."""

    def __init__(self, observed: Observed, sound: Tensor, like: Tensor) -> None:
        """`sound` (chain,) says which chains had not diverged before.

        Draws have the dtype of `like` and are on its device, where all is summed.
        """
        self._observed = observed
        data, device = observed.data, like.device
        placed = partial(torch.as_tensor, dtype=like.dtype, device=device)
        self._x = placed(data.x_train)
        self._y = placed(data.y_train).flatten()
        self._x_test = placed(data.x_test)
        components = torch.as_tensor(data.components)
        self._learnability = Learnability(components.reshape(-1, components.shape[-1]), device)
        classes = classes_of(data, observed.spec.data)
        self._classes = None if classes is None else classes.to(device)
        self._label = torch.as_tensor(data.y_test, device=device)
        self._bounds = OUT_OF_BOUNDS * observed.network.standard_deviations.to(like)
        self._sound = sound.clone()
        chains = len(sound)
        self._series: dict[str, list[Tensor]] = {}
        self._targets = observed.network.targets
        size = len(data.x_test) * self._targets
        self._sum = torch.zeros(chains, size, dtype=torch.float64, device=device)
        self._square = torch.zeros_like(self._sum)
        self._draws = 0
        edges = torch.as_tensor(bin_edges(), device=device)
        along = observed.along
        self._projections = None if along is None else Projections(along, chains, edges, ORDERS)
        self._kernels, self._two_times, self._overlaps = None, None, None
        network, observe = observed.network, observed.spec.observe
        if observe.kernels and isinstance(network, Layered):
            self._kernels = Kernels(network.depth, observed.probes, device)
            if observe.lags:
                self._two_times = TwoTimes(observe.lags, network.depth, observed.probes, device)
        if data.teacher is not None and has_overlaps(observed.spec):
            assert isinstance(network, Layered)
            teacher, edges = torch.as_tensor(data.teacher), (overlap_edges(), readout_edges())
            bins = (torch.as_tensor(each, device=device) for each in edges)
            self._overlaps = Overlaps(network, teacher, chains, *bins)

    def add(self, parameters: Tensor) -> None:
        """Measure one draw of every chain, (chain, parameter)."""
        network = self._observed.network
        outputs = network.outputs(parameters, self._x_test).double()
        residual = network.outputs(parameters, self._x).double() - self._y
        loss = residual.square().sum(1) / 2
        self._sound &= loss.isfinite() & outputs.isfinite().all(1) & self._in_bounds(parameters)
        self._sum += outputs
        self._square += outputs.square()
        self._draws += 1
        self._keep("loss", loss)
        self._keep("learnability", self._learnability(outputs))
        if self._observed.spec.data.may_have_classes:
            self._keep("accuracy", self._accuracy(outputs))
        self._keep("output", outputs[:, : self._observed.probes * self._targets])
        fields = []
        if self._looks_inside:
            fields = network.pre_activations(parameters, self._x_test[: self._observed.probes])
            self._add_layers(fields)
        self._add_weights(parameters)
        if self._observed.measures:
            self._add_measures(outputs.cpu(), [field.cpu() for field in fields])

    def _accuracy(self, outputs: Tensor) -> Tensor:
        """Share of the test points whose class is predicted, (chain,); NaN without classes."""
        if self._classes is None:
            return outputs.new_full((len(outputs),), torch.nan)
        label = self._label.reshape(-1, self._targets)
        by_chain = outputs.unflatten(1, (-1, self._targets))
        right = [right_class(one, label, self._classes) for one in by_chain]
        return torch.stack(right).double().mean(1)

    def _in_bounds(self, parameters: Tensor) -> Tensor:
        """Whether every parameter is where a chain can be, (chain,): erf is finite anywhere."""
        return (parameters.abs() < self._bounds).all(1)

    def _add_measures(self, outputs: Tensor, fields: list[Tensor]) -> None:
        """The user's own, which need not know of devices."""
        for name, measure in self._observed.measures.items():
            self._keep(name, measure(outputs, fields, self._observed.data).double())

    @property
    def _looks_inside(self) -> bool:
        """Whether anything is measured on the hidden layers."""
        return bool(
            self._projections
            or self._kernels
            or self._observed.measures
            or self._observed.spec.observe.correlators
        )

    def _keep(self, name: str, value: Tensor) -> None:
        self._series.setdefault(name, []).append(value)

    def _add_layers(self, fields: list[Tensor]) -> None:
        if self._projections is not None:
            for layer, field in enumerate(fields):
                self._projections.add(layer, field)
        if self._kernels is not None:
            activations = [self._activations(field) for field in fields]
            self._kernels.add(activations, self._variances, self._sound)
            if self._two_times is not None:
                self._two_times.add(activations, self._variances, self._sound)
        if self._observed.spec.observe.correlators:
            pair = [self._observed.activation.phi(field[..., list(PAIR)]) for field in fields]
            self._keep("correlator", correlators(pair, self._variances))

    @property
    def _variances(self) -> tuple[float, ...]:
        """σ² of the layer above each hidden layer."""
        return self._observed.spec.network.weights[1:]

    def _activations(self, field: Tensor) -> Tensor:
        """φ of a layer, (chain, width · position, probe)."""
        by_probe = field.unflatten(2, (self._observed.probes, -1))
        return self._observed.activation.phi(by_probe.transpose(2, 3).flatten(1, 2))

    def _add_weights(self, parameters: Tensor) -> None:
        network = self._observed.network
        if not isinstance(network, Layered):
            self._keep("weight_norm", parameters.double().square().sum(1))
            return
        readout = network.layers[-1].of(parameters).flatten(1)
        self._keep("weight_norm", readout.double().square().sum(1))
        if self._overlaps is not None:
            self._keep("max_overlap", self._overlaps.add(parameters))

    def values(self) -> dict[str, np.ndarray]:
        """Arrays for the store; a chain that diverged now or earlier is NaN, and counts nowhere.

        This is where numbers come home from a device, once.
        """
        sound = self._sound.cpu()
        found = {name: value.cpu() for name, value in self._of_chains().items()}
        for value in found.values():
            value[~sound] = torch.nan
        found["status"] = torch.where(sound, STATUS["ok"], STATUS["diverged"])
        for name, count in self._counts().items():
            found[name] = count.cpu()
            found[name][~sound] = 0
        found |= {name: mean.cpu() for name, mean in self._over_chains().items()}
        return {name: value.numpy() for name, value in found.items()}

    def _of_chains(self) -> dict[str, Tensor]:
        """Numbers of each chain: of its draws, and means over them."""
        found = {name: torch.stack(series, dim=1) for name, series in self._series.items()}
        found["output_mean"] = self._sum / self._draws
        found["output_square"] = self._square / self._draws
        if self._targets > 1:
            for name in ("output", "output_mean", "output_square"):
                found[name] = found[name].unflatten(-1, (-1, self._targets))
        if (overlaps := self._seen_overlaps) is not None:
            found["overlap"] = overlaps.first_neurons(NEURONS)
            found["hidden_variance"] = overlaps.variance()
        return found

    def _counts(self) -> dict[str, Tensor]:
        """Sums of each chain over its draws."""
        found = {}
        if self._projections is not None:
            found["histogram"] = self._projections.histogram
            found["moment"] = self._projections.moment
        overlaps = self._seen_overlaps
        if overlaps is not None and layers(self._observed.spec) == 1:
            found["overlap_histogram"] = overlaps.histogram
        return found

    def _over_chains(self) -> dict[str, Tensor]:
        """Means over sound chains and draws."""
        found = {}
        if self._two_times is not None:
            found["kernel_lag"] = self._two_times.mean()
        if self._kernels is not None:
            found["kernel"] = self._kernels.mean()
            found["kernel_square"] = self._kernels.mean_square()
        return found

    @property
    def _seen_overlaps(self) -> Overlaps | None:
        """Those that are kept; the largest is measured wherever there is a teacher."""
        return self._overlaps if self._observed.spec.observe.overlaps else None
