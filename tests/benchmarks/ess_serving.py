"""A sampler in a process of its own: it draws when told to, and says what that cost.

Lines of JSON come in: {"prepare": {...}} is answered by the settings that the sampler has chosen,
{"run": {"seconds": ..., "path": ...}} by what so many CPU seconds gave, after the draws are in the
file, {"save": path} by nothing, after the positions are in the file.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from ess_problem import Array


class Chains(NamedTuple):
    """An ensemble ready to run."""

    settings: str
    gradients: Callable[[], int]  # of all chains since the beginning
    draw: Callable[[], Any]  # a few draws of each chain, (chain, draw, parameter)
    observe: Callable[[Any], Array]  # of these, (chain, draw, quantity)
    positions: Callable[[Any], Array]  # the last of these, (chain, parameter)


# A temperature, where to start (chain, parameter), how often to halve the step -> chains
Contestant = Callable[[float, Array | None, int], Chains]


class Server:
    """A contestant, and the chains that it has prepared."""

    def __init__(self, contestant: Contestant, packages: list[str]) -> None:
        self.contestant, self.packages = contestant, packages
        self.chains, self.last = None, None

    def about(self, _: object) -> str:
        return ", ".join(f"{package} {version(package)}" for package in self.packages)

    def prepare(self, order: dict[str, Any]) -> str:
        """The settings; the first draws, which may compile, are made here."""
        start = None if order["start"] is None else np.load(order["start"])
        self.chains = self.contestant(order["temperature"], start, order["halvings"])
        self.last = self.chains.draw()
        return self.chains.settings

    def run(self, order: dict[str, Any]) -> dict[str, float]:
        """CPU seconds and gradients of draws that took about so many seconds; the rest is free."""
        assert self.chains is not None
        spent, before, seen = 0.0, self.chains.gradients(), []
        while spent < order["seconds"]:
            began = time.process_time()
            self.last = self.chains.draw()
            spent += time.process_time() - began
            seen.append(self.chains.observe(self.last))
        np.save(order["path"], np.concatenate(seen, axis=1))
        return {"seconds": spent, "gradients": self.chains.gradients() - before}

    def save(self, path: str) -> None:
        assert self.chains is not None
        np.save(path, self.chains.positions(self.last))


def serve(contestant: Contestant, packages: list[str]) -> None:
    """Answer until the input ends."""
    server = Server(contestant, packages)
    for line in sys.stdin:
        ((order, argument),) = json.loads(line).items()
        print(json.dumps(getattr(server, order)(argument)), flush=True)
