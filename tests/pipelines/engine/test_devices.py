"""The device is decided once per campaign, and what cannot be had is one line."""

import pytest

from pipelines.commands.status import status
from pipelines.engine import devices, engine
from pipelines.report import html
from storage.errors import CampaignError
from storage.files.objects import Objects
from storage.files.sealed import seal
from storage.reading.document import read
from storage.store import archive, kept
from storage.store.results import stored_plan
from support.driving import SMALL
from workers import numerics
from workers.devices.placement import Placement, placement_of
from workers.fused import build

H200 = {"device": "cuda sm_90 NVIDIA H200", "backend": "triton 1 (3.6.0)", "torch": "2.13.0"}


@pytest.fixture(autouse=True)
def _nothing_to_compile(monkeypatch):
    monkeypatch.setattr(build, "unavailable", lambda: "no time for it")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.fixture
def gpu(monkeypatch):
    """What torch says where there is an H200."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H200")


def test_a_gpu_that_is_not_there_is_one_line(no_gpu, finitewidth, tmp_path):
    status, _, error = finitewidth("run", SMALL, "--device", "cuda", "--executor", "inline")
    assert status == 2
    assert error.startswith("finitewidth: --device cuda needs a GPU, and torch")
    assert error.count("\n") == 1
    assert not (tmp_path / "results").exists()  # nothing is written


def test_what_began_on_a_gpu_is_refused_on_a_cpu(no_gpu):
    for asked in ("auto", "cuda"):
        with pytest.raises(CampaignError, match="began on cuda sm_90 NVIDIA H200: it needs a GPU"):
            devices.decided(H200, asked)
    with pytest.raises(CampaignError, match="--device cpu: this campaign began on cuda sm_90"):
        devices.decided(H200, "cpu")


def test_what_began_on_a_cpu_goes_on_there_beside_a_gpu(gpu):
    known = numerics.describe()
    assert devices.decided(known, "auto") == known
    assert devices.decided(known, "cpu") == known
    with pytest.raises(
        CampaignError, match=f"--device cuda: this campaign began on {known['device']}"
    ):
        devices.decided(known, "cuda")


def test_a_gpu_is_taken_where_it_is_asked_for(gpu):
    assert devices.decided({}, "cuda")["device"] == "cuda sm_90 NVIDIA H200"
    for asked in ("auto", "cpu"):  # no GPU has shown yet that its numbers are right
        assert devices.decided({}, asked)["device"].startswith("cpu ")


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_without_gpus_is_one_line_before_anything_is_written(finitewidth, tmp_path):
    status, _, error = finitewidth("run", SMALL, "--device", "cuda", "--workers", 1)
    assert status == 2
    assert error.startswith("finitewidth: chains are to run on GPUs, and the Ray cluster has none")
    assert error.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_the_placement_is_read_from_what_the_campaign_recorded():
    assert placement_of(H200) == Placement("cuda", "triton 1 (3.6.0)")
    assert placement_of(H200).family == "triton"


@pytest.mark.parametrize(("kernel", "backend"), [("plain", "torch"), ("fused 1", "fused 1")])
def test_stores_of_early_runs_keep_their_backend(tmp_path, kernel, backend):
    objects = Objects(str(tmp_path))
    archive.decide_numerics(objects, {"kernel": kernel, "device": "cpu AVX2"})
    assert archive.numerics(objects) == {"backend": backend, "device": "cpu AVX2"}


@pytest.mark.slow
def test_a_campaign_of_a_gpu_is_refused_by_run_and_shown_by_plan(no_gpu, finitewidth):
    objects = engine.prepare(read(SMALL)).store.objects
    archive.decide_numerics(objects, H200)
    before = set(objects.names(""))
    status, _, error = finitewidth("run", SMALL, "--executor", "inline")
    assert status == 2
    assert error.startswith("finitewidth: this campaign began on cuda sm_90 NVIDIA H200: it needs")
    assert error.count("\n") == 1
    assert set(objects.names("")) == before
    assert devices.words(H200) in finitewidth("plan", SMALL)[1]


def test_status_and_report_show_the_device(store):
    archive.decide_numerics(store.objects, H200)
    assert devices.words(H200) in status(store)
    content = seal({"started": "2026-01-01T00:00:00Z", **H200})
    kept.keep(store.objects, "provenance/run-0007.json", content)
    (shown,) = (part for part in html._provenance(store, stored_plan(store)) if "H200" in part)
    assert H200["backend"] in shown
