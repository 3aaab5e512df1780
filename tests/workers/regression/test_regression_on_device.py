"""Shards of regressions on a device: the CPU's numbers to rounding, and nothing on two devices."""

import numpy as np
import pytest

from storage.campaign.plugins import Plugins
from storage.planning.plan import Shard, plan
from storage.reading.document import validate
from support.device_audit import DEVICE, Audit
from theory.regression import learning_curve
from theory.regression.on_device import pool_on
from workers.devices.placement import CPU, Placement
from workers.machine import memory
from workers.regression import regression

CAMPAIGN = {
    "version": 1,
    "name": "placed",
    "data": {"source": "linear", "dimension": 4, "train": 5, "test": 6, "label_noise": 0.1},
    "regression": {
        "kernel": {"activation": "erf", "weight_variance": [1, 1]},
        "train": [5, 10, 20],
        "ridges": [0.5, 0.01],
        "repeats": 2,
        "pool": 30,
        "sampling": "with_replacement",
        "evaluate": ["pool", "heldout"],
    },
}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def values(kind: str, placement: Placement, **kernel) -> dict[str, np.ndarray]:
    changed = {**CAMPAIGN["regression"], "kernel": {**CAMPAIGN["regression"]["kernel"], **kernel}}
    (cell,) = plan(validate({**CAMPAIGN, "regression": changed})).regressions
    act = regression.spectrum if kind == "spectrum" else regression.run
    return act(Shard(kind, cell), Plugins(), {}, placement)


KERNELS = ({}, {"activation": "relu", "depth": 3, "weight_variance": [1, 1, 1, 1]})


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_device_stores_what_the_cpu_would(kernel, monkeypatch):
    expected = [values(kind, CPU, **kernel) for kind in ("spectrum", "regression")]
    # From here on the CPU is taken for a device, whose memory is none of the machine's.
    monkeypatch.setattr(regression, "CPU", Placement("none"))
    monkeypatch.setattr(learning_curve, "_pool", lambda kernel, order, _: pool_on(kernel, order))
    monkeypatch.setattr(memory, "available", lambda: 0)
    regression._problems.clear()
    for kind, wanted in zip(("spectrum", "regression"), expected, strict=True):
        found = values(kind, CPU, **kernel)
        assert found.keys() == wanted.keys()
        for name in wanted:
            close = {"rtol": 1e-9, "atol": 1e-11}
            if name in ("coefficient", "learnability"):  # whose signs are free
                found[name], wanted[name] = np.abs(found[name]), np.abs(wanted[name])
            if name != "residual":
                np.testing.assert_allclose(found[name], wanted[name], **close, err_msg=name)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_shard_is_on_the_device_from_its_kernel_to_its_curve(kernel):
    with Audit() as audit:
        for kind in ("spectrum", "regression"):
            assert values(kind, Placement(DEVICE), **kernel)
    assert audit.launches.total() > 0
