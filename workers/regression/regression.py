"""One shard of a regression: the spectrum of its kernel, or one order with all sizes and ridges."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storage.campaign.plugins import Plugins
from storage.campaign.resolved import Regressed, regressed
from storage.campaign.spec import Campaign
from storage.errors import CampaignError
from storage.planning.identity import (
    Sources,
    digest,
    regression_identity,
    seed_of,
)
from storage.planning.plan import Cell, Shard
from theory.numerics import device_linear
from theory.numerics.eigen import leading
from theory.regression.curve_methods import Choice, choose, eigen_bytes
from theory.regression.learning_curve import Heldout, learning_curve
from theory.regression.on_device import Tell, unheard
from theory.spectrum.learning_curves import pool_spectrum
from workers import numerics
from workers.data.balance import class_counts, stored_counts
from workers.data.dataset import Pool
from workers.data.datasets import pool
from workers.devices.placement import CPU, TORCH, Placement
from workers.machine import memory, node_cache
from workers.machine.node_cache import SharedArray
from workers.models import nngp_of
from workers.philox import Noise, integers, permutation
from workers.regression.quartic import quartic_curve

Arrays = dict[str, np.ndarray]

ORDER, LABELS = 0, 1  # streams of a repeat's randomness
MODES = 128  # leading kernel modes whose learnability is measured; NaN beyond
SMALLER = "take a smaller pool, or fewer workers"


@dataclass(frozen=True)
class Problem:
    """What all shards of a regression have in common."""

    points: Pool
    kernel: SharedArray | Tensor  # (pool, pool); on a device there
    modes: np.ndarray  # (pool, mode): unit vectors, leading first
    heldout: Heldout | None

    @property
    def whole(self) -> Tensor:
        """The kernel as a tensor, wherever it is."""
        return self.kernel if isinstance(self.kernel, Tensor) else torch.from_numpy(self.values)

    @property
    def values(self) -> np.ndarray:
        """The kernel on the CPU."""
        return self.kernel.cpu().numpy() if isinstance(self.kernel, Tensor) else self.kernel.values


def spectrum(
    shard: Shard,
    plugins: Plugins,
    sources: Sources,
    placement: Placement = CPU,
    tell: Tell = unheard,
) -> Arrays:
    """Eigenvalues of K/M over the pool of M points, and the target's coefficients.

    `tell` hears of what a device got wrong and the CPU did again. Raises CampaignError for a kernel
    that is not positive semi-definite, and for lack of memory.
    """
    problem = _problem(shard.cell, plugins, sources, placement)
    if placement.device == CPU.device:
        memory.require(eigen_bytes(len(problem.points.x)), shard.name, SMALLER)
    kernel = problem.whole
    try:
        found = pool_spectrum(kernel, torch.as_tensor(problem.points.y).to(kernel.device), tell)
    except ValueError as error:
        raise CampaignError(f"{shard.name}: {error}") from None
    names = {"eigenvalue": found.eigenvalues, "coefficient": found.coefficients}
    values = {name: value.cpu().numpy() for name, value in names.items()}
    if shard.cell.spec.data.may_have_classes:
        targets = {"pool": problem.points.y, "heldout": problem.points.y_heldout}
        values |= stored_counts(targets, shard.cell.spec.data.class_targets)
    return values


def run(
    shard: Shard,
    plugins: Plugins,
    sources: Sources,
    placement: Placement = CPU,
    tell: Tell = unheard,
) -> Arrays:
    """Regression on one random order of the pool, for every size and ridge.

    A regression that failed is nan, and `refused` says why. `tell` hears of what a device got wrong
    and the CPU did again. Raises CampaignError for lack of memory.
    """
    spec = shard.regressed
    chosen = choice(spec)
    problem = _problem(shard.cell, plugins, sources, placement)
    if placement.device == CPU.device:
        memory.require(chosen.bytes, shard.name, SMALLER)
    kernel = problem.kernel
    curve = learning_curve(
        kernel if isinstance(kernel, Tensor) else kernel.panels,
        torch.as_tensor(problem.points.y),
        _order(shard, sources),
        spec.regression.train,
        spec.regression.ridges,
        label_noise=_label_noise(shard, sources),
        heldout=problem.heldout,
        modes=torch.from_numpy(problem.modes),
        classes=_classes(spec, problem.points),
        methods=chosen.methods,
        tell=tell,
    )
    learnability = np.full((*curve.pool_error.shape, len(problem.points.x)), np.nan)
    learnability[..., : problem.modes.shape[1]] = curve.learnability.numpy()
    values = {
        "train_error": curve.train_error,
        "posterior_variance": curve.posterior_variance,
        "log_evidence": curve.log_evidence,
        "residual": curve.residual,
        "refused": curve.refused,
    }
    if "pool" in spec.regression.evaluate:
        values["pool_error"] = curve.pool_error
    if "heldout" in spec.regression.evaluate:
        values["test_error"] = curve.heldout_error
    if spec.data.may_have_classes:
        found = {"pool": curve.pool_accuracy, "heldout": curve.heldout_accuracy}
        names = {"pool": "pool_accuracy", "heldout": "test_accuracy"}
        values |= {names[where]: found[where] for where in spec.regression.evaluate}
    arrays = {name: value.numpy() for name, value in values.items()}
    return arrays | {"learnability": learnability} | _quartic(shard, problem, sources)


def _classes(spec: Campaign, points: Pool) -> Tensor | None:
    """The targets of the classes, (class, output); None where targets are no classes."""
    if not spec.data.may_have_classes:
        return None
    targets = {"pool": points.y, "heldout": points.y_heldout}
    found = class_counts(targets, spec.data.class_targets)
    return None if found is None else torch.as_tensor(found[0]).reshape(len(found[0]), -1)


def _quartic(shard: Shard, problem: Problem, sources: Sources) -> Arrays:
    """The same points with a quartic term in the loss, where the spec asks for it."""
    regression = shard.regressed.regression
    if (asked := regression.quartic) is None:
        return {}
    y = torch.as_tensor(problem.points.y)
    order, labels = draws(shard.cell, shard.repeat, y, sources)
    return quartic_curve(
        problem.values,
        y,
        order,
        labels,
        regression.train,
        regression.ridges,
        asked.couplings,
        seed=_seed(shard, sources),
        chains=asked.chains,
        warmup=asked.warmup,
        draws=asked.draws,
    )


def choice(spec: Regressed) -> Choice:
    """How the orders of a regression are computed, and what one of them costs."""
    regression = spec.regression
    return choose(
        regression.pool,
        regression.train,
        regression.ridges,
        scale=spec.kernel.physical_weight_variance[-1],
        replacement=regression.sampling == "with_replacement",
        outputs=spec.data.number_of_outputs,
        modes=min(MODES, regression.pool),
    )


def draws(cell: Cell, repeat: int, y: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
    """The points that a repeat draws from the pool, and their labels, from its targets y."""
    shard = Shard("regression", cell, repeat=repeat)
    order = _order(shard, sources)[: max(shard.regressed.regression.train)]
    noise = _label_noise(shard, sources)
    return order, y[order] if noise is None else y[order] + noise


def forget(cells: Sequence[Cell]) -> None:
    """Take the files of regressions off this machine."""
    _problems.clear()
    node_cache.remove([name for cell in cells for name in _names(cell)])


def _problem(cell: Cell, plugins: Plugins, sources: Sources, placement: Placement) -> Problem:
    """The pool, its kernel and the kernel's leading modes; kept from one repeat to the next."""
    key = (cell.identity, plugins, placement.device)
    if (known := _problems.get(key)) is not None:
        return known
    _problems.clear()
    spec = regressed(cell.spec)
    points = pool(spec, plugins, sources)
    if placement.device == CPU.device:
        kernel = _shared_kernel(cell, points)
        modes = _shared_modes(cell, kernel).values
    else:
        kernel = nngp_of(spec.kernel, _inputs(spec, points, placement))
        modes = device_linear.leading(kernel.double(), min(MODES, len(points.x)))
    made = Problem(points, kernel, modes, _heldout(points, spec, placement))
    _problems[key] = made
    return made


_problems: dict[tuple[str, Plugins, str], Problem] = {}  # at most one


def _inputs(spec: Regressed, points: Pool, placement: Placement) -> Tensor:
    """The pool on a device, in the precision of the kernel."""
    dtype = getattr(torch, spec.regression.precision)
    return torch.as_tensor(points.x, dtype=dtype, device=placement.device)


def _shared_kernel(cell: Cell, points: Pool) -> SharedArray:
    spec = regressed(cell.spec)
    dtype = np.dtype(spec.regression.precision)

    def make(values: NDArray[np.floating]) -> None:
        x, out = torch.from_numpy(points.x.astype(dtype)), torch.from_numpy(values)
        found = nngp_of(spec.kernel, x, out=out)
        if found is not out:
            out.copy_(found)

    return node_cache.shared(_names(cell)[0], (len(points.x), len(points.x)), dtype, make)


def _shared_modes(cell: Cell, kernel: SharedArray) -> SharedArray:
    points = len(kernel.values)
    shape = points, min(MODES, points)

    def make(values: NDArray[np.floating]) -> None:
        values[...] = leading(kernel.values.astype(np.float64, copy=False), shape[1])

    return node_cache.shared(_names(cell)[1], shape, np.float64, make)


def _names(cell: Cell) -> tuple[str, str]:
    """Of the files of a kernel and of its modes; they name all that decides their bits."""
    name = digest([cell.identity, numerics.describe(backend=TORCH)])[:32]
    return f"{name}-kernel", f"{name}-modes"


def _heldout(points: Pool, spec: Regressed, placement: Placement) -> Heldout | None:
    """Points outside the pool, where the source gives them; otherwise those that are not drawn."""
    if "heldout" not in spec.regression.evaluate or not len(points.x_heldout):
        return None
    outside, inside = (torch.as_tensor(x) for x in (points.x_heldout, points.x))
    device = placement.device
    kernel = nngp_of(spec.kernel, outside.to(device), inside.to(device))
    return Heldout(kernel, torch.as_tensor(points.y_heldout))


def _order(shard: Shard, sources: Sources) -> Tensor:
    """The random order of this repeat: smaller training sets are prefixes of larger ones."""
    regression = shard.regressed.regression
    seed = _seed(shard, sources)
    if regression.sampling == "without":
        return permutation(seed, ORDER, regression.pool)
    return integers(seed, ORDER, max(regression.train), regression.pool)


def _label_noise(shard: Shard, sources: Sources) -> Tensor | None:
    spec = shard.regressed
    if not spec.data.label_noise:
        return None
    noise = Noise(_seed(shard, sources), [0], LABELS).at(0)
    outputs = spec.data.number_of_outputs
    shape = (max(spec.regression.train), *((outputs,) if outputs > 1 else ()))
    return noise(shape, torch.float64)[0] * spec.data.label_noise**0.5


def _seed(shard: Shard, sources: Sources) -> int:
    spec = shard.regressed
    return seed_of(spec.regression.seed, "repeat", regression_identity(spec, sources), shard.repeat)
