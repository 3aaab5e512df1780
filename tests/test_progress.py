"""What a run says where no terminal is: stages, failures, and now and then how far it is."""

import io
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import progress
from pipelines.progress import Progress


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
