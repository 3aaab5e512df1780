"""What a plan says of networks: their products, parameters and pre-activations as they are."""

import re

import numpy as np
import pytest
import torch
from example_specs import LINEAR, campaign
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipelines.engine import Prepared
from pipelines.estimate import estimate
from storage.plugins import Plugins
from storage.reading import validate
from workers.models import network_of

INPUTS, CHAINS, POINTS, PROBES = 64, 3, 5, 8
DATA = {**LINEAR, "dimension": INPUTS}


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
