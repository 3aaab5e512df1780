"""Verdicts are rows of the store: agreement where it is, and nothing of what is not known."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from pipelines.analysis.verdict_rows import TESTS, Verdict, made_of, verdicts
from pipelines.analysis.verdicts import KINDS, kinds_of, seen_of
from pipelines.report.sentences.conclusions import conclusions
from storage.backend.reader import open_campaign, open_raw
from support.fake_curve import regression
from support.fake_ensemble import TEXT, WIDTHS, stored
from support.fake_posterior import sampled

pytestmark = pytest.mark.slow

HE1 = "learnability He1"
HEAT = "\nsweep: {heat: {sampler.temperature: [0.5, 2.0]}}\n"


def judged(store) -> list[Verdict]:
    """The rows, which are the same made from the labelled grid and from the raw store."""
    tree = open_campaign(store.url)
    rows = verdicts(tree)
    found, raw = made_of(tree), made_of(open_raw(store.url))
    assert all(np.array_equal(found[name], raw[name], equal_nan=name in NUMBERS) for name in found)
    assert {row.kind for row in rows} <= set(KINDS)
    assert {row.test for row in rows} <= set(TESTS)
    lines = conclusions(tree)
    assert all(not line[0].islower() and line.endswith(".") and "nan" not in line for line in lines)
    return rows


NUMBERS = ("size", "error", "residual", "residual_error", "p", "seen")


def kinds(rows, test, theory="nngp", observable=HE1, point="") -> dict[str, str]:
    """The kind at each place."""
    about = (test, theory, observable, point)
    return {row.place: row.kind for row in rows if row[:4] == about}


def everywhere(kind: str) -> dict[str, str]:
    return {f"N = {width}": kind for width in (32, 64, 128, 256)}


def the_limit(rows, point="") -> Verdict:
    (row,) = (r for r in rows if r[:4] == ("limit", "nngp", HE1, point))
    return row


def test_a_limit_that_is_reached(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 5.0 / width)
    rows = judged(store)
    assert the_limit(rows).kind == "agrees"
    assert the_limit(rows).reason == "moves as 1/N"
    assert kinds(rows, "size") == everywhere("rejected")  # 5/256 is ten standard errors
    found = xr.open_dataset(store.data, group="verdicts", engine="zarr")
    assert found["kind"].dims == ("verdict",)
    assert found.sizes["verdict"] == len(rows)
    assert all(found[name].attrs["long_name"] for name in found)


def test_a_theory_that_is_right_at_every_width(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.0)
    rows = judged(store)
    assert the_limit(rows).kind == "agrees"
    assert the_limit(rows).reason == "no dependence on N"
    assert kinds(rows, "size") == everywhere("agrees")
    assert kinds(rows, "size", "kernel_scaling") == everywhere("rejected")
    # Neither theory changes the hidden layer: they are named together.
    lines = conclusions(open_campaign(store.url))
    assert [x for x in lines if "The NNGP and kernel scaling on the pre-activation variance" in x]


def test_a_limit_that_is_not_reached(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.05 + 5.0 / width)
    found = the_limit(judged(store))
    assert found.kind == "rejected"
    assert found.residual == pytest.approx(0.05, abs=6 * found.residual_error)
    assert found.size / found.error == pytest.approx(found.residual / found.residual_error)


def test_a_law_that_is_not_one_says_nothing_of_the_limit(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS.replace("[32,", "[8, 16, 32,"))
    sampled(store, planned, lambda width: 1.0 / np.sqrt(width))
    found = the_limit(judged(store))
    assert found.kind == "missing"
    assert found.reason.startswith("no law a + b/N + c/N² (p = ")


def elsewhere(shard, values) -> None:
    values["weight_norm"][0] += 10.0


def test_what_has_not_converged_is_not_compared(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.0, elsewhere)
    rows = judged(store)
    assert {row.kind for row in rows} == {"missing"}
    lines = conclusions(open_campaign(store.url))
    assert "8 datasets are not compared: not converged (N = 32, dataset 0: R-hat" in lines[0]
    assert "5 more" in lines[0]
    assert lines[1:] == ["No theory is compared with the ensemble: no dataset has converged."]


def cold(shard, values) -> None:
    if shard.cell.settings["sampler.temperature"] == 0.5:
        elsewhere(shard, values)


def test_a_point_where_nothing_has_converged_has_no_law_and_no_verdict(tmp_path):
    sweep = WIDTHS.replace("}}\n", "}, heat: {sampler.temperature: [0.5, 2.0]}}\n")
    store, planned = stored(tmp_path, TEXT + sweep)
    sampled(store, planned, lambda width: 0.0, cold)
    rows = judged(store)
    assert {row.kind for row in rows if row.point == "χT = 0.5"} == {"missing"}
    assert the_limit(rows, "χT = 2").kind == "agrees"


def some_elsewhere(shard, values) -> None:
    if (shard.cell.index, shard.dataset, shard.block) == (0, 1, 0):
        elsewhere(shard, values)


def test_one_dataset_that_has_not_converged_is_named(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.0, some_elsewhere)
    assert kinds(judged(store), "size") == everywhere("agrees") | {"N = 32": "missing"}
    lines = conclusions(open_campaign(store.url))
    assert [line for line in lines if "7 of 8 datasets of 4 cells have converged" in line]
    named = "1 dataset is not compared: not converged (N = 32, dataset 1: R-hat"
    assert [line for line in lines if named in line]


def diverged(shard, values) -> None:
    if shard.block == 0:
        values["status"][0, 1] = 1


def test_diverged_chains_are_told_of(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.0, diverged)
    first = conclusions(open_campaign(store.url))[0]
    assert first.startswith("8 of 64 chains diverged in all 4 cells and are left out: ")


def vague(shard, values) -> None:
    """Chains whose learnability scatters by its own size."""
    rng = np.random.default_rng([shard.cell.index, shard.dataset, shard.block, 1])
    values["learnability"] += 3.0 * rng.normal(size=values["learnability"].shape)


def test_large_errors_are_no_agreement(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.0, vague)
    rows = judged(store)
    assert the_limit(rows).kind == "unresolved"
    assert kinds(rows, "size") == everywhere("unresolved")


def test_cells_are_judged_one_by_one_without_a_law(tmp_path):
    store, planned = stored(tmp_path, TEXT + HEAT)
    sampled(store, planned, lambda width: 0.0)
    rows = judged(store)
    assert kinds(rows, "cell") == {"χT = 0.5": "agrees", "χT = 2": "agrees"}
    assert kinds(rows, "cell", "kernel_scaling")["χT = 2"] == "rejected"
    assert {row.test for row in rows} == {"cell", "joint"}


def test_an_ensemble_that_has_just_begun(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    assert conclusions(open_campaign(store.url)) == ["Nothing is compared yet."]
    sampled(store, planned, lambda width: 0.0, segments=0)
    assert {row.kind for row in judged(store)} == {"missing"}
    lines = conclusions(open_campaign(store.url))
    assert lines[0] == "0 % of the ensemble is finished; what follows may change."


@pytest.mark.parametrize(
    ("factor", "repeats", "kind"), [(1.0, 20, "agrees"), (1.2, 20, "rejected"), (1.0, 3, "missing")]
)
def test_a_learning_curve_alone(tmp_path, factor, repeats, kind):
    rows = judged(regression(tmp_path, factor, repeats))
    assert {row.observable for row in rows} == {"pool_error", "train_error", "posterior_variance"}
    (pool,) = (row for row in rows if row.observable == "pool_error")
    assert (pool.test, pool.theory, pool.place) == ("curve", "effective_ridge", "T = 0.1")
    assert pool.kind == kind
    if repeats == 20:
        assert pool.reason.startswith("4 sizes, ")
        assert pool.reason.endswith("; not tested at n = 40")
        assert pool.size == pytest.approx(factor - 1, abs=6 * pool.error)


@pytest.mark.parametrize(
    ("p_value", "seen", "kind"),
    [
        (0.0005, 0.01, "rejected"),
        (0.02, 0.01, "doubtful"),
        (0.5, 0.2, "unresolved"),
        (0.5, 0.01, "agrees"),
        (math.nan, 0.01, "missing"),
    ],
)
def test_kinds(p_value, seen, kind):
    assert str(kinds_of(p_value, seen)) == kind


def test_what_would_have_been_seen_is_rejected_in_19_cases_of_20():
    degrees, comparisons, draws = 14, 4, 20_000
    rng = np.random.default_rng(1)
    error = np.sqrt(rng.chisquare(degrees, draws) / degrees)
    t = (float(seen_of(1.0, degrees, comparisons)) + rng.normal(size=draws)) / error
    p = comparisons * 2 * stats.t.sf(np.abs(t), degrees)
    # Of Student's t the error scatters too, by 1/√(2·14): 19 of 20 within a tenth.
    assert np.mean(p < 1e-3) > 0.85
