"""NNGP and NTK of depth 3, by this project and by neural-tangents: see bench_kernels.py.

kernel_contestants.py NAME ACTIVATION POINTS FOLDER
"""

import importlib
import sys
from pathlib import Path

import numpy as np
from contest import peak, report, timed

DEPTH = 3
SIDE = 400  # points of the corner whose kernels are compared with double precision
VARIANCE = {"erf": 1.0, "relu": 2.0}


def finitewidth(activation: str, x: np.ndarray, folder: Path) -> None:
    import torch

    from theory.kernels.fully_connected import nngp_and_ntk

    torch.set_num_threads(1)
    settings = {
        "depth": DEPTH,
        "activation": activation,
        "weight_variance": [VARIANCE[activation]] * (DEPTH + 1),
        "bias_variance": 0.0,
    }
    nngp_and_ntk(torch.from_numpy(x[:1000]), **settings)
    found = []
    seconds = timed(lambda: found.extend(nngp_and_ntk(torch.from_numpy(x), **settings)))
    most = peak()
    exact = [kernel.numpy() for kernel in nngp_and_ntk(torch.from_numpy(corner(x)), **settings)]
    np.save(folder / f"{activation}.npy", np.stack(exact))
    error = off([kernel.numpy() for kernel in found], exact)
    report(["torch", "numpy"], seconds=seconds, error=error, peak=most)


def neural_tangents(activation: str, x: np.ndarray, folder: Path, batched: bool) -> None:
    jax = importlib.import_module("jax")  # in an environment of their own
    neural_tangents = importlib.import_module("neural_tangents")
    stax = neural_tangents.stax

    phi = stax.Erf() if activation == "erf" else stax.Relu()
    dense = stax.Dense(1, W_std=VARIANCE[activation] ** 0.5, b_std=None)
    *_, kernel = stax.serial(*[dense, phi] * DEPTH, dense)
    if batched:
        evaluate = neural_tangents.batch(kernel, batch_size=1000, store_on_device=False)
        call = lambda: evaluate(x, None, ("nngp", "ntk"))  # noqa: E731
    else:
        compiled = jax.jit(lambda x: kernel(x, None, ("nngp", "ntk")))
        call = lambda: compiled(x)  # noqa: E731
    jax.block_until_ready(call())  # compiles
    found = []
    seconds = timed(lambda: found.extend(jax.block_until_ready(call())))
    most = peak()
    error = off([np.asarray(part) for part in found], np.load(folder / f"{activation}.npy"))
    report(["neural-tangents", "jax"], seconds=seconds, error=error, peak=most)


def corner(x: np.ndarray) -> np.ndarray:
    return x[:SIDE].astype(np.float64)


def off(found, exact) -> float:
    """Largest error relative to √(K(x, x) K(x', x'))."""
    errors = []
    for kernel, wanted in zip(found, exact, strict=True):
        scale = np.sqrt(np.outer(wanted.diagonal(), wanted.diagonal()))
        errors.append(np.abs(kernel[:SIDE, :SIDE] - wanted) / scale)
    return float(np.max(errors))


def points(count: int) -> np.ndarray:
    """Inputs of 784 dimensions; the first come with near copies and opposites of themselves."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, 784)) / np.sqrt(np.arange(1, 785))
    x *= np.sqrt(784 / (x**2).sum(axis=1, keepdims=True))
    quarter = SIDE // 4
    x[quarter : 2 * quarter] = 1.3 * x[:quarter]
    x[2 * quarter : 3 * quarter] = x[:quarter] + 1e-3 * rng.standard_normal((quarter, 784))
    x[3 * quarter : SIDE] = -x[:quarter]
    return x.astype(np.float32)


if __name__ == "__main__":
    name, activation, count, folder = sys.argv[1:]
    x, place = points(int(count)), Path(folder)
    if name == "finitewidth":
        finitewidth(activation, x, place)
    else:
        neural_tangents(activation, x, place, batched=name == "batch")
