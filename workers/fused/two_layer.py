"""Two-layer networks with an energy and gradient that never write the pre-activations to memory.

A function here equals the one of the same name in `workers.networks` but for rounding; it computes
in float32 on a CPU, one chain after another, so that a chain's bits depend on nothing but itself.
"""

import ctypes

import torch
from torch import Tensor

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


def supports(network: Model, dtype: torch.dtype) -> bool:
    """Whether there is a fused kernel: one hidden layer, an activation of KERNELS, float32."""
    return (
        isinstance(network, Network)
        and network.depth == 1
        and any(network.activation == ACTIVATIONS[name] for name in KERNELS)
        and dtype == torch.float32
    )


def loss_and_gradient(
    network: Network, parameters: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """L = ½ Σ_μ (f(x_μ) - y_μ)² (chain,) and ∇L (chain, parameter); see Network.

    Raises ValueError for what has no kernel, and build.BuildError where nothing can be compiled.
    """
    problem = _problem(network, x, y)
    problem.weight_scale = problem.bias_scale = problem.readout_scale = problem.rate = 1.0
    return _evaluate(problem, x, y, parameters)


def potential(network: Network, x: Tensor, y: Tensor, temperature: float) -> Gradient:
    """U(z) = |z|²/2 + L(σ z)/T and ∇U, for parameters σ z whitened by their prior's widths σ.

    As `workers.networks.potential`, and raises what `loss_and_gradient` does.
    """
    problem = _problem(network, x, y)
    widths = {layer.name: layer.standard_deviation for layer in network.layers}
    problem.weight_scale = widths["weight_1"]
    problem.bias_scale = widths.get("bias_1", 0.0)
    problem.readout_scale = widths["readout"]
    problem.prior, problem.rate = 1.0, 1 / temperature
    x, y = x.contiguous(), y.contiguous()
    return lambda position: _evaluate(problem, x, y, position)


def _problem(network: Network, x: Tensor, y: Tensor) -> _Problem:
    if not supports(network, x.dtype) or not x.is_cpu:
        raise ValueError(
            f"no fused kernel for a network of depth {network.depth} in {x.dtype} on {x.device}; "
            f"use one hidden layer of {', '.join(KERNELS)} in float32 on a CPU, or the plain one"
        )
    if y.shape != x.shape[:1] or x.shape[1:] != (network.inputs,):
        raise ValueError(
            f"labels have shape {tuple(y.shape)} and inputs {tuple(x.shape)}; "
            f"give y as (n,) and x as (n, {network.inputs})"
        )
    build.library()
    return _Problem(
        activation=[network.activation == ACTIVATIONS[name] for name in KERNELS].index(True),
        points=len(x),
        inputs=network.inputs,
        width=network.widths[0],
        biased=len(network.layers) == 3,
    )


def _evaluate(problem: _Problem, x: Tensor, y: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    size = problem.width * (problem.inputs + problem.biased + 1)
    if position.shape[1:] != (size,) or {position.dtype, y.dtype} != {x.dtype}:
        raise ValueError(
            f"parameters are {position.dtype} of shape {tuple(position.shape)} and labels "
            f"{y.dtype}; give {x.dtype}, and parameters of shape (chains, {size})"
        )
    position = position.contiguous()
    energy, gradient = position.new_empty(len(position)), torch.empty_like(position)
    arrays = (x.contiguous(), y.contiguous(), position, energy, gradient)
    pointers = (ctypes.c_void_p(array.data_ptr()) for array in arrays)
    chains = ctypes.c_int64(len(position))
    if build.library().two_layer(ctypes.byref(problem), chains, *pointers):
        raise MemoryError(f"no memory for a tile of {problem.width} neurons")
    return energy, gradient
