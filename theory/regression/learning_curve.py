"""Measured learning curves: exact regression on the first points of one order of a pool."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from theory.accuracy import right_class
from theory.regression import nested, spectral
from theory.regression.on_device import (
    DevicePool,
    Tell,
    nested_factors,
    pool_on,
    spectral_factors,
    times,
    unheard,
)
from theory.regression.pool import Array, Panels, Places, Pool, panels_of
from theory.regression.refinement import ACCEPTED_RESIDUAL, TRUSTED_RESIDUAL, Factor, Fit, fitted
from theory.words import check_word

# How (K + T)⁻¹ is found: a Cholesky factor of all sizes of one ridge, in double or, with the error
# of rounding taken from the weights afterwards, in single precision; or an eigendecomposition of
# each size for all ridges.
Method = Literal["double", "single", "spectrum"]

REFUSED = {"accepted": 0, "indefinite": 1, "inaccurate": 2}


class LearningCurve(NamedTuple):
    """Errors of one order of the pool at each (size, ridge): mean squares over points and outputs.

    Pool and held-out errors are against the targets without noise; the training error is against
    the labels as they were drawn. Where a regression was refused everything is nan.
    """

    pool_error: Tensor
    heldout_error: Tensor  # nan if there is no held-out point
    pool_accuracy: Tensor  # nan where targets are no classes
    heldout_accuracy: Tensor
    train_error: Tensor
    posterior_variance: Tensor  # of the latent function, mean over the pool
    log_evidence: Tensor
    residual: Tensor  # |y - (K + T)α| / |y|
    refused: Tensor  # REFUSED: K + T not positive definite to rounding, or a residual too large
    learnability: Tensor  # (sizes, ridges, mode)


class Heldout(NamedTuple):
    """Points outside the pool: their kernel with the pool (held out, M), their targets."""

    kernel: Tensor
    y: Tensor


def learning_curve(
    kernel: Tensor | Panels,
    y: Tensor,
    order: Tensor,
    sizes: Sequence[int],
    ridges: Sequence[float],
    *,
    label_noise: Tensor | None = None,
    heldout: Heldout | None = None,
    modes: Tensor | None = None,
    classes: Tensor | None = None,
    methods: Sequence[Method] = (),
    tell: Tell = unheard,
) -> LearningCurve:
    """Regression on the first points of one order of a pool, for every size and ridge.

    kernel is that of the pool, (M, M), or a function that goes through its rows: an iterator of
    (slice, float64 array). One on a device is worked with there, in double precision whatever the
    methods; `tell` hears of what was done again on the CPU. y are the targets without noise, (M,)
    or (M, outputs). `order` names the
    points drawn, one after another; a point may be drawn more than once. `label_noise` is added to
    the labels of the draws: (draws,) or (draws, outputs). Held out are the points given as such,
    or else those of the pool that were not drawn. `modes` are unit vectors over the pool,
    (M, mode), and the learnability of v is that of a target v: vᵀK*(K + T)⁻¹v restricted to the
    drawn points. `classes` (class, outputs) are the targets that there are, where they are classes:
    the accuracy is the share of points that are predicted nearest to their own. `methods` name one
    Method for each ridge ("spectrum" for all or none), "double" by default; a regression for which
    single precision does not suffice is done in double. The results are (sizes, ridges), float64.
    Raises ValueError for a ridge that is negative or not finite, and for shapes and sizes that do
    not fit.
    """
    chosen: list[Method] = list(methods) or ["double" for _ in ridges]
    _check(kernel, y, order, sizes, ridges, label_noise, chosen)
    distinct = sorted(set(sizes))
    task = _Task(kernel, y, order[: distinct[-1]], label_noise, heldout, modes, classes)
    found = _Table(task, distinct, list(dict.fromkeys(ridges)))
    wanted = dict(zip(ridges, chosen, strict=True))
    for method in get_args(Method):
        some = [ridge for ridge, its in wanted.items() if its == method]
        if some:
            _fill(found, distinct, some, method, tell)
    return found.curve(sizes, ridges)


class _Task:
    """What all regressions of a learning curve have in common, as arrays."""

    def __init__(
        self,
        kernel: Tensor | Panels,
        y: Tensor,
        order: Tensor,
        label_noise: Tensor | None,
        heldout: Heldout | None,
        modes: Tensor | None,
        classes: Tensor | None,
    ) -> None:
        self.targets = _columns(y)
        self.pool = _pool(kernel, order.cpu().numpy(), len(self.targets))
        self.labels = self.targets[self.pool.order]
        if label_noise is not None:
            self.labels = self.labels + _columns(label_noise)[: len(self.labels)]
        self.heldout = None if heldout is None else (_rows(heldout.kernel), _columns(heldout.y))
        self.classes = None if classes is None else classes.double()
        self.modes = np.empty((len(self.targets), 0)) if modes is None else _array(modes)
        self.projected = self.pool.times_points(self.modes)  # Kv at every point


def _pool(kernel: Tensor | Panels, order: Places, points: int) -> Pool:
    """On the device of the kernel, if it lies on one."""
    if not isinstance(kernel, Tensor):
        return Pool(kernel, points, order)
    if kernel.device.type != "cpu":
        return pool_on(kernel, order)
    return Pool(panels_of(_array(kernel)), points, order)


class _Table:
    """The results, by distinct size and ridge, filled as they are found."""

    def __init__(self, task: _Task, sizes: Sequence[int], ridges: Sequence[float]) -> None:
        self.task = task
        self._row = {size: place for place, size in enumerate(sizes)}
        self._column = {ridge: place for place, ridge in enumerate(ridges)}
        shape = (len(sizes), len(ridges))
        self._values: dict[str, np.ndarray] = {
            name: np.full(shape, np.nan) for name in LearningCurve._fields if name != "learnability"
        }
        self._values["refused"] = np.full(shape, REFUSED["indefinite"], dtype=np.uint8)
        self._values["learnability"] = np.full((*shape, task.modes.shape[1]), np.nan)

    def record(self, factor: Factor, values: dict[str, Array]) -> None:
        """Values of the sound columns of a factor."""
        rows = [self._row[size] for size in factor.sizes[factor.sound].tolist()]
        columns = [self._column[ridge] for ridge in factor.ridges[factor.sound].tolist()]
        for name, value in values.items():
            self._values[name][rows, columns] = value[factor.sound]

    def curve(self, sizes: Sequence[int], ridges: Sequence[float]) -> LearningCurve:
        """In the order in which sizes and ridges were asked for."""
        places = np.ix_([self._row[size] for size in sizes], [self._column[r] for r in ridges])
        return LearningCurve._make(
            torch.as_tensor(self._values[name][places]) for name in LearningCurve._fields
        )


def _fill(
    table: _Table, sizes: Sequence[int], ridges: Sequence[float], method: Method, tell: Tell
) -> None:
    """Regressions of increasing sizes; what one way cannot do is left to another."""
    for ridge, count in _try(table, sizes, ridges, method, tell).items():
        if count:
            _fill(table, sizes[:count], [ridge], "double", tell)


def _try(
    table: _Table, sizes: Sequence[int], ridges: Sequence[float], method: Method, tell: Tell
) -> dict[float, int]:
    """Fill in what works; ridges that need another factor, and how many of the sizes it is for."""
    left: dict[float, int] = {}
    factors = _factors(table.task.pool, sizes, ridges, method, tell)
    for place, factor in enumerate(factors, start=1):
        usable = method == "spectrum" or bool(factor.sound.all())
        fit = fitted(factor, table.task.labels) if usable else None
        if method == "single" and (
            fit is None or not (fit.first_residual <= TRUSTED_RESIDUAL).all()
        ):
            left[float(factor.ridges[0])] = len(sizes)
        elif fit is None:
            left[float(factor.ridges[0])] = int(factor.sound.sum())
        else:
            table.record(factor, _measured(factor, fit, table.task))
            if method == "spectrum":  # a factor is one size of all ridges
                missed = factor.ridges[~(fit.residual <= ACCEPTED_RESIDUAL)]
                left |= dict.fromkeys(missed.tolist(), place)
    return left


def _factors(
    pool: Pool, sizes: Sequence[int], ridges: Sequence[float], method: Method, tell: Tell
) -> Iterator[Factor]:
    if isinstance(pool, DevicePool):
        made = spectral_factors if method == "spectrum" else nested_factors
        return made(pool, sizes, ridges, tell)
    drawn = Pool(pool.panels, pool.points, pool.order[: sizes[-1]])
    if method == "spectrum":
        return spectral.factors(drawn, sizes, ridges)
    return nested.factors(drawn, sizes, ridges, np.float32 if method == "single" else np.float64)


def _measured(factor: Factor, fit: Fit, task: _Task) -> dict[str, Array]:
    """What is stored of a fit, by column."""
    sizes, outputs = factor.sizes, task.labels.shape[1]
    labels = task.labels[: len(fit.weights)]
    refused = np.where(
        fit.residual <= ACCEPTED_RESIDUAL, REFUSED["accepted"], REFUSED["inaccurate"]
    )
    missed = np.square(fit.predicted - task.targets[:, None, :]).sum(axis=2)  # (M, column)
    evidence = np.einsum("no,nco->c", labels, fit.weights) + outputs * (
        factor.log_determinant() + sizes * math.log(2 * math.pi)
    )
    train = np.square(factor.ridges[:, None] * fit.weights).sum(axis=(0, 2)) / (sizes * outputs)
    order = factor.pool.order
    learned = factor.products(task.projected[order], task.modes[order])
    named = _right(fit.predicted, task.targets, task.classes)
    values = {
        "pool_error": missed.mean(axis=0) / outputs,
        "pool_accuracy": named.mean(axis=0),
        **_heldout(factor, fit, task, missed / outputs, named),
        "train_error": train,
        "log_evidence": -evidence / 2,
        "learnability": learned,
        "posterior_variance": np.maximum(factor.variance(), 0) / task.pool.points,
    }
    bad = refused != REFUSED["accepted"]
    for value in values.values():
        value[bad] = np.nan
    return values | {"residual": fit.residual, "refused": refused}


def _right(predicted: Array, targets: Array, classes: Tensor | None) -> Array:
    """Whether the class of a point is predicted, (point, column); nan where there are no classes.

    Predicted is (point, column, output), targets (point, output).
    """
    if classes is None:
        return np.full(predicted.shape[:2], np.nan)
    own = torch.from_numpy(targets)
    columns = [
        right_class(torch.from_numpy(some), own, classes) for some in predicted.swapaxes(0, 1)
    ]
    return torch.stack(columns, 1).double().numpy()


def _heldout(
    factor: Factor, fit: Fit, task: _Task, missed: Array, named: Array
) -> dict[str, Array]:
    """Error and accuracy at points held out, by column."""
    if task.heldout is None:
        rest = factor.pool.first[:, None] >= factor.sizes
        count = rest.sum(axis=0)
        return {
            name: np.where(count, (values * rest).sum(axis=0), np.nan) / np.maximum(count, 1)
            for name, values in (("heldout_error", missed), ("heldout_accuracy", named))
        }
    kernel, y = task.heldout
    spread = np.zeros((task.pool.points, fit.weights[0].size))
    np.add.at(spread, factor.pool.order, fit.weights.reshape(len(fit.weights), -1))
    predicted = times(kernel, spread).reshape(len(kernel), *fit.weights.shape[1:])
    return {
        "heldout_error": np.square(predicted - y[:, None, :]).mean(axis=(0, 2)),
        "heldout_accuracy": _right(predicted, y, task.classes).mean(axis=0),
    }


def _rows(kernel: Tensor) -> Array | Tensor:
    """At home, or on its device."""
    return _array(kernel) if kernel.device.type == "cpu" else kernel.double()


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()


def _columns(y: Tensor) -> Array:
    return _array(y).reshape(len(y), -1)


def _check(
    kernel: Tensor | Panels,
    y: Tensor,
    order: Tensor,
    sizes: Sequence[int],
    ridges: Sequence[float],
    label_noise: Tensor | None,
    methods: Sequence[Method],
) -> None:
    if isinstance(kernel, Tensor) and kernel.shape != (len(y), len(y)):
        raise ValueError(
            f"kernel is {tuple(kernel.shape)} for {len(y)} targets; give that of the whole pool"
        )
    if not 1 <= min(sizes) <= max(sizes) <= len(order):
        raise ValueError(
            f"sizes run from {min(sizes)} to {max(sizes)} with {len(order)} points in the order; "
            "give sizes from 1 to the length of the order"
        )
    if label_noise is not None and len(label_noise) < max(sizes):
        raise ValueError(
            f"label noise for {len(label_noise)} draws; give it for all {max(sizes)} draws"
        )
    for ridge in ridges:
        if not 0 <= ridge < math.inf:
            raise ValueError(f"ridge is {ridge:g}; give a finite number, zero or positive")
    for method in methods:
        check_word("method", method, get_args(Method))
    if len(methods) != len(ridges):
        raise ValueError(
            f"methods are {', '.join(methods)} for {len(ridges)} ridges; give one for each"
        )
