"""Whatever was written when a driver is killed, the next run ends as if it had not been."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.engine import engine
from storage.files import compaction, lease, segments
from storage.files.objects import Objects
from storage.reading.document import parse
from support.driving import unlike
from support.tiny import CASES, Case, done, plain_report
from support.what_is_stored import stored
from support.written import cut, recorded

BOUNDED = {"a run": 2, "an extension": 1, "predictions": 2, "a refinement": 1}  # in `make test`
PARTS = 8  # of all kills of a case, so that none takes long


@pytest.fixture(autouse=True)
def _killed(monkeypatch):
    """Whoever held the lease has been killed; the driver compacts what it has of receipts often."""
    monkeypatch.setattr(lease, "_runs", lambda holder: False)
    monkeypatch.setattr(compaction, "SIZE", 3)
    plain_report(monkeypatch)


def segments_that_differ(root: Path) -> Iterator[str]:
    """Copies of receipts that are not what receipts say."""
    for place in root.glob("tiny-*"):
        objects = Objects(str(place))
        for name, lines in segments.each(objects):
            if lines is None or compaction.contradiction(objects, lines):
                yield name


def survived(case: Case, place: Path, moments: Callable[[int], Iterator[int]]) -> int:
    """Kill a case after so many writes; how many kills there were, and that all left no trace."""
    base, whole = place / "base", place / "whole"
    base.mkdir(parents=True)
    if case.before is not None:
        engine.run(parse(case.text, case.before), str(base))
    shutil.copytree(base, whole)
    with recorded(whole) as writes:
        done(case, whole)
    wanted = stored(whole)
    differing: dict[int, list[str]] = {}
    counts = list(moments(len(writes)))
    for count, trial in zip(
        counts, cut(base, writes, place / "trials", iter(counts)), strict=False
    ):
        try:
            done(case, trial)
        except Exception as error:  # noqa: BLE001  whatever it is, it is counted
            differing[count] = [f"{type(error).__name__}: {error}"[:200], writes[count - 1].name]
        else:
            if other := unlike(wanted, stored(trial)):
                differing[count] = other[:4]
            if bad := [*segments_that_differ(trial)]:
                differing[count] = bad
    print(f"{len(counts)} kills at {len(writes)} writes, {len(differing)} left a trace")
    assert differing == {}
    return len(counts)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kills"), BOUNDED.items())
def test_a_driver_may_be_killed_between_any_two_writes(name, kills, tmp_path):
    def some(writes: int) -> Iterator[int]:
        yield from (round((i + 0.6) * writes / kills) for i in range(kills))

    assert survived(CASES[name], tmp_path, some) == kills


MISSING = ("fits/zarr.json", "theory/zarr.json", "theory/nngp/zarr.json", "progress/rhat/zarr.json")


@pytest.mark.slow
def test_what_is_gone_of_an_analysis_is_computed_anew(tmp_path):
    case = CASES["predictions"]
    engine.run(parse(case.text, ()), str(tmp_path))
    wanted, store = stored(tmp_path), engine.prepare(parse(case.text, ()), str(tmp_path)).store
    for name in MISSING:
        Path(store.data, name).unlink()
    done(case, tmp_path)
    assert unlike(wanted, stored(tmp_path)) == []


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", CASES)
def test_a_driver_may_be_killed_anywhere(name, part, tmp_path):
    def every(writes: int) -> Iterator[int]:
        yield from range(part, writes + 1, PARTS)

    assert survived(CASES[name], tmp_path, every) > 30
