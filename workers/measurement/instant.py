"""What is measured of networks in time at one moment."""

import torch
from torch import Tensor

from storage.campaign.spec import has_overlaps
from theory.accuracy import right_class
from workers.measurement.observables import Learnability
from workers.measurement.record import OUT_OF_BOUNDS, Observed, classes_of
from workers.networks.networks import Layered
from workers.samplers.trajectory import TrajectoryState, folded


class Instant:
    """Measures the pairs of a block; what does not depend on them is made once."""

    def __init__(self, observed: Observed, like: Tensor) -> None:
        """Networks have the dtype of `like` and are on its device."""
        self._observed = observed
        data, network = observed.data, observed.network
        assert isinstance(network, Layered)
        self._network = network

        def placed(values: object) -> Tensor:
            return torch.as_tensor(values, dtype=like.dtype, device=like.device)

        self._x, self._x_test = placed(data.x_train), placed(data.x_test)
        self._y = placed(data.y_train).flatten()
        self._widths = network.standard_deviations.to(like)
        components = torch.as_tensor(data.components)
        flat = components.reshape(-1, components.shape[-1])
        self._learnability = Learnability(flat, like.device)
        self._label = torch.as_tensor(data.y_test, device=like.device)
        found = classes_of(data, observed.spec.data)
        self._classes = None if found is None else found.to(like.device)
        self._along = None
        if data.teacher is not None and has_overlaps(observed.spec):
            self._along = placed(data.teacher)

    def sound(self, state: TrajectoryState) -> Tensor:
        """Chains of which every parameter is where one can be, (chain,)."""
        within = (state.position.abs() < OUT_OF_BOUNDS).all(1)  # of NaN nothing is
        return within.view(4, -1).all(0)

    def series(self, state: TrajectoryState) -> dict[str, Tensor]:
        """Numbers of each chain, (chain, ...)."""
        parameters = state.position * self._widths
        network, targets = self._network, self._network.targets
        outputs = network.outputs(parameters, self._x_test).double()
        residual = network.outputs(parameters, self._x).double() - self._y
        probes = outputs[:, : self._observed.probes * targets]
        readout = network.layers[-1].of(parameters).flatten(1).double()
        found = {
            "loss": residual.square().sum(1) / 2,
            "learnability": self._learnability(outputs),
            "output_mean": outputs,
            "output_square": outputs.square(),
            "output": probes,
            "output_odd": probes * self._signs(len(probes))[:, None],
            "weight_norm": readout.square().sum(1),
        }
        if self._observed.spec.data.may_have_classes:
            found["accuracy"] = self._accuracy(outputs)
        if self._along is not None:
            found |= self._overlaps(parameters)
        values = {name: folded(value) for name, value in found.items()}
        changes = {f"{name}_change": values[name].change for name in ("loss", "learnability")}
        changes["output_mean_change"] = values["output_mean"].change
        every = {name: each.value for name, each in values.items()} | changes
        if targets > 1:
            for name in every.keys() & OF_OUTPUTS:
                every[name] = every[name].unflatten(-1, (-1, targets))
        return every

    def kernels(self, state: TrajectoryState, sound: Tensor) -> Tensor:
        """Mean kernel of each layer over sound chains, (layer, probe, probe)."""
        here = self._activations(state.position)
        return self._kernels(here, here, sound)

    def lagged(self, state: TrajectoryState, lags: tuple[int, ...], sound: Tensor) -> Tensor:
        """Kernels with earlier times, whose point is first, (lag, layer, probe, probe)."""
        here = self._activations(state.position)
        before = [self._activations(state.past[:, lag - 1]) for lag in lags]
        return torch.stack([self._kernels(each, here, sound) for each in before])

    def _signs(self, networks: int) -> Tensor:
        """+1 and -1 of the networks of a pair, (networks,)."""
        pair = torch.tensor([1.0, -1.0], dtype=torch.float64, device=self._x.device)
        return pair.repeat_interleave(networks // 4).repeat(2)

    def _accuracy(self, outputs: Tensor) -> Tensor:
        if self._classes is None:
            return outputs.new_full((len(outputs),), torch.nan)
        label = self._label.reshape(-1, self._network.targets)
        by_network = outputs.unflatten(1, (-1, self._network.targets))
        right = [right_class(one, label, self._classes) for one in by_network]
        return torch.stack(right).double().mean(1)

    def _overlaps(self, parameters: Tensor) -> dict[str, Tensor]:
        """The largest |w·w*|, and mean squares of weights along w* and across it."""
        assert self._along is not None
        layer = self._network.layers[0]
        weights = layer.of(parameters) / layer.standard_deviation
        q = (weights @ self._along).double()
        across = (weights.double().square().sum(2) - q.square()).mean(1)
        along = torch.stack([q.square().mean(1), across / max(weights.shape[2] - 1, 1)], 1)
        found = {"max_overlap": q.abs().amax(1) * layer.standard_deviation}
        return found | ({"hidden_variance": along} if self._observed.spec.observe.overlaps else {})

    def _activations(self, position: Tensor) -> list[Tensor]:
        """φ of each layer at the probes, (network, width, probe)."""
        probes = self._x_test[: self._observed.probes]
        fields = self._network.pre_activations(position * self._widths, probes)
        return [self._observed.activation.phi(field) for field in fields]

    def _kernels(self, one: list[Tensor], other: list[Tensor], sound: Tensor) -> Tensor:
        spec = self._observed.spec
        found = []
        for first, second, variance in zip(one, other, spec.network.weights[1:], strict=True):
            kernel = folded(first.mT @ second).value.double() * (variance / first.shape[1])
            found.append(kernel[sound].mean(0))
        return torch.stack(found)


OF_OUTPUTS = {"output", "output_odd", "output_mean", "output_square", "output_mean_change"}
