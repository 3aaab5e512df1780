"""The least campaigns with all stages, in the ways in which they are done and done again."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.engine import engine
from pipelines.report import gallery, html
from pipelines.report.figures.panel import Panel
from pipelines.run import launch
from storage.planning.plan import Plan
from storage.reading.document import parse
from storage.store.store import Store

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
    "refine={axis: heat, by: gradient, observable: loss, budget: 4, rounds: 1}",
    "sampler.draws=2",
)


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


def done(case: Case, root: Path, *settings: str) -> None:
    """Run a case from where it is to its end."""
    spec = parse(case.text, settings or case.settings)
    if case.again and not settings:
        launch.again(engine.prepare(spec, str(root)).store, ())
    else:
        engine.run(spec, str(root))


def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page with one picture, which is what it shows: drawing takes longer than all the rest."""

    def parts(store: Store, planned: Plan, tree: DataTree, left_out: list[str]) -> list[str]:
        data = tree["ensemble"].to_dataset()[["loss"]]
        gallery.pictures(store.objects, [Panel("loss", "", "", lambda _: Figure(), data)], left_out)
        return []

    def drawn(panel: Panel) -> gallery.Picture:
        return gallery.Picture(panel, gallery.digest(panel).encode(), b"")

    monkeypatch.setattr(html, "_parts", parts)
    monkeypatch.setattr(gallery, "_draw", drawn)
