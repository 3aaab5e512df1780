"""Decimated regressions on the very points that the repeats of a regression drew.

One eigendecomposition of the pool's kernel serves all repeats, sizes and ridges of a cell: three
times the memory of the kernel (2.4 GB for 10,000 points), and as long as the spectrum itself took.
Then a regression costs about 3n²Λ products at each size n and ridge with Λ modes kept, and n³/3
with the whole kernel, from which it is told how far the mean predictors are apart. Repeats are
evaluated as far as `WORK` goes, and at least four of them, which a verdict needs.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from storage.campaign.plugins import Plugins
from storage.planning.identity import Sources
from storage.planning.plan import RegressionCell
from theory.regression.curve_methods import eigen_bytes
from theory.renormalization.decimation import (
    Decimated,
    PoolModes,
    decimated_regression,
    pool_modes,
    removed_variance,
    whole_prediction,
)
from theory.statistics import FEWEST_UNITS, jackknife_error
from workers.data.dataset import Pool
from workers.data.datasets import pool
from workers.machine import memory
from workers.models import nngp_of
from workers.regression.regression import draws

WORK = 3e12  # products of one cell: some minutes of two cores
SCALARS = ("pool_error", "train_error", "posterior_variance")

Arrays = dict[str, np.ndarray]


def repeats_within(repeats: Sequence[int], sizes: Sequence[float], kept: np.ndarray) -> list[int]:
    """The first repeats, as many as the work allows; kept Λ is (train, ridge)."""
    return list(repeats[: max(FEWEST_UNITS, int(WORK / products(sizes, kept)))])


def products(sizes: Sequence[float], kept: np.ndarray) -> float:
    """Of one repeat, with Λ modes kept, (train, ridge)."""
    n = np.asarray(sizes, dtype=np.float64)[:, None]
    few, many = np.minimum(n, kept), np.maximum(n, kept)
    return float((3 * few**2 * many + n**3 / 3).sum())


def decimated(
    cell: RegressionCell,
    repeats: Sequence[int],
    kept: np.ndarray,
    positions: Sequence[bool],
    plugins: Plugins,
    sources: Sources,
) -> list[Arrays]:
    """Regressions with the ridge T(Λ) or, if so asked, T(x), in the order of `positions`.

    kept is Λ, (train, ridge). Errors and learnabilities are (repeat, train, ridge[, mode]), the
    square distance of the mean predictor and the variation of v(x) (train, ridge). Raises
    CampaignError for lack of memory.
    """
    sizes, ridges = cell.spec.regression.train, cell.spec.regression.ridges
    memory.require(
        eigen_bytes(cell.spec.regression.pool),
        "a theory with a decimated kernel",
        "take a smaller pool, or leave rg_gpr and rg_gpr_position out",
    )
    points = pool(cell.spec, plugins, sources)
    modes, y = _modes(cell, points)
    x = torch.as_tensor(points.x, dtype=torch.float64)
    found = [_empty(len(repeats), kept.shape, len(y)) for _ in positions]
    drawn = [draws(cell, repeat, y, sources) for repeat in repeats]
    for place in np.ndindex(*kept.shape):
        size, ridge, count = sizes[place[0]], ridges[place[1]], int(kept[place])
        tail = removed_variance(modes, count)
        apart = torch.empty(len(positions), len(repeats), *y[:count].shape, dtype=torch.float64)
        for row, (order, labels) in enumerate(drawn):
            given = (modes, order[:size], labels[:size], ridge)
            kernel = nngp_of(cell.spec.kernel, x[order[:size]])
            whole = whole_prediction(modes, kernel, *given[1:], count)
            for which, position in enumerate(positions):
                made = decimated_regression(*given, count, tail if position else None)
                apart[which, row] = made.predicted[:count] - whole
                _put(found[which], (row, *place), made)
        for arrays, gaps in zip(found, apart, strict=True):
            square, error = _distance(gaps.numpy())
            arrays["distance_square"][place], arrays["distance_square_error"][place] = square, error
            arrays["variation"][place] = float(tail.std() / tail.mean()) if count < len(y) else 0.0
    return found


def _distance(gaps: np.ndarray) -> tuple[float, float]:
    """Mean square over the pool of what the mean of the predictors (repeat, mode[, output]) is off.

    Products of different repeats, so that their scatter does not count (the estimate may be below
    zero), and the jackknife error.
    """
    count, outputs = len(gaps), gaps[0, 0].size
    if count < 3:
        return np.nan, np.nan
    gaps = gaps.reshape(count, -1) / math.sqrt(outputs)
    total = gaps.sum(0)
    own, along = np.square(gaps).sum(1), gaps @ total
    square = float(total @ total - own.sum())
    rest = square - 2 * (along - own)
    left_out = rest / ((count - 1) * (count - 2))
    return square / (count * (count - 1)), float(jackknife_error(left_out))


def _empty(repeats: int, places: tuple[int, ...], points: int) -> Arrays:
    arrays: Arrays = {name: np.empty((repeats, *places)) for name in SCALARS}
    arrays["learnability"] = np.empty((repeats, *places, points), dtype=np.float32)
    for name in ("distance_square", "distance_square_error", "variation"):
        arrays[name] = np.empty(places)
    return arrays


def _put(arrays: Arrays, place: tuple[int, ...], made: Decimated) -> None:
    for name in (*SCALARS, "learnability"):
        arrays[name][place] = getattr(made, name).numpy()


def _modes(cell: RegressionCell, points: Pool) -> tuple[PoolModes, Tensor]:
    dtype = getattr(torch, cell.spec.regression.precision)
    y = torch.as_tensor(points.y)
    return pool_modes(nngp_of(cell.spec.kernel, torch.as_tensor(points.x, dtype=dtype)), y), y
