"""The command line: light to start, and one line for whatever a user can put right."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.commands.packaged import names
from storage.campaign.spec import Campaign
from support.driving import PATIENCE, PLUGIN, SMALL, Tree, contents, prepared, simulate, until

HEAVY = ("torch", "prefect", "ray", "xarray", "matplotlib", "zarr", "scipy")
ENTER = "from pipelines.cli import main; main()"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["list"], ["schema"]]
)
@pytest.mark.slow
def test_what_needs_nothing_heavy_imports_nothing_heavy(arguments):
    code = f"""
import sys
from pipelines.cli import main
sys.argv = ["finitewidth", *{arguments}]
try:
    main()
finally:
    print(sorted(set({HEAVY}) & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_every_packaged_campaign_has_a_line(finitewidth):
    status, out, err = finitewidth("list")
    assert (status, err) == (0, "")
    assert [line.split(maxsplit=1)[0] for line in out.splitlines()] == names()
    assert all(len(line.split(maxsplit=1)) == 2 for line in out.splitlines())


def test_the_schema_has_every_section(finitewidth):
    status, out, _ = finitewidth("schema")
    assert status == 0
    assert set(json.loads(out)["properties"]) == set(Campaign.model_fields)


BAD = {
    "syntax.yaml": "a: [1\nb: 2",
    "list.yaml": "- 1",
    "empty.yaml": "",
    "folder/of/mine.txt": "x",
}
OWN = ("--set", "regression=null", "--set", "theories=[nngp]", "--set")
READING = ("status", "predict", "report", "export", "verify")
WRONG = {
    "no such campaign": (
        ["run", "nothing.yaml"],
        "nothing.yaml: no such file or packaged campaign",
    ),
    "a packaged name misspelt": (["run", "quickstrat"], "did you mean quickstart?"),
    "a folder": (["run", "folder"], "folder is a folder; give a campaign file"),
    "no YAML": (["run", "syntax.yaml"], "syntax.yaml: line 2: not valid YAML"),
    "no sections": (["plan", "list.yaml"], "wanted the sections of a campaign"),
    "nothing in it": (["plan", "empty.yaml"], "wanted the sections of a campaign"),
    "a key misspelt": (["run", SMALL, "--set", "network.widht=3"], "did you mean width?"),
    "a value out of range": (["plan", SMALL, "--set", "network.width=-1"], "found -1"),
    "no value": (["run", SMALL, "--set", "width"], "wanted key=value"),
    "workers of nothing": (
        ["run", SMALL, "--executor", "inline", "--workers", "2"],
        "--address and --workers belong to --executor ray",
    ),
    "cells that are not there": (
        ["run", SMALL, "--executor", "inline", "--only", "width=5"],
        "--only width=5: network.width has no value 5; it has 4, 8",
    ),
    "another cloud": (["run", SMALL, "--store", "gs://mine"], "found a store at gs://mine"),
    "a file for a folder": (
        ["run", SMALL, "--executor", "inline", "--store", "empty.yaml"],
        "Not a directory",
    ),
    "no cluster": (["run", SMALL, "--address", "here"], "--address here: found no host:port"),
    "code not allowed": (
        ["run", SMALL, *OWN, "network.activation=mine:phi"],
        "mine:phi is code of your own; allow it with --plugins mine",
    ),
    "code not found": (
        ["run", SMALL, "--plugins", "mine", *OWN, "network.activation=mine:phi"],
        "the plug-in mine cannot be found",
    ),
    "no recorded runs": (["ui", "--store", "folder"], "folder: no runs are recorded here"),
    **{
        f"no store to {c}": ([c, "nowhere"], "nowhere: no campaign is stored here") for c in READING
    },
    **{f"{c} of a file": ([c, "empty.yaml"], "empty.yaml/specs") for c in READING},
}


@pytest.fixture
def bad(tmp_path) -> dict[str, bytes]:
    for name, text in BAD.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return contents(tmp_path)


@pytest.mark.parametrize(("arguments", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    arguments, expected, finitewidth, bad, tmp_path
):
    status, out, err = finitewidth(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("finitewidth: ")
    assert expected in err
    assert err.index("\n") == len(err) - 1
    assert contents(tmp_path) == bad


def test_a_prefect_server_that_is_not_there_is_one_line(finitewidth, monkeypatch, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    status, out, err = finitewidth("run", SMALL, "--executor", "inline")
    assert (status, out) == (2, "")
    assert err.startswith(f"finitewidth: no Prefect server answers at PREFECT_API_URL={url} (")
    assert err.index("\n") == len(err) - 1
    assert list(tmp_path.iterdir()) == []


USAGE = [["nonsense"], ["run"], ["run", SMALL, "--nonsense"], ["run", SMALL, "--workers", "0"]]


@pytest.mark.parametrize("arguments", USAGE, ids=["command", "argument", "option", "value"])
def test_a_command_that_is_not_understood_is_one_line(arguments, finitewidth, tmp_path):
    status, out, err = finitewidth(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("finitewidth: ")
    assert err.endswith(" Try --help.\n")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_plan_writes_nothing(finitewidth, tmp_path):
    status, out, err = finitewidth("plan", SMALL)
    assert (status, err) == (0, "")
    assert "44" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_store_can_be_named_by_what_xarray_opens(finitewidth, tmp_path):
    store = prepared(tmp_path).store
    simulate(prepared(tmp_path))
    shown = {finitewidth("status", name) for name in (store.url, f"{store.url}/", store.data)}
    ((status, out, err),) = shown
    assert (status, err) == (0, "")
    assert "44 of 44" in out


@pytest.mark.slow
def test_a_run_needs_no_server_and_what_it_stored_can_be_looked_at(finitewidth, tmp_path):
    code = """
import sys
from pipelines.cli import main
try:
    main()
finally:
    assert not {"prefect", "ray"} & set(sys.modules)
"""
    printed = Tree("-c", code, "run", SMALL, "--executor", "inline", "--store", tmp_path).finish()
    store = prepared(tmp_path).store
    assert f"report  {store.url}/report/report.html" in printed
    assert f"store   {store.data}" in printed
    assert Path(store.url, "report/report.html").is_file()
    for command in READING:
        status, out, err = finitewidth(command, store.url)
        assert (status, err) == (0, ""), command
        assert out, command
    assert finitewidth("verify", store.url)[1] == "every finished shard is sound\n"


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGHUP])
def test_a_run_that_is_stopped_says_that_nothing_is_lost(sign, tmp_path):
    observed = "observe.measure=[plugin:slow]"
    where = ("--executor", "inline", "--store", tmp_path, "--plugins", PLUGIN)
    running = Tree("-c", ENTER, "run", SMALL, *where, "--set", observed, SLOW_SECONDS=0.4)
    until(lambda: len(list(tmp_path.rglob("receipts/ensemble/*/*.json"))) > 1)
    running.process.send_signal(sign)
    printed, _ = running.process.communicate(timeout=PATIENCE)
    assert running.process.returncode == 128 + sign
    assert "Traceback" not in printed
    assert "stopped; what is finished is kept, and the same command goes on" in printed
    (held,) = tmp_path.rglob("ledger/lease/*.json")
    assert json.loads(held.read_text())["released"]
