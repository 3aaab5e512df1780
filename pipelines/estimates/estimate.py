"""What a run would cost, and the numbers that say which regime it is in; nothing is written."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pipelines.engine import blocks, devices, needs
from pipelines.engine.engine import Prepared
from pipelines.estimates import gpus
from pipelines.estimates.costs import Costs, costs
from pipelines.estimates.speeds import Speeds
from pipelines.report.class_balance import planned_balance
from pipelines.report.table import physical_row, settings_row
from pipelines.text import columns
from pipelines.text.durations import about, duration
from pipelines.text.rounding import UNKNOWN, plain
from storage.arrays import schema
from storage.arrays.coordinates import physical_temperature
from storage.arrays.schema import Variable, chunks
from storage.campaign.messages import printable
from storage.campaign.network_spec import ACTIVATIONS
from storage.campaign.resolved import regressed
from storage.campaign.schemes import AUTO
from storage.planning.choosing import told
from storage.planning.identity import digest
from storage.planning.plan import EnsembleCell, Place, Plan, RegressionCell, plan
from storage.planning.sweep import excluded_points
from storage.reading.theory_rules import coverage
from storage.store import archive
from theory.kernels.fully_connected import nngp
from workers.data.datasets import dataset, pool
from workers.devices.placement import CUDA
from workers.machine.cores import available_cores

MANY_SHARDS = 1000  # shards of which it matters how long each takes
TOO_MANY_OBJECTS = 100_000  # objects in one store
TOO_LONG_TIME = 7 * 24 * 3600.0  # seconds
PROFILE = 512  # training points from which the degrees of freedom are estimated at most


def estimate(
    prepared: Prepared,
    every: bool = False,
    width: int | None = None,
    device: str = devices.AUTO,
) -> str:
    """The dry run in words: cells, shards, storage, time, and a table of the cells.

    The first few cells, or every one, in lines of a width. Raises CampaignError for what this
    machine has no memory for, and for a device other than that on which the campaign began.
    """
    known = prepared.store
    computed = archive.numerics(known.objects)
    device = devices.wanted(computed, device)
    on_gpu = device == CUDA
    blocks.require(prepared, None, device)
    stored = known.known()
    planned = prepared.plan
    if stored:
        planned = plan(prepared.spec, stored, prepared.sources, known.rounds())
    finished = planned.of(known.ledger.finished()) if stored else {}
    costing = costs(prepared, planned, Speeds())
    if on_gpu:
        costing = gpus.on_a_gpu(costing, prepared, planned)
    shards, done = sum(planned.work.values()), sum(finished.values())
    size, objects = storage_needs(planned)
    ensemble, regression = len(planned.cells), len(planned.regressions)
    more = f" and budget for {planned.room or 'no'} more" if prepared.spec.refine else ""
    excluded = excluded_points(prepared.spec)
    without = f"; {excluded} of the grid left out" if excluded else ""
    lines = [
        printable(prepared.spec.title or prepared.spec.name),
        f"store    {known.url}",
        f"cells    {ensemble} of the ensemble{more}, {regression} of the regression{without}",
        f"shards   {shards}, of which {done} are finished",
        f"storage  {_bytes(size)} before compression, {objects} objects",
        f"device   {devices.planned(computed, device)}",
    ]
    if prepared.spec.sampler is not None and prepared.spec.sampler.scheme == AUTO:
        lines += [f"scheme   {said}" for said in told([cell.spec for cell in planned.cells])]
    if planned.cells:
        block = max(blocks.block_of(cell.spec, prepared).total for cell in _each_size(planned))
        lines.append(f"memory   {_bytes(block)} per block of chains")
    of = "GPU" if on_gpu else "core"
    if on_gpu:
        lines += gpus.gpu_lines(costing, prepared, planned, finished)
    else:
        lines += _time_lines(costing, finished)
    if on_gpu or shards > MANY_SHARDS:
        lines += gpus.short_segments(costing, planned)
    lines += _room_warning(known.url, size)
    if objects > TOO_MANY_OBJECTS:
        lines.append(f"warning  {objects} objects are many for a file system; use larger blocks")
    lines += planned_balance(prepared, planned)
    lines += coverage(planned)
    if planned.cells:
        lines += ["", *_cell_lines(planned, prepared, costing, finished, every, width, of)]
    shown = planned.regressions[: None if every else columns.SHOWN_ROWS]
    paragraphs = dict.fromkeys(_regression_lines(cell, prepared, on_gpu) for cell in shown)
    return "\n".join([*lines, *paragraphs])  # cells that take the same are told of once


def _time_lines(costing: Costs, finished: Mapping[Place, int]) -> list[str]:
    """Of a run of all that is left, and of its parts."""
    cores = available_cores()
    work, wall = costing.total(finished, cores)
    of_what = " for what is left" if finished else ""
    parts = {"sampling and regression": costing.simulation(finished)} | dict(costing.stages)
    said = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
    lines = [
        f"time     {about(work)} of one core{of_what}, {duration(wall)} by the clock with "
        f"{cores} core{'s' * (cores > 1)}",
        f"         {said}; the rest to start",
    ]
    if wall > TOO_LONG_TIME:
        lines.append(f"warning  {duration(wall)} is long: fewer draws, chains or cells take less")
    return lines


def _room_warning(place: str, size: int) -> list[str]:
    """Where a folder has less room than numbers take before compression."""
    if "://" in place:
        return []
    folder = next(each for each in (Path(place), *Path(place).parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if size <= free:
        return []
    return [f"warning  {_bytes(size)} may not fit the {_bytes(free)} that are free in {folder}"]


def _each_size(planned: Plan) -> list[EnsembleCell]:
    """A cell of each size."""
    return list({blocks.size_key(cell.spec): cell for cell in planned.cells}.values())


def storage_needs(planned: Plan) -> tuple[int, int]:
    """Bytes before compression and number of chunks and receipts of all arrays."""
    size, objects = 0, sum(planned.work.values())
    for variables, sizes in _groups(planned):
        for variable in variables.values():
            length = math.prod(sizes[dim] for dim in variable.dims)
            size += length * _item_bytes(variable)
            objects += length // max(math.prod(chunks(variable, sizes, planned.spec)), 1)
    return size, objects


def _groups(planned: Plan) -> list[tuple[Mapping[str, Variable], Mapping[str, int]]]:
    groups: list[tuple[Mapping[str, Variable], Mapping[str, int]]] = []
    if planned.cells:
        groups.append((schema.ensemble_variables(planned.spec), schema.ensemble_sizes(planned)))
    if planned.regressions:
        groups.append(
            (schema.regression_variables(regressed(planned.spec)), schema.regression_sizes(planned))
        )
    return groups


def _item_bytes(variable: Variable) -> int:
    return int(variable.dtype[1:])


def _cell_lines(
    planned: Plan,
    prepared: Prepared,
    costing: Costs,
    finished: Mapping[Place, int],
    every: bool,
    width: int | None,
    of: str,
) -> list[str]:
    """A table: settings, physical numbers, coupling, degrees of freedom, and what a cell takes."""
    shown = planned.cells if every else planned.cells[: columns.SHOWN_ROWS]
    freedom = _Freedom(prepared)
    rows = []
    for cell in shown:
        row = settings_row(cell) | physical_row(cell)
        row |= {"U": plain(_coupling(cell, prepared), 3), "dof/N": freedom.of(cell)}
        seconds = shards = done = 0
        for kind in ("ensemble", "check"):
            place = (kind, cell.key)
            lanes = costing.lanes.get(place)
            seconds += lanes.seconds if lanes else 0
            shards, done = shards + planned.work.get(place, 0), done + finished.get(place, 0)
        row[f"{of} time"] = duration(seconds)
        if finished:
            row["finished"] = f"{done} of {shards}"
        rows.append(row)
    return columns.table(rows, len(planned.cells), width, keep={f"{of} time", "finished"})


def _coupling(cell: EnsembleCell, prepared: Prepared) -> float:
    """U = n² σ_a² / (T² d N), the strength of feature learning, in physical units."""
    spec, network = cell.spec, cell.spec.network
    temperature, inputs = physical_temperature(spec), blocks.inputs_of(spec, prepared)
    readout = network.physical_weight_variance[-1]
    return spec.data.train**2 * readout / (temperature**2 * inputs * network.width)


class _Freedom:
    """Degrees of freedom of cells; those that share data and kernel share its eigenvalues."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._known: dict[str, torch.Tensor] = {}

    def of(self, cell: EnsembleCell) -> str:
        """dof/N = Tr K(K + T)^-1 / N where the NNGP kernel is known, and of a few kernels alone."""
        network = cell.spec.network
        if network.architecture != "fcn" or network.activation not in ACTIVATIONS:
            return UNKNOWN
        if cell.spec.data.train > PROFILE:
            return UNKNOWN
        data = cell.spec.data.model_dump(mode="json")
        key = digest([data, network.model_dump(mode="json", exclude={"width"})])
        if key not in self._known and len(self._known) >= columns.SHOWN_ROWS:
            return UNKNOWN
        if key not in self._known:
            self._known[key] = self._eigenvalues(cell)
        values = self._known[key]
        freedom = float((values / (values + physical_temperature(cell.spec))).sum())
        return plain(freedom / network.width, 3)

    def _eigenvalues(self, cell: EnsembleCell) -> torch.Tensor:
        network, prepared = cell.spec.network, self._prepared
        x = dataset(cell.spec, 0, prepared.plugins, prepared.sources).x_train
        kernel = nngp(
            torch.as_tensor(x),
            depth=network.depth,
            activation=network.activation,
            weight_variance=network.physical_weight_variance,
            bias_variance=network.bias_variance,
        )
        return torch.linalg.eigvalsh(kernel).clamp_min(0)


def _regression_lines(cell: RegressionCell, prepared: Prepared, on_gpu: bool) -> str:
    """Sizes and ridges, how they are computed, and what that takes."""
    regression = cell.spec.regression
    points = len(pool(cell.spec, prepared.plugins, prepared.sources).x)
    largest, needed = max(regression.train), needs.needs_of(cell.spec)
    mark = (
        "; above 0.3 of the pool, where theories of the pool miss" if largest > 0.3 * points else ""
    )
    order = needed.order
    methods = ", ".join(
        f"{_WAYS[method]} for {', '.join(f'{ridge:g}' for ridge in ridges)}"
        for method, ridges in _by_method(order.methods, regression.ridges).items()
    )
    lines = [
        f"  regression: up to {largest} of {points} points{mark}, {regression.repeats} orders",
        f"    ridges by {methods}",
    ]
    lines += gpus.regression_lines(cell.spec) if on_gpu else [_of_cores(needed)]
    if needed.quartic_seconds:
        lines.append(f"    {duration(needed.quartic_seconds)} an order with a quartic loss")
    if needed.decimated_seconds:
        most = duration(needed.decimated_seconds)
        lines.append(f"    then {most} at most for theories with a decimated kernel")
    return "\n".join(lines)


def _of_cores(needed: needs.Needs) -> str:
    order, spectrum = needed.order, needed.spectrum_bytes
    return (
        f"    {duration(order.seconds)} and {_bytes(order.bytes)} an order, "
        f"{duration(needed.spectrum_seconds)} and {_bytes(spectrum)} the spectrum, "
        f"{_bytes(needed.kernel_bytes)} the kernel of a machine"
    )


_WAYS = {
    "double": "one Cholesky factor of all sizes",
    "single": "one Cholesky factor of all sizes in single precision, refined in double",
    "spectrum": "one eigendecomposition of each size",
}


def _by_method(methods: Sequence[str], ridges: Sequence[float]) -> dict[str, list[float]]:
    return {
        method: [ridge for ridge, its in zip(ridges, methods, strict=True) if its == method]
        for method in dict.fromkeys(methods)
    }


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
