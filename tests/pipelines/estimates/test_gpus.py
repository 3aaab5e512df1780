"""What a plan says of GPUs: the roofline of known settings, and segments that are worth it."""

import re

import pytest

from pipelines.estimates import gpus
from pipelines.estimates.costs import Costs, Lanes
from pipelines.estimates.estimate import estimate
from storage.campaign.plugins import Plugins
from storage.planning.plan import plan
from storage.reading.document import validate
from support.example_specs import ENSEMBLE, LINEAR, SAMPLER, campaign
from workers import numerics
from workers.devices.placement import TORCH


@pytest.fixture(autouse=True)
def _nothing_to_compile(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = {"device": "cpu", "backend": TORCH}
    monkeypatch.setattr(numerics, "describe", lambda *_, **__: here)


def prepared(inputs=50, width=1000, train=1000, chains=16, depth=1, **sampler):
    from pipelines.engine.engine import Prepared

    network = {"width": width, "depth": depth, "activation": "erf"}
    network["weight_variance"] = [1] * depth + [2]
    spec = campaign(
        {**LINEAR, "dimension": inputs, "train": train},
        network=network,
        sampler={**SAMPLER, **sampler},
        ensemble={**ENSEMBLE, "chains": chains, "block": chains},
    )
    return Prepared(validate(spec), Plugins(), {}, "results")


# Settings and bounds, in microseconds, of tests/benchmarks/GPU.md.
SETTINGS = {
    "A": ({}, 53),
    "B": ({"inputs": 150, "width": 700, "train": 3000, "chains": 8}, 101),
    "C": ({"inputs": 20, "width": 100, "train": 200, "chains": 512}, 26),
    "D": ({"inputs": 50, "width": 200, "train": 500, "chains": 32, "depth": 3}, 40),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_by_torch_alone_takes_some_times_its_bound(name):
    sizes, bound = SETTINGS[name]
    made = prepared(**sizes)
    step = gpus.step_of(made.plan.cells[0].spec, made).step
    assert 2 * bound < 1e6 * step < 8 * bound


def line(text: str, name: str) -> str:
    return re.search(rf"^{name} +(.*)$", text, re.MULTILINE).group(1)


def test_a_plan_for_a_gpu_says_that_nothing_was_measured():
    text = estimate(prepared(), device="cuda")
    assert line(text, "gpu").startswith("not measured, by the figures of an NVIDIA H200: a step")
    assert "GPU time" in text
    assert not re.search(r"^time ", text, re.MULTILINE)
    assert not re.search(r"^gpu ", estimate(prepared()), re.MULTILINE)


@pytest.mark.parametrize(("each", "draws"), [(0.02, 3600), (0.7, 7200), (4.0, 4200), (11.0, 60)])
def test_the_segment_that_is_named_is_the_smallest_that_is_long_enough(each, draws):
    made = prepared(draws=draws, segment=10)
    (cell,) = made.plan.cells
    costing = Costs({("ensemble", cell.key): Lanes(1, 0.0, draws // 10, each)}, {}, 1.0)
    said = gpus.short_segments(costing, plan(made.spec))
    if each >= gpus.SHORT_SEGMENT:
        assert said == []
        return
    enough = [
        n for n in range(1, draws + 1) if draws % n == 0 and n * each / 10 >= gpus.SHORT_SEGMENT
    ]
    if enough:
        assert f"sampler.segment={enough[0]} would take" in said[0]
    else:
        assert f"all {draws} draws take" in said[0]
