"""What the samplers share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from workers.philox import Normals

Gradient = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions (chain, parameter) -> energy U (chain,) and its gradient (chain, parameter)."""


class State(Protocol):
    """A NamedTuple of tensors whose first axis is the chain: what a checkpoint holds, by name."""

    @property
    def position(self) -> Tensor:
        """z, (chain, parameter)."""
        ...

    def _asdict(self) -> dict[str, Tensor]:
        """The tensors by name."""
        ...


S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class Sampler(Generic[S]):
    """An algorithm: `init(position, noise)` and `step(state, noise)` return a state.

    Each call takes the noise of a step of its own, `noise.at(0)` for init and `noise.at(k)` for
    the k-th step. A state and the steps after it fix what follows to the last bit.
    """

    init: Callable[[Tensor, Normals], S]
    step: Callable[[S, Normals], S]


AnySampler = Sampler[Any]
"""Of states of a type of its own, which only it knows."""
