"""Networks whose loss and gradient never write the pre-activations to memory.

In float32 on a CPU they come from a kernel, which takes one chain after another: the bits of a
chain depend on nothing but itself. In float64 or on a device they are those of `Network`.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from workers.fused import build
from workers.networks import networks
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import Model, Network
from workers.sampler import Gradient

KERNELS = ("erf", "gelu", "linear", "quadratic", "relu", "tanh")  # in the order of network.cpp


class _Problem(ctypes.Structure):
    """As in workspace.h."""

    _fields_ = (
        ("activation", ctypes.c_int64),
        ("points", ctypes.c_int64),
        ("depth", ctypes.c_int64),
        ("biased", ctypes.c_int64),
        ("widths", ctypes.POINTER(ctypes.c_int64)),
        ("scales", ctypes.POINTER(ctypes.c_float)),
        ("prior", ctypes.c_float),
        ("rate", ctypes.c_float),
    )


@dataclass(frozen=True)
class FusedNetwork(Network):
    """A `Network` with a kernel; `fused` makes it of a plain one."""

    def loss_and_gradient(self, parameters: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """L (chain,) and ∇L (chain, parameter); build.BuildError where nothing can be compiled."""
        if not has_kernel(x):
            return super().loss_and_gradient(parameters, x, y)
        problem = self._problem(x, y, scales=[1.0] * len(self.layers), prior=0.0, rate=1.0)
        return self._evaluate(problem, x, y, parameters)

    def _problem(
        self, x: Tensor, y: Tensor, scales: Sequence[float], prior: float, rate: float
    ) -> _Problem:
        """prior |z|²/2 + rate L(scales z), for the scales of each of the layers."""
        if y.shape != x.shape[:1] or x.shape[1:] != (self.inputs,):
            raise ValueError(
                f"labels have shape {tuple(y.shape)} and inputs {tuple(x.shape)}; "
                f"give y as (n,) and x as (n, {self.inputs})"
            )
        widths = (self.inputs, *self.widths)
        return _Problem(
            activation=kernel_of(self),
            points=len(x),
            depth=self.depth,
            biased=len(self.layers) > self.depth + 1,
            widths=(ctypes.c_int64 * len(widths))(*widths),
            scales=(ctypes.c_float * len(scales))(*scales),
            prior=prior,
            rate=rate,
        )

    def _evaluate(
        self, problem: _Problem, x: Tensor, y: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor]:
        if position.shape[1:] != (self.size,) or {position.dtype, y.dtype} != {torch.float32}:
            raise ValueError(
                f"parameters are {position.dtype} of shape {tuple(position.shape)} and labels "
                f"{y.dtype}; give torch.float32, and parameters of shape (chains, {self.size})"
            )
        x, y, position = x.contiguous(), y.contiguous(), position.contiguous()
        energy, gradient = position.new_empty(len(position)), torch.empty_like(position)
        arrays = (x, y, position, energy, gradient)
        pointers = [ctypes.c_void_p(array.data_ptr()) for array in arrays]
        chains = ctypes.c_int64(len(position))
        if build.library().network(ctypes.byref(problem), chains, *pointers):
            raise MemoryError(f"no memory for {len(x)} points and tiles of {self.widths} neurons")
        return energy, gradient


def fused(network: Model) -> Model:
    """The same network with a kernel, where there is one for it; else the network as it is.

    There is one for hidden layers of any number, all or none of them with biases, and one target.
    """
    if not isinstance(network, Network) or not network.depth or network.targets != 1:
        return network
    alike = len(network.layers) in (network.depth + 1, 2 * network.depth + 1)
    if kernel_of(network) is None or not alike:
        return network
    return FusedNetwork(**{field.name: getattr(network, field.name) for field in fields(network)})


def potential(network: Model, x: Tensor, y: Tensor, temperature: float) -> Gradient:
    """U(z) = |z|²/2 + L(σ z)/T and ∇U, as `workers.networks.networks.potential` has them.

    For a `FusedNetwork` whitening and prior are in the kernel too.
    """
    if not isinstance(network, FusedNetwork) or not has_kernel(x):
        return networks.potential(network, x, y, temperature)
    scales = [layer.standard_deviation for layer in network.layers]
    problem = network._problem(x, y, scales, prior=1.0, rate=1 / temperature)
    return lambda position: network._evaluate(problem, x, y, position)


def has_kernel(x: Tensor) -> bool:
    """Whether it is float32 on a CPU."""
    return x.is_cpu and x.dtype == torch.float32


def kernel_of(network: Network) -> int | None:
    """The number of the activation's kernel, if there is one."""
    for number, name in enumerate(KERNELS):
        if network.activation == ACTIVATIONS[name]:
            return number
    return None
