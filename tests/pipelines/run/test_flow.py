"""A campaign as a Prefect flow: what the UI shows of it, and that it leaves nothing behind."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import INCOMPLETE
from pipelines.engine import stages
from pipelines.run.draining import DRAINED
from pipelines.run.server import Server, local_server
from support.driving import PATIENCE, PLUGIN, SMALL, Tree, prepared, until
from support.prefect_server import answer, ask

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server, which is that of the environment as well."""
    with local_server(str(tmp_path_factory.mktemp("prefect")), keep=False) as started:
        yield started


def test_a_server_is_for_who_started_it(server):
    for password in ("", "finitewidth:", f"{server.password}0"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            answer(server, "flow_runs/filter", password, {})
    for origin in ("http://example.org", "null"):
        with answer(server, "flow_runs/filter", server.password, {}, Origin=origin) as found:
            assert found.headers["Access-Control-Allow-Origin"] is None
    files = [server.folder, *server.folder.rglob("*")]
    assert {file.name for file in files} > {"prefect.db", "server.log", "password"}
    assert {file: oct(file.stat().st_mode) for file in files if file.stat().st_mode & 0o077} == {}


def run(root: Path, *arguments: object, executor: str = "inline", **environment: object) -> Tree:
    """`finitewidth run` of the smallest campaign, in this process's environment."""
    code = "from pipelines.cli import main; main()"
    where = ("--store", root, "--executor", executor, "--plugins", PLUGIN)
    return Tree("-c", code, "run", SMALL, *where, *arguments, **environment)


def flow_run(server: Server, name: str) -> dict[str, Any]:
    (found,) = ask(server, "flow_runs", flow_runs={"name": {"any_": [name]}})
    return found


def test_a_campaign_is_a_flow_run_of_waves_and_stages(server, tmp_path):
    store = prepared(tmp_path).store
    run(tmp_path).finish()
    seen = flow_run(server, "small")
    identity = store.url.rsplit("-", 1)[-1]
    assert seen["state_type"] == "COMPLETED"
    assert seen["state"]["message"] == f"44 shards in {store.url}"
    tags = {"campaign:small", f"identity:{identity}", "executor:inline", f"store:{store.url}"}
    assert set(seen["tags"]) == tags

    tasks = ask(server, "task_runs")
    waves = {"regression", "ensemble width 4", "ensemble width 8"}
    assert {task["name"] for task in tasks} == waves | set(stages.STAGES)
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}

    artifacts = {artifact["key"]: artifact for artifact in ask(server, "artifacts")}
    assert set(artifacts) == {"small-progress", "small-cells", "small-report"}
    assert artifacts["small-progress"]["data"] == 100
    assert len(json.loads(artifacts["small-cells"]["data"])) == 2
    assert f"{store.url}/report/report.html" in artifacts["small-report"]["data"]


FAILING = {
    "shards": ("observe={points: 10, measure: [plugin:picky]}", "4 shards failed, first ensemble/"),
    "everything": ("network.activation=plugin:helpless", "10 shards failed, first ensemble/"),
}


@pytest.mark.parametrize("what", FAILING)
def test_what_failed_is_the_state_of_the_flow_run(what, server, tmp_path):
    override, message = FAILING[what]
    settings = (f"name={what}", "regression=null", "theories=[]", override)
    failing = run(tmp_path, *(f"--set={each}" for each in settings), PICKY_WIDTH=4)
    printed, _ = failing.process.communicate()
    state = flow_run(server, what)["state"]
    assert state["type"] == "FAILED"
    assert state["message"].startswith(message)
    assert failing.process.returncode == INCOMPLETE, printed
    assert "Traceback" not in printed
    assert printed.splitlines()[-1] == f"finitewidth: the flow run failed: {state['message']}"
    assert printed.count("report/report.html") == 1  # of the cells that did not fail


LONG = ("observe.measure=[plugin:slow]", "sampler.draws=10")


@pytest.mark.ray
def test_a_flow_that_is_stopped_takes_everything_with_it(server, tmp_path, short):
    settings = (f"--set={each}" for each in ("name=stopped", *LONG))
    running = run(tmp_path, *settings, executor="ray", SLOW_SECONDS=0.05)
    until(lambda: len(list(tmp_path.rglob("receipts/ensemble/*/*.json"))) > 2)
    running.process.terminate()
    printed, _ = running.process.communicate(timeout=PATIENCE)
    assert running.process.returncode == DRAINED
    assert "Traceback" not in printed
    assert printed.splitlines()[-1].startswith("stopped; what is finished is kept")
    assert running.living() == []
    assert list(short.iterdir()) == []
    state = flow_run(server, "stopped")["state"]
    assert state["type"] == "CANCELLED"
    total = sum(prepared(tmp_path, *LONG).plan.work.values())
    assert re.match(rf"stopped: \d+ of {total} shards are finished", state["message"])


def test_a_run_that_is_cancelled_in_the_ui_ends_and_goes_on_later(server, tmp_path):
    settings = [f"--set={each}" for each in ("name=cancelled", *LONG)]
    running = run(tmp_path, *settings, SLOW_SECONDS=0.3)
    until(lambda: len(list(tmp_path.rglob("receipts/ensemble/*/*.json"))) > 1)
    found = flow_run(server, "cancelled")
    ask(server, f"flow_runs/{found['id']}/set_state", state={"type": "CANCELLING"})
    printed, _ = running.process.communicate(timeout=PATIENCE)
    assert running.process.returncode == DRAINED
    assert "Traceback" not in printed
    assert flow_run(server, "cancelled")["state_type"] == "CANCELLED"
    assert "report/report.html" in run(tmp_path, *settings).finish()


def test_a_server_for_one_run_ends_with_it(tmp_path):
    watched = run(tmp_path, "--ui")
    assert "watch the run at http://127.0.0.1:" in watched.finish()
    assert watched.living() == []
