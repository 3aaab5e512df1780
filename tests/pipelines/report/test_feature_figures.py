"""Panels and sentences of feature learning: what they say of numbers that are known."""

import numpy as np
import pytest
import xarray as xr

from pipelines.report import style, theory_names
from pipelines.report.figures import evidence, starts
from pipelines.report.ranking import closest_lines, ranking_rows
from pipelines.theories.theory_groups import not_predicted
from storage.campaign.observables import LEARNABILITY, RECORDS, Observed, observed

TEMPERATURES = np.array([0.2, 0.1, 0.05])
AXES = {"heat": {"sampler_temperature": TEMPERATURES.tolist()}}


def swept(found: dict[str, tuple]) -> xr.Dataset:
    heat = ("cell", TEMPERATURES, {"long_name": "sampler.temperature"})
    data = xr.Dataset(found).assign_coords(sampler_temperature=heat)
    return data.assign_attrs(axes=AXES)


def ensemble() -> xr.Dataset:
    """Six chains of two datasets; those from the teacher are ahead by one at the last cell."""
    teacher = np.arange(6) % 2
    scatter = np.arange(2)[:, None] + 0.1 * (np.arange(6) // 2)
    ahead = np.array([0, 0, 1])[:, None, None] * teacher
    values = (scatter + ahead)[..., None] + np.zeros(5)
    data = swept(
        {
            "learnability": (("cell", "dataset", "chain", "draw", "component"), values[..., None]),
            "max_overlap": (("cell", "dataset", "chain", "draw"), 2 * values),
        }
    )
    names = ("chain", [("prior", "teacher")[place] for place in teacher])
    return data.assign_coords(start=names, component=["He1"])


def test_starts_are_told_apart():
    data = starts.by_start(ensemble())
    mean = data["learnability He1"].transpose("cell", "start").values
    np.testing.assert_allclose(mean, [[0.6, 0.6], [0.6, 0.6], [0.6, 1.6]])
    # Six chains of each start: 0, .1, .2 in one dataset and one more in the other.
    error = np.std([0, 0.1, 0.2, 1, 1.1, 1.2], ddof=1) / 6**0.5
    np.testing.assert_allclose(data["learnability He1 error"], error)
    assert starts.panel(xr.DataTree.from_dict({"ensemble": ensemble().drop_vars("start")})) is None
    with style.look():
        panel = starts.panel(xr.DataTree.from_dict({"ensemble": ensemble()}))
    assert panel is not None
    assert panel.figure.axes[0].get_ylabel().replace("\n", " ") == "learnability He1"


def test_evidence_is_drawn_with_what_theories_miss():
    dims = ("cell", "dataset", "sampler_temperature")
    measured = np.broadcast_to([0.0, -3.0, -5.0], (1, 2, 3))
    data = xr.Dataset(
        {
            "evidence": (dims, measured),
            "evidence_error": (dims, 0.1 + 0 * measured),
            "quadrature_error": (dims, 0 * measured),
            "evidence_predicted": (("theory", *dims), measured[None] + 0.5),
        },
        {"theory": ["nngp"], "sampler_temperature": TEMPERATURES},
    )
    with style.look():
        panel = evidence.panel(xr.DataTree.from_dict({"free_energy": data}))
    assert panel is not None
    drawn = panel.figure.axes[1].containers[0].lines[0].get_ydata()
    np.testing.assert_allclose(np.asarray(drawn, dtype=float), -0.5)
    assert evidence.panel(xr.DataTree()) is None


KURTOSIS = [Observed(record) for record in RECORDS if record.kind == "overlap_kurtosis"]


@pytest.fixture
def fits() -> xr.Dataset:
    names = ["learnability He1", "overlap_kurtosis"]
    score = np.array([[0.3, np.nan], [0.01, 0.2], [0.05, 0.1]])
    shape = (3, 1, 2)
    return xr.Dataset(
        {
            "score": (("theory", "observable"), score),
            "rank": (("theory", "observable"), [[3, np.nan], [1, 2], [2, 1]]),
            "broken": (("theory", "observable"), [[1, np.nan], [0, 0], [0, 0]]),
            "p_value": (("theory", "cell", "observable"), np.full(shape, 0.5)),
            "grid_p_value": ("theory", [1e-9, 0.3, 0.01]),
            "criterion": (("theory", "cell"), [[90.0], [2.0], [5.5]]),
            "averaged": ("theory", [0, 1, 1]),
        },
        {"theory": ["nngp", "order_parameter", "gfl"], "observable": names},
    )


def test_sentences_say_who_comes_closest(fits, monkeypatch):
    told = [*observed(LEARNABILITY, {"component": ["He1"]}), *KURTOSIS]
    monkeypatch.setattr(theory_names, "_WORDS", {each.name: each.words for each in told})
    first, second = closest_lines(fits, fits["observable"].values.tolist())
    assert first == (
        "on the learnability of He1 the full action S(q) (1 % off) comes closest, then Gaussian "
        "feature learning (5 % off) and the NNGP (30 % off)."
    )
    assert second.startswith("on the kurtosis of the overlaps with the teacher Gaussian feature")
    assert "NNGP" not in second


def test_the_table_has_a_star_at_the_closest(fits):
    rows = {row["observable"]: row for row in ranking_rows(fits)}
    assert rows["learnability He1"]["full action S(q)"] == "★ 1 %, rejected 0/1"
    assert rows["learnability He1"]["NNGP"] == "30 %, rejected 1/1"
    assert rows["overlap kurtosis"]["NNGP"] == "–"
    assert rows["jointly"]["Gaussian features"] == "p = 0.01"
    akaike = rows["Akaike's criterion above the best, averaged over data"]
    assert akaike["Gaussian features"] == "3.5"
    assert akaike["NNGP"] == "–"  # is of another kind, and alone of it
    assert "Akaike's criterion above the best, given the data" not in rows


def test_datasets_that_a_theory_does_not_solve_are_counted():
    told = np.array([["", ""], ["", "the residual is 0.1"], ["depth 2", "depth 2"]], object)
    values = {"applies": (("cell", "dataset"), told == ""), "reason": (("cell", "dataset"), told)}
    tree = xr.DataTree.from_dict({"theory/vga": swept(values).assign_attrs(theory="vga")})
    assert not_predicted(tree) == [
        "theory vga predicts 2 of 3 cells; elsewhere: depth 2.",
        "theory vga predicts 3 of 4 datasets of these; elsewhere: the residual is 0.1.",
    ]
