"""Standard output that lacks characters, that is closed early, or that is full."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENTER = "from pipelines.cli import main; main()"
TITLE = "--set=name=σ²"  # refused, in a line that repeats it


def command(*arguments: str, **options) -> subprocess.CompletedProcess[bytes]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run([sys.executable, "-c", ENTER, *arguments], check=False, **options)


def status(store, encoding: str) -> bytes:
    done = command("status", store.url, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.slow
def test_characters_that_the_terminal_does_not_have_are_replaced(store):
    everything = status(store, "utf-8").decode()
    assert not everything.isascii()  # or this tests nothing
    for encoding in ("ascii", "latin-1", "cp437"):
        assert status(store, encoding) == everything.encode(encoding, "replace")


@pytest.mark.slow
def test_so_they_are_in_what_is_refused():
    done = command("plan", "quickstart", TITLE, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.startswith(b"finitewidth: ")
    assert done.stderr.count(b"\n") == 1
    assert b"??" in done.stderr


@pytest.mark.parametrize("arguments", [["list"], ["schema"], ["verify"], ["--help"]])
@pytest.mark.slow
def test_a_reader_who_has_seen_enough_ends_a_command_quietly(arguments, store):
    inward, outward = os.pipe()
    os.close(inward)
    arguments = [*arguments, store.url] if arguments == ["verify"] else arguments
    done = command(*arguments, stdout=outward)
    os.close(outward)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
@pytest.mark.slow
def test_output_that_cannot_be_written_is_one_line(store):
    with Path("/dev/full").open("wb") as full:
        done = command("status", store.url, stdout=full)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("finitewidth: No space left on device")
    assert done.stderr.count(b"\n") == 1
