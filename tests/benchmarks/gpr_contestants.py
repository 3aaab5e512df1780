"""Gaussian-process regression by this project and by others: see bench_gpr.py.

gpr_contestants.py NAME FOLDER [linear|geometric]
"""

import importlib
import os
import sys
from pathlib import Path

import numpy as np
from contest import report, timed

RIDGES = (1e-1, 1e-2, 1e-3, 1e-5)
RIDGE = 0.1
TEST = 1000  # points
SIZES = 20


def sizes(points: int, grid: str) -> list[int]:
    spread = np.linspace(points / SIZES, points, SIZES)
    if grid == "geometric":
        spread = np.geomspace(points / 100, points, SIZES)
    return [round(size) for size in spread]


def read(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / f"{name}.npy")


def scipy_loop(folder: Path, grid: str) -> None:
    """A factorization for each size and ridge."""
    from scipy.linalg import cho_factor, cho_solve

    kernel, cross, y = (read(folder, name) for name in ("ordered", "cross", "labels"))
    found = np.empty((SIZES, len(RIDGES), TEST))

    def work() -> None:
        for i, size in enumerate(sizes(len(y), grid)):
            for j, ridge in enumerate(RIDGES):
                matrix = np.array(kernel[:size, :size].T, order="F")
                matrix[np.diag_indices(size)] += ridge
                factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
                weights = cho_solve(factor, y[:size], check_finite=False)
                found[i, j] = cross[:, :size] @ weights

    seconds = timed(work)
    np.save(folder / f"scipy-{grid}.npy", found)
    report(["scipy", "numpy"], seconds=seconds)


def nested(folder: Path, grid: str, dtype: type) -> None:
    """The factors and refinement of theory.regression.learning_curve, for the same predictions."""
    from theory.regression.nested import factors
    from theory.regression.pool import Pool
    from theory.regression.refinement import fitted

    order, cross, y = (read(folder, name) for name in ("order", "cross", "labels"))
    pool, found = Pool(mapped(folder, len(y)), len(y), order), np.empty((SIZES, len(RIDGES), TEST))

    def work() -> None:
        wanted = sizes(len(y), grid)
        for j, factor in enumerate(factors(pool, wanted, RIDGES, dtype)):
            found[:, j] = (cross @ fitted(factor, y[:, None]).weights[:, :, 0]).T

    seconds = timed(work)
    exact = read(folder, f"scipy-{grid}")
    off = np.linalg.norm(found - exact, axis=2) / np.linalg.norm(exact, axis=2)
    report(["scipy", "numpy"], seconds=seconds, error=float(off.max()))


def mapped(folder: Path, points: int):
    """The pool's kernel as the workers of a machine share it."""
    from workers.machine.node_cache import shared

    os.environ["XDG_CACHE_HOME"] = str(folder)

    def make(_: np.ndarray) -> None:
        raise RuntimeError("the kernel should be there")

    return shared("kernel", (points, points), np.float64, make).panels


def one(folder: Path, name: str) -> None:
    """Mean and variance at the test points, of one training set and one ridge."""
    kernel, cross, y = (read(folder, part) for part in ("ordered", "cross", "labels"))
    diagonal = read(folder, "test-diagonal")
    build = {"scipy": one_scipy, "finitewidth": one_finitewidth, "scikit-learn": one_sklearn}
    work, packages = (build | {"gpytorch": one_gpytorch})[name](kernel, cross, diagonal, y)
    found: list[np.ndarray] = []
    seconds = timed(lambda: found.extend(work()))
    exact = folder / "one.npy"
    if name == "scipy":
        np.save(exact, np.stack(found))
    off = np.linalg.norm(np.stack(found) - np.load(exact)) / np.linalg.norm(np.load(exact))
    report(packages, seconds=seconds, error=float(off))


def one_scipy(kernel, cross, diagonal, y):
    from scipy.linalg import cho_factor, cho_solve, solve_triangular

    def work():
        matrix = np.array(kernel.T, order="F")
        matrix[np.diag_indices(len(y))] += RIDGE
        factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        weights = cho_solve(factor, y, check_finite=False)
        white = solve_triangular(factor[0], cross.T, lower=True, check_finite=False)
        return cross @ weights, diagonal - np.square(white).sum(axis=0)

    return work, ["scipy", "numpy"]


def one_finitewidth(kernel, cross, diagonal, y):
    import torch

    from theory.regression.exact import posterior

    torch.set_num_threads(1)
    arguments = [torch.from_numpy(array) for array in (kernel, cross, diagonal, y)]

    def work():
        return (part.numpy() for part in posterior(*arguments, RIDGE))

    return work, ["scipy", "torch"]


def one_sklearn(kernel, cross, diagonal, y):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Kernel

    class Known(Kernel):
        """The matrices at hand, whatever the points."""

        def __init__(self):
            pass

        def __call__(self, X, Y=None, eval_gradient=False):
            return kernel.copy() if Y is None else cross

        def diag(self, X):
            return diagonal.copy()

        def is_stationary(self):
            return False

    def work():
        model = GaussianProcessRegressor(Known(), alpha=RIDGE, optimizer=None, copy_X_train=False)
        model.fit(np.arange(len(y))[:, None], y)
        mean, deviation = model.predict(np.arange(len(cross))[:, None], return_std=True)
        return mean, deviation**2

    return work, ["scikit-learn", "scipy"]


def one_gpytorch(kernel, cross, diagonal, y):
    gpytorch = importlib.import_module("gpytorch")  # in an environment of its own
    import torch

    torch.set_num_threads(1)
    right = np.concatenate([cross.T, np.diag(diagonal)])
    known = torch.from_numpy(np.concatenate([np.concatenate([kernel, cross]), right], axis=1))

    class Known(gpytorch.kernels.Kernel):
        def forward(self, x1, x2, diag=False, **_):
            rows, columns = x1[:, 0].long(), x2[:, 0].long()
            return known[rows, columns] if diag else known[rows][:, columns]

    class Model(gpytorch.models.ExactGP):
        def __init__(self, x, y, likelihood):
            super().__init__(x, y, likelihood)
            self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), Known()

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(
                self.mean_module(x), self.covar_module(x)
            )

    def work():
        likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
        likelihood.noise = RIDGE
        places = torch.arange(len(known), dtype=torch.float64)[:, None]
        model = Model(places[: len(y)], torch.from_numpy(y), likelihood).double().eval()
        plain = gpytorch.settings.fast_computations(False, False, False)
        with torch.no_grad(), plain, gpytorch.settings.max_cholesky_size(10**6):
            found = model(places[len(y) :])
            return found.mean.numpy(), found.variance.numpy()

    return work, ["gpytorch", "torch"]


def main(name: str, folder: Path, grid: str = "") -> None:
    match name:
        case "loop":
            scipy_loop(folder, grid)
        case "nested double":
            nested(folder, grid, np.float64)
        case "nested single":
            nested(folder, grid, np.float32)
        case _:
            one(folder, name)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
