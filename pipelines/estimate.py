"""What a run would cost, and the numbers that say which regime it is in; nothing is written."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pipelines import needs
from pipelines.engine import Prepared
from storage import schema
from storage.coordinates import physical_temperature
from storage.data_spec import number_of_inputs, number_of_test_points
from storage.errors import CampaignError
from storage.network_spec import ACTIVATIONS
from storage.plan import Cell, Plan, plan
from storage.schema import Variable, chunks, has_step_check
from storage.spec import Campaign
from storage.sweep import excluded_points
from theory.kernels import nngp
from workers.datasets import dataset, pool
from workers.models import network_of
from workers.networks import Model

FLOPS = 2e10  # of one core in the mix of products and elementwise work, single precision
TOO_MANY = 100_000  # objects in one store
PROFILE = 512  # training points from which the degrees of freedom are estimated at most


def estimate(prepared: Prepared) -> str:
    """The dry run in words: cells, shards, storage, work, and a line for each cell."""
    known = prepared.store
    stored = known.specs() if known.objects.names("specs") else []
    planned = plan(prepared.spec, stored, prepared.sources, known.rounds() if stored else ())
    finished = known.ledger.finished() if stored else set()
    shards = [shard.name for shard in planned.shards()]
    left = sum(name not in finished for name in shards)
    size, objects = storage_needs(planned)
    ensemble, regression = len(planned.cells), len(planned.regressions)
    more = f" and budget for {planned.room} more" if planned.room else ""
    excluded = excluded_points(prepared.spec)
    without = f"; {excluded} of the grid left out" if excluded else ""
    lines = [
        f"{prepared.spec.title or prepared.spec.name}",
        f"store    {known.url}",
        f"cells    {ensemble} of the ensemble{more}, {regression} of the regression{without}",
        f"shards   {len(shards)}, of which {len(shards) - left} are finished",
        f"storage  {_bytes(size)} before compression, {objects} objects",
    ]
    if planned.cells:
        block = max(_block_bytes(cell.spec, prepared) for cell in planned.cells)
        lines.append(f"memory   {_bytes(block)} per block of chains")
    part = f", {left / max(len(shards), 1):.0%} of it left" if shards else ""
    lines.append(f"work     {_seconds(_work(planned, prepared))}{part}")
    if objects > TOO_MANY:
        lines.append(f"warning  {objects} objects are many for a file system; use larger blocks")
    lines += [_cell_line(cell, prepared) for cell in planned.cells]
    for cell in planned.regressions:
        lines += _regression_lines(cell, prepared)
    lines += _memory_warning(prepared)
    return "\n".join(lines)


def _work(planned: Plan, prepared: Prepared) -> float:
    """Seconds of one core for all that is planned."""
    seconds = sum(_cell_flops(cell.spec, prepared) for cell in planned.cells) / FLOPS
    for cell in planned.regressions:
        assert cell.spec.regression is not None
        needed = needs.needs_of(cell.spec)
        each = needed.order.seconds + needed.quartic_seconds
        seconds += each * cell.spec.regression.repeats + needed.spectrum_seconds
    return seconds


def _memory_warning(prepared: Prepared) -> list[str]:
    """What would be refused on this machine, which need not be the one that runs."""
    try:
        needs.require(prepared.plan, workers=None)
    except CampaignError as error:
        return [f"warning  {error}"]
    return []


def storage_needs(planned: Plan) -> tuple[int, int]:
    """Bytes before compression and number of chunks and receipts of all arrays."""
    size, objects = 0, sum(1 for _ in planned.shards())
    for variables, sizes in _groups(planned):
        for variable in variables.values():
            length = math.prod(sizes[dim] for dim in variable.dims)
            size += length * _item_bytes(variable)
            objects += length // max(math.prod(chunks(variable, sizes, planned.spec)), 1)
    return size, objects


def _groups(planned: Plan) -> list[tuple[Mapping[str, Variable], Mapping[str, int]]]:
    groups: list[Any] = []
    if planned.cells:
        groups.append((schema.ensemble_variables(planned.spec), schema.ensemble_sizes(planned)))
    if planned.regressions:
        groups.append((schema.regression_variables(planned.spec), schema.regression_sizes(planned)))
    return groups


def _item_bytes(variable: Variable) -> int:
    return int(variable.dtype[1:])


def _inputs(spec: Campaign, prepared: Prepared) -> int:
    """Length of a point, by the data themselves where the spec does not say it."""
    inputs = number_of_inputs(spec.data)
    if inputs is None:
        return dataset(spec, 0, prepared.plugins, prepared.sources).x_train.shape[1]
    return inputs


def _network(spec: Campaign, prepared: Prepared) -> Model:
    """What a worker makes of the spec, which knows its own size."""
    return network_of(spec, _inputs(spec, prepared), prepared.plugins)


def _cell_flops(spec: Campaign, prepared: Prepared) -> float:
    """A step is a pass forward and two back, a draw one forward at all points."""
    ensemble, sampler = spec.ensemble, spec.sampler
    assert ensemble is not None
    assert sampler is not None
    chains = ensemble.datasets * ensemble.chains + ensemble.block * has_step_check(spec)
    steps = sampler.warmup + sampler.draws * sampler.thin
    per_draw = spec.data.train + number_of_test_points(spec.data) + spec.observe.points
    points = 3 * steps * spec.data.train + sampler.draws * per_draw
    return 2.0 * chains * points * _network(spec, prepared).products


def _block_bytes(spec: Campaign, prepared: Prepared) -> int:
    """Parameters in a few copies (position, momentum, gradient, noise), and what is seen of them.

    Pre-activations at the probe points are held as they come, sorted by layer, and once more as
    something is made of them; outputs and the data in double precision, too.
    """
    assert spec.ensemble is not None
    assert spec.sampler is not None
    item = 4 if spec.sampler.precision == "float32" else 8
    network, test = _network(spec, prepared), number_of_test_points(spec.data)
    chain = 6 * network.size + 3 * network.units * min(test, spec.observe.points)
    outputs = 3 * max(test, spec.data.train) * network.targets * 8
    data = _inputs(spec, prepared) * (test + spec.data.train) * (item + 8)
    return spec.ensemble.block * (item * chain + outputs) + data


def _cell_line(cell: Cell, prepared: Prepared) -> str:
    spec = cell.spec
    network, sampler = spec.network, spec.sampler
    assert network is not None
    assert sampler is not None
    settings = ", ".join(f"{path} {value}" for path, value in cell.settings.items()) or "one cell"
    temperature = physical_temperature(spec)
    variances = network.physical_weight_variance
    decay = ", ".join(f"{temperature / variance:.4g}" for variance in variances)
    line = (
        f"  {settings}: temperature {sampler.temperature:g} (physical {temperature:.4g}), "
        f"readout variance {network.weight_variance[-1]:g} (physical {variances[-1]:.4g}), "
        f"weight decay times fan-in {decay}, coupling U {_coupling(spec, prepared):.3g}"
    )
    return line + _freedom(cell, prepared)


def _coupling(spec: Campaign, prepared: Prepared) -> float:
    """U = n² σ_a² / (T² d N), the strength of feature learning, in physical units."""
    network = spec.network
    assert network is not None
    temperature, inputs = physical_temperature(spec), _inputs(spec, prepared)
    readout = network.physical_weight_variance[-1]
    return spec.data.train**2 * readout / (temperature**2 * inputs * network.width)


def _freedom(cell: Cell, prepared: Prepared) -> str:
    """dof/N = Tr K(K + T)^-1 / N, where the NNGP kernel is known."""
    network = cell.spec.network
    assert network is not None
    if network.architecture != "fcn" or network.activation not in ACTIVATIONS:
        return ""
    x = dataset(cell.spec, 0, prepared.plugins, prepared.sources).x_train
    if len(x) > PROFILE:
        return ""
    kernel = nngp(
        torch.as_tensor(x),
        depth=network.depth,
        activation=network.activation,
        weight_variance=network.physical_weight_variance,
        bias_variance=network.bias_variance,
    )
    values = torch.linalg.eigvalsh(kernel).clamp_min(0)
    freedom = float((values / (values + physical_temperature(cell.spec))).sum())
    return f", dof/N {freedom / network.width:.3g}"


def _regression_lines(cell: Cell, prepared: Prepared) -> list[str]:
    """Sizes and ridges, how they are computed, and what that takes."""
    regression = cell.spec.regression
    assert regression is not None
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
        f"    {_seconds(order.seconds)} and {_bytes(order.bytes)} an order, "
        f"{_seconds(needed.spectrum_seconds)} and {_bytes(needed.spectrum_bytes)} the spectrum, "
        f"{_bytes(needed.kernel_bytes)} the kernel of a machine",
    ]
    if needed.quartic_seconds:
        lines.append(f"    {_seconds(needed.quartic_seconds)} an order with a quartic loss")
    if needed.decimated_seconds:
        most = _seconds(needed.decimated_seconds)
        lines.append(f"    then {most} at most for theories with a decimated kernel")
    return lines


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


def _seconds(count: float) -> str:
    return f"about {count:.0f} core-seconds" if count >= 1 else "under a core-second"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
