"""Exact regression on 10,000 points beside a plain loop of factorizations and other libraries.

Everybody is a process of its own with one thread, one after another.

    python tests/benchmarks/bench_gpr.py [PEERS_PYTHON] [--points 10000] [--out FILE]
"""

import argparse
import os
import platform
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
from workers.node_cache import shared

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
WHOLE = {
    "finitewidth: all that is stored, double": "curve double",
    "finitewidth: all that is stored, single": "curve single",
}
ONE = {
    "scipy: cho_factor": "scipy",
    "finitewidth: posterior": "finitewidth",
    "scikit-learn: GaussianProcessRegressor": "scikit-learn",
    "GPyTorch: ExactGP, Cholesky": "gpytorch",
}
TEXT = """# Gaussian-process regression on {points} points

Written by `bench_gpr.py`: the NNGP kernel of erf networks, its matrix at hand, on {points} points
of {dimension} dimensions and 1000 test points, in float64. Everybody has a process and one thread;
seconds are of process CPU time in a single run, peak memory is that of the process. Errors are
relative to scipy's, of all predictions of a size and ridge, the largest.

## Learning curves: 20 sizes up to {points}, ridges 0.1, 0.01, 0.001 and 0.00001

Predictions at the test points. Nested factors are those of theory.learning_curve, which read the
kernel from the file that the workers of a machine share. The last rows are a whole order of a
campaign: errors over the pool, evidence, and the posterior variance of every point of the pool.

{curves}

## One training set, ridge 0.1: mean and variance at the test points

{one}

## The machine

{machine}
"""


def curve_table(folder: str) -> str:
    rows, base = [], {}
    for title, name in (CURVES | WHOLE).items():
        for spread in ("linear", "geometric"):
            found = measure(sys.executable, "gpr_contestants.py", name, folder, spread)
            print(title, spread, found, file=sys.stderr, flush=True)
            if name == "loop":
                base[spread] = found["seconds"]
            ratio = base[spread] / found["seconds"] if name not in WHOLE.values() else None
            rows.append([title, spread, *cells(found, ratio)])
    return grid(["", "sizes", "CPU seconds", "times faster", "peak MiB", "error"], rows)


def one_table(folder: str, peers: str, versions: dict[str, str]) -> str:
    rows, base = [], 0.0
    for title, name in ONE.items():
        python = peers if name == "gpytorch" else sys.executable
        found = measure(python, "gpr_contestants.py", name, folder)
        print(title, found, file=sys.stderr, flush=True)
        versions[title] = found.get("absence", found.get("version", ""))
        base = base or found.get("seconds", 0.0)
        rows.append([title, *cells(found, base / found["seconds"] if "seconds" in found else None)])
    return grid(["", "CPU seconds", "times faster", "peak MiB", "error"], rows)


def cells(found: dict[str, Any], ratio: float | None) -> list[str]:
    if "absence" in found:
        return ["absent"] * 4
    error = f"{found['error']:.0e}" if found.get("error") else "-"
    times = f"{ratio:.2f}" if ratio else "-"
    return [f"{found['seconds']:.1f}", times, f"{found['peak']:.0f}", error]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", nargs="?", default=sys.executable, help="a Python with GPyTorch")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS_GPR.md")
    chosen = parser.parse_args()
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        command = [sys.executable, "-c", MAKE, str(chosen.points), "1000", folder]
        subprocess.run(command, check=True, env=os.environ | {"XDG_CACHE_HOME": folder})
        curves = curve_table(folder)
        one = one_table(folder, chosen.peers, versions)
    lines = [f"- {processor()}", f"- Python {platform.python_version()}"]
    lines += [f"- {title}: {said}" for title, said in versions.items()]
    text = TEXT.format(
        points=chosen.points,
        dimension=DIMENSION,
        curves=curves,
        one=one,
        machine="\n".join(lines),
    )
    print(text)
    chosen.out.write_text(text)


if __name__ == "__main__":
    main()
