"""Whatever was written when a driver is killed, the next run ends as if it had not been."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from driving import contents, unlike
from matplotlib.figure import Figure
from written import cut, recorded
from xarray import DataTree

from pipelines import engine, launch
from pipelines.report import gallery, html
from pipelines.report.figures.panel import Panel
from storage import lease
from storage.plan import Plan
from storage.reading import parse
from storage.store import Store

SPEC = """
version: 1
name: tiny
data: {source: single_index, dimension: 4, teacher: {1: 1.0}, train: 6, test: 8}
network: {width: 4, activation: erf, weight_variance: [1, 2]}
sampler: {scheme: baoab, temperature: 0.5, step_size: 0.1, friction: 1, warmup: 2, draws: 4,
  thin: 1, segment: 2, step_check: false}
ensemble: {datasets: 1, chains: 4, block: 4}
observe: {points: 4}
theories: [nngp]
"""
REGRESSION = """
regression: {train: [3, 5], ridges: [0.5], repeats: 2, pool: 8, sampling: without, evaluate: [pool]}
"""
SWEEP = "sweep={size: {network.width: [4, 8]}}"
REFINE = (
    "sweep={heat: {sampler.temperature: [0.1, 1.0]}}",
    "refine={axis: heat, by: gradient, observable: loss, budget: 8, rounds: 2}",
    "sampler.draws=2",
)
# Who drove it and when; and what a store had when a stage ended, which may be more the second time.
UNLIKE = ("ledger/lease/", "ledger/pace.json", "provenance/run-", "provenance/stages.json")
BOUNDED = 4  # kills of each case in `make test`
PARTS = 8  # of all kills of a case, so that none takes long


@dataclass(frozen=True)
class Case:
    """What is there before, and what is killed and done again."""

    text: str
    before: tuple[str, ...] | None  # the settings of an earlier run, where there was one
    settings: tuple[str, ...]
    again: bool = False  # whether theories are computed anew, and nothing else


CASES = {
    "a run": Case(SPEC + REGRESSION, None, ()),
    "an extension": Case(SPEC, (), ("sampler.draws=6", SWEEP)),
    "predictions": Case(SPEC + REGRESSION, (), (), again=True),
    "a refinement": Case(SPEC, None, REFINE),
}


@pytest.fixture(autouse=True)
def _killed(monkeypatch):
    """Whoever held the lease has been killed."""
    monkeypatch.setattr(lease, "_runs", lambda holder: False)


@pytest.fixture(autouse=True)
def _plain_report(monkeypatch):
    """A page with one picture, which is what it shows: drawing takes longer than all the rest."""

    def parts(store: Store, planned: Plan, tree: DataTree, left_out: list[str]) -> list[str]:
        data = tree["ensemble"].to_dataset()[["loss"]]
        gallery.pictures(store.objects, [Panel("loss", "", "", lambda _: Figure(), data)], left_out)
        return []

    def drawn(panel: Panel) -> gallery.Picture:
        return gallery.Picture(panel, gallery.digest(panel).encode(), b"")

    monkeypatch.setattr(html, "_parts", parts)
    monkeypatch.setattr(gallery, "_draw", drawn)


def done(case: Case, root: Path, *settings: str) -> None:
    """Run a case from where it is to its end."""
    spec = parse(case.text, settings or case.settings)
    if case.again and not settings:
        launch.again(engine.prepare(spec, str(root)).store, ())
    else:
        engine.run(spec, str(root))


def stored(root: Path) -> dict[str, bytes]:
    """All of a campaign but who drove it and when; of receipts what they say of the data."""
    found = {}
    for name, data in contents(root).items():
        place = name.partition("/")[2]
        if place.startswith("ledger/receipts/"):
            receipt = json.loads(data)
            kept = {key: receipt.get(key) for key in ("shard", "digests", "checkpoint", "diverged")}
            found[place] = json.dumps(kept).encode()
        elif not place.startswith(UNLIKE):
            found[place] = data
    return found


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
    for count, trial in zip(counts, cut(base, writes, place / "trials", iter(counts)), strict=False):
        try:
            done(case, trial)
        except Exception as error:
            differing[count] = [f"{type(error).__name__}: {error}"[:200], writes[count - 1].name]
        else:
            if other := unlike(wanted, stored(trial)):
                differing[count] = other[:4]
    print(f"{len(counts)} kills at {len(writes)} writes, {len(differing)} left a trace")
    assert differing == {}
    return len(counts)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_driver_may_be_killed_between_any_two_writes(name, tmp_path):
    def some(writes: int) -> Iterator[int]:
        yield from (round((i + 0.5) * writes / BOUNDED) for i in range(BOUNDED))

    assert survived(CASES[name], tmp_path, some) == BOUNDED


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", CASES)
def test_a_driver_may_be_killed_anywhere(name, part, tmp_path):
    def every(writes: int) -> Iterator[int]:
        yield from range(part, writes + 1, PARTS)

    assert survived(CASES[name], tmp_path, every) > 30
