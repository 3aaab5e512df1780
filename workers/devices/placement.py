"""Where a shard is computed and by what: decided once per campaign, and data from then on."""

from collections.abc import Mapping
from typing import NamedTuple

TORCH = "torch"  # gradients and noise by torch alone, on any device
FUSED = "fused"  # by C++, on a CPU
TRITON = "triton"  # by Triton, on a CUDA device
CUDA = "cuda"


class Placement(NamedTuple):
    """The device on which all tensors of a shard are born, and what computes gradients and noise.

    Both decide bits. A backend carries its version, as in 'fused 1'.
    """

    device: str = "cpu"  # as torch names it
    backend: str = TORCH

    @property
    def family(self) -> str:
        """The backend without its version."""
        return self.backend.partition(" ")[0]


CPU = Placement()


def placement_of(numerics: Mapping[str, str]) -> Placement:
    """That of a campaign, from what `workers.numerics.describe` said at its first run."""
    return Placement(device_type(numerics["device"]), numerics["backend"])


def device_type(described: str) -> str:
    """'cuda' of 'cuda sm_90 NVIDIA H200', as torch names it."""
    return described.partition(" ")[0]
