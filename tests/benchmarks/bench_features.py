"""Time to solve the theories of feature learning, in CPU seconds; writes FEATURES.md.

    python bench_features.py [--rounds 3]

A thousand single-index cells at once, and networks of one and of two hidden layers on 1000 points,
for which no other package has a solver: the table beside them is one Cholesky factor of the same
1000 points, the least that regression on them costs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from table import processor

from theory.adaptive import adaptive_kernel
from theory.equations_of_state import equations_of_state
from theory.gaussian_index import gaussian_features
from theory.neurons import quasi_normals
from theory.order_parameter import order_parameter
from theory.single_index import abs_target, hermite_target, problem
from theory.variational_gaussian import variational_gaussian

CELLS, POINTS, INPUTS, WIDTH = 1000, 1000, 50, 1000
RESULTS = Path(__file__).parent / "FEATURES.md"
GRID = torch.logspace(-1.5, 0, CELLS, dtype=torch.float64)  # temperatures


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


def main() -> None:
    """Measure in turns, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    field = contestants()
    spent: dict[str, list[float]] = {name: [] for name in field}
    for _ in range(rounds):
        for name, solve in field.items():
            start = time.process_time()
            solve()
            spent[name].append(time.process_time() - start)
    lines = [
        "# Solving theories of feature learning",
        "",
        f"Written by `make bench`: CPU seconds on one thread, medians of {rounds} interleaved "
        "rounds. No other package has a solver of these; the last line is the least that exact "
        "regression on the same points costs.",
        "",
        "| solved | CPU seconds |",
        "| --- | ---: |",
        *(f"| {name} | {statistics.median(times):.3g} |" for name, times in spent.items()),
        "",
        f"{processor()}, torch {torch.__version__}, one thread.",
    ]
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
