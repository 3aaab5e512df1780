"""What is predicted again where a campaign grows, and what is there already."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.theories import earlier, predict
from pipelines.theories.predict import NUMBERS
from storage.errors import CampaignError
from storage.reading.document import parse
from storage.store.store import Store
from support.driving import contents, unlike
from support.fake_ensemble import TEXT, stored

SWEEP = "sweep={{size: {{network.width: {}}}, heat: {{sampler.temperature: {}}}}}"
SMALL, HOTTER, WIDER = (
    SWEEP.format([32, 64], [0.25, 0.5]),
    SWEEP.format([32, 64], [0.25, 0.5, 1.0]),
    SWEEP.format([32, 64, 128], [0.25, 0.5]),
)
NNGP = NUMBERS["nngp"].evaluate
CHUNK = "data.zarr/theory/nngp/output_mean/c/0/0/0"


@pytest.fixture
def solved(monkeypatch) -> list[tuple[float, int]]:
    """Temperature and dataset of each problem that the NNGP is asked for."""
    asked = []

    def evaluate(problem, widths, index):
        asked.append((problem.spec.sampler.temperature, index))
        return NNGP(problem, widths, index)

    counted = replace(NUMBERS["nngp"], evaluate=evaluate)
    monkeypatch.setitem(predict.NUMBERS, "nngp", counted)
    return asked


@pytest.fixture
def predicted(tmp_path, solved) -> Store:
    """A campaign whose four cells, of two problems, are predicted for two datasets."""
    store, _ = stored(tmp_path / "grown", TEXT, [SMALL])
    predict.predict(store)
    assert sorted(solved) == [(0.25, 0), (0.25, 1), (0.5, 0), (0.5, 1)]
    solved.clear()
    return store


def grown(store: Store, sweep: str) -> Store:
    """The same store with more cells, predicted."""
    again, _ = stored(Path(store.url), TEXT, [sweep])
    predict.predict(again)
    return again


def as_anew(store: Store) -> list[str]:
    """In what a store differs from one of which nothing was predicted before."""
    folder = Path(store.url)
    other = shutil.copytree(folder, folder.with_name("anew"))
    (other / earlier.NOTE).unlink()
    predict.predict(Store(str(other)))
    return unlike(contents(folder), contents(other))


def test_only_new_problems_are_solved_and_the_bytes_are_as_if_all_were(predicted, solved):
    store = grown(predicted, HOTTER)
    assert solved == [(1.0, 0), (1.0, 1)]
    assert as_anew(store) == []


def test_widths_are_solved_together(predicted, solved):
    store = grown(predicted, WIDER)
    assert sorted(solved) == [(0.25, 0), (0.25, 1), (0.5, 0), (0.5, 1)]
    assert as_anew(store) == []


def test_reasons_stay(tmp_path, monkeypatch):
    def fails(problem, widths, index):
        raise ValueError("no solution")

    monkeypatch.setitem(NUMBERS, "nngp", replace(NUMBERS["nngp"], evaluate=fails))
    store, _ = stored(tmp_path / "grown", TEXT, [SMALL])
    predict.predict(store)
    monkeypatch.undo()
    store = grown(store, HOTTER)
    reasons = store.root["theory/nngp/reason"][...]
    assert (reasons != "").sum() == 8
    assert set(reasons[reasons != ""]) == {"no solution"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda top: (top / CHUNK).write_bytes(b"not a chunk"),
        lambda top: (top / CHUNK).unlink(),
        lambda top: (top / earlier.NOTE).write_text("{}"),
        lambda top: (top / earlier.NOTE).unlink(),
        lambda top: shutil.rmtree(top / "data.zarr/theory"),
    ],
    ids=["garbage", "missing chunk", "unsealed note", "no note", "no groups"],
)
def test_what_is_damaged_is_solved_again(predicted, solved, spoil):
    spoil(Path(predicted.url))
    store = grown(Store(predicted.url), HOTTER)
    assert len(solved) == 6
    assert as_anew(store) == []


def test_other_code_solves_all_again(predicted, solved, monkeypatch):
    monkeypatch.setattr(earlier, "code", lambda: "of another version")
    grown(predicted, HOTTER)
    assert len(solved) == 6


def test_what_was_interrupted_leaves_no_note(predicted, monkeypatch):
    def interrupted(problem, widths, index):
        raise CampaignError("interrupted")

    monkeypatch.setitem(NUMBERS, "nngp", replace(NUMBERS["nngp"], evaluate=interrupted))
    with pytest.raises(CampaignError, match="interrupted"):
        grown(predicted, HOTTER)
    assert not (Path(predicted.url) / earlier.NOTE).exists()


def test_a_theory_that_is_named_later_is_solved_for_alone(tmp_path, solved):
    store, _ = stored(tmp_path / "grown", TEXT, [SMALL, "theories=[nngp]"])
    predict.predict(store)
    solved.clear()
    spec = parse(TEXT, [SMALL, "theories=[nngp, kernel_scaling]"])
    store.add_spec(spec, {})
    predict.predict(store)
    assert solved == []
    assert as_anew(store) == []
