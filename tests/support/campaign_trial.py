"""What every campaign that `plan` accepts must survive, from the plan to its extension.

A trial runs the command line in this process. It fails at the first thing that is not as promised:
an exit status, a traceback, a warning of another library, a group that cannot be written as netCDF,
a shard computed twice.
"""

import copy
import io
import sys
import warnings
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import xarray as xr

from storage.reading.document import dump_yaml, validate
from support.campaign_files import write_files
from support.campaign_space import PLUGIN, Row, specification

LINE = 600  # characters of a refusal at most


class Ended(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str


class RefusedError(Exception):
    """What `plan` says of a campaign that it does not accept."""


def command(*arguments: object) -> Ended:
    """Run a command as from a shell; a warning that would reach the terminal is an error."""
    from pipelines import cli

    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["finitewidth", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            cli.main()
    except SystemExit as end:
        return Ended(int(end.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv = before
    raise AssertionError("the command line did not exit")


def succeed(*arguments: object) -> Ended:
    """Run a command that must succeed."""
    ended = command(*arguments)
    assert ended.status == 0, f"{arguments} ended with {ended.status}: {ended.err or ended.out}"
    said = ended.out + ended.err
    assert "Traceback" not in said, said
    assert "Warning:" not in said, said
    return ended


def trial(row: Row, folder: Path) -> Path:
    """Take the campaign of a row through all that a user may do with it; its store.

    Raises RefusedError where `plan` does not accept it, and `run` says the same.
    """
    write_files(folder)
    spec = specification(row)
    with chdir(folder):
        write(spec, "spec.yaml")
        planned = command("plan", "spec.yaml", "--plugins", PLUGIN)
        if planned.status:
            refuse(planned)
            raise RefusedError(planned.err.strip())
        store = run("spec.yaml")
        look(store)
        receipts = receipts_of(store)
        run("spec.yaml")
        assert receipts_of(store) == receipts, "a finished shard was computed again"
        write(extended(spec), "more.yaml")
        extend(store, receipts)
    return store


def write(spec: dict[str, Any], name: str) -> None:
    """A campaign file."""
    Path(name).write_text(dump_yaml(validate(spec)))


def refuse(planned: Ended) -> None:
    """`run` says what `plan` said, in one line, and writes nothing."""
    ended = command("run", "spec.yaml", "--executor", "inline", "--plugins", PLUGIN)
    assert (ended.status, ended.err) == (2, planned.err)
    assert planned.status == 2
    assert len(planned.err.strip().splitlines()) == 1
    assert len(planned.err) < LINE
    assert not Path("results").exists()


def run(name: str) -> Path:
    """Run a campaign to its end; the folder of its store."""
    ended = succeed("run", name, "--executor", "inline", "--plugins", PLUGIN)
    (line,) = [line for line in ended.out.splitlines() if line.startswith("report")]
    report = Path(line.split()[-1])
    assert report.is_file()
    return report.parents[1]


def look(store: Path) -> None:
    """Every way to look at what a run has left."""
    succeed("status", store)
    succeed("export", store, "paper")
    assert "sound" in succeed("verify", store).out
    engines = [("zarr", store / "data.zarr"), ("finitewidth", store)]
    kept = crc32(store.name.encode()) % len(engines)  # of half of the campaigns each
    for number, (engine, place) in enumerate(engines):
        with xr.open_datatree(place, engine=engine) as tree:
            tree.load()
            if number == kept:
                keep(tree)


def keep(tree: xr.DataTree) -> None:
    """Save a tree as netCDF and read each group of it back the same."""
    tree.to_netcdf("tree.nc", engine="h5netcdf")
    with xr.open_datatree("tree.nc", engine="h5netcdf") as again:
        assert {node.path for node in again.subtree} == {node.path for node in tree.subtree}
        for node in tree.subtree:
            xr.testing.assert_equal(node.to_dataset(), again[node.path].to_dataset().load())


def extended(spec: dict[str, Any]) -> dict[str, Any]:
    """The campaign with a cell, a dataset, a repeat and as many draws again."""
    more = copy.deepcopy(spec)
    if "ensemble" in more:
        more["ensemble"]["datasets"] += 1
        more["sampler"]["draws"] *= 2
    if "regression" in more:
        more["regression"]["repeats"] += 1
    for settings in more.get("sweep", {}).values():
        if all(isinstance(values, list) for values in settings.values()):
            for path, values in settings.items():
                if path.startswith(("sampler.", "network.width", "data.label")):
                    values.append(type(values[-1])(values[-1] + 1))
        if len({len(values) for values in settings.values()}) > 1:
            return more | {"sweep": spec["sweep"]}  # of settings that move together, all or none
    return more


def extend(store: Path, receipts: dict[str, bytes]) -> None:
    """Go on with the larger campaign in the same store; nothing finished is computed again."""
    assert run("more.yaml") == store
    now = receipts_of(store)
    assert {name: now.get(name) for name in receipts} == receipts
    assert len(now) > len(receipts)
    assert "sound" in succeed("verify", store).out
    with xr.open_datatree(store / "data.zarr", engine="zarr") as tree:
        tree.load()


def receipts_of(store: Path) -> dict[str, bytes]:
    """The receipts of finished shards, by their names."""
    return {
        str(path): path.read_bytes() for path in (store / "ledger" / "receipts").rglob("*.json")
    }


def main(lines: Sequence[str]) -> None:
    """Try rows of the array by their numbers, and print what became of each."""
    import tempfile
    import time
    import traceback

    from support.covering_array import read_array

    rows = read_array()
    for number in map(int, lines):
        began = time.process_time()
        folder = Path(tempfile.mkdtemp())  # kept: an imported plug-in stays where it was found
        try:
            trial(rows[number], folder)
            came = "ok"
        except RefusedError as error:
            came = f"refused: {error}"
        except Exception as error:  # noqa: BLE001  the next row has its turn
            frame = traceback.extract_tb(error.__traceback__)[-1]
            came = f"FAILED {type(error).__name__} {frame.filename}:{frame.lineno} {error}"
        print(f"{number} {time.process_time() - began:.0f}s {came}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
