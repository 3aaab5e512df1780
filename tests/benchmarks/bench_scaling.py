"""The cost of a fused Langevin step as width, points, inputs and chains double: `make bench`.

    python tests/benchmarks/bench_scaling.py [--rounds 9] [--seconds 0.3] [--out FILE]

Around setting A, each is doubled twice while the others stay. The settings take turns, so that what
else the machine does meets all of them alike.
"""

import argparse
import math
import statistics
import time
from pathlib import Path

import numpy as np
from scipy.optimize import nnls
from settings import SETTINGS, Setting
from table import grid, processor
from torch_contestants import fused

HERE = Path(__file__).parent
FACTORS = (1, 2, 4)
BASE = SETTINGS["A"]
DOUBLED = {
    "width N": lambda factor: BASE._replace(widths=(factor * BASE.widths[0],)),
    "points P": lambda factor: BASE._replace(points=factor * BASE.points),
    "inputs d": lambda factor: BASE._replace(inputs=factor * BASE.inputs),
    "chains": lambda factor: BASE._replace(chains=factor * BASE.chains),
}
TERMS = {  # what a chain's step has so many of
    "α, each point, neuron and input": lambda s: s.points * s.widths[0] * s.inputs,
    "β, each point and neuron": lambda s: s.points * s.widths[0],
    "γ, each parameter": lambda s: s.widths[0] * (s.inputs + 1),
}
PAGE = """# What a Langevin step costs

Written by `make bench`. CPU time of one step of the unadjusted Langevin algorithm, noise and all,
of an ensemble of two-layer erf networks with the fused kernel, in one process and one thread.
Around setting A, {base},
each quantity is doubled twice while the others stay. The settings took turns in {rounds} rounds;
times are medians, and an exponent is the median over the rounds of log4(time at four times / time),
which is 1 where the cost is proportional.

{costs}

The inputs enter only the products with the weights, hence their exponent below 1. All {count} times
are those of

    chains · (α P N d + β P N + γ N (d + 1))

within {off} %, with these constants, the first of which is {rate:.0f} GF/s:

{constants}

Measured on {machine}."""


def measure(settings: list[Setting], rounds: int, seconds: float) -> dict[Setting, list[float]]:
    """CPU seconds of a step, by setting and round."""
    prepared = {setting: fused(setting) for setting in settings}
    steps, spent = {}, {setting: [] for setting in settings}
    for setting, chains in prepared.items():
        chains.run(1)
        steps[setting] = max(1, round(seconds / cost(chains.run, 1)))
    for _ in range(rounds):
        for setting, chains in prepared.items():
            spent[setting].append(cost(chains.run, steps[setting]))
    return spent


def cost(run, steps: int) -> float:
    """CPU seconds of a step, from so many."""
    began = time.process_time()
    run(steps)
    return (time.process_time() - began) / steps


def cost_table(spent: dict[Setting, list[float]]) -> str:
    """Milliseconds of a step and the exponent, for each quantity."""
    body = []
    for name, scaled in DOUBLED.items():
        rows = [spent[scaled(factor)] for factor in FACTORS]
        times = [f"{1e3 * statistics.median(row):.1f}" for row in rows]
        exponents = [math.log(t / s, FACTORS[-1]) for s, t in zip(rows[0], rows[-1], strict=True)]
        body.append([name, *times, f"{statistics.median(exponents):.2f}"])
    return grid(["ms", *(f"times {factor}" for factor in FACTORS), "exponent"], body)


def fit(spent: dict[Setting, list[float]]) -> tuple[np.ndarray, float]:
    """Seconds of each of TERMS, and the largest error relative to a time."""
    times = [statistics.median(row) / setting.chains for setting, row in spent.items()]
    terms = [[count(setting) for count in TERMS.values()] for setting in spent]
    shares = np.array(terms) / np.array(times)[:, None]
    constants, _ = nnls(shares, np.ones(len(times)))
    return constants, float(np.abs(shares @ constants - 1).max())


def main() -> None:
    """Measure, fit and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of CPU, for each measurement")
    parser.add_argument("--out", type=Path, default=HERE / "SCALING.md")
    chosen = parser.parse_args()
    scaled = [of(factor) for of in DOUBLED.values() for factor in FACTORS]
    spent = measure(list(dict.fromkeys(scaled)), chosen.rounds, chosen.seconds)
    constants, off = fit(spent)
    rows = [[name, f"{1e9 * value:.3g}"] for name, value in zip(TERMS, constants, strict=True)]
    text = PAGE.format(
        base=BASE.describe(),
        rounds=chosen.rounds,
        costs=cost_table(spent),
        count=len(spent),
        off=math.ceil(100 * off),
        rate=4e-9 / constants[0],
        constants=grid(["", "ns"], rows),
        machine=processor(),
    )
    print(text)
    chosen.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
