"""Steps as one launch: what a graph works with, shown on a CPU by launching it as it is."""

import pytest
import torch

from storage.campaign.plugins import Plugins
from support.blocks import campaign, data_of, shard_of
from support.placed import FREELY, SCHEMES, TEXT
from workers.devices import graphs
from workers.devices.placement import CPU
from workers.ensemble import ensemble
from workers.ensemble.schemes import SCHEMES as RECORDS
from workers.ensemble.schemes import sampler_of


@pytest.fixture(autouse=True)
def _no_graph(monkeypatch):
    """A body is launched as it is; it ran before, as it must on a GPU."""

    def captured(body):
        body()
        return body

    monkeypatch.setattr(graphs, "captured", captured)


@pytest.mark.parametrize("scheme", [name for name in RECORDS if RECORDS[name].captured])
def test_steps_in_one_launch_are_those_one_after_another(scheme):
    spec = campaign(TEXT, f"sampler.scheme={scheme}", *SCHEMES[scheme])
    shard = shard_of(spec, 0)
    observed = ensemble.observe(shard, data_of(spec), Plugins(), CPU)
    problem = ensemble.make_problem(spec, observed, CPU)
    noise, sampler = ensemble.noise_of(shard, 1, CPU), sampler_of(problem, 0.02)
    position = noise.at(0)((problem.network.size,), problem.x.dtype)
    expected = start = sampler.init(position, noise.at(0))
    for step in range(7, 13):
        expected = sampler.step(expected, noise.at(step))
    steps = graphs.Steps(sampler, noise, 3, start)
    found = steps(steps(start, 7), 10)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(start.position, position)  # what is passed in stays


@pytest.mark.parametrize("thin", [1, 6, 46])
def test_a_segment_in_graphs_has_the_bits_of_one_without(monkeypatch, thin):
    spec = campaign(TEXT, "sampler.scheme=ula", FREELY, f"sampler.thin={thin}")
    _, saved = ensemble.run(shard_of(spec), Plugins(), {}, None)
    expected, after = ensemble.run(shard_of(spec, 0), Plugins(), {}, saved)
    monkeypatch.setattr(ensemble, "CUDA", "cpu")
    found, last = ensemble.run(shard_of(spec, 0), Plugins(), {}, saved)
    assert {name: value.tobytes() for name, value in found.items()} == {
        name: value.tobytes() for name, value in expected.items()
    }
    assert {name: value.tobytes() for name, value in last.items()} == {
        name: value.tobytes() for name, value in after.items()
    }
