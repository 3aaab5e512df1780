"""What is said of a campaign is true: agreement where it is, nothing of what is not known."""

import numpy as np
import pytest

from pipelines.analysis.verdicts import Judged, joined, kind_of, summary
from pipelines.report.sentences.conclusions import conclusions
from storage.backend.reader import open_campaign, open_raw
from support.fake_curve import regression
from support.fake_ensemble import TEXT, WIDTHS, stored
from support.fake_posterior import sampled

pytestmark = pytest.mark.slow


def said(store) -> list[str]:
    """The conclusions, which are the same from the labelled grid and from the raw store."""
    lines = conclusions(open_campaign(store.url))
    assert lines == conclusions(open_raw(store.url))
    assert all(not line[0].islower() and line.endswith(".") and "nan" not in line for line in lines)
    return lines


def about(lines: list[str], *words: str) -> str:
    (line,) = (line for line in lines if all(word in line for word in words))
    return line


def test_a_limit_that_is_reached(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 5.0 / width)
    lines = said(store)
    assert "all" in lines[0].lower()
    assert "4 cells have converged" in lines[0]
    limit = about(lines, "The learnability of He1 ", "infinite width")
    assert "approaches that of the NNGP as 1/N:" in limit
    assert "the limit is reached" in limit
    widths = about(lines, "The NNGP on the learnability of He1:")
    assert "rejected everywhere" in widths  # 5/256 is ten standard errors
    assert "agreement" not in widths


def test_a_theory_that_is_right_at_every_width(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.0)
    lines = said(store)
    limit = about(lines, "The learnability of He1 ", "infinite width")
    assert "shows no dependence on the width" in limit
    assert "the limit is reached" in limit
    assert "in agreement everywhere" in about(lines, "The NNGP on the learnability of He1:")
    assert "rejected everywhere" in about(lines, "Kernel scaling on the learnability of He1:")
    # Neither theory changes the hidden layer: they are named together.
    about(lines, "The NNGP and kernel scaling on the pre-activation variance", "top")


def test_a_limit_that_is_not_reached(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.05 + 5.0 / width)
    limit = about(said(store), "The learnability of He1 ", "infinite width")
    assert "does not go to that of the NNGP" in limit
    assert limit.endswith("the limit is not reached.")


def test_a_law_that_is_not_one_says_nothing_of_the_limit(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS.replace("[32,", "[8, 16, 32,"))
    sampled(store, planned, lambda width: 1.0 / np.sqrt(width))
    line = about(said(store), "The learnability of He1 ", "follows no law a + b/N + c/N²")
    assert line.endswith("nothing is said of its limit.")


def elsewhere(shard, values) -> None:
    values["weight_norm"][0] += 10.0


def test_what_has_not_converged_is_not_compared(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.0, elsewhere)
    lines = said(store)
    about(lines, "8 datasets are not compared: not converged (N = 32, dataset 0: R-hat", "5 more")
    assert lines[1:] == ["No theory is compared with the ensemble: no dataset has converged."]


def cold(shard, values) -> None:
    if shard.cell.settings["sampler.temperature"] == 0.5:
        elsewhere(shard, values)


def test_a_point_where_nothing_has_converged_has_no_law_and_no_verdict(tmp_path):
    sweep = WIDTHS.replace("}}\n", "}, heat: {sampler.temperature: [0.5, 2.0]}}\n")
    store, planned = stored(tmp_path, TEXT + sweep)
    sampled(store, planned, lambda width: 0.0, cold)
    lines = said(store)
    for line in (line for line in lines[2:] if "T = 0.5" in line):
        assert "not extrapolated to infinite width" in line or "not compared everywhere" in line
    assert "limit is reached" in about(lines, "T = 2, the learnability of He1 ")


def some_elsewhere(shard, values) -> None:
    if (shard.cell.index, shard.dataset, shard.block) == (0, 1, 0):
        elsewhere(shard, values)


def test_one_dataset_that_has_not_converged_is_named(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.0, some_elsewhere)
    lines = said(store)
    about(lines, "7 of 8 datasets of 4 cells have converged")
    about(lines, "1 dataset is not compared: not converged (N = 32, dataset 1: R-hat")
    widths = about(lines, "The NNGP on the learnability of He1:")
    assert "in agreement at N = 64, 128 and 256" in widths
    assert "not compared at N = 32" in widths


def diverged(shard, values) -> None:
    if shard.block == 0:
        values["status"][0, 1] = 1


def test_diverged_chains_are_told_of(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.0, diverged)
    assert said(store)[0].startswith("8 of 64 chains diverged in all 4 cells and are left out: ")


def vague(shard, values) -> None:
    """Chains whose learnability scatters by its own size."""
    rng = np.random.default_rng([shard.cell.index, shard.dataset, shard.block, 1])
    values["learnability"] += 3.0 * rng.normal(size=values["learnability"].shape)


def test_large_errors_are_no_agreement(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    sampled(store, planned, lambda width: 0.0, vague)
    lines = said(store)
    limit = about(lines, "The learnability of He1 ", "infinite width")
    assert limit.endswith("the error is too large to tell whether the limit is reached.")
    assert "not resolved everywhere" in about(lines, "The NNGP on the learnability of He1:")


def test_cells_are_judged_one_by_one_without_a_law(tmp_path):
    sweep = "\nsweep: {heat: {sampler.temperature: [0.5, 2.0]}}\n"
    store, planned = stored(tmp_path, TEXT + sweep)
    sampled(store, planned, lambda width: 0.0)
    lines = said(store)
    assert "in agreement everywhere" in about(lines, "The NNGP on the learnability of He1:")
    rejected = about(lines, "Kernel scaling on the learnability of He1:")
    assert "rejected" in rejected
    assert "T = 2" in rejected
    assert not [line for line in lines if "infinite width" in line]


def test_an_ensemble_that_has_just_begun(tmp_path):
    store, planned = stored(tmp_path, TEXT + WIDTHS)
    assert conclusions(open_campaign(store.url)) == ["Nothing is compared yet."]
    sampled(store, planned, lambda width: 0.0, segments=0)
    lines = said(store)
    assert lines[0] == "0 % of the ensemble is finished; what follows may change."
    assert not [line for line in lines if "agreement" in line or "reached" in line]


@pytest.mark.parametrize(
    ("factor", "repeats", "verdict"),
    [
        (1.0, 20, "in agreement (Hotelling p = "),
        (1.2, 20, "rejected (Hotelling p = "),
        (1.0, 3, "not compared (too few repeats with a result"),
    ],
)
def test_a_learning_curve_alone(tmp_path, factor, repeats, verdict):
    store = regression(tmp_path, factor, repeats)
    lines = said(store)
    # Three observables and the exponent of the error; of verdicts their number, and a free scale.
    assert len(lines) == (6 if repeats == 20 else 4)
    pool = about(lines, "The effective ridge on the error over the pool, T = 0.1: ")
    assert verdict in pool
    if repeats == 20:
        assert "over 4 sizes" in pool
        assert pool.endswith("not tested at n = 40.")


# -- the words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_value", "seen", "kind"),
    [
        (0.0005, 0.01, "rejected"),
        (0.02, 0.01, "doubtful"),
        (0.5, 0.2, "unresolved"),
        (0.5, 0.01, "agrees"),
        (np.nan, 0.01, "missing"),
    ],
)
def test_kinds(p_value, seen, kind):
    assert kind_of(p_value, seen) == kind


def test_a_summary_names_the_worst_first_and_every_place_once():
    found = [
        Judged("N = 16", 0.30, 0.01, 14, 1e-8, 4),
        Judged("N = 64", 0.10, 0.01, 14, 1e-5, 4),
        Judged("N = 256", 0.01, 0.01, 14, 0.5, 4),
        Judged("N = 1024", np.nan, np.nan, np.nan, np.nan, 4),
    ]
    assert summary(found) == (
        "rejected at N = 16 and 64 (measured 30.0(1.0) % off at N = 16); in agreement at N = 256 "
        "(at most 1.0(1.0) % off; 6.5 % would have been seen); not compared at N = 1024 "
        "(not predicted, not converged on the same data, or fewer than 4 chains or datasets)"
    )


def test_places_of_several_settings_stay_apart():
    assert joined(["N = 1", "N = 2", "N = 3"]) == "N = 1, 2 and 3"
    assert joined(["N = 1, n = 5", "N = 2, n = 5"]) == "N = 1, n = 5; N = 2, n = 5"
    assert joined(["N = 1"]) == "N = 1"
