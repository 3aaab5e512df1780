"""Everything of a shard is on the device: shown without a GPU, see `device_audit`."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from storage.campaign.plugins import Plugins
from support.blocks import campaign, data_of, shard_of
from support.device_audit import DEVICE, Audit, MixedDevicesError
from support.placed import FREELY, SCHEMES, TEXT
from workers.devices.placement import Placement
from workers.ensemble import ensemble
from workers.ensemble.problem import Problem
from workers.ensemble.schemes import sampler_of
from workers.measurement.observables import of_sound, zeroed
from workers.measurement.record import Record
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import fully_connected
from workers.philox import Noise
from workers.samplers.sgld import one_by_one

THERE = Placement(device=DEVICE)
# Launches of a step whose noise is one, each further layer, and an exact draw of a readout.
LIMIT, LAYER, READOUT = 60, 25, 40
BLOCK = 6

NETWORKS = {
    "one layer": [],
    "three layers": ["network.depth=3", "network.weight_variance=[1, 1, 1, 1]"],
    "patches": ["network.architecture=cnn", "network.patches=2", "network.bias_variance=0"],
    "image": [
        "data={source: single_index, dimension: 48, teacher: {1: 1.0}, train: 10, test: 12}",
        "network={architecture: cnn, image: [3, 4, 4], head: average, depth: 2, width: 4,"
        " activation: relu, weight_variance: [1, 1, 1], pool_after: [1]}",
        "observe={points: 6, histograms: true, kernels: true}",
    ],
}
SHALLOW = ("collapsed", "neurons")  # schemes of one hidden layer
DENSE = (*SHALLOW, "gibbs")  # of layers that are fully connected
# What is done one after another by its nature: neurons; batches of networks that share filters.
SERIAL = {
    ("neurons", "one layer"),
    *((s, n) for s in ("sgld", "sgd") for n in ("patches", "image")),
}
LINEAR = {
    "linear layers": ["network.activation=linear", "network.bias_variance=0"],
    "linear patches": [*NETWORKS["patches"], "network.activation=linear"],
}
CASES = [
    *(
        (scheme, network, [f"sampler.scheme={scheme}", *changes, *NETWORKS[network]])
        for scheme, changes in SCHEMES.items()
        for network in NETWORKS
        if not (scheme in SHALLOW and network != "one layer")
        and not (scheme in DENSE and network in ("patches", "image"))
    ),
    *(
        ("gibbs", network, ["sampler.scheme=gibbs", FREELY, "sampler.step_size=null", *changes])
        for network, changes in LINEAR.items()
    ),
]

QUICK, SLOW = [case for case in CASES if case[0] == "baoab"], [pytest.mark.slow]


class OneLaunch(Noise):
    """Normals as a kernel of the device would make them: all of a step at once."""

    def __call__(self, step: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.ones(len(self.chains), *shape, dtype=dtype, device=self.chains.device)


def placed(changes: Sequence[str]) -> tuple[Problem, Record, Tensor, Noise]:
    """A problem, its record, where its chains are, and its noise: all on the device."""
    spec = campaign(TEXT, *changes)
    shard = shard_of(spec, 0)
    observed = ensemble.observe(shard, data_of(spec), Plugins(), THERE)
    problem = ensemble.make_problem(spec, observed, THERE)
    sound = torch.ones(BLOCK, dtype=torch.bool, device=DEVICE)
    noise = OneLaunch(1, range(BLOCK * problem.replicas), 1, DEVICE)
    position = noise(0, (problem.network.size,), problem.x.dtype)
    return problem, Record(observed, sound, problem.x), position, noise


@pytest.mark.parametrize(
    ("scheme", "network", "changes"),
    [
        pytest.param(*case, id=f"{case[0]}, {case[1]}", marks=[] if case in QUICK else SLOW)
        for case in CASES
    ],
)
def test_a_step_never_waits_and_a_draw_copies_nothing(scheme, network, changes):
    problem, record, position, noise = placed(changes)
    sampler = sampler_of(problem, 0.05)
    with Audit():  # what is made once for a segment is made here
        state = sampler.step(sampler.init(position, noise.at(0)), noise.at(1))
    with Audit() as step:
        state = sampler.step(state, noise.at(2))
    assert not step.synchronizations
    assert not step.copies
    if (scheme, network) not in SERIAL:
        further = LAYER * (len(problem.network.pre_activations(position, problem.x)) - 1)
        drawn = READOUT * (scheme in ("collapsed", "gibbs"))
        assert step.launches.total() <= LIMIT + further + drawn
    widths = problem.network.standard_deviations.to(position)
    with Audit() as draw:
        record.add(state.position[:: problem.replicas] * widths)
    assert not draw.synchronizations
    assert not draw.copies
    assert draw.launches.total() > 0


@pytest.mark.slow
@pytest.mark.parametrize("changes", [[], NETWORKS["three layers"], NETWORKS["image"]])
def test_a_shard_is_on_the_device_from_its_start_to_its_checkpoint(changes):
    with Audit():
        check_whole(changes)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["both", "anneal", "adapted", "exchange"])
def test_every_start_is_made_on_the_device(start):
    changes = {
        "both": ["ensemble.start=both"],
        "anneal": [
            "ensemble.start=anneal",
            "sampler.anneal={temperature: 1.0, steps: 3}",
        ],
        "adapted": ["sampler.step_size=auto", "sampler.warmup=20"],
        "exchange": ["sampler.scheme=exchange", "sampler.ladder=[0.3, 1.0]"],
    }
    with Audit():
        check_whole(changes[start])


def check_whole(changes: Sequence[str]) -> None:
    """Warm-up and a segment, with nothing on two devices at once."""
    spec = campaign(TEXT, *changes)
    _, saved = ensemble.run(shard_of(spec), Plugins(), {}, None, THERE)
    values, after = ensemble.run(shard_of(spec, 0), Plugins(), {}, saved, THERE)
    assert after.keys() == saved.keys()
    assert len(values["status"]) == BLOCK


def test_noise_is_made_on_the_device():
    noise = Noise(3, range(4), 1, DEVICE)
    for dtype in (torch.float32, torch.float64):
        noise(1, (300,), dtype)  # constants are made once
        with Audit() as audit:
            noise(2, (300,), dtype)
        assert not audit.synchronizations
        assert not audit.copies


def test_chains_that_are_lost_may_be_left_out_or_count_nothing():
    values = Noise(1, range(9), 0)(0, (4, 5), torch.float64)
    sound = torch.arange(9) % 3 > 0
    values[~sound] = torch.inf
    found, expected = zeroed(values, sound).sum(0), of_sound(values, sound).sum(0)
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=1e-15)  # in another order


def test_batches_of_all_chains_at_once_are_those_of_one_after_another():
    network = fully_connected(
        5,
        [7, 6],
        ACTIVATIONS["tanh"],
        weight_variance=[1, 1, 1],
        bias_variance=0.2,
        chi=1,
        targets=2,
    )
    parameters, normals = (
        Noise(2, range(3), stream)(0, (size,), torch.float64)
        for stream, size in ((0, network.size), (1, 11))
    )
    x, y = (
        Noise(3, range(11), stream)(0, (size,), torch.float64) for stream, size in ((0, 5), (1, 2))
    )
    chosen = normals.argsort(1)[:, :4]
    found = network.minibatch_gradient(parameters, x[chosen], y[chosen])
    expected = one_by_one(network, parameters, x, y, chosen)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_the_audit_finds_what_it_looks_for():
    here, there = torch.ones(3), torch.ones(3, device=DEVICE)
    with Audit() as audit:
        there + 1
        there[there > 0]
        bool(there.sum() > 0)
        there.to(here)
        here.to(there.device)
        there.double()
    assert audit.synchronizations.total() == 3
    assert audit.copies.total() == 2
    with Audit(), pytest.raises(MixedDevicesError):
        here + there
