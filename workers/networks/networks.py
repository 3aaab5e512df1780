"""Networks as functions of a flat parameter tensor (chain, parameter), many chains at a time.

Chains run side by side on the first axis and share the data x (n, d). The loss is
L = ½ Σ_μ |f(x_μ) - y_μ|² and the prior is a Gaussian of its own width for each parameter. Labels
and outputs of several targets are flat, (n · targets), the target running fastest.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from theory.kernels.variances import layer_variances
from workers.networks.activations import Activation
from workers.sampler import Gradient

CPU_ELEMENTS = 1 << 17  # of an array at a time: a few arrays of 512 KiB stay in the cache
DEVICE_ELEMENTS = 1 << 27


class Model(Protocol):
    """What a sampler and a measurement need of a network."""

    @property
    def size(self) -> int:
        """How many parameters there are."""
        ...

    @property
    def targets(self) -> int:
        """How many numbers f(x) is."""
        ...

    @property
    def products(self) -> int:
        """How many products of two numbers f(x) of one point takes."""
        ...

    @property
    def units(self) -> int:
        """How many pre-activations a point has, of all hidden layers."""
        ...

    @property
    def standard_deviations(self) -> Tensor:
        """The prior's, (parameter,), float64."""
        ...

    def pre_activations(self, parameters: Tensor, x: Tensor) -> list[Tensor]:
        """h of each hidden layer, (chain, width, point); empty where the network has no layers."""
        ...

    def outputs(self, parameters: Tensor, x: Tensor) -> Tensor:
        """f(x), (chain, point · target)."""
        ...

    def loss_and_gradient(self, parameters: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """L (chain,) and ∇L (chain, parameter)."""
        ...


def potential(model: Model, x: Tensor, y: Tensor, temperature: float) -> Gradient:
    """U(z) = |z|²/2 + L(σ z)/T and ∇U, for parameters σ z whitened by their prior's widths σ.

    exp(-U) is the posterior of z under labels with Gaussian noise of variance T. The energy is
    (chain,), the gradient (chain, parameter), both of z's dtype, which x and y must share.
    """
    check_labels(model, x, y)
    widths = model.standard_deviations.to(x)
    scale = widths / temperature

    def gradient(position: Tensor) -> tuple[Tensor, Tensor]:
        energy, slope = position.new_empty(len(position)), torch.empty_like(position)
        for chains in spans(len(position), room(position) // model.size):
            z = position[chains]
            loss, force = model.loss_and_gradient(z * widths, x, y)
            torch.addcmul(z, force, scale, out=slope[chains])
            energy[chains] = torch.linalg.vecdot(z, z) / 2 + loss / temperature
        return energy, slope

    return gradient


def check_labels(model: Model, x: Tensor, y: Tensor) -> None:
    """Raise ValueError unless inputs are (n, d) and labels (n · targets,)."""
    if x.ndim != 2 or y.shape != (len(x) * model.targets,):
        raise ValueError(
            f"labels have shape {tuple(y.shape)} and inputs {tuple(x.shape)}; "
            f"give y as (n,) and x as (n, d), with {model.targets} labels of each point"
        )


class Layer(NamedTuple):
    """Where parameters of one kind lie in the flat tensor, and the width of their prior."""

    name: str  # weight_1, bias_1, weight_2, ..., readout
    start: int
    stop: int
    shape: tuple[int, ...]
    standard_deviation: float

    def of(self, parameters: Tensor) -> Tensor:
        """This layer's part of (chain, parameter), as a view (chain, *shape)."""
        return parameters[:, self.start : self.stop].unflatten(1, self.shape)


@dataclass(frozen=True)
class Layered(ABC):
    """Layers one after another; the last is a linear readout, (width,) or (targets, width)."""

    widths: tuple[int, ...]  # neurons or channels of each hidden layer
    activation: Activation
    layers: tuple[Layer, ...]  # weight_1, bias_1, ..., readout

    @property
    def depth(self) -> int:
        """The number of hidden layers."""
        return len(self.widths)

    @property
    def size(self) -> int:
        """The number of parameters."""
        return self.layers[-1].stop

    @property
    def targets(self) -> int:
        """How many numbers f(x) is."""
        shape = self.layers[-1].shape
        return shape[0] if len(shape) == 2 else 1

    @property
    @abstractmethod
    def positions(self) -> tuple[int, ...]:
        """At how many places of a point each hidden layer's weights are used."""

    @property
    def products(self) -> int:
        """Of weights and what they read in f(x) of one point."""
        sizes = {layer.name: layer.stop - layer.start for layer in self.layers}
        levels = enumerate(self.positions, start=1)
        return sizes["readout"] + sum(count * sizes[f"weight_{level}"] for level, count in levels)

    @property
    def units(self) -> int:
        """How many pre-activations a point has, of all hidden layers."""
        return sum(math.prod(layer) for layer in zip(self.widths, self.positions, strict=True))

    @property
    def standard_deviations(self) -> Tensor:
        """The prior's, (parameter,), float64."""
        widths = [
            torch.full((layer.stop - layer.start,), layer.standard_deviation, dtype=torch.float64)
            for layer in self.layers
        ]
        return torch.cat(widths)

    def outputs(self, parameters: Tensor, x: Tensor) -> Tensor:
        """f(x), (chain, point · target)."""
        values = parameters.new_empty(len(parameters), len(x), self.targets)
        for chains, points in self._chunks(parameters, x):
            values[chains, points] = self._values(parameters[chains], x[points])
        return values.flatten(1)

    def loss_and_gradient(self, parameters: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """L (chain,) and ∇L (chain, parameter), a few chains or points at a time."""
        loss, gradient = parameters.new_zeros(len(parameters)), torch.zeros_like(parameters)
        labels = y.view(len(x), self.targets)
        for chains, points in self._chunks(parameters, x):
            self._add_loss_and_gradient(
                parameters[chains], x[points], labels[points], loss[chains], gradient[chains]
            )
        return loss, gradient

    @abstractmethod
    def _chunks(self, parameters: Tensor, x: Tensor) -> Iterator[tuple[slice, slice]]:
        """Parts of (chain, point) that are best worked on at a time."""

    @abstractmethod
    def _values(self, parameters: Tensor, x: Tensor) -> Tensor:
        """f(x) of some chains at some points, (chain, point, target)."""

    @abstractmethod
    def _add_loss_and_gradient(
        self, parameters: Tensor, x: Tensor, y: Tensor, loss: Tensor, gradient: Tensor
    ) -> None:
        """Add L and ∇L of some chains and points; y is (point, target)."""

    def _read(self, parameters: Tensor, signal: Tensor) -> Tensor:
        """f = Σ_i a_i φ(h_i) of the last hidden layer, (chain, target, point)."""
        return torch.bmm(self._readout(parameters), signal)

    def _read_back(
        self, parameters: Tensor, residual: Tensor, field: Tensor, signal: Tensor, gradient: Tensor
    ) -> Tensor:
        """Add ∂L/∂a of residuals (chain, target, point); ∂L/∂h of the last hidden layer."""
        self._readout(gradient).mT.baddbmm_(signal, residual.mT)
        delta = self.activation.dphi(field)
        if self.targets == 1:
            return delta.mul_(self._readout(parameters).mT).mul_(residual)
        return delta.mul_(torch.bmm(self._readout(parameters).mT, residual))

    def _readout(self, parameters: Tensor) -> Tensor:
        """The readout's part as a view (chain, target, width)."""
        return self.layers[-1].of(parameters).view(len(parameters), self.targets, -1)


@dataclass(frozen=True)
class Network(Layered):
    """f(x) = Σ_i a_i φ(h_i), h = W_l φ(W_{l-1} ... φ(W_1 x + b_1) ...) + b_l; no bias on f.

    The factors 1/√fan_in are in the prior: see `fully_connected`, which makes networks.
    """

    inputs: int

    @property
    def positions(self) -> tuple[int, ...]:
        """One for each layer."""
        return (1,) * self.depth

    def pre_activations(self, parameters: Tensor, x: Tensor) -> list[Tensor]:
        """h of each hidden layer, (chain, width, point)."""
        return self._forward(parameters, x)[0]

    def _values(self, parameters: Tensor, x: Tensor) -> Tensor:
        return self._read(parameters, self._forward(parameters, x)[1][-1]).mT

    def minibatch_gradient(self, parameters: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """∇L (chain, parameter) at points and labels of each chain's own.

        x is (chain, n, d) and y (chain, n, target). All chains are done at once, as is best on a
        device.
        """
        loss, gradient = parameters.new_zeros(len(parameters)), torch.zeros_like(parameters)
        for chains in spans(len(parameters), room(parameters) // (max(self.widths) * x.shape[1])):
            part = (parameters[chains], x[chains], y[chains], loss[chains], gradient[chains])
            self._add_loss_and_gradient(*part)
        return gradient

    def _add_loss_and_gradient(
        self, parameters: Tensor, x: Tensor, y: Tensor, loss: Tensor, gradient: Tensor
    ) -> None:
        """Add L and ∇L of these chains and points by backpropagation, with δ_l = ∂L/∂h_l."""
        fields, signals = self._forward(parameters, x)
        residual = self._read(parameters, signals[-1]) - y.mT
        loss.add_(residual.square().sum((1, 2)), alpha=0.5)
        delta = self._read_back(parameters, residual, fields[-1], signals[-1], gradient)
        for level, (weight, bias) in reversed(list(enumerate(self._hidden()))):
            weight.of(gradient).baddbmm_(delta, signals[level].transpose(1, 2))
            if bias is not None:
                bias.of(gradient).add_(delta.sum(2))
            if level:
                delta = torch.bmm(weight.of(parameters).transpose(1, 2), delta)
                delta.mul_(self.activation.dphi(fields[level - 1]))

    def _forward(self, parameters: Tensor, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """h of each hidden layer, and the inputs and each φ(h), all (chain, width, point).

        Points are (n, d), or (chain, n, d) where each chain has its own.
        """
        fields, signals = [], [x.mT.expand(len(parameters), -1, -1)]
        for weight, bias in self._hidden():
            if bias is None:
                field = torch.bmm(weight.of(parameters), signals[-1])
            else:
                shift = bias.of(parameters)[:, :, None]
                field = torch.baddbmm(shift, weight.of(parameters), signals[-1])
            fields.append(field)
            signals.append(self.activation.phi(field))
        return fields, signals

    def _hidden(self) -> list[tuple[Layer, Layer | None]]:
        """Weights and biases of each hidden layer."""
        named = {layer.name: layer for layer in self.layers}
        levels = range(1, self.depth + 1)
        return [(named[f"weight_{level}"], named.get(f"bias_{level}")) for level in levels]

    def _chunks(self, parameters: Tensor, x: Tensor) -> Iterator[tuple[slice, slice]]:
        """Parts of (chain, point) whose pre-activations fit the cache."""
        most = room(parameters) // max(self.widths)
        for chains in spans(len(parameters), most // max(1, len(x))):
            for points in spans(len(x), max(32, most)):
                yield chains, points


def room(tensor: Tensor) -> int:
    """How many elements of an array are best worked on at a time."""
    return CPU_ELEMENTS if tensor.is_cpu else DEVICE_ELEMENTS


def spans(total: int, most: int) -> Iterator[slice]:
    """0..total-1 in nearly equal parts of at most `most`, which counts as 1 if it is less."""
    parts = -(-total // max(1, most))
    for part in range(parts):
        yield slice(part * total // parts, (part + 1) * total // parts)


def fully_connected(
    inputs: int,
    widths: Sequence[int],
    activation: Activation,
    *,
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
    chi: float,
    targets: int = 1,
) -> Network:
    """A network of len(widths) hidden layers, laid out as weight_1, bias_1, ..., readout.

    `weight_variance` is σ² of each layer, the readout last; `bias_variance` σ_b² of all hidden
    layers, or a number for each. The prior of hidden weights is N(0, σ_l²/fan_in), of the readout
    N(0, σ_a²/(N χ)), of biases N(0, σ_b²); a layer has no biases if its σ_b² is 0. χ = 1 is
    standard scaling, χ up to N is mean field.
    """
    weights, biases = layer_variances(weight_variance, bias_variance, len(widths))
    fans = (inputs, *widths)
    shapes: list[tuple[str, tuple[int, ...], float]] = []
    for level, (fan_in, width) in enumerate(zip(fans, widths, strict=False), start=1):
        shapes.append((f"weight_{level}", (width, fan_in), weights[level - 1] / fan_in))
        if biases[level - 1]:
            shapes.append((f"bias_{level}", (width,), biases[level - 1]))
    read = readout_shape(targets, widths[-1])
    shapes.append(("readout", read, weights[-1] / (widths[-1] * chi)))
    layers, start = [], 0
    for name, shape, variance in shapes:
        stop = start + math.prod(shape)
        layers.append(Layer(name, start, stop, shape, math.sqrt(variance)))
        start = stop
    return Network(tuple(widths), activation, tuple(layers), inputs)


def readout_shape(targets: int, width: int) -> tuple[int, ...]:
    """Of the readout's weights: flat where there is one target."""
    return (width,) if targets == 1 else (targets, width)


@dataclass(frozen=True)
class FunctionNetwork:
    """A network that is any function of a parameter vector; see `from_function`."""

    function: Callable[[Tensor, Tensor], Tensor]
    size: int
    standard_deviations: Tensor
    targets: int

    @property
    def products(self) -> int:
        """One for each parameter, as in layers that are fully connected."""
        return self.size

    @property
    def units(self) -> int:
        """Nothing: the function keeps its layers to itself."""
        return 0

    def pre_activations(self, parameters: Tensor, x: Tensor) -> list[Tensor]:
        """Nothing: the function keeps its layers to itself."""
        return []

    def outputs(self, parameters: Tensor, x: Tensor) -> Tensor:
        """f(x), (chain, point · target)."""
        return torch.func.vmap(self.function, in_dims=(0, None))(parameters, x).flatten(1)

    def loss_and_gradient(self, parameters: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """L (chain,) and ∇L (chain, parameter), by automatic differentiation."""

        def loss(vector: Tensor) -> Tensor:
            return (self.function(vector, x).flatten() - y).square().sum() / 2

        gradient, value = torch.func.vmap(torch.func.grad_and_value(loss))(parameters)
        return value, gradient


def from_function(
    function: Callable[[Tensor, Tensor], Tensor],
    parameters: int,
    standard_deviations: Tensor,
    targets: int = 1,
) -> FunctionNetwork:
    """The network function(θ, x) of a vector θ (parameters,) and inputs x (n, d).

    It returns (n,), or (n, targets) where there are several. The function is made of torch
    operations that torch.func can differentiate and batch. Prior widths are (parameters,).
    """
    if standard_deviations.shape != (parameters,):
        raise ValueError(
            f"standard_deviations has shape {tuple(standard_deviations.shape)} for {parameters} "
            f"parameters; give one per parameter, ({parameters},)"
        )
    return FunctionNetwork(function, parameters, standard_deviations, targets)
