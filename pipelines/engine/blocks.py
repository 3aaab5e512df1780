"""What a block of chains needs of a machine, told by its sizes before anything is computed."""

from typing import NamedTuple

from pipelines.engine import needs
from pipelines.engine.engine import Prepared
from storage.campaign.resolved import Sampled, regressed, sampled
from storage.campaign.spec import Campaign, is_trajectory
from storage.planning.identity import digest
from storage.planning.plan import Plan
from workers.data.datasets import dataset, pool
from workers.devices.placement import CPU
from workers.machine import memory
from workers.machine.cores import available_cores
from workers.models import network_of
from workers.networks.networks import Model
from workers.samplers.trajectory import NETWORKS

SHARD = 500  # bytes by which the driver remembers one
_inputs: dict[tuple[str, str], int] = {}


class Block(NamedTuple):
    """Bytes that a worker holds for a block of chains."""

    chains: int  # parameters in a few copies (position, momentum, gradient, noise), and outputs
    draws: int  # what is kept of each draw until the end of a segment
    data: int  # the points, in the precision of the chains and in double

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def require(prepared: Prepared, workers: int | None, device: str = CPU.device) -> None:
    """Raise CampaignError where memory, or room for a kernel's file, would not suffice here.

    By default there are as many workers as cores. On a GPU kernels take its memory alone.
    """
    planned = prepared.plan
    shards = sum(planned.work.values())
    memory.require(
        shards * SHARD,
        f"keeping track of {shards} shards",
        "take larger blocks (ensemble.block) and segments (sampler.segment), or fewer of them",
    )
    if planned.cells:
        _require_block(prepared, planned, workers or available_cores())
    if device == CPU.device:
        needs.require(planned, workers)


def _require_block(prepared: Prepared, planned: Plan, workers: int) -> None:
    blocks = {size_key(cell.spec): cell.spec for cell in planned.cells}
    largest = max((block_of(spec, prepared) for spec in blocks.values()), key=lambda b: b.total)
    sampler = sampled(planned.spec).sampler
    segments = 1 + sampler.draws // sampler.segment
    lanes = sum(planned.work.values()) // segments
    at_once = min(workers, max(lanes, 1))
    advice = {
        "chains": "fewer chains in a block (ensemble.block) or a smaller network",
        "draws": "shorter segments (sampler.segment) or fewer observe.points",
        "data": "fewer points (data.train, data.test)",
    }
    most = max(Block._fields, key=lambda part: getattr(largest, part))
    memory.require(
        at_once * largest.total,
        f"a block of chains with {at_once} worker{'s' * (at_once > 1)}",
        f"take {advice[most]}" + " or fewer --workers" * (at_once > 1),
    )


def block_of(spec: Sampled, prepared: Prepared) -> Block:
    """What a worker holds for a block of a resolved cell."""
    item = 4 if spec.sampler.precision == "float32" else 8
    network, test = model_of(spec, prepared), spec.data.test_points
    probes = min(test, spec.observe.points)
    chains = spec.ensemble.block
    replicas, copies = chains * (1 + len(spec.sampler.ladder)), 6
    if is_trajectory(spec):  # and where they were at earlier times
        replicas, copies = chains * NETWORKS, 6 + max(spec.observe.lags, default=0)
    parameters = copies * item * network.size * replicas
    seen = chains * (3 * item * network.units * probes + 3 * 8 * outputs_of(spec))
    series = 2 * 8 * chains * spec.sampler.segment * (probes * network.targets + 8)
    if is_trajectory(spec):
        matrices = spec.sampler.segment * (1 + len(spec.observe.lags)) * depth_of(spec)
        series += 2 * 8 * (matrices * probes**2 + 4 * chains * spec.sampler.segment * test)
    data = inputs_of(spec, prepared) * (test + spec.data.train) * (item + 8)
    return Block(parameters + seen, series, data)


def depth_of(spec: Sampled) -> int:
    """Hidden layers whose kernels are observed."""
    return spec.network.depth if spec.observe.kernels else 0


def outputs_of(spec: Campaign) -> int:
    """Numbers that a network has at the training or the test points, whichever are more."""
    points = max(spec.data.test_points, spec.data.train)
    return points * spec.data.number_of_outputs


def inputs_of(spec: Campaign, prepared: Prepared) -> int:
    """Length of a point, by the data themselves where the spec does not say it."""
    if (inputs := spec.data.number_of_inputs) is not None:
        return inputs
    data = spec.data.model_dump(mode="json", exclude={"train", "test", "label_noise"})
    key = digest(data), digest(prepared.sources)
    if key not in _inputs:
        given = prepared.plugins, prepared.sources
        if spec.ensemble is not None:
            points = dataset(sampled(spec), 0, *given).x_train
        else:
            points = pool(regressed(spec), *given).x
        _inputs[key] = points.shape[1]
    return _inputs[key]


def model_of(spec: Sampled, prepared: Prepared) -> Model:
    """What a worker makes of the spec, which knows its own size."""
    return network_of(spec, inputs_of(spec, prepared), prepared.plugins)


def size_key(spec: Sampled) -> str:
    """Equal for cells whose blocks take as long and as much: those that differ in numbers alone."""
    biases = spec.network.bias_variance
    return digest(
        [
            spec.data.model_dump(mode="json", exclude={"label_noise", "teacher", "epsilon"}),
            spec.network.model_dump(mode="json", include=SHAPE),
            [bool(each) for each in (biases if isinstance(biases, tuple) else (biases,))],
            spec.sampler.model_dump(mode="json", include=SCHEME),
            len(spec.sampler.ladder),
            spec.ensemble.block,
            spec.observe.model_dump(mode="json"),
        ]
    )


SHAPE = {"architecture", "width", "depth", "activation", "patches", "image", "head", "pool_after"}
SCHEME = {"scheme", "precision", "moves", "batch", "segment"}
