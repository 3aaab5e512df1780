"""Exact regression on 10,000 points beside a plain loop of factorizations and other libraries.

Everybody is a process of its own with one thread, one after another.

    python tests/benchmarks/bench_gpr.py [PEERS_PYTHON] [--points 10000] [--rounds 3] [--out FILE]
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from contest import HERE, measure
from table import grid, processor

DIMENSION = 784
MAKE = """
import sys
import numpy as np, torch
from theory.kernels import nngp
from workers.machine.node_cache import shared

points, test, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(0)
x = rng.standard_normal((points + test, 784)) / np.sqrt(np.arange(1, 785))
x *= np.sqrt(784 / (x**2).sum(axis=1, keepdims=True))
y = np.sign(x[:, 0] + 0.5 * x[:, 1] * x[:, 2] - 0.1)[:points]
order = rng.permutation(points)
settings = dict(depth=1, activation="erf", weight_variance=(1.0, 1.0), bias_variance=0.0)
x = torch.from_numpy(x)
kernel = nngp(x[:points], **settings).numpy()
save = lambda name, array: np.save(f"{folder}/{name}.npy", array)
shared("kernel", (points, points), np.float64, lambda values: np.copyto(values, kernel))
save("ordered", kernel[np.ix_(order, order)])
save("cross", nngp(x[points:], x[torch.from_numpy(order)], **settings).numpy())
save("test-diagonal", nngp(x[points:], **settings).diagonal().numpy().copy())
save("order", order)
save("y", y)
save("labels", y[order])
"""

LOOP = "scipy: a factorization for each size and ridge"
CURVES = {
    LOOP: "loop",
    "finitewidth: one factor for each ridge, double": "nested double",
    "finitewidth: one factor for each ridge, single, refined": "nested single",
}
ONE = {
    "scipy: cho_factor": "scipy",
    "finitewidth: posterior": "finitewidth",
    "scikit-learn: GaussianProcessRegressor": "scikit-learn",
    "GPyTorch: ExactGP, Cholesky": "gpytorch",
}
TEXT = """# Gaussian-process regression on {points} points

Written by `make bench`: the NNGP kernel of erf networks, its matrix at hand, on {points} points of
{dimension} dimensions and 1000 test points, in float64. Everybody has a process and one thread.
They took turns in {rounds} round{plural}: seconds are medians, of process CPU time, and ratios are
medians of the ratios within a round; peak memory is that of the process, with what it was given.
Errors are relative to scipy's, of all predictions of a size and ridge, the largest.

## Learning curves: 20 sizes up to {points}, ridges 0.1, 0.01, 0.001 and 0.00001

Predictions at the test points. Nested factors are those of theory.regression.learning_curve, which
read the kernel from the file that the workers of a machine share.

{curves}

## One training set, ridge 0.1: mean and variance at the test points

{one}

## The machine

{machine}
"""


def curve_table(folder: str, rounds: int) -> str:
    rows = []
    for spread in ("linear", "geometric"):
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(rounds):
            for title, name in CURVES.items():
                one = measure(sys.executable, "gpr_contestants.py", name, folder, spread)
                found.setdefault(title, []).append(told(f"{title}, {spread}", one))
        rows += [[title, spread, *cells(its, found[LOOP])] for title, its in found.items()]
    return grid(["", "sizes", "CPU seconds", "times faster", "peak MiB", "error"], rows)


def one_table(folder: str, peers: str, rounds: int, versions: dict[str, str]) -> str:
    found: dict[str, list[dict[str, Any]]] = {title: [] for title in ONE}
    for _ in range(rounds):
        for title, name in ONE.items():
            python = peers if name == "gpytorch" else sys.executable
            found[title].append(told(title, measure(python, "gpr_contestants.py", name, folder)))
    for title, its in found.items():
        versions[title] = its[0].get("absence", its[0].get("version", ""))
    first = found[next(iter(ONE))]
    rows = [[title, *cells(its, first)] for title, its in found.items()]
    return grid(["", "CPU seconds", "times faster", "peak MiB", "error"], rows)


def told(title: str, found: dict[str, Any]) -> dict[str, Any]:
    print(title, found, file=sys.stderr, flush=True)
    return found


def cells(found: list[dict[str, Any]], base: list[dict[str, Any]]) -> list[str]:
    """Seconds, how many times faster than the first contestant, memory and error."""
    if any("absence" in one for one in found):
        return ["absent"] * 4
    seconds = statistics.median(one["seconds"] for one in found)
    pairs = zip(base, found, strict=True)
    times = statistics.median(first["seconds"] / one["seconds"] for first, one in pairs)
    peak, error = (max(one.get(key) or 0.0 for one in found) for key in ("peak", "error"))
    return [f"{seconds:.1f}", f"{times:.2f}", f"{peak:.0f}", f"{error:.0e}" if error else "-"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", nargs="?", default=sys.executable, help="a Python with GPyTorch")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "GPR.md")
    chosen = parser.parse_args()
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        command = [sys.executable, "-c", MAKE, str(chosen.points), "1000", folder]
        subprocess.run(command, check=True, env=os.environ | {"XDG_CACHE_HOME": folder})
        curves = curve_table(folder, chosen.rounds)
        one = one_table(folder, chosen.peers, chosen.rounds, versions)
    lines = [f"- {processor()}", f"- Python {platform.python_version()}"]
    lines += [f"- {title}: {said}" for title, said in versions.items()]
    text = TEXT.format(
        points=chosen.points,
        dimension=DIMENSION,
        rounds=chosen.rounds,
        plural="s" * (chosen.rounds > 1),
        curves=curves,
        one=one,
        machine="\n".join(lines),
    )
    print(text)
    chosen.out.write_text(text)


if __name__ == "__main__":
    main()
