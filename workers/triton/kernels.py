"""Where kernels of Triton run: on CUDA devices, and by its interpreter on a CPU, for tests."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor
from triton import knobs


def run_on(tensor: Tensor) -> bool:
    """Whether a kernel may be given a tensor."""
    return tensor.is_cuda or (tensor.is_cpu and knobs.runtime.interpret)


class Kernel(Protocol):
    """A function of Triton; on a grid it is one that can be called."""

    def __getitem__(self, grid: tuple[int, ...], /) -> Callable[..., object]: ...


def launch(kernel: Kernel, grid: tuple[int, ...], *arguments: object, **constants: object) -> None:
    """Run a kernel on a grid of programs; its signature means nothing to Python."""
    kernel[grid](*arguments, **constants)
