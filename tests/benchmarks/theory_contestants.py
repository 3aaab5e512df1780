"""Theory curves of one spectrum, and the eigendecomposition behind it: see bench_theories.py.

theory_contestants.py eigen FOLDER POINTS | theory_contestants.py curves FOLDER MODES
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from contest import report, timed
from gpr_contestants import RIDGES, sizes
from kernel_contestants import points
from torch import Tensor

from theory.kernels.fully_connected import nngp
from theory.renormalization import rg
from theory.spectrum import learning_curves as spectrum
from theory.spectrum.quartic import quartic_regression

COUPLING = 0.1  # of the quartic loss
LEARNABILITY = 0.01  # least of a mode that decimation keeps


def eigen(folder: Path, count: int) -> None:
    """Spectrum and target coefficients of a pool of so many points."""
    x = points(count).astype(np.float64)
    y = torch.from_numpy(np.sign(x[:, 0] + 0.5 * x[:, 1] * x[:, 2] - 0.1))
    settings = {"depth": 1, "activation": "erf", "weight_variance": (1.0, 1.0)}
    kernel = nngp(torch.from_numpy(x), **settings, bias_variance=0.0)
    found = []
    seconds = timed(lambda: found.extend(spectrum.pool_spectrum(kernel, y)))
    np.save(folder / "eigenvalues.npy", found[0].numpy())
    np.save(folder / "power.npy", found[1].square().numpy())
    report(["scipy", "numpy"], seconds=seconds)


def treatments(values: Tensor, power: Tensor) -> dict[str, Callable[[], object]]:
    """Every theory of the dataset average, at all sizes and ridges at once."""
    train = torch.tensor(sizes(len(values), "linear"), dtype=torch.float64)[:, None]
    ridge = torch.tensor(RIDGES, dtype=torch.float64)
    given = (values, power, train, ridge)

    def decimated(theory: Callable[..., object]) -> object:
        return theory(*given, rg.cutoff(values, train, ridge, learnability=LEARNABILITY))

    return {
        "effective ridge": lambda: spectrum.learning_curve(*given),
        "equivalent kernel": lambda: spectrum.equivalent_kernel(*given),
        "equivalent kernel to next order": lambda: spectrum.equivalent_kernel_next_order(*given),
        "rg_ridge, with its cutoff": lambda: decimated(rg.rg_ridge),
        "rg_ek, with its cutoff": lambda: decimated(rg.rg_ek),
        "hard and soft flow of T(Λ)": lambda: (
            rg.hard_flow(values, ridge),
            rg.soft_flow(values, train, ridge),
        ),
        "quartic loss": lambda: quartic_regression(*given, COUPLING),
    }


def curves(folder: Path, modes: int) -> None:
    """CPU seconds of each treatment; where the spectrum has fewer modes, each counts several."""
    torch.set_num_threads(1)
    stored = (np.load(folder / f"{name}.npy") for name in ("eigenvalues", "power"))
    values, power = (
        torch.from_numpy(np.repeat(part, modes // len(part)) / (modes // len(part)))
        for part in stored
    )
    found = {name: timed(work) for name, work in treatments(values, power).items()}
    report(["torch"], seconds=found)


if __name__ == "__main__":
    name, folder, count = sys.argv[1:]
    {"eigen": eigen, "curves": curves}[name](Path(folder), int(count))
