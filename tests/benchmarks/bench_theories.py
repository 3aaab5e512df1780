"""All theory curves of one spectrum of 10,000 modes, beside the eigendecomposition it comes from.

Everybody is a process of its own with one thread; the eigendecomposition is made once.

    python tests/benchmarks/bench_theories.py [--points 10000] [--decomposed 10000] [--rounds 3]
"""

import argparse
import platform
import statistics
import sys
import tempfile
from pathlib import Path

from contest import HERE, measure
from gpr_contestants import SIZES
from table import grid, processor

TEXT = """# Theories of a learning curve

Written by `make bench`: every treatment of the dataset average, at {sizes} sizes up to {points} and
ridges 0.1, 0.01, 0.001 and 0.00001, from the spectrum of {points} modes of the NNGP kernel of erf
networks. Everybody has a process and one thread; seconds are of process CPU time, medians of
{rounds} rounds. The eigendecomposition of the kernel, which all of them need, was made once{how}.

{rows}

## The machine

{machine}
"""

HOW = """ of
{points} points: its {seconds:.1f} seconds are scaled with the cube of their number, and each of its
modes stands for several"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--decomposed", type=int, help="points; by default as many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "THEORIES.md")
    chosen = parser.parse_args()
    fewer = chosen.decomposed or chosen.points
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        script = "theory_contestants.py"
        eigen = measure(sys.executable, script, "eigen", folder, fewer)
        print(eigen, file=sys.stderr, flush=True)
        rounds = [
            measure(sys.executable, script, "curves", folder, chosen.points)
            for _ in range(chosen.rounds)
        ]
    whole = eigen["seconds"] * (chosen.points / fewer) ** 3
    found = {
        name: statistics.median(one["seconds"][name] for one in rounds)
        for name in rounds[0]["seconds"]
    }
    found["all of them"] = statistics.median(sum(one["seconds"].values()) for one in rounds)
    rows = [
        [name, f"{seconds:.3f}", f"{100 * seconds / whole:.3f} %"]
        for name, seconds in found.items()
    ]
    rows.append(["eigendecomposition", f"{whole:.1f}", "100 %"])
    lines = [
        f"- {processor()}",
        f"- Python {platform.python_version()}",
        f"- theories: {rounds[0]['version']}; eigendecomposition: {eigen['version']}",
        f"- peak memory: theories {max(one['peak'] for one in rounds):.0f} MiB, "
        f"eigendecomposition {eigen['peak']:.0f} MiB",
    ]
    text = TEXT.format(
        sizes=SIZES,
        points=chosen.points,
        rounds=chosen.rounds,
        how=HOW.format(points=fewer, seconds=eigen["seconds"]) if fewer < chosen.points else "",
        rows=grid(["", "CPU seconds", "of the eigendecomposition"], rows),
        machine="\n".join(lines),
    )
    print(text)
    chosen.out.write_text(text)


if __name__ == "__main__":
    main()
