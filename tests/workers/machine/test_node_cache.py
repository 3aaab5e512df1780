"""Arrays that workers of one machine share: made once, whole or not at all, gone at the end."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from storage.errors import CampaignError
from support.driving import PATIENCE, until
from workers.machine import node_cache

SHAPE = (600, 40)

# Makes an array of numbers that grow, slowly, and says when it begins and how it ends.
MAKER = """
import sys, time, numpy as np
from pathlib import Path
from workers.machine import node_cache

def make(values):
    with open(sys.argv[1], "a") as log:
        log.write("begun\\n")
    time.sleep(float(sys.argv[2]))
    values[...] = np.arange(values.size).reshape(values.shape)

found = node_cache.shared("numbers", (600, 40), np.float64, make)
print(found.values.sum(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "finitewidth" / "shared"


def numbers(values: np.ndarray) -> None:
    values[...] = np.arange(values.size).reshape(values.shape)


def made_again(values: np.ndarray) -> None:
    raise AssertionError("it is there already")


def started(log: Path, seconds: float) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", MAKER, log, str(seconds)], text=True, **pipes)


def names(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_come_in_order_and_in_double_precision(dtype):
    found = node_cache.shared("numbers", SHAPE, dtype, numbers)
    seen = [(part.start, part.stop, rows.copy()) for part, rows in found.panels()]
    assert [start for start, _, _ in seen] == [0, *(stop for _, stop, _ in seen[:-1])]
    whole = np.concatenate([rows for _, _, rows in seen])
    assert whole.dtype == np.float64
    np.testing.assert_array_equal(whole, np.arange(whole.size).reshape(SHAPE))


def test_what_is_done_to_an_array_stays_with_whoever_did_it():
    found = node_cache.shared("numbers", SHAPE, np.float64, numbers)
    found.values[0, 0] = 7
    assert node_cache.shared("numbers", SHAPE, np.float64, made_again).values[0, 0] == 0


def test_an_array_is_made_once_however_many_ask(tmp_path):
    asking = [started(tmp_path / "log", 0.5) for _ in range(3)]
    try:
        sums = {each.stdout.readline() for each in asking if each.stdout}
    finally:
        for each in asking:
            each.communicate(timeout=PATIENCE)
    assert sums == {f"{float(np.arange(np.prod(SHAPE)).sum())}\n"}
    assert (tmp_path / "log").read_text() == "begun\n"


def test_a_killed_maker_leaves_nothing_that_blocks_others(tmp_path, cache):
    maker = started(tmp_path / "log", 600)
    until(lambda: (tmp_path / "log").exists())
    waiting = started(tmp_path / "log", 0)
    try:
        partial = f"numbers.{maker.pid}.partial"
        assert partial in names(cache)
        maker.send_signal(signal.SIGKILL)
        maker.communicate(timeout=PATIENCE)
        assert waiting.stdout
        assert waiting.stdout.readline()
        assert partial not in names(cache)
        assert "numbers" in names(cache)
    finally:
        waiting.communicate(timeout=PATIENCE)
    # Nobody uses it any more.
    node_cache.sweep()
    assert names(cache) == set()


def test_what_is_in_use_is_not_swept(cache):
    used = node_cache.shared("used", SHAPE, np.float64, numbers)
    node_cache.shared("debris", SHAPE, np.float64, numbers)
    (cache / "debris.17.partial").write_bytes(b"x")
    node_cache.sweep()
    assert names(cache) == {"used", "used.sha256", "used.used", "used.making"}
    assert used.values[0, 1] == 1


def test_removed_under_a_user_it_stays_his_and_is_made_anew_for_others(cache):
    used = node_cache.shared("numbers", SHAPE, np.float64, numbers)
    node_cache.remove(["numbers", "others"])
    assert "numbers" not in names(cache)
    assert used.values[-1, -1] == np.prod(SHAPE) - 1
    del used
    node_cache.shared("numbers", SHAPE, np.float64, numbers)
    node_cache.remove(["numbers"])
    assert names(cache) == set()


def test_removed_by_another_run_before_it_is_mapped_it_is_made_again(monkeypatch):
    make = node_cache._make

    def removed_once(path: Path, *arguments) -> None:
        make(path, *arguments)
        monkeypatch.setattr(node_cache, "_make", make)
        node_cache.remove([path.name])

    monkeypatch.setattr(node_cache, "_make", removed_once)
    assert node_cache.shared("numbers", SHAPE, np.float64, numbers).values[0, 1] == 1


def test_a_maker_that_fails_leaves_the_way_free(cache):
    with pytest.raises(AssertionError):
        node_cache.shared("numbers", SHAPE, np.float64, made_again)
    assert "numbers" not in names(cache)
    assert node_cache.shared("numbers", SHAPE, np.float64, numbers).values[0, 1] == 1


def test_a_file_that_is_not_what_was_made_is_made_anew(cache):
    """Zeros of the right size in its place, as whoever can write there may leave them."""
    node_cache.shared("numbers", SHAPE, np.float64, numbers)
    (cache / "numbers").write_bytes(bytes(8 * np.prod(SHAPE)))
    assert node_cache.shared("numbers", SHAPE, np.float64, numbers).values[0, 1] == 1
    (cache / "numbers.sha256").unlink()
    assert node_cache.shared("numbers", SHAPE, np.float64, numbers).values[0, 1] == 1


def test_others_can_neither_read_nor_write_it(cache):
    cache.mkdir(parents=True, mode=0o777)
    node_cache.shared("numbers", SHAPE, np.float64, numbers)
    assert {stat.S_IMODE(place.stat().st_mode) for place in (cache, cache.parent)} == {0o700}


def test_the_folder_of_another_user_is_refused_in_a_line(cache, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(CampaignError, match="others can write"):
        node_cache.shared("numbers", SHAPE, np.float64, numbers)


def test_those_who_wait_are_woken(tmp_path):
    begun, go = threading.Event(), threading.Event()

    def slow(values: np.ndarray) -> None:
        begun.set()
        go.wait(PATIENCE)
        numbers(values)

    maker = threading.Thread(
        target=node_cache.shared, args=("numbers", SHAPE, np.float64, slow), daemon=True
    )
    maker.start()
    assert begun.wait(PATIENCE)
    waiting = started(tmp_path / "log", 0)
    time.sleep(0.2)
    assert waiting.poll() is None
    go.set()
    maker.join(PATIENCE)
    assert waiting.communicate(timeout=PATIENCE)[0]
    assert not (tmp_path / "log").exists()


def test_a_system_that_cannot_keep_room_has_arrays_as_well(monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")  # as on macOS
    found = node_cache.shared("numbers", SHAPE, np.float64, numbers)
    assert found.values[-1, -1] == np.prod(SHAPE) - 1


def test_a_cache_that_is_no_folder_is_one_line_and_has_nothing_to_remove(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    node_cache.sweep()
    node_cache.remove(["numbers"])
    with pytest.raises(CampaignError, match="name another folder in XDG_CACHE_HOME"):
        node_cache.shared("numbers", SHAPE, np.float64, numbers)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EFBIG, errno.ENOLCK])
def test_no_room_is_one_line(number, monkeypatch, cache):
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CampaignError, match="name another folder in XDG_CACHE_HOME") as raised:
        node_cache.shared("numbers", SHAPE, np.float64, numbers)
    assert str(raised.value).startswith(f"{cache} cannot take 0.0 GB ({os.strerror(number)})")
    assert not any(name.endswith(".partial") for name in names(cache))
