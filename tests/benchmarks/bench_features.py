"""Time to solve the theories of feature learning, in CPU seconds; writes FEATURES.md.

    python bench_features.py [PEERS_PYTHON] [--rounds 3]

A thousand single-index cells at once, and networks of one and of two hidden layers on 1000 points,
for which no other package has a solver: the line below them is one Cholesky factor of the same
1000 points, the least that regression on them costs. The order parameter of kernel scaling is found
by deepbays, too, each of the two in a process of its own with one thread.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from contest import in_turns, measure
from table import grid, median_ratio, processor

from theory.activations.neurons import quasi_normals
from theory.finite_width.adaptive import adaptive_kernel
from theory.finite_width.equations_of_state import equations_of_state
from theory.finite_width.variational_gaussian import variational_gaussian
from theory.single_index.gaussian_index import gaussian_features
from theory.single_index.order_parameter import order_parameter
from theory.single_index.problems import abs_target, hermite_target, problem

CELLS, POINTS, INPUTS, WIDTH = 1000, 1000, 50, 1000
RESULTS = Path(__file__).parent / "FEATURES.md"
GRID = torch.logspace(-1.5, 0, CELLS, dtype=torch.float64)  # temperatures
TEXT = """# Solving theories of feature learning

Written by `make bench`: CPU seconds on one thread, medians of {rounds} interleaved rounds. No other
package has a solver of these; the last line is the least that exact regression on the same points
costs.

{solved}

## Kernel scaling beside deepbays

The order parameter Q of erf networks with one hidden layer of width {width}, from {points} points,
with the kernel that it takes. Everybody has a process and one thread, and another dataset in each
round; seconds are of process CPU time, medians of {rounds} rounds in which they took turns, and
ratios are medians of those within a round. The last column is the largest relative difference of Q.

{scaling}

## The machine

{machine}
"""


def erf_cells():
    """From the prior's kernel through the transition at T = 0.18."""
    target = hermite_target({1: 1.0, 3: -0.3}, (1, 3))
    return problem(
        "erf", target, dimension=150.0, width=700.0, weight_variance=0.5,
        readout_variance=8 / 700, train=3000.0, temperature=GRID,
    )  # fmt: skip


def relu_cells():
    """With the even part that skewness learns."""
    return problem(
        "relu", abs_target(0.3), dimension=96.0, width=750.0, weight_variance=1.0,
        readout_variance=8 / 750, train=384.0, temperature=GRID,
    )  # fmt: skip


def dataset():
    """y = He_1 - 0.05 He_3 of one direction."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(POINTS, INPUTS, generator=generator, dtype=torch.float64)
    z = x[:, 0]
    return x, z - 0.05 * (z**3 - 3 * z)


def contestants() -> dict[str, Callable[[], object]]:
    """What is solved, by its line in the table."""
    x, y = dataset()
    two = {"activation": "erf", "weight_variance": (0.5, 0.008), "bias_variance": 0.0}
    normals = quasi_normals(8192, INPUTS, 0)
    kernel = torch.exp(-torch.cdist(x, x)) + 0.1 * torch.eye(POINTS, dtype=torch.float64)
    erf, relu = erf_cells(), relu_cells()
    return {
        f"S(q), {CELLS} cells, erf": lambda: order_parameter(erf, "effective"),
        f"S(q), {CELLS} cells, relu": lambda: order_parameter(relu, "effective"),
        f"Gaussian features, {CELLS} cells, erf": lambda: gaussian_features(erf, "effective"),
        f"adaptive kernel, {POINTS} points, one hidden layer": lambda: adaptive_kernel(
            x, y, 0.1, WIDTH, normals, force="cavity", **two
        ),
        f"Gaussian neurons, {POINTS} points, one hidden layer": lambda: variational_gaussian(
            x, y, 0.1, WIDTH, **two
        ),
        f"equations of state, {POINTS} points, two hidden layers": lambda: equations_of_state(
            x, y, 0.1, [WIDTH, WIDTH], activation="erf",
            weight_variance=(1.0, 1.0, 1.0), bias_variance=0.0,
        ),
        f"one Cholesky factor, {POINTS} points": lambda: torch.linalg.cholesky(kernel),
    }  # fmt: skip


def solved(rounds: int) -> str:
    """The table of what is solved in this process."""
    field = contestants()
    spent: dict[str, list[float]] = {name: [] for name in field}
    for _ in range(rounds):
        for name, solve in field.items():
            start = time.process_time()
            solve()
            spent[name].append(time.process_time() - start)
    rows = [[name, f"{statistics.median(times):.3g}"] for name, times in spent.items()]
    return grid(["solved", "CPU seconds"], rows)


def scaling(peers: str, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """What the two who find Q say of each round; somebody who is absent says so once."""

    def run(name: str, seed: int) -> dict[str, Any]:
        python = sys.executable if name == "finitewidth" else peers
        return measure(python, "kernel_scale_contestants.py", name, POINTS, WIDTH, seed)

    return in_turns(["finitewidth", "deepbays"], rounds, run)


def scaling_row(title: str, its: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[str]:
    """CPU seconds, their ratio to ours, and how far Q is from ours."""
    if "absence" in its[0]:
        return [title, *["absent"] * 3]
    seconds, base = ([one["seconds"] for one in each] for each in (its, ours))
    scales = [(one["scale"], mine["scale"]) for one, mine in zip(its, ours, strict=True)]
    off = max(abs(theirs / mine - 1) for theirs, mine in scales)
    ratio = median_ratio(seconds, base)
    return [title, f"{statistics.median(seconds):.3g}", f"{ratio:.1f}", f"{off:.0e}"]


def main() -> None:
    """Measure in turns, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", nargs="?", default=sys.executable, help="has deepbays")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = scaling(chosen.peers, chosen.rounds)
    rows = [scaling_row(title, its, found["finitewidth"]) for title, its in found.items()]
    said = {title: its[0].get("absence", its[0].get("version")) for title, its in found.items()}
    text = TEXT.format(
        rounds=chosen.rounds,
        solved=solved(chosen.rounds),
        width=WIDTH,
        points=POINTS,
        scaling=grid(["", "CPU seconds", "times ours", "difference"], rows),
        machine="\n".join(
            [f"- {processor()}", *(f"- {title}: {what}" for title, what in said.items())]
        ),
    )
    print(text)
    chosen.out.write_text(text)


if __name__ == "__main__":
    main()
