"""What the regressions of a campaign need of a machine, checked before anything is computed.

The numerical modules are imported where they are used: a campaign without a regression needs none.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from storage.campaign.regression_spec import DECIMATED_THEORIES
from storage.campaign.resolved import Regressed
from storage.errors import CampaignError
from storage.planning.plan import Plan, RegressionCell
from workers.data.dataset import Pool
from workers.machine.cores import available_cores

if TYPE_CHECKING:
    from theory.regression.curve_methods import Choice

SAMPLE = 4  # points of a pool, none of them zero, that tell how large its kernel is


@dataclass(frozen=True)
class Needs:
    """Of one regression: each of its orders and its spectrum are shards."""

    order: "Choice"
    quartic_seconds: float  # of one core, for each order
    spectrum_seconds: float
    decimated_seconds: float  # at most, of the theories with a decimated kernel
    spectrum_bytes: int
    kernel_bytes: int  # of a file that all workers of a machine map
    heldout_bytes: int  # of the kernel with points outside the pool, which each worker has

    def total(self, workers: int, repeats: int) -> int:
        """Bytes of memory with so many workers side by side."""
        side_by_side = min(workers, repeats)
        largest = max(self.order.bytes, self.spectrum_bytes)
        own = largest + (side_by_side - 1) * self.order.bytes
        return self.kernel_bytes + own + side_by_side * self.heldout_bytes


def needs_of(spec: Regressed) -> Needs:
    """What the regression of a resolved spec needs."""
    from theory.regression.curve_methods import eigen_bytes, eigen_seconds
    from workers.regression.regression import choice

    points = spec.regression.pool
    item = np.dtype(spec.regression.precision).itemsize
    return Needs(
        order=choice(spec),
        quartic_seconds=_quartic_seconds(spec),
        spectrum_seconds=eigen_seconds(points),
        decimated_seconds=_decimated_seconds(spec),
        spectrum_bytes=eigen_bytes(points),
        kernel_bytes=item * points**2,
        heldout_bytes=8 * points * _heldout(spec),
    )


def _heldout(spec: Regressed) -> int:
    """How many points outside the pool are predicted."""
    return spec.data.heldout_points if "heldout" in spec.regression.evaluate else 0


def _quartic_seconds(spec: Regressed) -> float:
    from theory.regression.curve_methods import quartic_seconds
    from workers.regression.quartic import LEAPS

    if (asked := spec.regression.quartic) is None:
        return 0.0
    runs = len(spec.regression.ridges) * len(asked.couplings)
    steps = asked.warmup + asked.draws
    return runs * quartic_seconds(spec.regression.train, asked.chains, steps, LEAPS)


def _decimated_seconds(spec: Regressed) -> float:
    """With all modes kept, which is more than any cutoff makes of it."""
    from theory.regression.curve_methods import eigen_seconds, products_seconds
    from workers.regression.decimated import products, repeats_within

    regression = spec.regression
    wanted = sum(theory in DECIMATED_THEORIES for theory in spec.theories)
    if not wanted:
        return 0.0
    kept = np.full((len(regression.train), len(regression.ridges)), regression.pool)
    repeats = len(repeats_within(range(regression.repeats), regression.train, kept))
    each = products_seconds(products(regression.train, kept))
    return eigen_seconds(regression.pool) + wanted * repeats * each


def require(planned: Plan, workers: int | None) -> None:
    """Raise CampaignError where memory, or room for the kernel's file, would not suffice here.

    By default there are as many workers as cores.
    """
    for cell in planned.regressions:
        if cell.identity in planned.current:
            _require(cell.spec, workers or available_cores())


def _require(spec: Regressed, workers: int) -> None:
    from workers.machine import memory, node_cache

    needs, points = needs_of(spec), spec.regression.pool
    memory.require(
        needs.total(workers, spec.regression.repeats),
        f"regression of a pool of {points} points with {workers} worker{'s' * (workers > 1)}",
        "take a smaller pool"
        + " or fewer held-out points (data.test)" * (needs.heldout_bytes > needs.kernel_bytes)
        + " or fewer --workers" * (workers > 1),
    )
    place = node_cache.folder()
    free = shutil.disk_usage(_existing(place)).free
    if needs.kernel_bytes > free:
        raise CampaignError(
            f"the kernel of a pool of {points} points takes {needs.kernel_bytes / 1e9:.1f} GB of "
            f"{place}, where {free / 1e9:.1f} GB are free; make room, or name another folder in "
            "XDG_CACHE_HOME"
        )


def check_kernel(cell: RegressionCell, points: Pool) -> None:
    """Raise CampaignError for a kernel of zero or beyond all numbers, or a ridge it swallows."""
    regression = cell.spec.regression
    squares = np.einsum("nd,nd->n", points.x, points.x)
    largest = int(squares.argmax())
    size = _kernel_at(cell.spec, points, largest)  # it grows with |x|²
    if not 0 < size < float("inf"):
        raise CampaignError(
            f"regression: the kernel is {size:g} at the largest point of the pool, "
            f"{points.origins[0].name(largest)}; wanted a finite number above 0: look at the data "
            "and at weight_variance"
        )
    some = np.flatnonzero(squares)[:SAMPLE].tolist() or [largest]
    size = max(_kernel_at(cell.spec, points, point) for point in some)
    lost = max(regression.train) * float(np.finfo(regression.precision).eps) * size
    if min(regression.ridges) <= lost:
        raise CampaignError(
            f"regression.ridges: {min(regression.ridges):g} is lost in the {regression.precision} "
            f"rounding of a kernel of size {size:.2g} on {max(regression.train)} points; give more "
            f"than {lost:.1g}" + ", or precision: float64" * (regression.precision == "float32")
        )


def _kernel_at(spec: Regressed, points: Pool, point: int) -> float:
    """K(x, x) in the precision of the regression."""
    import torch

    from workers.models import nngp_of

    dtype = getattr(torch, spec.regression.precision)
    try:
        return float(nngp_of(spec.kernel, torch.as_tensor(points.x[[point]], dtype=dtype)))
    except ValueError as error:
        raise CampaignError(f"regression: {error}") from None


def _existing(place: Path) -> Path:
    """The folder, or the one above it that is there already."""
    return place if place.exists() else _existing(place.parent)
