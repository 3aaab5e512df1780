"""The order parameter Q of kernel scaling, by this project and by deepbays: see bench_features.py.

kernel_scale_contestants.py NAME POINTS WIDTH SEED
"""

import importlib
import sys
from unittest.mock import MagicMock

import numpy as np
from contest import report, timed

INPUTS = 50
TEMPERATURE = 0.1
VARIANCE = (1.0, 2.0)  # σ_w², σ_a²
UNUSED = ("torchvision", "torchvision.transforms", "cupy", "cupy.cuda")  # deepbays imports them


def finitewidth(x: np.ndarray, y: np.ndarray, width: int) -> float:
    import torch

    from theory.finite_width.kernel_scaling import kernel_scale
    from theory.kernels.fully_connected import nngp

    settings = {"depth": 1, "activation": "erf", "weight_variance": VARIANCE, "bias_variance": 0.0}
    kernel = nngp(torch.from_numpy(x), **settings)
    found = kernel_scale(kernel, torch.from_numpy(y), TEMPERATURE, torch.tensor([width]))
    return float(found.scale)


def deepbays(x: np.ndarray, y: np.ndarray, width: int) -> float:
    sys.modules.update(dict.fromkeys(UNUSED, MagicMock()))
    package = importlib.import_module("deepbays")  # in an environment of its own
    precisions = [1 / variance for variance in VARIANCE]
    model = package.RKGP(L=1, width=width, D=1, T=TEMPERATURE, priors=precisions, act="erf")
    model.preprocess(x, y)
    model.optimize()
    return float(model.optQ)


def dataset(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """y = He_1 - 0.05 He_3 of one direction."""
    x = np.random.default_rng(seed).standard_normal((count, INPUTS))
    z = x[:, 0]
    return x, z - 0.05 * (z**3 - 3 * z)


CONTESTANTS = {
    "finitewidth": (finitewidth, ["torch"]),
    "deepbays": (deepbays, ["deepbays", "numpy", "scipy"]),
}

if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    points, width, seed = map(int, numbers)
    solve, packages = CONTESTANTS[name]
    solve(*dataset(points // 10, seed), width)  # imports, and starts what is started once
    x, y = dataset(points, seed)
    found = []
    seconds = timed(lambda: found.append(solve(x, y, width)))
    report(packages, seconds=seconds, scale=found[0])
