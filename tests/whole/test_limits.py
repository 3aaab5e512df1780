"""A machine that has no more room, files or permission is one line, and the next run goes on."""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.files import lease
from storage.files.objects import Objects
from support.driving import unlike
from support.tiny import REGRESSION, SPEC, plain_report
from support.what_is_stored import stored

pytestmark = pytest.mark.slow

MORE = pytest.mark.faults


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    """Whoever could not even release the lease has ended."""
    plain_report(monkeypatch)
    monkeypatch.setattr(lease, "_runs", lambda holder: False)


@pytest.fixture
def run(finitewidth, tmp_path):
    """The command that runs the least campaign in a folder."""
    spec = tmp_path / "tiny.yaml"
    spec.write_text(SPEC + REGRESSION)
    return lambda root: finitewidth("run", spec, "--executor", "inline", "--store", root)


def refused(said: tuple[int, str, str], words: str) -> None:
    """It ended in one line, after those on how it went and those on later stages."""
    status, _, err = said
    lines = [line for line in err.splitlines() if line.startswith("finitewidth: ")]
    assert (status, err.splitlines()[-1:]) == (2, lines), err
    assert words in lines[0]
    assert "Traceback" not in err


@contextmanager
def limited(what: int, most: int) -> Iterator[None]:
    """A limit of this process, for a while."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@contextmanager
def small_disk(folder: Path, option: str) -> Iterator[None]:
    """A file system of its own, in memory, for who may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", option, "none", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a user who may mount file systems")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


SIZES = (100, 300, 700, pytest.param(20_000, marks=MORE))


@pytest.mark.parametrize("size", SIZES)
def test_files_that_may_not_grow_are_one_line(size, run, tmp_path):
    with limited(resource.RLIMIT_FSIZE, size):
        refused(run(tmp_path / "stores"), "File too large; raise the limit of a file's size")


@pytest.mark.parametrize("more", [2, pytest.param(3, marks=MORE)])
def test_few_open_files_are_one_line(more, run, tmp_path):
    with limited(resource.RLIMIT_NOFILE, len(os.listdir("/proc/self/fd")) + more):
        status, _, err = run(tmp_path / "stores")
    last = err.splitlines()[-1]
    assert status in (2, 3)  # nothing of it, or not all of it, can be done
    assert last.startswith("finitewidth: ")
    assert "Too many open files" in last
    assert "Traceback" not in err


FULL = ("nr_inodes=300",)
ALL = [f"nr_inodes={n}" for n in range(5, 600, 25)] + [f"size={n}k" for n in range(20, 1200, 60)]


@pytest.mark.parametrize("option", [*FULL, *(pytest.param(o, marks=MORE) for o in ALL)])
def test_a_disk_that_is_full_is_one_line_and_leaves_room_for_more(option, run, tmp_path):
    folder = tmp_path / "small"
    with small_disk(folder, option):
        refused(run(folder), "No space left on device; make room")
        subprocess.run(["mount", "-o", "remount,size=100m,nr_inodes=100k", str(folder)], check=True)
        assert run(folder)[0] == 0
        after = stored(folder)
    assert run(tmp_path / "whole")[0] == 0
    assert unlike(stored(tmp_path / "whole"), after) == []


def test_a_disk_that_nobody_may_write_is_one_line(run, finitewidth, tmp_path):
    folder = tmp_path / "small"
    with small_disk(folder, "size=10m"):
        assert run(folder)[0] == 0
        (store,) = folder.iterdir()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        for said in (run(folder), finitewidth("predict", store)):
            refused(said, "Read-only file system")


REFUSALS = (errno.ENOSPC, errno.EIO, errno.EACCES)


PLACES = [("run", 0), ("run", 2), ("predict", 1), ("predict", 3)]
REST = [("run", 1), ("run", 3), ("predict", 0), ("predict", 2)]


@pytest.mark.parametrize(
    ("command", "place"), [*PLACES, *(pytest.param(*each, marks=MORE) for each in REST)]
)
def test_a_write_that_is_refused_is_one_line_at_every_stage(
    command, place, run, finitewidth, tmp_path, monkeypatch
):
    """`place` is which quarter of all writes has gone well."""
    if command == "predict":
        run(tmp_path / "stores")
    act = run if command == "run" else lambda root: finitewidth(command, *root.iterdir())
    allowed = {"run": 700, "predict": 600}[command] * place // 4
    writing, done = Objects.writing, iter(range(allowed))

    @contextmanager
    def refusing(self: Objects, doing: str, name: str) -> Iterator[None]:
        with writing(self, doing, name):
            if next(done, None) is None:
                raise OSError(number, os.strerror(number))
            yield

    number = REFUSALS[place % len(REFUSALS)]
    monkeypatch.setattr(Objects, "writing", refusing)
    refused(act(tmp_path / "stores"), os.strerror(number))
