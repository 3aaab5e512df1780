"""Steps of a sampler as one launch: a CUDA graph, captured once for a segment.

A step of a network is dozens of small launches, each of which takes the host longer than the GPU. A
graph has them at once. It works where the state lies, so a state that is passed on is a copy into
the same memory, and the numbers of the steps, which key the noise, are counted on the device.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from workers.philox import Noise
from workers.sampler import Sampler, State

MOST_STEPS = 20  # steps in a graph: further ones save nothing
# Lanes share a GPU, each in a thread: what waits for all of it must not meet a capture.
CAPTURING = threading.Lock()

S = TypeVar("S", bound=State)
Launch = Callable[[], None]


class Steps(Generic[S]):
    """So many steps of a sampler, as one launch; its state is valid until the next call."""

    def __init__(self, sampler: Sampler[S], noise: Noise, count: int, state: S) -> None:
        """`state` is any of the sampler's, for its shapes."""
        self._sampler, self._noise, self._count = sampler, noise, count
        self._state = type(state)(*(part.clone() for part in _parts(state)))
        self._first = torch.zeros(1, dtype=torch.int64, device=state.position.device)
        self._launch = captured(self._body)

    def __call__(self, state: S, first: int) -> S:
        """The state `count` steps later, the first of which has this number."""
        if state is not self._state:
            self._keep(state)
        self._first.fill_(first)
        self._launch()
        return self._state

    def _body(self) -> None:
        state = self._state
        for step in range(self._count):
            state = self._sampler.step(state, self._noise.at(self._first + step))
        self._keep(state)

    def _keep(self, state: S) -> None:
        for kept, part in zip(_parts(self._state), _parts(state), strict=True):
            kept.copy_(part)


def _parts(state: State) -> tuple[Tensor, ...]:
    assert isinstance(state, tuple)
    return state


def captured(body: Launch) -> Launch:
    """A graph of what a body launches; it is run first, on a stream of its own, to warm up."""
    with CAPTURING:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            body()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            body()
    return graph.replay
