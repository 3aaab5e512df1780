"""Two-layer networks whose loss and gradient never write the pre-activations to memory.

In float32 on a CPU they come from a kernel, which takes one chain after another: the bits of a
chain depend on nothing but itself. In float64 or on a device they are those of `Network`.
"""

import ctypes
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from workers import networks
from workers.activations import ACTIVATIONS
from workers.fused import build
from workers.networks import Model, Network
from workers.samplers.sampler import Gradient

KERNELS = ("erf", "gelu", "linear", "quadratic", "relu", "tanh")  # in the order of two_layer.cpp


class _Problem(ctypes.Structure):
    """As in two_layer.cpp."""

    _fields_ = (
        ("activation", ctypes.c_int64),
        ("points", ctypes.c_int64),
        ("inputs", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("biased", ctypes.c_int64),
        ("weight_scale", ctypes.c_float),
        ("bias_scale", ctypes.c_float),
        ("readout_scale", ctypes.c_float),
        ("prior", ctypes.c_float),
        ("rate", ctypes.c_float),
    )


@dataclass(frozen=True)
class TwoLayer(Network):
    """A `Network` with one hidden layer and a kernel; `fused` makes it of a plain one."""

    def loss_and_gradient(self, parameters: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """L (chain,) and ∇L (chain, parameter); build.BuildError where nothing can be compiled."""
        if not _has_kernel(x):
            return super().loss_and_gradient(parameters, x, y)
        problem = self._problem(x, y)
        problem.weight_scale = problem.bias_scale = problem.readout_scale = problem.rate = 1.0
        return _evaluate(problem, x, y, parameters)

    def _problem(self, x: Tensor, y: Tensor) -> _Problem:
        if y.shape != x.shape[:1] or x.shape[1:] != (self.inputs,):
            raise ValueError(
                f"labels have shape {tuple(y.shape)} and inputs {tuple(x.shape)}; "
                f"give y as (n,) and x as (n, {self.inputs})"
            )
        return _Problem(
            activation=_kernel_of(self),
            points=len(x),
            inputs=self.inputs,
            width=self.widths[0],
            biased=len(self.layers) == 3,
        )


def fused(network: Model) -> Model:
    """The same network with a kernel, where there is one for it; else the network as it is."""
    if not isinstance(network, Network) or network.depth != 1 or _kernel_of(network) is None:
        return network
    return TwoLayer(**{field.name: getattr(network, field.name) for field in fields(network)})


def potential(network: Model, x: Tensor, y: Tensor, temperature: float) -> Gradient:
    """U(z) = |z|²/2 + L(σ z)/T and ∇U, as `workers.networks.potential` has them.

    For a `TwoLayer` whitening and prior are in the kernel too.
    """
    if not isinstance(network, TwoLayer) or not _has_kernel(x):
        return networks.potential(network, x, y, temperature)
    problem = network._problem(x, y)
    widths = {layer.name: layer.standard_deviation for layer in network.layers}
    problem.weight_scale = widths["weight_1"]
    problem.bias_scale = widths.get("bias_1", 0.0)
    problem.readout_scale = widths["readout"]
    problem.prior, problem.rate = 1.0, 1 / temperature
    return lambda position: _evaluate(problem, x, y, position)


def _has_kernel(x: Tensor) -> bool:
    return x.is_cpu and x.dtype == torch.float32


def _kernel_of(network: Network) -> int | None:
    """The number of the activation's kernel, if there is one."""
    for number, name in enumerate(KERNELS):
        if network.activation == ACTIVATIONS[name]:
            return number
    return None


def _evaluate(problem: _Problem, x: Tensor, y: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    size = problem.width * (problem.inputs + problem.biased + 1)
    if position.shape[1:] != (size,) or {position.dtype, y.dtype} != {torch.float32}:
        raise ValueError(
            f"parameters are {position.dtype} of shape {tuple(position.shape)} and labels "
            f"{y.dtype}; give torch.float32, and parameters of shape (chains, {size})"
        )
    x, y, position = x.contiguous(), y.contiguous(), position.contiguous()
    energy, gradient = position.new_empty(len(position)), torch.empty_like(position)
    arrays = (x, y, position, energy, gradient)
    pointers = [ctypes.c_void_p(array.data_ptr()) for array in arrays]
    chains = ctypes.c_int64(len(position))
    if build.library().two_layer(ctypes.byref(problem), chains, *pointers):
        raise MemoryError(f"no memory for a tile of {problem.width} neurons")
    return energy, gradient
