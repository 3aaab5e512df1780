"""Campaigns that Prefect workers run: submitted, found, cancelled, resumed, and no secret told."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.run.server import KEY, Server, local_server
from support.driving import PATIENCE, PLUGIN, SMALL, Tree, contents, until
from support.prefect_server import ask

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]

LIVE = ("SCHEDULED", "PENDING", "RUNNING")
POOL = "lab"
SECRET = "AKIA-planted-9f1b7c"  # as of an object store, which workers have in their environment
COMMANDS = """
import json, sys, time
from pathlib import Path
from pipelines.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["finitewidth", *arguments]
    try:
        if arguments[0] == "wait":  # for so many shards of a campaign
            folder, pattern, count = arguments[1:]
            receipts = f"{pattern}/ledger/receipts/ensemble/*/*"
            while len(list(Path(folder).glob(receipts))) < int(count):
                time.sleep(0.02)
            raise SystemExit
        main()
    except SystemExit as end:
        print(f"status {end.code or 0}", flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server, which is that of the environment as well."""
    with local_server(str(tmp_path_factory.mktemp("prefect")), keep=False) as started:
        yield started


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> Path:
    """Where campaigns are kept."""
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """What the worker prints."""
    return tmp_path_factory.mktemp("worker") / "worker.log"


@pytest.fixture(scope="module")
def worker(server, log) -> Iterator[psutil.Process]:
    """A worker of the pool, once `deploy` has made that."""
    ((status, _),) = commands(["deploy", "--pool", POOL])
    assert status == 0
    environment = {"SLOW_SECONDS": "0.1", "AWS_SECRET_ACCESS_KEY": SECRET}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        patiently(lambda: worker_states(server) == ["ONLINE"])
        yield psutil.Process(process.pid)
    finally:
        left = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(left, timeout=3)
        for each in alive:
            each.kill()
        process.wait()


def patiently(condition: Callable[[], object]) -> None:
    """Wait for what a server says: asked all the time it has no time for anything else."""

    def asked() -> object:
        time.sleep(0.5)
        return condition()

    until(asked)


def worker_states(server: Server) -> list[str]:
    return [each["status"] for each in ask(server, f"work_pools/{POOL}/workers/filter")]


def started(*several: list[object]) -> Tree:
    """Commands one after another in one process."""
    given = json.dumps([[str(each) for each in arguments] for arguments in several])
    return Tree("-c", COMMANDS, given)


def commands(*several: list[object]) -> list[tuple[int, str]]:
    """Status and output of each."""
    return answers(started(*several).finish())


def answers(printed: str) -> list[tuple[int, str]]:
    parts = re.split(r"^status (\d+)\n", printed, flags=re.M)
    return [(int(parts[i + 1]), parts[i]) for i in range(0, len(parts) - 1, 2)]


def submission(stores: Path, name: str, *overrides: str) -> list[object]:
    """Arguments that submit the smallest campaign, with code of the user's that is slow."""
    settings = (f"name={name}", "observe.measure=[plugin:slow]", "regression=null",
        "theories=[nngp]", "ensemble.datasets=1", *overrides)  # fmt: skip
    given = [f"--set={each}" for each in settings]
    where = ["--store", stores, "--pool", POOL, "--executor", "inline", "--plugins", PLUGIN]
    return ["submit", SMALL, *where, *given]


def run_of(printed: str) -> str:
    (found,) = re.findall(r"flow-run/(\S+)", printed)
    return found


def flow_run(server: Server, run: str) -> dict:
    (found,) = ask(server, "flow_runs", flow_runs={"id": {"any_": [run]}})
    return found


def test_nothing_is_submitted_where_nobody_would_run_it(server, stores):
    said = commands(submission(stores, "nobody"), ["deploy"], ["cancel", "nobody"])
    assert [status for status, _ in said] == [2, 0, 2], said
    assert f"make both with `finitewidth deploy --pool {POOL}`" in said[0][1]
    assert said[1][1].endswith("prefect worker start --pool campaigns\n")
    assert "nobody: no campaign's store, and no run of this name" in said[2][1]
    ((status, printed),) = commands([*submission(stores, "nobody"), "--pool", "campaigns"])
    assert status == 2
    assert printed == (
        "finitewidth: no worker polls the work pool campaigns; start one where the work is to be "
        "done: `prefect worker start --pool campaigns`\n"
    )
    assert ask(server, "flow_runs") == []
    assert list(stores.iterdir()) == []


def test_a_campaign_is_submitted_once_cancelled_and_resumed(server, worker, stores, log):
    slow = submission(stores, "slow", "sampler.draws=20")
    process = started(
        slow,
        slow,
        [*slow, "--only", "width=4"],
        ["wait", stores, "slow-*", 4],
        ["cancel", "slow"],
        slow,
    )
    until(lambda: [*stores.glob("slow-*/ledger/receipts")])
    lines = [str(each.info["cmdline"]) for each in psutil.process_iter(["cmdline"])]
    secrets = (SECRET, server.password, server.password.partition(":")[2])
    assert not [line for line in lines if any(secret in line for secret in secrets)]
    first, same, other, _, cancelled, again = answers(process.finish())
    assert first[1].startswith("submitted\n")
    assert same[1].startswith("already submitted, ")
    run = run_of(first[1])
    assert run_of(same[1]) == run
    assert other[0] == 2
    assert "is being run with other settings" in other[1]
    assert "cancelled; what is finished is kept, and the same submit goes on" in cancelled[1]
    ended = flow_run(server, run)
    assert ended["state_type"] == "CANCELLED"
    assert again[1].startswith("submitted\n")
    resumed = run_of(again[1])
    assert resumed != run
    (store,) = stores.glob("slow-*")
    finished = contents(store / "ledger" / "receipts")

    patiently(lambda: flow_run(server, resumed)["state_type"] not in LIVE)
    seen = flow_run(server, resumed)
    assert seen["state_type"] == "COMPLETED", log.read_text()
    assert seen["name"] == "slow"
    assert f"store:{store}" in seen["tags"]
    whole = contents(store / "ledger" / "receipts")
    assert {name: whole[name] for name in finished} == finished  # nothing was computed twice

    listed, by_name, status, over = commands(
        ["list", "--runs", "--store", stores],
        ["list", "--runs", "--name", "slow", "--state", "cancelled"],
        ["status", "slow"],
        ["cancel", "slow"],
    )
    assert listed[1].count("/runs/flow-run/") == 2
    assert run_of(by_name[1]) == run
    assert f"run       Completed, http://127.0.0.1:{server.port}/runs/flow-run/" in status[1]
    assert f"store     {store}" in status[1]
    assert over == (2, "finitewidth: slow is not running: its last run is Completed\n")

    (cells,) = ask(
        server,
        "artifacts",
        artifacts={"key": {"any_": ["slow-cells"]}, "flow_run_id": {"any_": [resumed]}},
    )
    assert [row["N"] for row in json.loads(cells["data"])] == ["4", "8"]
    said = log.read_text()  # Prefect itself writes a traceback of the run that was cancelled
    assert said.count("Traceback") == said.count("prefect.exceptions.CancelledRun: stopped: ") == 1
    _tell_no_secret(server, stores, log.parent, secrets)


def _tell_no_secret(server: Server, stores: Path, logs: Path, secrets: tuple[str, ...]) -> None:
    """Neither files nor what the UI shows has one, but the file that this user alone may read."""
    told = contents(stores) | contents(logs) | contents(server.folder)
    own = told.pop(KEY)
    assert own.decode().strip() == server.password
    assert (server.folder / KEY).stat().st_mode & 0o077 == 0
    for what in ("flow_runs", "task_runs", "artifacts", "logs", "deployments", "work_pools"):
        told[what] = json.dumps(ask(server, what)).encode()
    found = [name for name, data in told.items() if any(each.encode() in data for each in secrets)]
    assert found == []
