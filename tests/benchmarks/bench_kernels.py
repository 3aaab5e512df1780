"""NNGP and NTK of depth 3 on 10,000 points in single precision, beside neural-tangents.

Everybody is a process of its own with one thread. neural-tangents 0.6.5 needs JAX 0.4.31, and so
an environment of its own.

    python tests/benchmarks/bench_kernels.py [PEERS_PYTHON] [--points 10000] [--out FILE]
"""

import argparse
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from contest import HERE, in_turns, measure
from table import grid, processor

CONTESTANTS = {
    "finitewidth: nngp_and_ntk": "finitewidth",
    "neural-tangents: jit": "jit",
    "neural-tangents: batch": "batch",
}
TEXT = """# NNGP and NTK of {points} points

Written by `make bench`: both kernels of fully connected networks with 3 hidden layers, on
{points} points of 784 dimensions, float32. Everybody has a process and one thread, and compiled
before; seconds are of process CPU time, medians of {rounds} rounds in which they took turns.
Memory is the peak of the process beyond the two matrices of {output:.0f} MiB. The error is the
largest one relative to √(K(x, x) K(x', x')), against double precision, on {side} points with near
copies and opposites among them.

{rows}

## The machine

{machine}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", nargs="?", default=sys.executable, help="has neural-tangents")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "KERNELS.md")
    chosen = parser.parse_args()
    output = 2 * 4 * chosen.points**2 / 2**20
    rows, versions = [], {}
    for activation in ("erf", "relu"):
        found = rounds(activation, chosen)
        base = found["finitewidth"]
        for title, name in CONTESTANTS.items():
            versions[title] = found[name][0].get("absence", found[name][0].get("version"))
            rows.append([activation, title, *cells(found[name], base, output)])
    head = ["", "", "CPU seconds", "times ours", "MiB beyond", "error"]
    lines = [f"- {processor()}", f"- Python {platform.python_version()}"]
    lines += [f"- {title}: {said}" for title, said in versions.items()]
    text = TEXT.format(
        points=chosen.points,
        rounds=chosen.rounds,
        output=output,
        side=400,
        rows=grid(head, rows),
        machine="\n".join(lines),
    )
    print(text)
    chosen.out.write_text(text)


def rounds(activation: str, chosen: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    with tempfile.TemporaryDirectory(prefix="bench") as folder:

        def run(name: str, _: int) -> dict[str, Any]:
            python = sys.executable if name == "finitewidth" else chosen.peers
            arguments = (name, activation, chosen.points, folder)
            return measure(python, "kernel_contestants.py", *arguments)

        return in_turns(CONTESTANTS.values(), chosen.rounds, run)


def cells(found: list[dict[str, Any]], base: list[dict[str, Any]], output: float) -> list[str]:
    if "absence" in found[0]:
        return ["absent"] * 4
    seconds = statistics.median(one["seconds"] for one in found)
    ratios = [one["seconds"] / ours["seconds"] for one, ours in zip(found, base, strict=True)]
    peak, error = (max(one[key] for one in found) for key in ("peak", "error"))
    return [
        f"{seconds:.2f}",
        f"{statistics.median(ratios):.2f}",
        f"{peak - output:.0f}",
        f"{error:.1e}",
    ]


if __name__ == "__main__":
    main()
