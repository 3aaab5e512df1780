"""Speeds of a machine: measured once, kept while they are fresh, and never in the way."""

import json
import time

import pytest

from pipelines.estimates import speeds
from pipelines.estimates.speeds import FRESH_SECONDS, Speeds


def counting():
    """Something that takes as many seconds as it has been called."""
    calls = []

    def act():
        calls.append(1)
        return [float(len(calls))]

    return act, calls


def test_what_is_known_is_not_measured_again(tmp_path):
    act, calls = counting()
    for _ in range(2):
        known = Speeds(tmp_path / "cache" / "speeds.json")
        assert known.measure("step", act) == [1.0]
        known.keep()
    assert len(calls) == 1


def test_what_is_old_is_measured_again(tmp_path, monkeypatch):
    act, calls = counting()
    Speeds(tmp_path / "s").measure("step", act)
    first = Speeds(tmp_path / "s")
    first.measure("step", act)
    first.keep()
    later = time.time() + FRESH_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert Speeds(tmp_path / "s").measure("step", act) == [len(calls)]


def test_another_machine_has_speeds_of_its_own(tmp_path, monkeypatch):
    act, _ = counting()
    for name, wanted in (("one", 1.0), ("other", 2.0), ("one", 1.0)):
        monkeypatch.setattr(speeds, "_machine", lambda name=name: name)
        known = Speeds(tmp_path / "s")
        assert known.measure("step", act) == [wanted]
        known.keep()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"m": {"step": {"seconds": 1}}}', b'{"m": []}']
)
def test_a_cache_that_is_not_whole_is_none(content, tmp_path, monkeypatch):
    monkeypatch.setattr(speeds, "_machine", lambda: "m")
    (tmp_path / "s").write_bytes(content)
    known = Speeds(tmp_path / "s")
    assert known.known("step") is None
    known.measure("step", lambda: [2.0])
    known.keep()
    assert json.loads((tmp_path / "s").read_text())["m"]["step"]["seconds"] == [2.0]


def test_a_cache_that_cannot_be_written_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    known = Speeds(tmp_path / "file" / "speeds.json")
    known.measure("step", lambda: [2.0])
    known.keep()
    assert known.known("step") == [2.0]
