"""One driver at a time, whoever is killed, paused or far away."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import CampaignError
from storage.files import lease as leases
from storage.files.lease import acquire, is_current
from storage.files.objects import Objects

HOLD = """
import sys
from storage.files.lease import acquire
from storage.files.objects import Objects
with acquire(Objects(sys.argv[1]), float(sys.argv[2])) as lease:
    print(lease.epoch, flush=True)
    lease.lost.wait()
    print("lost", flush=True)
"""
RACE = """
import pathlib, sys, time
from storage.errors import CampaignError
from storage.files.lease import acquire
from storage.files.objects import Objects
print("ready", flush=True)
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.001)
try:
    with acquire(Objects(sys.argv[1])) as lease:
        print("won", lease.epoch, flush=True)
        sys.stdin.read()
except CampaignError as error:
    print(error, flush=True)
"""


@pytest.fixture
def place(tmp_path) -> Objects:
    return Objects(str(tmp_path / "campaign"))


@pytest.fixture
def start() -> Iterator:
    """Start Python on some code and wait for its first line; killed at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def begin(code: str, *arguments: object) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout
        return process, process.stdout.readline().strip()

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def elsewhere(monkeypatch) -> None:
    """From here on this process is on another host than those it started."""
    monkeypatch.setattr(leases, "_host", lambda: "elsewhere/boot/pid")


def record(place: Objects, epoch: int) -> dict:
    data = place.get(f"ledger/lease/{epoch:06d}.json")
    assert data
    return json.loads(data)


def test_a_released_lease_is_taken_at_once(place):
    for epoch in (1, 2, 3):
        with acquire(place) as lease:
            assert lease.epoch == epoch
            assert is_current(place, epoch)
            assert not record(place, epoch)["released"]
        assert record(place, epoch)["released"]
    assert not is_current(place, 2)
    assert is_current(place, 3)


def test_a_live_holder_refuses_in_one_line(place, start):
    holder, _ = start(HOLD, place.url, 10)
    line = (
        rf"^found .* driven by process {holder.pid} on .* since 20.* UTC, wanted [^\n]*run again$"
    )
    with pytest.raises(CampaignError, match=line):
        acquire(place)
    assert place.names("ledger/lease") == ["ledger/lease/000001.json"]


def test_a_process_refuses_itself(place):
    with acquire(place), pytest.raises(CampaignError, match=f"driven by process {os.getpid()} "):
        acquire(place)


@pytest.mark.parametrize("reaped", [True, False], ids=["gone", "zombie"])
def test_a_killed_holder_is_replaced_at_once(place, start, monkeypatch, reaped: bool):
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited for a dead process"))
    holder, epoch = start(HOLD, place.url, 1e6)
    holder.kill()
    if reaped:
        holder.wait()
    else:
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    with acquire(place) as lease:
        assert lease.epoch == int(epoch) + 1


def test_another_process_with_the_same_id_is_not_the_holder(place):
    acquire(place).release()
    ours = record(place, 1) | {"released": False}
    for started, refused in ((ours["started"], True), (ours["started"] - 100, False)):
        place.put("ledger/lease/000001.json", json.dumps(ours | {"started": started}).encode())
        if refused:
            with pytest.raises(CampaignError, match="driven by"):
                acquire(place)
        else:
            acquire(place).release()


def test_a_holder_elsewhere_that_renews_refuses(place, start, monkeypatch):
    holder, _ = start(HOLD, place.url, 0.5)
    elsewhere(monkeypatch)
    with pytest.raises(CampaignError, match=f"driven by process {holder.pid} "):
        acquire(place)


@pytest.mark.parametrize("wrong", [-1e9, 0.0, 1e9], ids=["behind", "right", "ahead"])
def test_a_silent_holder_elsewhere_is_replaced_whatever_its_clock(place, monkeypatch, wrong):
    acquire(place, interval=0.05).release()
    silent = record(place, 1) | {"released": False, "renewed": time.time() + wrong}
    place.put("ledger/lease/000001.json", json.dumps(silent).encode())
    elsewhere(monkeypatch)
    with acquire(place) as lease:
        assert lease.epoch == 2


def test_a_lease_that_is_not_whole_counts_as_one_elsewhere(place, monkeypatch):
    place.put("ledger/lease/000007.json", b'{"host"')
    monkeypatch.setattr(leases, "_INTERVAL", 0.05)
    with acquire(place) as lease:
        assert lease.epoch == 8


def test_of_several_takers_of_a_stale_lease_one_wins(place, start, tmp_path):
    holder, _ = start(HOLD, place.url, 10)
    holder.kill()
    holder.wait()
    go = tmp_path / "go"
    racers = [start(RACE, place.url, go)[0] for _ in range(4)]
    go.touch()
    said = [racer.stdout.readline() for racer in racers]
    assert sum(line == "won 2\n" for line in said) == 1
    assert sum("driven by process" in line for line in said) == 3
    winner = racers[said.index("won 2\n")]
    winner.communicate(timeout=30)
    assert record(place, 2)["pid"] == winner.pid
    assert record(place, 2)["released"]
    assert is_current(place, 2)


def test_a_holder_that_was_paused_finds_its_lease_lost(place, start, monkeypatch):
    holder, _ = start(HOLD, place.url, 0.1)
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(CampaignError, match="driven by"):  # here it is alive: it may go on
        acquire(place)
    elsewhere(monkeypatch)
    with acquire(place, interval=0.05) as lease:
        assert lease.epoch == 2
        holder.send_signal(signal.SIGCONT)
        assert holder.communicate(timeout=30)[0] == "lost\n"
        assert not is_current(place, 1)
        assert is_current(place, 2)
        assert not lease.lost.wait(0.2)
    assert place.names("ledger/lease") == [f"ledger/lease/00000{epoch}.json" for epoch in (1, 2)]


def test_renewals_go_on_after_a_store_that_was_out_of_reach(place, monkeypatch):
    put = Objects.put
    broken = iter(range(3))

    def sometimes(self: Objects, name: str, data: bytes) -> None:
        if next(broken, None) is not None:
            raise CampaignError("cannot write")
        put(self, name, data)

    with acquire(place, interval=0.01):
        before = record(place, 1)["renewed"]
        monkeypatch.setattr(Objects, "put", sometimes)
        while record(place, 1)["renewed"] <= before or next(broken, None) is not None:
            time.sleep(0.01)


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan")])
def test_an_interval_is_positive(place, interval: float):
    with pytest.raises(ValueError, match="renewal interval"):
        acquire(place, interval)


def test_a_folder_in_the_place_of_a_lease_is_passed_over(place):
    (Path(place.url) / leases._name(1)).mkdir(parents=True)
    with acquire(place) as lease:
        assert lease.epoch == 2
        assert is_current(place, 2)
    assert leases.holder(place) is None
