"""A contestant in a process of its own: it prepares a setting, then runs steps when told to.

Lines of JSON come in: {"prepare": "A"} is answered by the disagreement of its gradient with the
exact one, {"run": CPU seconds} by member-steps per CPU second, {"about": 1} by its versions.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import NamedTuple

from settings import SETTINGS, Parameters, Setting, disagreement


class Chains(NamedTuple):
    """An ensemble ready to run: ∇U at the start, and a function that makes so many steps."""

    gradient: Callable[[], Parameters] | None  # None where nothing but the speed is of interest
    run: Callable[[int], object]


Contestant = Callable[[Setting], Chains]


def one_thread() -> None:
    """One thread on one processor, as for a worker; before any numerical library is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


class Server:
    """A contestant, and the chains that it has prepared."""

    def __init__(self, contestant: Contestant, packages: list[str]) -> None:
        self.contestant, self.packages = contestant, packages
        self.setting, self.chains, self.steps = SETTINGS["A"], None, 1

    def about(self, _: object) -> str:
        return ", ".join(f"{package} {version(package)}" for package in self.packages)

    def prepare(self, name: str) -> float:
        """The disagreement of the gradient; the first step, which may compile, is made here."""
        self.setting, self.steps = SETTINGS[name], 1
        self.chains = self.contestant(self.setting)
        off = 0.0
        if self.chains.gradient is not None:
            off = disagreement(self.setting, self.chains.gradient())
        self.chains.run(1)
        return off

    def run(self, seconds: float) -> float:
        """Member-steps per CPU second, over about so many CPU seconds."""
        assert self.chains is not None
        while True:
            began = time.process_time()
            self.chains.run(self.steps)
            spent = time.process_time() - began
            if spent > seconds / 2:
                return self.setting.chains * self.steps / spent
            self.steps = max(self.steps + 1, int(self.steps * seconds / max(spent, seconds / 100)))


def serve(contestant: Contestant, packages: list[str]) -> None:
    """Answer until the input ends."""
    server = Server(contestant, packages)
    for line in sys.stdin:
        ((order, argument),) = json.loads(line).items()
        print(json.dumps(getattr(server, order)(argument)), flush=True)
