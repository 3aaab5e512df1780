"""A store of somebody else is read, and refused in one line where something would be written."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.engine import engine
from storage.reading.document import parse
from support.driving import contents, unlike
from support.tiny import REGRESSION, SPEC, plain_report

NOBODY = 65534
READING = ("status", "verify", "verify --repair")  # of a sound store
WRITING = ("run", "predict", "report")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user"),
]


@contextmanager
def another_user() -> Iterator[None]:
    """Become one who owns nothing, in all threads, and come back."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.fixture
def acting(finitewidth, tmp_path, monkeypatch):
    """A command, and the store of a finished campaign that everybody may read."""
    plain_report(monkeypatch)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    spec = tmp_path / "tiny.yaml"
    spec.write_text(SPEC + REGRESSION)
    engine.run(parse(spec.read_text()), str(tmp_path / "stores"))
    spec.write_text(SPEC + REGRESSION.replace("repeats: 2", "repeats: 3"))
    (store,) = (tmp_path / "stores").iterdir()
    for place in (tmp_path, *tmp_path.rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)
    home.chmod(0o777)
    for parent in tmp_path.parents:  # of pytest, which are for root alone
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)

    def act(command: str, place: Path = store) -> tuple[int, str, str]:
        if command == "run":
            return finitewidth("run", spec, "--executor", "inline", "--store", place.parent)
        return finitewidth(*command.split(), place)

    return act, store


@pytest.mark.parametrize("command", [*READING, *WRITING])
def test_a_store_of_somebody_else_is_looked_at_and_never_changed(command, acting, tmp_path):
    act, store = acting
    known = shutil.copytree(store, tmp_path / "own" / store.name)
    act(command, known)  # imports all that it needs, which the other user might not read
    before = contents(store)
    with another_user():
        status, out, err = act(command)
    assert "Traceback" not in err
    assert unlike(before, contents(store)) == []
    if command in READING:
        assert (status, err) == (0, "")
        assert "sound" in out or "finished" in out
    else:
        (line,) = [each for each in err.splitlines() if each.startswith("finitewidth: ")]
        assert status == 2
        assert "ermission denied" in line
