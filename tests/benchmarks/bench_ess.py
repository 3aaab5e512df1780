"""Effective samples per CPU second, of this project's samplers and of others.

Every sampler is a process of its own with one thread. They take turns, so that what else the
machine does meets all of them alike.

    python tests/benchmarks/bench_ess.py PEERS_PYTHON [--quick]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ess_analysis import Round, biases, result, small
from ess_problem import REFERENCE, TEMPERATURES
from ess_table import Row, percent, write

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
class Contestant:
    """A row of the table and the process behind it; absent where that does not start."""

    row: Row
    python: str
    script: str
    name: str
    files: Path
    process: subprocess.Popen[str] | None = field(default=None, init=False)
    settings: str = field(default="", init=False)

    def begin(self) -> None:
        """Start the process; what cannot even tell its version is absent."""
        command = [self.python, str(HERE / self.script), self.name]
        pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        try:
            self.process = subprocess.Popen(
                command, text=True, env=os.environ | ONE_THREAD, **pipes
            )
            self.row.version = self.ask("about", None)
        except (OSError, RuntimeError) as error:
            self.drop(error)

    def ask(self, order: str, argument: object) -> Any:
        """The answer to an order; RuntimeError with the last line of its complaint if it died."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({order: argument}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        if line := self.process.stdout.readline():
            return json.loads(line)
        complaint = self.process.communicate()[1].strip().splitlines()
        raise RuntimeError(complaint[-1] if complaint else "it ended without a word")

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

    def drop(self, error: Exception) -> None:
        """Measure it no further, and say why in the table."""
        self.end()
        self.row.absence = str(error)
        self.process = None

    def end(self) -> None:
        """Let the process go."""
        if self.process is not None:
            self.process.communicate()


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
        Contestant(Row(title, exact), *program, name, files) for program, name, title, exact in rows
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
