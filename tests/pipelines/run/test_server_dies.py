"""A Prefect server that is killed in the middle costs the UI, never the data."""

import signal
import time
from pathlib import Path

import pytest

from pipelines.run import server as servers
from pipelines.run.server import Server, local_server
from support.driving import (
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
from support.prefect_server import ask

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

LONG = ("observe.measure=[plugin:slow]", "regression=null", "theories=[nngp]", "sampler.draws=10")
AWAY = 5.0  # seconds


def begun(root: Path, **environment: object) -> Tree:
    """A run of which some shards are finished."""
    settings = (f"--set={each}" for each in LONG)
    where = ("--store", root, "--executor", "inline", "--plugins", PLUGIN)
    code = "from pipelines.cli import main; main()"
    running = Tree("-c", code, "run", SMALL, *where, *settings, SLOW_SECONDS=0.2, **environment)
    until(lambda: len(list(root.rglob("receipts/ensemble/*/*.json"))) > 2 or running.process.poll())
    return running


def kill(server: Server) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def test_a_run_outlives_a_server_that_is_started_again(tmp_path, monkeypatch):
    with local_server(str(tmp_path / "server"), keep=False) as server:
        running = begun(tmp_path / "run")
        kill(server)
        time.sleep(AWAY)
        monkeypatch.setattr(servers, "_password", lambda *_, **__: server.password)
        again = servers.start(server.folder, server.port)
        try:
            printed, _ = running.process.communicate(timeout=PATIENCE)
            assert running.process.returncode == 0, printed
            assert "ERROR" not in printed
            (found,) = ask(again, "flow_runs")
            assert found["state_type"] == "COMPLETED"
            assert found["tags"]
            assert not any(each["tags"] for each in ask(again, "task_runs"))
        finally:
            servers.stop(again.process)


@pytest.mark.chaos  # Prefect asks for a minute before it gives up
def test_a_run_whose_server_is_gone_ends_in_a_line_and_goes_on_without_it(tmp_path):
    with local_server(str(tmp_path / "server"), keep=False) as server:
        running = begun(tmp_path / "run", PREFECT_CLIENT_MAX_RETRIES=0)
        kill(server)
        printed, _ = running.process.communicate(timeout=PATIENCE)
    assert running.process.returncode == 2
    said = [line for line in printed.splitlines() if line.startswith("finitewidth: ")]
    assert ["does not answer any more" in line for line in said] == [True]
    assert running.living() == []
    campaigns = [prepared(tmp_path / name, *LONG) for name in ("run", "undisturbed")]
    for campaign in campaigns:
        simulate(campaign)
    data = [contents(f"{campaign.store.data}/ensemble") for campaign in campaigns]
    assert unlike(*data) == []
