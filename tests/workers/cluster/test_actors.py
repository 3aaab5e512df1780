"""Shards on GPUs that are none: the bytes of a run in this process, whatever dies or is refused."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from fake_card import FakeCard  # as the actors name it, which know no `support`
from ray import exceptions as errors

from pipelines.run import driving
from storage.errors import CampaignError
from storage.files.sealed import seal, unseal
from support.driving import HERE, contents, prepared, simulate, unlike
from support.fake_cluster import lanes
from workers import numerics
from workers.cluster import actors, pool
from workers.cluster.actors import About, GpuExecutor
from workers.cluster.packing import Ran
from workers.cluster.pool import Request
from workers.cluster.remote import RayExecutor, Reply, cluster
from workers.devices.placement import TORCH
from workers.faults import Fault

ALONE = (
    "sweep={size: {network.width: [4]}}",
    "sampler.draws=4",
    "regression=null",
    "theories=[]",
)
OWN = (*ALONE, "network.activation=plugin:mortal", "sampler.step_check=false")


@pytest.fixture(scope="module")
def attached(tmp_path_factory) -> Iterator[RayExecutor]:
    """A cluster with two GPUs, as far as Ray knows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(HERE)
        patch.setenv("MORTAL_FILE", str(tmp_path_factory.mktemp("mortal") / "died"))
        patch.setattr(ray, "init", partial(ray.init, num_gpus=2))
        patch.setattr(pool, "RENEW", 0.0)
        patch.setattr(pool, "BACKOFF", 0.1)
        with cluster(cpus=2) as started:
            yield started


TORCH_HERE = numerics.describe(backend=TORCH)  # what a fake card computes with


@contextmanager
def on_gpus(attached: RayExecutor, patch, card: FakeCard | Any) -> Iterator[list[GpuExecutor]]:
    """`finitewidth run --device cuda` has these GPUs; they are free again afterwards."""
    made: list[GpuExecutor] = []

    def executor(found: RayExecutor) -> GpuExecutor:
        made.append(GpuExecutor(found, card))
        return made[0]

    patch.setattr(driving, "_warn", lambda *_: None)  # it would compile what nobody uses
    patch.setattr(driving, "cluster", lambda *_: nullcontext(attached))
    patch.setattr(driving, "GpuExecutor", executor)
    yield made
    for gpu in [*made[0]._gpus]:
        made[0]._bury(gpu)


def known(campaign, most: int) -> None:
    """What an earlier run has learned of such GPUs: that so many lanes are worth it."""
    learned = {"chains": {"lanes": most, "most": most, "bytes": 1}}
    content = seal({TORCH_HERE["device"]: learned})
    campaign.store.objects.put(actors.NAME, content)


def run(campaign) -> Any:
    with driving.driving(campaign, driving.Options(device="cuda")) as (driven, progress):
        driving.simulate(driven, progress)
        assert isinstance(driven.executor, GpuExecutor)
    return driven


@pytest.mark.ray
@pytest.mark.slow
def test_lanes_that_memory_refuses_are_halved_and_nothing_is_lost(attached, tmp_path, monkeypatch):
    campaign, inline = (prepared(tmp_path / name, *ALONE) for name in ("gpus", "inline"))
    known(campaign, most=4)
    with on_gpus(attached, monkeypatch, partial(FakeCard, 2)):
        driven = run(campaign)
    assert (driven.failed, driven.done) == ([], driven.total)
    store = driven.store
    refused = {failure.shard for failure in store.ledger.failures()}
    assert refused
    assert refused <= store.ledger.finished()
    (learned,) = unseal(store.objects.get(actors.NAME)).values()
    assert learned["chains"]["most"] == 2
    simulate(inline, TORCH_HERE)
    assert unlike(contents(store.data), contents(inline.store.data)) == []


@pytest.mark.ray
@pytest.mark.slow
def test_what_an_actor_was_doing_when_it_was_killed_is_done_by_another(
    attached, tmp_path, monkeypatch
):
    campaign, inline = (prepared(tmp_path / name, *OWN) for name in ("gpus", "inline"))
    known(campaign, most=2)
    with on_gpus(attached, monkeypatch, partial(FakeCard, 16)):
        driven = run(campaign)
    died = {failure.shard for failure in driven.store.ledger.failures()}
    assert died
    assert (driven.failed, driven.done) == ([], driven.total)
    simulate(inline, TORCH_HERE)  # here, nobody dies any more
    assert unlike(contents(driven.store.data), contents(inline.store.data)) == []


class Recorded:
    """An object of a store, written and read here."""

    def __init__(self) -> None:
        self.data: bytes | None = None

    def get(self, _: str) -> bytes | None:
        return self.data

    def put(self, _: str, data: bytes) -> None:
        self.data = data


class Driver(GpuExecutor):
    """The driver's side, with actors that are told what to answer."""

    def __init__(self, gpus: int, monkeypatch) -> None:
        monkeypatch.setattr(actors, "_counted", lambda _: (gpus, 0))
        super().__init__(RayExecutor(nodes_elsewhere=True), card=lambda: FakeCard(1))
        self.killed: list[Any] = []
        self.calls: list[Any] = []  # (shard, future) of all that began
        self._ray = SimpleNamespace(kill=self.killed.append)
        self._runner = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._made))
        self._wanted, self._place = WANTED, Recorded()
        self.answers = [About(f"node{i}", WANTED, 1 << 40, "") for i in range(9)]

    def _made(self, _: object) -> Any:
        return SimpleNamespace(
            describe=SimpleNamespace(remote=lambda: Reference(told(self.answers.pop(0)))),
            run=SimpleNamespace(remote=self._begun),
        )

    def _begun(self, _: object, shard: Any) -> Any:
        future: Future = Future()
        self.calls.append((shard, future))
        return Reference(future)


class Reference:
    def __init__(self, future: Future) -> None:
        self._future = future

    def future(self) -> Future:
        return self._future


def told(answer: Any) -> Future:
    future: Future = Future()
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
    return future


WANTED = {"device": "cuda sm_90 NVIDIA H200", "torch": "2.13.0"}
JOB: Any = SimpleNamespace(place=None)


@pytest.fixture
def driver(monkeypatch) -> Driver:
    """One GPU with room for four lanes."""
    made = Driver(1, monkeypatch)
    assert made.size().slots == 1
    (gpu,) = made._gpus
    packing = made._packing(gpu, "chains")
    packing.lanes, packing._growing = 4, False
    assert made.size().slots == 4
    return made


def submitted(driver: Driver, count: int) -> list[Any]:
    return [driver.submit(JOB, lane[0], Request()) for lane in lanes([1] * count)]


def test_every_death_is_the_machines_fault_and_the_suspects_go_on_one_by_one(driver, monkeypatch):
    monkeypatch.setattr("workers.cluster.remote.Store", lambda _: FORGETFUL)
    deaths = (
        errors.ActorDiedError(),
        errors.ActorUnavailableError("away", None),
        errors.NodeDiedError("gone"),
        errors.LocalRayletDiedError(),
    )
    calls = submitted(driver, len(deaths))
    assert len(driver.calls) == len(deaths)
    (gpu,) = driver._gpus
    for (_, future), death in zip(driver.calls, deaths, strict=True):
        future.set_exception(death)
    ended = driver.ended(1.0)
    assert {call for call, _ in ended} == {*calls}
    assert {ending.outcome.fault for _, ending in ended} == {Fault.MACHINE}
    assert {ending.node for _, ending in ended} == {"node0"}
    assert driver.killed == [gpu.actor]  # once, though it may have lived on
    driver.size()  # another actor
    driver.calls.clear()
    submitted(driver, len(deaths))
    for _ in deaths:
        ((_, future),) = driver.calls  # one at a time
        driver.calls.clear()
        future.set_result(Reply("node1", {}, ran=Ran(1.0, 1.0, 1, 1)))
        assert driver.ended(1.0)[0][1].outcome.receipt == {}
    submitted(driver, 4)
    assert len(driver.calls) == 4  # nobody is suspected any more


FORGETFUL = SimpleNamespace(ledger=SimpleNamespace(fail=lambda *_: None))


def test_lack_of_memory_among_neighbours_is_tried_again_and_alone_it_is_told(driver):
    short = Reply("node0", None, "out of memory", Fault.MEMORY)
    for beside, again, left in ((4, True, 2), (3, True, 2), (2, True, 1), (1, False, 1)):
        submitted(driver, 1)
        ((_, future),) = driver.calls
        driver.calls.clear()
        future.set_result(short._replace(ran=Ran(0.1, float(beside), 4, 1 << 30)))
        ((_, ending),) = driver.ended(1.0)
        assert ending.roomier == again
        assert driver.size().slots == left


def test_gpus_that_would_compute_other_bits_are_left_alone(monkeypatch):
    driver = Driver(2, monkeypatch)
    driver.answers[0] = About("node0", WANTED | {"device": "cuda sm_80 NVIDIA A100"}, 1, "")
    for _ in range(3):
        assert driver.size().slots == 1  # and it is not tried again and again
    assert len(driver.killed) == 1
    nothing = Driver(1, monkeypatch)
    nothing.answers[0] = About("node0", {}, 0, "torch 2.13.0+cpu is built without CUDA")
    with pytest.raises(CampaignError, match=r"^no GPU .*: torch 2.13.0\+cpu is built without CUDA"):
        nothing.size()


def test_what_can_never_be_is_refused_at_once_in_one_line(monkeypatch):
    with pytest.raises(CampaignError, match="the Ray cluster has none; start its nodes") as said:
        Driver(0, monkeypatch)
    assert "\n" not in str(said.value)
    dying = Driver(1, monkeypatch)
    dying.answers[:] = [errors.ActorDiedError()] * 9
    for _ in range(actors.STILLBORN):
        dying.size()
    with pytest.raises(CampaignError, match=r"^Ray has failed \(actors on GPUs die as") as said:
        dying.size()
    assert "\n" not in str(said.value)
