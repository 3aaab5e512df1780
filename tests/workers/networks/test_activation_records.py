"""An activation is three records under one name: for specs, for averages, and for networks."""

import pytest
import torch

from storage.campaign.activations import BY_NAME
from storage.campaign.theories import INDEX_ACTIVATIONS
from theory.activations.records import RECORDS
from theory.single_index.hermite_overlap import OVERLAPS
from workers.networks.activations import ACTIVATIONS


def test_each_activation_has_all_records():
    assert {*ACTIVATIONS} == {*RECORDS} == {*BY_NAME}
    assert {*OVERLAPS} == {*INDEX_ACTIVATIONS}


@pytest.mark.parametrize("name", BY_NAME)
def test_odd_is_odd(name):
    z = torch.linspace(-3, 3, 24, dtype=torch.float64)
    phi = ACTIVATIONS[name].phi
    assert torch.equal(phi(-z), -phi(z)) == RECORDS[name].odd == BY_NAME[name].odd


def test_what_is_compiled_has_a_kernel_on_a_gpu_too():
    units = pytest.importorskip("workers.triton.activations").UNITS
    assert {*units} == {name for name in BY_NAME if BY_NAME[name].compiled}
