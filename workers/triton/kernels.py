"""Where kernels of Triton run: on CUDA devices, and by its interpreter on a CPU, for tests."""

from typing import Any

from torch import Tensor
from triton import knobs


def run_on(tensor: Tensor) -> bool:
    """Whether a kernel may be given a tensor."""
    return tensor.is_cuda or (tensor.is_cpu and knobs.runtime.interpret)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: object, **constants: Any) -> None:
    """Run a kernel on a grid of programs; its signature means nothing to Python."""
    kernel[grid](*arguments, **constants)
