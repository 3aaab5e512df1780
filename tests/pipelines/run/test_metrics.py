"""What Prometheus and collectors of logs hear of a run."""

import json
import re
import socket
import urllib.request
from contextlib import ExitStack

import pytest

from pipelines.engine import engine
from pipelines.run import driving
from pipelines.run.metrics import Metrics, exported, member_steps
from storage.errors import CampaignError
from support.driving import prepared
from workers.faults import Fault
from workers.shard import Outcome

TINY = ("ensemble.datasets=1", "sweep={}", "regression=null", "theories=[nngp]")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def samples(text: str) -> dict[str, float]:
    """Values by name and labels, less those that name the run."""
    found = {}
    for line in text.splitlines():
        if line.startswith("finitewidth_"):
            name, _, value = line.rpartition(" ")
            name = re.sub(r'campaign="[^"]*",identity="[^"]*",?', "", name).replace("{}", "")
            found[name] = float(value)
    return found


def ask(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return samples(answer.read().decode())


def test_metrics_count_what_the_store_has(tmp_path, monkeypatch):
    port = free_port()
    campaign = prepared(tmp_path, *TINY)
    options = driving.Options("inline", metrics=str(port))
    with driving.driving(campaign, options) as (driven, progress):
        before = ask(port)
        driving.simulate(driven, progress)
        progress.stage("predict")
        after = ask(port)
    total = driven.total
    assert before['finitewidth_shards{state="waiting"}'] == total
    assert after['finitewidth_shards{state="finished"}'] == total
    assert after['finitewidth_shards{state="waiting"}'] == 0
    assert after['finitewidth_stage{stage="predict"}'] == 1
    receipts = dict(campaign.store.ledger.receipts())
    assert after["finitewidth_shard_seconds_count"] == len(receipts)
    assert after["finitewidth_written_bytes_total"] == sum(r["bytes"] for r in receipts.values())
    # Two blocks of an ensemble and one of a step check, each of 2 chains, make 5 steps of warm-up
    # and 6 draws of 2 steps.
    assert after["finitewidth_member_steps_total"] == 3 * 2 * (5 + 6 * 2)
    last = max(r["started"] + r["seconds"] for r in receipts.values() if "checkpoint" in r)
    assert after["finitewidth_last_checkpoint_timestamp_seconds"] == pytest.approx(last)
    with pytest.raises(OSError, match="refused"):
        ask(port)  # it ends with the run


def test_failures_are_counted_by_kind_and_once_among_the_failed_shards(tmp_path):
    with engine.drive(prepared(tmp_path, *TINY), engine.Inline()) as driven:
        metrics = Metrics(driven)
        shard = driven.left[0].lanes[0][0]
        for fault in (Fault.MACHINE, Fault.MACHINE, Fault.BUG):
            metrics.counted(Outcome(shard, None, "a reason", fault))
        value = metrics.registry.get_sample_value
        labels = metrics.labels
        assert value("finitewidth_failures_total", {**labels, "kind": "machine"}) == 2
        assert value("finitewidth_failures_total", {**labels, "kind": "bug"}) == 1
        assert value("finitewidth_shards", {**labels, "state": "failed"}) == 1
        assert value("finitewidth_shards", {**labels, "state": "waiting"}) == driven.total - 1


def test_steps_of_a_resumed_run_go_on_from_those_before(tmp_path):
    campaign = prepared(tmp_path, *TINY)
    with engine.drive(campaign, engine.Inline()) as driven:
        first = next(iter(driven.run(driven.left[0])))
    with engine.drive(campaign, engine.Inline()) as driven:
        metrics = Metrics(driven)
        found = metrics.registry.get_sample_value("finitewidth_member_steps_total", metrics.labels)
    assert found == member_steps(first.shard) > 0


@pytest.mark.parametrize("place", ["seven", "127.0.0.1:", "127.0.0.1:70000"])
def test_a_place_that_is_none_is_one_line(place):
    with pytest.raises(CampaignError, match=r"--metrics .*: found no port"), exported(None, place):
        pass


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.socket() as taken, ExitStack() as stack:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        campaign = prepared(tmp_path, *TINY)
        driving_it = engine.drive(campaign, engine.Inline())
        with driving_it as driven, pytest.raises(CampaignError, match="nothing can listen"):
            stack.enter_context(exported(driven, str(port)))


def test_json_lines_name_campaign_shard_and_attempt(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("FINITEWIDTH_LOG_JSON", "1")
    with driving.driving(prepared(tmp_path, *TINY), driving.Options("inline")) as (
        driven,
        progress,
    ):
        driving.simulate(driven, progress)
        progress.count(Outcome(next(driven.plan.lanes())[0], None, "two\nlines", attempt=3))
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {line["campaign"] for line in lines} == {"small"}
    finished = [line for line in lines if line["message"] == "finished"]
    assert {line["shard"] for line in finished} == driven.store.ledger.finished()
    assert all(line["attempt"] == 1 and line["seconds"] >= 0 for line in finished)
    assert (lines[-1]["level"], lines[-1]["attempt"]) == ("error", 3)
    assert lines[-1]["message"] == "failed: two\nlines"
