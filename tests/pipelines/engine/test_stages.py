"""A stage that fails leaves the report of what there is, with a line, and ends in status 2."""

from pathlib import Path

import pytest

from pipelines.engine import engine, stages
from pipelines.progress import failed_stages
from storage.errors import CampaignError
from storage.store.store import Store
from support.analyzed import NO_REGRESSION
from support.driving import prepared, small

REASON = "nngp failed for dataset 0:<b>singular</b>; put it right"


def fails(store: object, plugins: object) -> None:
    raise CampaignError(REASON)


def breaks(store: object, plugins: object) -> None:
    raise ZeroDivisionError("of ours")


def test_all_stages_have_their_turn_and_the_first_failure_is_raised(capsys):
    ran = []

    def run(name: str) -> None:
        ran.append(name)
        if name != "report":
            raise CampaignError(name)

    with pytest.raises(CampaignError, match=r"^predict$"):
        stages.in_order(["predict", "fit", "report"], run)
    assert ran == ["predict", "fit", "report"]
    assert capsys.readouterr().err == "then fit\n"
    ran.clear()
    with pytest.raises(CampaignError, match=r"^fit$"):
        stages.in_order(["fit"], run)
    assert ran == ["fit", "report"]  # it is written of what there is, though not asked for


def test_a_name_that_is_no_stage_is_refused_before_anything_runs():
    with pytest.raises(CampaignError, match=r"^there is no stage guess; choose from"):
        stages.in_order(["fit", "guess"], lambda name: pytest.fail("ran"))


@pytest.mark.slow
def test_the_report_is_written_of_what_there_is(tmp_path, monkeypatch, finitewidth):
    settings = ("sweep={}", "ensemble.datasets=1", *NO_REGRESSION)
    store = Store(prepared(tmp_path, *settings).store.url)
    monkeypatch.setitem(stages.STAGES, "predict", fails)
    with pytest.raises(CampaignError, match=f"^the stage predict failed: {REASON}$"):
        engine.run(small(*settings), str(tmp_path))
    page = Path(store.url, "report", "report.html")
    assert "The stage predict failed: nngp failed for dataset 0:&lt;b&gt;sing" in page.read_text()
    assert {"progress", "fits"} <= set(store.root)  # made before it and after it

    page.unlink()
    status, _, error = finitewidth("predict", store.url)
    assert (status, error) == (2, f"finitewidth: the stage predict failed: {REASON}\n")
    assert page.exists()
    status, _, error = finitewidth("report", store.url)
    assert (status, error) == (0, "")
    assert "The stage predict failed" in page.read_text()

    monkeypatch.setitem(stages.STAGES, "fit", breaks)
    monkeypatch.setitem(stages.STAGES, "predict", lambda store, plugins: None)
    with pytest.raises(ZeroDivisionError):  # a defect is shown as one, after the report
        engine.run(small(*settings), str(tmp_path))
    assert failed_stages.reasons(store) == {"fit": "of ours"}
    assert "The stage fit failed: of ours. What" in page.read_text()
    monkeypatch.undo()
    engine.run(small(*settings), str(tmp_path))
    assert "failed" not in page.read_text()
