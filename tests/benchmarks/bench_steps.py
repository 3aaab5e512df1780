"""Member-steps per CPU second of Langevin dynamics, here and elsewhere: `make bench`.

Every contestant is a process of its own with one thread. They take turns, so that what else the
machine does meets all of them alike: speeds are medians over the rounds, ratios are medians of the
ratios within a round.

    python tests/benchmarks/bench_steps.py PEERS_PYTHON [--rounds 7] [--seconds 0.5] [--out FILE]
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from seat import Seat
from settings import AGREEMENT, GEMM_SIZE, SETTINGS
from table import Row, write

HERE = Path(__file__).parent


@dataclass
class Contestant(Seat):
    """A row of the table of speeds."""

    row: Row

    def prepare(self, setting: str) -> bool:
        """Whether it is there, and has the right gradient."""
        if self.process is None:
            return False
        try:
            off = self.ask("prepare", setting)
        except RuntimeError as error:
            self.drop(error)
            return False
        assert isinstance(off, float)
        if not off < AGREEMENT:
            self.drop(ValueError(f"its gradient is off by {off:.1e}"))
            return False
        return True


def contestants(peers: str) -> list[Contestant]:
    """Everybody, in the order of the table."""
    shared = "shared, all chains at once"
    rows = [
        (
            "torch_contestants.py",
            "autograd",
            "torch: autograd, chain by chain",
            "shared, one by one",
        ),
        ("torch_contestants.py", "vmap", "torch: vmap(grad)", shared),
        ("peers.py", "posteriors", "posteriors: SGLD under vmap", shared),
        ("peers.py", "jax vmap", "JAX: jit, vmap(grad)", shared),
        ("peers.py", "jax by hand", "JAX: jit, batched by hand", "shared, one matrix product"),
        ("peers.py", "blackjax", "blackjax: SGLD under jit and vmap", shared),
        ("torch_contestants.py", "plain", "finitewidth: plain", "shared, some chains at once"),
        ("torch_contestants.py", "fused", "finitewidth: fused", "shared, one by one"),
        ("torch_contestants.py", "torch.mm", "torch.mm", ""),
        ("torch_contestants.py", "numpy.matmul", "numpy.matmul", ""),
    ]
    pythons = {"peers.py": peers, "torch_contestants.py": sys.executable}
    return [
        Contestant(Row(title, sharing, name in ("torch.mm", "numpy.matmul")), pythons[s], s, name)
        for s, name, title, sharing in rows
    ]


def measure(field: list[Contestant], setting: str, rounds: int, seconds: float) -> None:
    """Rounds of one setting, everybody once in each."""
    ready = [contestant for contestant in field if contestant.prepare(setting)]
    for _ in range(rounds):
        for contestant in ready:
            speed = contestant.ask("run", seconds)
            assert isinstance(speed, float)
            if contestant.row.is_product:
                speed *= 2 * GEMM_SIZE**3 / SETTINGS[setting].chains
            contestant.row.speeds.setdefault(setting, []).append(speed)
        print(f"{setting}: round of {len(ready)}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure everything, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", help="the Python of the environment that holds the peers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of CPU, for each measurement")
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    chosen = parser.parse_args()
    field = contestants(chosen.peers)
    for contestant in field:
        contestant.begin()
    for setting in SETTINGS:
        measure(field, setting, chosen.rounds, chosen.seconds)
    for contestant in field:
        contestant.end()
    text = write([contestant.row for contestant in field], chosen.rounds)
    print(text)
    chosen.out.write_text(text)


if __name__ == "__main__":
    main()
