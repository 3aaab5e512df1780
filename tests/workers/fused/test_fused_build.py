import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workers.fused import build

# A compiler that writes down that it was asked.
STAND_IN = """#!/bin/sh
case "$*" in *--version*) echo stand-in 1.0; exit ;; esac
echo compiled >> {folder}/calls
sleep 0.3
for last; do true; done
echo made > "$last"
[ -z "$FAIL" ] || {{ echo "fused.cpp:1: error: $FAIL" >&2; exit 1; }}
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    compiler = tmp_path / "bin" / "c++"
    compiler.parent.mkdir()
    compiler.write_text(STAND_IN.format(folder=tmp_path))
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:{os.environ['PATH']}")
    return tmp_path


def test_processes_that_want_the_library_at_once_compile_it_once(stand_in):
    program = (
        "import sys; from pathlib import Path; from workers.fused import build;"
        "print(build.build(Path(sys.argv[1]), ()).read_text())"
    )
    command = [sys.executable, "-c", program, str(stand_in / "cache")]
    root = Path(__file__).parents[3]

    def start(_):
        return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout

    with ThreadPoolExecutor(4) as pool:
        assert [out.strip() for out in pool.map(start, range(4))] == ["made"] * 4
    assert (stand_in / "calls").read_text().split() == ["compiled"]
    left = sorted(path.suffix for path in (stand_in / "cache").iterdir())
    assert left == ["", ".sha256", ".so"]  # and the lock


def test_a_compilation_that_failed_leaves_nothing_and_is_tried_again(stand_in, monkeypatch):
    monkeypatch.setenv("FAIL", "no fused multiply-add")
    with pytest.raises(build.BuildError, match=r"c\+\+ cannot compile .* no fused multiply-add"):
        build.build(stand_in / "cache", ())
    assert not list((stand_in / "cache").glob("*.so"))
    monkeypatch.delenv("FAIL")
    assert build.build(stand_in / "cache", ()).read_text() == "made\n"


def test_flags_and_processors_have_libraries_of_their_own(stand_in, monkeypatch):
    made = {build.build(stand_in, flags) for flags in ((), ("-O1",), ())}
    monkeypatch.setattr(build, "_processor", lambda: "another")
    assert len(made | {build.build(stand_in, ())}) == 3


REFUSALS = {
    "no compiler": ({"PATH": "/nowhere"}, "x86_64", r"need a C\+\+ compiler; install one of c\+\+"),
    "processor": ({}, "riscv64", r"are for x86_64, .*; this machine is riscv64"),
    "no room": ({"XDG_CACHE_HOME": "/dev/null"}, "x86_64", "Not a directory"),
}


@pytest.mark.parametrize(("environment", "machine", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_where_there_is_no_library_one_line_says_why(
    stand_in, monkeypatch, environment, machine, reason
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(build, "_attempt", build._attempt.__wrapped__)
    why = build.unavailable()
    assert "\n" not in why
    with pytest.raises(build.BuildError, match=reason) as caught:
        build.library()
    assert str(caught.value) == why
