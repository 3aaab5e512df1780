"""Shards on Ray: what dies is done again, and what cannot be done is said in one line."""

import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.engine import engine
from pipelines.run import driving
from storage.errors import CampaignError, IncompleteError
from support.driving import (
    HERE,
    PATIENCE,
    PLUGIN,
    SMALL,
    Tree,
    contents,
    prepared,
    simulate,
    unlike,
    until,
)
from workers.cluster import pool, remote
from workers.cluster.remote import RayExecutor, cluster
from workers.faults import Fault

# A network of the user's own has no kernel that is known, so no regression.
OWN = ("sweep={size: {network.width: [4]}}", "regression=null", "theories=[]")


@pytest.fixture(autouse=True)
def _beside_the_plugin(monkeypatch):
    monkeypatch.chdir(HERE)


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_leaves_nothing_behind(short):
    def handler(*_: object) -> None:
        raise AssertionError

    here = psutil.Process()
    before, old = set(here.children(recursive=True)), signal.signal(signal.SIGTERM, handler)
    try:
        with cluster(cpus=2) as executor:
            assert executor.size() == (2, 2)
            assert signal.getsignal(signal.SIGTERM) is handler
            started = set(here.children(recursive=True)) - before
            assert started
            (folder,) = short.iterdir()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert listening({here, *started}) <= {"127.0.0.1", "::ffff:127.0.0.1"}
    finally:
        signal.signal(signal.SIGTERM, old)
    _, alive = psutil.wait_procs(set(here.children(recursive=True)) - before, timeout=30)
    assert alive == []
    assert list(short.iterdir()) == []


def listening(processes: set[psutil.Process]) -> set[str]:
    """The addresses at which others reach these processes."""
    found = [each for process in processes for each in process.net_connections("inet")]
    return {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN}


HOLD = """
import sys
from workers.cluster import pool, remote
print(remote._short_folder(), flush=True)
sys.stdin.read()
"""


def test_folders_of_killed_drivers_are_removed_by_the_next_one(short, monkeypatch):
    monkeypatch.setattr(remote, "YOUNG", -1)
    folders, drivers = [], []
    for _ in range(2):
        command = [sys.executable, "-c", HOLD]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        drivers.append(subprocess.Popen(command, text=True, **pipes))
        folders.append(Path(drivers[-1].stdout.readline().strip()))
    foreign = short / "fwabcdefgh"
    foreign.mkdir()
    drivers[0].kill()
    drivers[0].communicate()
    made = Path(remote._short_folder())
    assert set(short.iterdir()) == {folders[1], foreign, made}
    remote._remove(str(made))
    drivers[1].communicate()


LONG = "local/jobs/1234567.slurm-node0042/user/tmp"  # as sites with Slurm set it


@pytest.fixture
def long(tmp_path, monkeypatch) -> Path:
    """A folder for temporary files whose path is too long for a socket below it."""
    folder = tmp_path / LONG
    folder.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_has_a_short_folder_and_a_worker_for_each_core(long, monkeypatch):
    monkeypatch.setattr(remote, "available_cores", lambda: 3)
    made = []
    short_folder = remote._short_folder
    monkeypatch.setattr(remote, "_short_folder", lambda: made.append(short_folder()) or made[0])
    with cluster() as executor:
        assert executor.size() == (3, 3)
    assert list(long.iterdir()) == []
    assert not Path(made[0]).exists()


def test_the_folder_for_sockets_is_private(long):
    folder = Path(remote._short_folder())
    try:
        assert len(str(folder.parent)) <= remote.LONGEST_PATH
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        remote._remove(str(folder))


def test_it_is_among_the_other_temporary_files_where_that_is_short(short):
    folder = Path(remote._short_folder())
    assert folder.parent == short
    remote._remove(str(folder))


def test_without_a_short_folder_one_line_names_tmpdir(long, monkeypatch):
    def unwritable(*_: object, **__: object) -> str:
        raise PermissionError

    monkeypatch.setattr(tempfile, "mkdtemp", unwritable)
    with pytest.raises(CampaignError, match=f"at most 26 characters; found TMPDIR={long}") as said:
        remote._short_folder()
    assert "\n" not in str(said.value)


SLOW = Exception("Timed out\nwaiting for the head node")
STARTS = [SLOW, RuntimeError("Timed out\nwaiting"), OSError("Too many files")]


@pytest.mark.parametrize("error", STARTS, ids=["slow", "timed out", "too many files"])
def test_a_ray_that_cannot_start_is_one_line_and_leaves_nothing(error, short, monkeypatch):
    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr("ray.init", init)
    refused = r"^Ray cannot start here \(T.*; .*inline$"
    with pytest.raises(CampaignError, match=refused) as said, cluster(cpus=1):
        pass
    assert "\n" not in str(said.value)
    assert list(short.iterdir()) == []


@pytest.fixture(scope="module")
def executor(tmp_path_factory) -> Iterator[RayExecutor]:
    """One cluster for all tests that only use it; its workers inherit MORTAL_FILE."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MORTAL_FILE", str(tmp_path_factory.mktemp("mortal") / "died"))
        with cluster(cpus=2) as started:
            yield started


def on_ray(campaign: engine.Prepared, executor: RayExecutor) -> engine.Drive:
    with engine.drive(campaign, executor) as driven:
        wanted = {shard.name for wave in driven.left for lane in wave.lanes for shard in lane}
        assert {outcome.shard.name for outcome in driven.run(*driven.left)} <= wanted
    return driven


@pytest.mark.ray
@pytest.mark.slow
def test_what_a_worker_was_doing_when_it_died_is_done_by_another(executor, tmp_path):
    campaigns = [
        prepared(tmp_path / name, *OWN, "network.activation=plugin:mortal")
        for name in ("ray", "inline")
    ]
    driven = on_ray(campaigns[0], executor)
    died = {failure.shard for failure in driven.store.ledger.failures()}
    assert died
    assert died <= driven.store.ledger.finished()
    assert (driven.failed, driven.done) == ([], driven.total)
    simulate(campaigns[1])  # here, nobody dies any more
    data = [contents(campaign.store.data) for campaign in campaigns]
    assert unlike(*data) == []


@pytest.mark.ray
@pytest.mark.slow
def test_a_shard_that_kills_every_worker_is_given_up(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "ATTEMPTS", 2)
    one_block = "ensemble={datasets: 1, chains: 2, block: 2}"
    driven = on_ray(
        prepared(
            tmp_path,
            *OWN,
            one_block,
            "network.activation=plugin:deadly",
            "sampler.step_check=false",
        ),
        executor,
    )
    with pytest.raises(
        CampaignError, match=r"^1 shard failed, first .*: .* its worker died, 2 times"
    ):
        driven.check()
    assert len(driven.store.ledger.failures()) == 2


@pytest.mark.ray
@pytest.mark.slow
def test_what_the_user_must_put_right_comes_back_as_it_was_said(executor, tmp_path):
    driven = on_ray(prepared(tmp_path, *OWN, "network.activation=plugin:helpless"), executor)
    assert {outcome.fault for outcome in driven.failed} == {Fault.BUG}
    with pytest.raises(IncompleteError, match=": found a network, wanted a cat; bring a cat; see"):
        driven.check()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("what", ["raylet", "gcs_server"])
def test_a_ray_that_died_is_one_line(what, tmp_path, short):
    observed = ("observe.measure=[plugin:slow]", "regression=null", "theories=[nngp]")
    where = ("--store", tmp_path, "--plugins", PLUGIN, "--workers", 1)
    settings = (f"--set={each}" for each in observed)
    code = "from pipelines.cli import main; main()"
    run = Tree("-c", code, "run", SMALL, *where, *settings, SLOW_SECONDS=0.2)
    until(lambda: list(tmp_path.rglob("receipts/*/*/*.json")))
    (dying,) = (each for each in run.living() if each.cmdline()[0].endswith(f"/{what}"))
    dying.kill()
    printed, _ = run.process.communicate(timeout=PATIENCE)
    assert run.process.returncode == 2
    assert "Traceback" not in printed
    reason = {"raylet": "LocalRayletDiedError", "gcs_server": "its head ended"}[what]
    assert printed.splitlines()[-1].startswith(f"finitewidth: Ray has failed ({reason}")
    assert len([line for line in printed.splitlines() if "finitewidth: " in line]) == 1
    assert run.living() == []
    assert list(short.iterdir()) == []


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{}", "127.0.0.1", "localhost:ray", "ray://127.0.0.1:{}", "127.0.0.1:9{}"]
)
def test_an_address_where_no_cluster_is_is_one_line_at_once(address, closed_port, tmp_path):
    address = address.format(closed_port)
    options = driving.Options("ray", address)
    with (
        pytest.raises(CampaignError, match=f"--address {address}: .*; give host:port") as caught,
        driving.driving(prepared(tmp_path / "stores"), options),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "stores").exists()
