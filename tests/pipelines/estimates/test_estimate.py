"""What a plan says of networks: their products, parameters and pre-activations as they are."""

import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipelines.engine import blocks
from pipelines.engine.engine import Prepared
from pipelines.estimates import costs
from pipelines.estimates.estimate import estimate
from pipelines.estimates.speeds import Speeds
from storage.campaign.plugins import Plugins
from storage.errors import CampaignError
from storage.planning.plan import Plan
from storage.reading.document import validate
from support.example_specs import ENSEMBLE, LINEAR, SAMPLER, campaign
from workers import numerics
from workers.devices.placement import CPU, TORCH
from workers.ensemble.rehearsal import Rehearsal, rehearse
from workers.machine import memory
from workers.models import network_of

INPUTS, CHAINS, POINTS, PROBES = 64, 3, 5, 8
DATA = {**LINEAR, "dimension": INPUTS}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """A cache of speeds that holds nothing yet, and nothing to compile."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = {"device": "cpu", "backend": TORCH}
    monkeypatch.setattr(numerics, "describe", lambda *_, **__: here)


def network(depth, architecture="cnn", **settings):
    variances = [1] * depth + [2]
    given = {"architecture": architecture, "width": 6, "depth": depth, "activation": "erf"}
    return {**given, "weight_variance": variances, **settings}


def images(image, head, depth=3, pool_after=()):
    return network(depth, image=image, head=head, pool_after=list(pool_after))


NETWORKS = {
    "one layer": network(1, "fcn"),
    "three layers with biases": network(3, "fcn", bias_variance=1),
    "patches": network(1, patches=4),
    "patches and a dense layer": network(2, patches=4),
    "images": images([1, 8, 8], "flatten"),
    "images, average": images([1, 8, 8], "average"),
    "images of four channels": images([4, 2, 8], "flatten", depth=1),
    "images, pooled": images([1, 8, 8], "flatten", pool_after=[1, 3]),
    "images, pooled, average": images([1, 8, 8], "average", pool_after=[2]),
}
PARAMETERS = {
    "one layer": [nn.Linear(64, 6, bias=False), nn.Linear(6, 1, bias=False)],
    "three layers with biases": [
        nn.Linear(64, 6),
        nn.Linear(6, 6),
        nn.Linear(6, 6),
        nn.Linear(6, 1, bias=False),
    ],
    "patches": [nn.Conv1d(1, 6, 16, stride=16, bias=False), nn.Linear(24, 1, bias=False)],
    "patches and a dense layer": [
        nn.Conv1d(1, 6, 16, stride=16, bias=False),
        nn.Linear(24, 6, bias=False),
        nn.Linear(6, 1, bias=False),
    ],
    **{
        name: [
            *(nn.Conv2d(channels, 6, 3, bias=False) for channels in (inputs, 6, 6)[:depth]),
            nn.Linear(features, 1, bias=False),
        ]
        for name, inputs, depth, features in [
            ("images", 1, 3, 6 * 64),
            ("images, average", 1, 3, 6),
            ("images of four channels", 4, 1, 6 * 16),
            ("images, pooled", 1, 3, 6 * 4),
            ("images, pooled, average", 1, 3, 6),
        ]
    },
}


def prepared(chosen, data=DATA, **sections):
    spec = validate(campaign(data, network=chosen, observe={"points": PROBES}, **sections))
    return Prepared(spec, Plugins(), {}, "results")


def model(chosen):
    return network_of(prepared(chosen).spec, INPUTS, Plugins())


def arguments(made):
    generator = torch.Generator().manual_seed(1)
    parameters = torch.randn(CHAINS, made.size, generator=generator)
    return parameters, torch.randn(POINTS, INPUTS, generator=generator)


def counted(call, *arguments):
    """Floating-point operations of the matrix products and convolutions that torch sees."""
    with FlopCounterMode(display=False) as counter:
        call(*arguments)
    return counter.get_total_flops()


def line(text, name):
    """What follows a name in the text of a plan, as words."""
    return re.search(rf"^{name} +(.*)$", text, re.MULTILINE).group(1).split()


def column(text, name):
    """The values under a name in the table of cells."""
    lines = text.splitlines()
    (head,) = [number for number, each in enumerate(lines) if name in each.split()]
    place = lines[head].split().index(name)
    return [each.split()[place] for each in lines[head + 1 :]]


@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_those_that_a_forward_pass_makes(name):
    made = model(NETWORKS[name])
    flops = counted(made.outputs, *arguments(made))
    assert flops == 2 * CHAINS * POINTS * made.products


@pytest.mark.parametrize("name", [name for name in NETWORKS if name.startswith("images")])
def test_a_gradient_makes_the_products_of_two_or_three_forward_passes(name):
    """Of each layer forward, to its weights, and down to the layer below where there is one.

    One chain, since torch overcounts the gradient of convolutions in groups.
    """
    made = model(NETWORKS[name])
    parameters, x = arguments(made)
    flops = counted(made.loss_and_gradient, parameters[:1], x, torch.zeros(POINTS))
    assert 2 <= flops / (2 * POINTS * made.products) <= 3


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_pre_activations_are_as_many_as_there_are(name):
    made = model(NETWORKS[name])
    layers = nn.ModuleList(PARAMETERS[name])
    assert made.size == sum(parameter.numel() for parameter in layers.parameters())
    fields = made.pre_activations(*arguments(made))
    assert sum(field.numel() for field in fields) == CHAINS * POINTS * made.units


@pytest.mark.parametrize("name", NETWORKS)
def test_a_block_has_room_for_its_parameters_and_pre_activations(name):
    campaign = prepared(NETWORKS[name])
    made, block = model(NETWORKS[name]), campaign.spec.ensemble.block
    held = 4 * block * (2 * made.size + PROBES * made.units)  # float32, positions and momenta
    number, unit = line(estimate(campaign), "memory")[:2]
    assert float(number) * {"B": 1, "kB": 1e3, "MB": 1e6}[unit] > held


@pytest.mark.parametrize("name", ["patches", "images"])
def test_inputs_are_those_of_the_file_where_the_spec_does_not_say(name, tmp_path):
    rng, file = np.random.default_rng(0), tmp_path / "arrays.npz"
    x, y = rng.standard_normal((30, INPUTS)), rng.standard_normal(30)
    np.savez(file, x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    own = {"source": "npz", "file": str(file), "train": 20, "test": 10}
    first, second = (prepared(NETWORKS[name], data) for data in (DATA, own))
    assert line(estimate(first), "memory") == line(estimate(second), "memory")
    assert column(estimate(first), "U") == column(estimate(second), "U")


# -- what it takes ------------------------------------------------------------------------------


def rehearsals(monkeypatch, step=1e-3, takes=0.0):
    """The widths that are rehearsed: a step of a block takes so much for each neuron."""
    seen, clock = [], [0.0]

    def rehearse(shard, *_):
        width = shard.cell.spec.network.width
        seen.append(width)
        clock[0] += takes
        return Rehearsal(0.0, 0.0, step * width, 0.0)

    monkeypatch.setattr("workers.ensemble.rehearsal.rehearse", rehearse)
    monkeypatch.setattr(costs, "time", SimpleNamespace(process_time=lambda: clock[0]))
    return seen


def widths(*values, **sections):
    sweep = {"size": {"network.width": list(values)}}
    return prepared(network(1, "fcn"), sweep=sweep, **sections)


def sampling(campaign):
    found = costs.costs(campaign, campaign.plan, Speeds())
    return {
        cell.settings["network.width"]: found.lanes["ensemble", cell.key]
        for cell in campaign.plan.cells
    }


def test_steps_and_draws_are_those_that_are_made(monkeypatch):
    rehearsals(monkeypatch)
    lanes = sampling(widths(8, sampler={**SAMPLER, "warmup": 10**6, "thin": 5}))[8]
    assert (lanes.number, lanes.more) == (4, 2)  # two datasets of two blocks; two segments
    assert lanes.first == pytest.approx(10**6 * 8e-3, rel=1e-4)
    without = sampling(widths(8, sampler={**SAMPLER, "warmup": 10**6}))[8]
    assert lanes.each - without.each == pytest.approx(3 * 4 * 8e-3)  # three draws a segment


def test_few_cells_are_timed_and_the_others_scaled_from_their_neighbours(monkeypatch):
    seen = rehearsals(monkeypatch, takes=costs.PATIENCE / 4)
    many = range(10, 400)
    lanes = sampling(widths(*many, sampler={**SAMPLER, "warmup": 10**6}))
    assert seen[:3] == [10, 399, 204]
    assert len(seen) == 4
    for width in many:  # here a step takes as long as it has products
        assert lanes[width].first == pytest.approx(10**6 * width * 1e-3, rel=1e-3)
    assert sampling(widths(*many)).keys() == lanes.keys()
    assert len(seen) <= 8  # what was timed once is known


def test_what_is_too_large_to_time_is_timed_with_fewer_chains(monkeypatch):
    ensemble, sizes = {**ENSEMBLE, "chains": 64, "block": 64}, []

    def rehearse(shard, *_):
        sizes.append(shard.cell.spec.ensemble.block)
        return Rehearsal(0.0, 0.0, 0.01 * sizes[-1], 0.0)

    monkeypatch.setattr("workers.ensemble.rehearsal.rehearse", rehearse)
    first = []
    for warmup in (10, 110):
        sampler = {**SAMPLER, "warmup": warmup}
        campaign = prepared(network(1, "fcn", width=20_000), ensemble=ensemble, sampler=sampler)
        found = costs.costs(campaign, campaign.plan, Speeds())
        first.append(found.lanes["ensemble", campaign.plan.cells[0].key].first)
    assert 1 <= sizes[0] < 64
    assert first[1] - first[0] == pytest.approx(100 * 64 * 0.01)


def test_a_rehearsal_takes_time_and_keeps_nothing():
    campaign = prepared(network(1, "fcn"))
    shard = next(campaign.plan.shards())
    found = rehearse(shard, campaign.plugins, {}, CPU)
    assert all(seconds >= 0 for seconds in found)
    assert found.step > 0
    assert found.draw > 0


def no_shards(self):
    raise AssertionError("shards of an absurd size were listed one by one")


ABSURD = {
    "a block": ({"ensemble": {**ENSEMBLE, "chains": 10**7, "block": 10**7}}, "ensemble.block"),
    "a segment": ({"sampler": {**SAMPLER, "draws": 9 * 10**6, "segment": 9 * 10**6}}, "segment"),
    "shards": ({"ensemble": {"datasets": 10**4, "chains": 10**7, "block": 1}}, "ensemble.block"),
}


@pytest.mark.parametrize("what", ABSURD)
def test_what_no_machine_holds_is_refused_by_plan_and_run_alike(what, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 4 * 10**9)
    monkeypatch.setattr(Plan, "lanes", no_shards)
    sections, reduce = ABSURD[what]
    campaign = prepared(network(1, "fcn"), **sections)
    said = set()
    for refuse in (estimate, lambda campaign: blocks.require(campaign, None)):
        with pytest.raises(CampaignError, match=reduce) as caught:
            refuse(campaign)
        said.add(str(caught.value))
    assert len(said) == 1
    assert "\n" not in said.pop()


def test_millions_of_draws_are_planned_without_listing_them(monkeypatch):
    rehearsals(monkeypatch)
    monkeypatch.setattr(Plan, "lanes", no_shards)
    monkeypatch.setattr(memory, "available", lambda: 10**11)
    text = estimate(widths(4, 8, sampler={**SAMPLER, "draws": 9 * 10**6}))
    assert line(text, "shards")[0].startswith(str(2 * 5 * (1 + 3 * 10**6)))
    assert "warning" in text


def test_many_cells_are_folded_and_all_of_them_shown_when_asked(monkeypatch):
    rehearsals(monkeypatch)
    campaign = widths(*range(10, 510))
    text = estimate(campaign)
    assert column(text.replace("and 480 more", "and"), "N")[:20] == [str(n) for n in range(10, 30)]
    assert "and 480 more cells; --all shows them" in text
    assert column(estimate(campaign, every=True), "N") == [str(n) for n in range(10, 510)]


def test_counts_are_those_of_the_shards():
    campaign = prepared(network(1, "fcn"), sweep={"size": {"network.width": [4, 8]}})
    shards = list(campaign.plan.shards())
    counted = Counter((shard.kind, shard.cell.key) for shard in shards)
    assert campaign.plan.work == dict(counted)
    names = [shard.name for shard in shards]
    assert campaign.plan.of(names) == counted
    foreign = ["ensemble/0123456789abcdef/d0000-b0000-s00000", names[0].replace("d0000", "d0099")]
    assert campaign.plan.of(foreign) == {}


def test_code_of_the_user_s_that_fails_is_refused_in_one_line(monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("no\nwidth")

    monkeypatch.setattr("workers.ensemble.rehearsal.rehearse", fails)
    wanted = r"network\.width 4 failed: ZeroDivisionError: no width;"
    with pytest.raises(CampaignError, match=wanted) as caught:
        estimate(widths(4, 8))
    assert "\n" not in str(caught.value)


def test_without_measuring_nothing_of_the_user_s_is_called(monkeypatch):
    def fails(*_, **__):
        raise AssertionError("called")

    monkeypatch.setattr("workers.ensemble.rehearsal.rehearse", fails)
    monkeypatch.setattr(costs, "nngp_of", fails)
    campaign = widths(4, 8, theories=["nngp"])
    found = costs.costs(campaign, campaign.plan, Speeds(), measure=False)
    assert all(lanes.seconds > 0 for lanes in found.lanes.values())
