"""Effective samples per CPU second, of this project's samplers and of others.

Every sampler is a process of its own with one thread. They take turns, so that what else the
machine does meets all of them alike.

    python tests/benchmarks/bench_ess.py PEERS_PYTHON [--quick]
"""

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ess_analysis import Round, biases, result, small
from ess_problem import REFERENCE, TEMPERATURES
from ess_table import Row, percent, write
from seat import Seat

HERE = Path(__file__).parent
PAGE = HERE / "ESS.md"
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
}
MOST_HALVINGS = 6


class Effort(NamedTuple):
    """CPU seconds of sampling, for each sampler and temperature."""

    warmup: float  # with each step size that is tried
    trial: float  # of a step size
    round: float
    rounds: int


FULL, QUICK = Effort(2, 8, 6, 3), Effort(0.5, 1, 1, 2)


@dataclass
class Contestant(Seat):
    """A row of the table of effective samples."""

    row: Row
    files: Path
    settings: str = field(default="", init=False)

    def prepare(self, temperature: float, start: Path | None, halvings: int) -> None:
        """Set the chains up, at a step halved so often."""
        place = None if start is None else str(start)
        order = {"temperature": temperature, "start": place, "halvings": halvings}
        self.settings = self.ask("prepare", order)

    def run(self, seconds: float) -> Round:
        """What so many CPU seconds give."""
        path = self.files / "draws.npy"
        told = self.ask("run", {"seconds": seconds, "path": str(path)})
        return Round(told["seconds"], told["gradients"], np.load(path))


def contestants(peers: str, files: Path) -> list[Contestant]:
    """Everybody, in the order of the table."""
    here, there = (sys.executable, "ess_torch.py"), (peers, "ess_peers.py")
    rows = [
        (here, "ula", "ULA, one step for all weights", False),
        (here, "ula whitened", "ULA", False),
        (here, "mala", "MALA", True),
        (there, "nuts", "blackjax: NUTS", True),
        (there, "hmc short", "blackjax: HMC, short", True),
        (there, "hmc long", "blackjax: HMC, long", True),
        (there, "mclmc", "blackjax: MCLMC", False),
        (there, "repriorized", "blackjax: HMC in the coordinates of Hron et al.", True),
        (here, "default", "finitewidth: baoab", False),
        (here, "collapsed", "finitewidth: collapsed", False),
    ]
    return [
        Contestant(Row(title, exact), *program, name, files, environment=ONE_THREAD)
        for program, name, title, exact in rows
    ]


def learn(ours: Contestant, temperature: float) -> Path:
    """Where everybody begins: what the default sampler comes to from the prior."""
    path = ours.files / f"start-{temperature}.npy"
    ours.prepare(temperature, None, 0)
    ours.ask("save", str(path))
    return path


def settle(contestant: Contestant, temperature: float, start: Path, effort: Effort) -> bool:
    """Warm up, at the first step whose bias is small; whether the sampler is there."""
    if contestant.process is None:
        return False
    try:
        for halvings in range(MOST_HALVINGS):
            contestant.prepare(temperature, start, halvings)
            contestant.run(effort.warmup)
            if contestant.row.exact:
                break
            tried = biases(contestant.run(effort.trial).draws, REFERENCE[temperature])
            told = " and ".join(percent(bias, exact=False) for bias in tried.values())
            tell(f"{contestant.row.title}, {contestant.settings}: {told}")
            if small(tried):
                break
    except RuntimeError as error:
        contestant.drop(error)
    return contestant.process is not None


def measure(field: list[Contestant], temperature: float, start: Path, effort: Effort) -> None:
    """Rounds at one temperature, everybody once in each."""
    ready = [who for who in field if settle(who, temperature, start, effort)]
    rounds: dict[str, list[Round]] = {who.name: [] for who in ready}
    for _ in range(effort.rounds):
        for contestant in ready:
            rounds[contestant.name].append(contestant.run(effort.round))
        tell(f"κ = {temperature}: round of {len(ready)}")
    for contestant in ready:
        found = result(contestant.settings, rounds[contestant.name], REFERENCE[temperature])
        contestant.row.results[temperature] = found


def tell(line: str) -> None:
    """What is going on."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure everything, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peers", help="the Python of the environment that holds the peers")
    parser.add_argument("--quick", action="store_true", help="try it out; write no page")
    chosen = parser.parse_args()
    effort = QUICK if chosen.quick else FULL
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as files:
        field = contestants(chosen.peers, Path(files))
        (ours,) = (contestant for contestant in field if contestant.name == "default")
        for contestant in field:
            contestant.begin()
        for temperature in TEMPERATURES:
            measure(field, temperature, learn(ours, temperature), effort)
        for contestant in field:
            contestant.end()
    page = write(
        [who.row for who in field],
        ours.row,
        rounds=effort.rounds,
        seconds=effort.round,
        trial=effort.trial,
    )
    print(page)
    if not chosen.quick:
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
