"""Submitting, against a server that is made up: which run it becomes, and when there is none."""

import socket
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipelines.cluster import submit
from pipelines.run import handing, runs
from pipelines.run.driving import Options
from storage.errors import CampaignError
from storage.files import lease
from storage.files.objects import Objects
from storage.reading.document import dump_yaml, parse
from support.driving import SMALL, prepared

OPTIONS = Options("inline")


class Server:
    """As much of a Prefect server as submitting needs: the idempotency of its runs above all."""

    def __init__(self) -> None:
        self.runs: list[FlowRun] = []

    def create_flow_run_from_deployment(
        self, target: UUID, *, idempotency_key: str, tags: Sequence[str], **fields: Any
    ) -> FlowRun:
        for run in self.runs:
            if run.idempotency_key == idempotency_key:
                return run
        run = FlowRun(
            flow_id=uuid4(),
            deployment_id=target,
            idempotency_key=idempotency_key,
            tags=list(tags),
            state=State(type=StateType.SCHEDULED),
            **fields,
        )
        self.runs.append(run)
        return run

    def end(self, state: StateType) -> None:
        self.runs[-1].state = State(type=state)

    def read_flow_runs(self, flow_run_filter: Any, **_: object) -> list[FlowRun]:
        return [run for run in self.runs if self._matches(run, flow_run_filter)]

    def count_flow_runs(self, flow_run_filter: Any, **_: object) -> int:
        return len(self.read_flow_runs(flow_run_filter))

    def set_flow_run_state(self, run: UUID, state: State, force: bool = False) -> None:
        (found,) = [each for each in self.runs if each.id == run]
        found.state = state

    def _matches(self, run: FlowRun, wanted: Any) -> bool:
        assert run.state
        states = wanted.state.type.any_ if wanted.state else [*StateType]
        return set(wanted.tags.all_) <= set(run.tags) and run.state.type in states


@pytest.fixture
def server(monkeypatch) -> Server:
    made = Server()

    @contextmanager
    def connected():
        yield made

    monkeypatch.setattr(submit, "connected", connected)
    monkeypatch.setattr(submit.deployment, "ready", lambda client, pool: uuid4())
    return made


def submitted(campaign, options=OPTIONS) -> UUID:
    return submit.submit(campaign, options, "pool", say=lambda line: None).id


def test_a_live_campaign_keeps_its_run_and_one_that_has_ended_gets_a_new_one(server, tmp_path):
    campaign = prepared(tmp_path)
    seen = [submitted(campaign)]
    for ended in (StateType.CANCELLED, StateType.FAILED, StateType.CRASHED, StateType.COMPLETED):
        assert submitted(campaign) == seen[-1]
        server.end(ended)
        seen.append(submitted(campaign))
    assert len(set(seen)) == 5
    identity = campaign.store.url.rsplit("-", 1)[-1]
    keys = [run.idempotency_key or "" for run in server.runs]
    assert [key.partition("-")[0] for key in keys] == [identity] * 5
    assert [key.rpartition("-")[2] for key in keys] == ["0", "1", "2", "3", "4"]


def test_two_who_submit_at_once_get_one_run(server, tmp_path, monkeypatch):
    """Neither sees the other's run before it asks for its own."""
    monkeypatch.setattr(submit, "_live", lambda *_: None)
    assert submitted(prepared(tmp_path)) == submitted(prepared(tmp_path))


def test_runs_that_were_removed_from_the_server_do_not_stop_a_campaign(server, tmp_path):
    campaign = prepared(tmp_path)
    for _ in range(3):
        submitted(campaign)
        server.end(StateType.COMPLETED)
    del server.runs[0]  # two are left, and the key with the number 2 is taken by one of them
    run = submitted(campaign)
    assert run == server.runs[-1].id
    assert (server.runs[-1].idempotency_key or "").endswith("-3")
    assert not runs.is_final(server.runs[-1])


def test_another_folder_of_stores_is_another_run(server, tmp_path):
    assert submitted(prepared(tmp_path / "one")) != submitted(prepared(tmp_path / "two"))


def test_a_live_campaign_with_other_settings_is_refused_with_the_address_of_its_run(
    server, tmp_path
):
    run = submitted(prepared(tmp_path))
    more = prepared(tmp_path, "sampler.draws=8")
    assert more.store.url == prepared(tmp_path).store.url
    with pytest.raises(CampaignError, match=f"with other settings: .*{run}"):
        submitted(more)
    with pytest.raises(CampaignError, match="with other settings"):
        submitted(prepared(tmp_path), Options("inline", only=("width=4",)))


@pytest.mark.parametrize(
    ("minutes", "driven", "lost"), [(60, False, True), (1, False, False), (60, True, False)]
)
def test_a_run_whose_driver_is_gone_is_made_anew(minutes, driven, lost, server, tmp_path):
    """As after a power cut: the server still says Running, and nobody holds the lease."""
    campaign = prepared(tmp_path)
    run = submitted(campaign)
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    server.runs[-1].state = State(type=StateType.RUNNING, timestamp=since)
    held = lease.acquire(Objects(campaign.store.url))
    if not driven:
        held.release()
    assert (submitted(campaign) != run) == lost
    states = [each.state.type for each in server.runs if each.state]
    assert states == ([StateType.CRASHED, StateType.SCHEDULED] if lost else [StateType.RUNNING])
    if driven:
        held.release()


def test_a_short_spec_travels_with_the_run_and_a_long_one_is_kept_in_the_root(
    tmp_path, monkeypatch
):
    campaign = prepared(tmp_path)
    text = dump_yaml(campaign.spec)
    given = handing.parameters(campaign, OPTIONS)
    assert given["spec"] == text
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(handing, "MOST_BYTES", 100)
    given = handing.parameters(campaign, OPTIONS)
    assert len(given["spec"]) < 100
    assert parse(handing.spec(given["spec"], given["root"])) == campaign.spec
    assert handing.parameters(campaign, OPTIONS) == given
    (tmp_path / given["spec"]).write_text("version: 1\n")
    with pytest.raises(CampaignError, match="not as it was; submit it again"):
        handing.spec(given["spec"], given["root"])


def test_a_run_is_given_absolute_places_and_the_plugins_that_were_allowed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINITEWIDTH_PLUGINS", "plugin")
    campaign = prepared("results", "observe.measure=[plugin:slow]")
    given = handing.parameters(campaign, OPTIONS)
    assert given["root"] == str(tmp_path / "results")
    assert given["options"]["plugins"] == ["plugin"]
    assert given["options"]["folder"] == str(tmp_path)


def test_without_a_server_there_is_one_line(finitewidth, monkeypatch, tmp_path):
    with temporary_settings({PREFECT_API_URL: ""}):
        for command in (["submit", SMALL, "--executor", "inline"], ["deploy"], ["cancel", "small"]):
            status, out, err = finitewidth(*command)
            assert (status, out) == (2, "")
            assert err.startswith("finitewidth: found no Prefect server to talk to; start one")
            assert err.count("\n") == 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://who:secret@127.0.0.1:{probe.getsockname()[1]}/api"
    with temporary_settings({PREFECT_API_URL: url}):
        status, out, err = finitewidth("list", "--runs")
    assert (status, out) == (2, "")
    assert "no Prefect server answers" in err
    assert "secret" not in err
    assert err.count("\n") == 1
    assert finitewidth("list", "--name", "small")[0] == 2
    assert list(tmp_path.iterdir()) == []
