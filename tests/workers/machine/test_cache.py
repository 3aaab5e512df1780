"""Homes that take no files, and temporary folders that others may write."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from workers.machine import cache

# With the rights of root every folder can be written; what is no folder takes nobody's files.
NO_HOME = {"a file": "/dev/null", "below a file": "/dev/null/user"}


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    return tmp_path / f"finitewidth-{os.getuid()}"


def test_a_home_that_can_be_written_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder() == tmp_path / "home" / ".cache" / "finitewidth"
    cache.tell_libraries()
    assert "MPLCONFIGDIR" not in os.environ
    assert list(tmp_path.iterdir()) == []  # nothing is made before it is needed


def test_a_folder_that_is_named_is_taken_whatever_it_is(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert cache.folder() == Path("/dev/null/finitewidth")


@pytest.mark.parametrize("home", NO_HOME.values(), ids=NO_HOME)
def test_without_a_home_it_is_a_private_temporary_folder(home, monkeypatch, temporary):
    monkeypatch.setenv("HOME", home)
    assert cache.folder() == temporary
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700
    cache.tell_libraries()
    assert os.environ["MPLCONFIGDIR"] == str(temporary / "matplotlib")
    assert cache.folder() == temporary  # again, as another process would find it


def test_so_it_is_for_a_user_whom_nobody_knows(monkeypatch, temporary):
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert cache.folder() == temporary


@pytest.mark.parametrize("kind", ["open to all", "a link", "a file"])
def test_what_others_may_have_made_is_not_trusted(kind, monkeypatch, temporary, tmp_path):
    monkeypatch.setenv("HOME", "/dev/null")
    (tmp_path / "theirs").mkdir(mode=0o700)
    if kind == "open to all":
        temporary.mkdir()
        temporary.chmod(0o777)
    elif kind == "a link":
        temporary.symlink_to(tmp_path / "theirs")
    else:
        temporary.touch()
    with pytest.raises(OSError, match=str(temporary)):
        cache.folder()
