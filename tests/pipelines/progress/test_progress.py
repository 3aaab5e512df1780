"""What a run says where no terminal is: stages, failures, and now and then how far it is."""

import io
import time
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.progress import doing, progress
from pipelines.progress.pace import Pace
from pipelines.progress.progress import Progress


def ended(receipt: object = "receipt") -> Any:
    return SimpleNamespace(
        shard=SimpleNamespace(name="shard 7"), receipt=receipt, reason="a reason"
    )


@pytest.mark.parametrize(("quiet", "counts"), [(-1.0, 3), (1e9, 0)])
def test_long_stages_are_counted_now_and_then(monkeypatch, quiet, counts):
    monkeypatch.setattr(progress, "QUIET", quiet)
    stream = io.StringIO()
    with Progress(total=5, done=1, stream=stream) as shown:
        shown.stage("ensemble")
        for _ in range(3):
            shown.count(ended())
    lines = [line.partition(" ")[2] for line in stream.getvalue().splitlines()]
    expected = [f"{done} of 5 shards finished" for done in (2, 3, 4)][:counts]
    assert lines == ["ensemble (1 of 5 shards finished)", *expected]
    assert shown.fraction == 0.8


def test_a_failure_is_said_at_once_and_not_counted():
    stream = io.StringIO()
    with Progress(total=2, done=0, stream=stream) as shown:
        shown.count(ended(receipt=None))
    assert stream.getvalue().endswith(" failed: shard 7: a reason\n")
    assert shown.done == 0


def pace() -> Pace:
    work = {"ensemble/key": (100.0, 5)}
    hours = {"predict": 10 * 3600.0, "report": 20 * 3600.0}  # so that seconds do not show
    return Pace(time.time(), 1, 3600.0, work, {}, hours)


def test_a_run_says_how_much_is_left_and_keeps_it_for_others(monkeypatch):
    monkeypatch.setattr(progress, "QUIET", -1.0)
    stream, kept = io.StringIO(), []
    with Progress(5, 0, stream, pace(), kept.append) as shown:
        shown.stage("ensemble")
        shown.stage("predict")
        shown.detail("dataset 3 of 4", 0.0)
        shown.stage("report")
    lines = [line.partition(" ")[2] for line in stream.getvalue().splitlines()]
    assert lines == [
        "ensemble (0 of 5 shards finished, about 31 h left)",
        "predict (0 of 5 shards finished, about 30 h left)",
        "predict: dataset 3 of 4, about 30 h left",
        "report (0 of 5 shards finished, about 20 h left)",
    ]
    assert [each.stage for each in kept] == ["ensemble", "predict", "report"]


def test_stages_are_heard_while_somebody_listens():
    heard = []
    doing.tell("dataset", 0, 4)
    with doing.heard(lambda *said: heard.append(said)):
        doing.tell("dataset", 2, 4)
    doing.tell("dataset", 3, 4)
    assert heard == [("dataset 3 of 4", 0.5)]


def test_a_terminal_gets_a_bar_with_the_time_that_is_left():
    class Terminal(io.StringIO):
        encoding = "ascii"

        def isatty(self):
            return True

    stream = Terminal()
    with Progress(5, 0, stream, pace()) as shown:
        shown.stage("width [16]")
        shown.detail("dataset", 0.5)
    assert "left" in stream.getvalue()
    assert "width [16]" in stream.getvalue()
