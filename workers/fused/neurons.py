"""Sweeps over neurons in C++, one chain after another."""

import ctypes
import math

import torch
from torch import Tensor

from workers.fused import build
from workers.fused.network import has_kernel, kernel_of
from workers.samplers import neuron_moves
from workers.samplers.neurons import Neurons, NeuronsState, Sweep


class _Settings(ctypes.Structure):
    """As in neurons.cpp."""

    _fields_ = (
        ("activation", ctypes.c_int64),
        ("points", ctypes.c_int64),
        ("inputs", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("targets", ctypes.c_int64),
        ("biased", ctypes.c_int64),
        ("kicks", ctypes.c_int64),
        ("group", ctypes.c_int64),
        ("angles", ctypes.c_int64),
        ("temperature", ctypes.c_double),
        ("weight_scale", ctypes.c_float),
        ("bias_scale", ctypes.c_float),
        ("readout_scale", ctypes.c_float),
        ("end_cosine", ctypes.c_float),
        ("end_sine", ctypes.c_float),
        ("cosine", ctypes.c_float),
        ("sine", ctypes.c_float),
        ("push", ctypes.c_float),
    )


def sweep(known: Neurons) -> Sweep:
    """What `workers.samplers.neuron_moves.sweep` computes, from the kernel where there is one.

    There is one for float32 on a CPU, and activations that have a kernel.
    """
    if not has_kernel(known.x) or kernel_of(known.network) is None:
        return neuron_moves.sweep(known)
    settings = _settings(known)
    x, labels = known.x.contiguous(), known.labels.contiguous()

    def run(state: NeuronsState, normals: Tensor) -> NeuronsState:
        position = state.position.clone(memory_format=torch.contiguous_format)
        residual = state.residual.clone(memory_format=torch.contiguous_format)
        after = NeuronsState(position, residual, state.accepted.clone())
        pointers = [
            ctypes.c_void_p(part.data_ptr()) for part in (x, labels, normals.contiguous(), *after)
        ]
        chains = ctypes.c_int64(len(position))
        if build.library().neurons(ctypes.byref(settings), chains, *pointers):
            raise MemoryError(f"no memory for a block of neurons at {len(x)} points")
        return after

    return run


def _settings(known: Neurons) -> _Settings:
    network, kicks = known.network, known.kicks
    between = known.angle / max(kicks, 1)
    end = between / 2 if kicks else known.angle
    weight, *biases, readout = network.layers
    return _Settings(
        activation=kernel_of(network),
        points=len(known.x),
        inputs=network.inputs,
        width=known.width,
        targets=network.targets,
        biased=known.biased,
        kicks=kicks,
        group=known.group,
        angles=known.angles,
        temperature=known.temperature,
        weight_scale=weight.standard_deviation,
        bias_scale=biases[0].standard_deviation if biases else 0.0,
        readout_scale=readout.standard_deviation,
        end_cosine=math.cos(end),
        end_sine=math.sin(end),
        cosine=math.cos(between),
        sine=math.sin(between),
        push=between,
    )
