"""The normals of `workers.philox` to the last bit, by one kernel for all of a step."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from workers import philox
from workers.triton import kernels
from workers.triton.philox import normals

BLOCKS = 256  # of 128 bits, that one program encrypts
WARPS = 4


class Noise(philox.Noise):
    """`workers.philox.Noise`, with a kernel where Triton runs."""

    def __init__(
        self,
        seed: int,
        chains: Sequence[int] | Tensor,
        stream: int,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(seed, chains, stream, device)
        self._words = torch.tensor([*self.key, self.stream], device=device)

    def __call__(self, step: int | Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Normals (chain, *shape) of a step."""
        if dtype not in philox.INTEGER or not kernels.run_on(self.chains):
            return super().__call__(step, shape, dtype)
        elements, known = math.prod(shape), constants(dtype)
        out = torch.empty(len(self.chains), elements, dtype=dtype, device=self.chains.device)
        blocks = -(-elements // philox.TILE) * philox.TILE * dtype.itemsize // 16
        grid = (len(self.chains), -(-blocks // BLOCKS))
        arrays = (out, self.chains, self._words, self.counter(step), elements)
        options = {"BLOCKS": BLOCKS, "num_warps": WARPS, "enable_fp_fusion": False}
        kernels.launch(normals, grid, *arrays, **known, **options)
        return out.view(len(self.chains), *shape)


@lru_cache(maxsize=4)
def constants(dtype: torch.dtype) -> dict[str, object]:
    """Those of the Box-Muller map, as the kernel takes them."""
    scalars = philox.scalars(dtype)
    return {
        "ATANH": tuple(float(each) for each in scalars.atanh),
        "SINE": tuple(float(each) for each in scalars.sine),
        "TWO_LOG": float(scalars.two_log),
        "WIDE": dtype == torch.float64,
    }
