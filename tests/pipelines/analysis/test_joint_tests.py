"""Verdicts over all observables of a cell: calibrated, powerful, and what is fitted beside them."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from pipelines.analysis import joint_tests, nuisance
from pipelines.analysis.comparison import Comparison
from pipelines.analysis.fits import _over_datasets
from pipelines.report.ranking import ranking_rows
from pipelines.theories import averaged_theories
from storage.campaign.observables import LEARNABILITY, RECORDS, Observed, observed
from storage.planning.plan import plan
from storage.reading.document import parse
from support.index import TEXT

LEVEL, TRIALS = 0.05, 1000
BINOMIAL = 5 * np.sqrt(LEVEL * (1 - LEVEL) / TRIALS)
NAMES = ("learnability He1", "learnability He3", "mse_mean", "predictive_variance")
TRUE = np.array([0.6, 0.2, 0.1, 0.02])
ROOT = np.linalg.cholesky(0.5 * np.eye(4) + 0.5) * (0.05 * TRUE)[:, None]  # of a chain


LEARNED = tuple(observed(LEARNABILITY, {"component": ("He1", "He3")}))
NORM = tuple(Observed(record) for record in RECORDS if record.kind == "weight_norm")


def comparison(
    rng: np.random.Generator, predicted: np.ndarray, averaged: bool = False, datasets: int = 3
) -> Comparison:
    """One cell, 8 chains per dataset, correlated observables; datasets scatter by 5 % too."""
    chains = 8
    scatter = rng.normal(size=(datasets, 1, 4)) @ ROOT.T
    units = TRUE + scatter + rng.normal(size=(datasets, chains, 4)) @ ROOT.T
    given = predicted + (0 if averaged else scatter[:, 0] * np.ones((len(predicted), datasets, 4)))
    return Comparison(
        tuple(f"theory {i}" for i in range(len(predicted))),
        NAMES,
        np.full(len(predicted), averaged),
        units.mean(1)[None],
        units.std(1, ddof=1)[None] / np.sqrt(chains),
        units[None],
        np.full((1, datasets), chains),
        np.ones((1, datasets), bool),
        np.broadcast_to(given, (len(predicted), datasets, 4))[:, None].copy(),
    )


def evaluated(found: Comparison):
    return joint_tests.evaluate(found, _over_datasets(found))


@pytest.mark.slow
@pytest.mark.parametrize(("averaged", "datasets"), [(False, 3), (True, 12)])
def test_true_theories_are_rejected_as_often_as_is_said(averaged, datasets):
    rng = np.random.default_rng(1)
    given = TRUE[None, None]
    p = [
        evaluated(comparison(rng, given, averaged, datasets))["grid_p_value"][0]
        for _ in range(TRIALS)
    ]
    assert abs(np.mean(np.array(p) < LEVEL) - LEVEL) < BINOMIAL


@pytest.mark.slow
def test_a_theory_that_is_wrong_by_what_could_be_seen_is_rejected():
    rng = np.random.default_rng(2)
    seen = [evaluated(comparison(rng, TRUE[None, None]))["joint_seen"][0, 0] for _ in range(100)]
    wrong = TRUE * (1 + np.median(seen))
    p = [evaluated(comparison(rng, wrong[None, None]))["joint_p_value"][0, 0] for _ in range(400)]
    assert np.mean(np.array(p) < joint_tests.REJECTED_P) == pytest.approx(0.95, abs=0.06)


def test_too_few_units_give_no_verdict():
    found = comparison(np.random.default_rng(3), TRUE[None, None], averaged=True, datasets=3)
    values = evaluated(found)
    assert np.isnan(values["joint_p_value"]).all()
    assert not values["tested"].any()


def test_at_most_a_third_as_many_observables_as_units():
    found = comparison(np.random.default_rng(4), TRUE[None, None], averaged=True, datasets=8)
    assert evaluated(found)["tested"][0, 0].tolist() == [1, 1, 0, 0]


def test_the_closest_theory_ranks_first_and_has_the_lowest_criterion():
    rng = np.random.default_rng(5)
    predicted = np.stack([1.3 * TRUE, TRUE, 1.05 * TRUE])[:, None]
    values = evaluated(comparison(rng, predicted))
    assert values["rank"].T.tolist() == [[3, 1, 2]] * 4
    assert values["criterion"][:, 0].argsort().tolist() == [1, 2, 0]
    # 30 % in one correlated direction is far beyond what 24 chains of 5 % could hide.
    assert values["criterion"][0, 0] - values["criterion"][1, 0] > 10


@pytest.mark.slow
def test_the_scatter_of_datasets_is_no_misfit_of_an_average():
    """The criterion of a true theory is ν ln(1 + T²/ν), T² = kν F/(ν - k + 1), of 12 datasets."""
    rng, k, free = np.random.default_rng(7), len(NAMES), 11
    found = [
        evaluated(comparison(rng, TRUE[None, None], True, free + 1))["criterion"][0, 0]
        for _ in range(TRIALS)
    ]
    limit = free * np.log1p(k * stats.f.isf(LEVEL, k, free - k + 1) / (free - k + 1))
    assert abs(np.mean(np.array(found) > limit) - LEVEL) < BINOMIAL


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_is_said():
    """Of a theory that is 5 % too large the deviation is -1/21 of its prediction."""
    rng = np.random.default_rng(9)
    covered = []
    for _ in range(TRIALS):
        values = evaluated(comparison(rng, 1.05 * TRUE[None, None], averaged=True, datasets=8))
        low, high = (values[f"deviation_{end}"][0, 0, 0] for end in ("low", "high"))
        covered.append(low < -0.05 / 1.05 < high)
    assert abs(np.mean(covered) - 0.95) < BINOMIAL


def test_a_silent_theory_is_neither_ranked_nor_compared():
    predicted = np.stack([TRUE, TRUE])[:, None]
    predicted[1, :, 2:] = np.nan
    values = evaluated(comparison(np.random.default_rng(6), predicted))
    assert np.isnan(values["rank"][1, 2:]).all()
    assert values["tested"][1, 0].tolist() == [1, 1, 0, 0]
    assert np.isfinite(values["criterion"][:, 0]).all()  # on the observables that both predict


# -- allowed parameters ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("temperature", "chi"), [(1.0, 1.0), (1.25, 1.0), (1.0, 0.8)], ids=["true", "hot", "lazy"]
)
def test_the_parameter_that_is_wrong_is_found(temperature, chi):
    """Datasets drawn around the theory at another T_eff, or at another χ."""
    planned = plan(parse(TEXT, ["sweep={}", "theories=[gfl]"]))
    theory = averaged_theories.evaluate("gfl", planned.cells)
    effective = averaged_theories.varied("gfl", planned.cells)["closure_temperature"]
    if chi == 1:
        truth = averaged_theories.varied("gfl", planned.cells, temperature=temperature * effective)
    else:
        truth = averaged_theories.varied("gfl", planned.cells, chi=chi)
    names = tuple(entry.name for entry in (*LEARNED, *NORM))
    true, predicted = (
        np.array([*values["learnability"][0].tolist(), float(values["weight_norm"][0])])
        for values in (truth, theory)
    )
    rng = np.random.default_rng(7)
    sample = true * (1 + 0.02 * rng.normal(size=(24, 3)))
    found = Comparison(
        ("gfl",), names, np.array([True]), sample[None], 0.001 * sample[None],
        np.repeat(sample[None, :, None], 4, 2), np.full((1, 24), 4), np.ones((1, 24), bool),
        np.broadcast_to(predicted, (1, 1, 24, 3)).copy(), entries=(*LEARNED, *NORM),
    )  # fmt: skip
    values = nuisance.evaluate(planned, found)
    wanted = {"temperature": temperature * values["nuisance_predicted"][0, 0, 0], "chi": chi}
    moved = "chi" if chi != 1 else "temperature"
    place = nuisance.PARAMETERS.index(moved)
    value, low, high, p = (
        values[name][0, 0, place]
        for name in ("nuisance", "nuisance_low", "nuisance_high", "nuisance_p_value")
    )
    # Five standard errors, the half-width of an interval of 68 %.
    assert abs(value - wanted[moved]) < 2.5 * (high - low)
    assert p > 1e-3
    assert evaluated(found)["joint_p_value"][0, 0] > 1e-3 or (temperature, chi) != (1, 1)


def test_the_table_of_theories_says_who_comes_closest():
    rng = np.random.default_rng(8)
    predicted = np.stack([1.3 * TRUE, TRUE])[:, None]
    found = comparison(rng, predicted)
    over = _over_datasets(found)
    values = evaluated(found) | {"p_value": over.p_value}
    variables = joint_tests.VARIABLES | {
        "p_value": joint_tests.Variable(("theory", "cell", "observable"), "f8", "p")
    }
    fits = xr.Dataset(
        {name: (variables[name].dims, value) for name, value in values.items()},
        {"theory": list(found.theories), "observable": list(NAMES)},
    )
    rows = ranking_rows(fits)
    assert [row["observable"] for row in rows[:2]] == ["learnability He1", "learnability He3"]
    for row in rows[:4]:
        assert row["theory 1"].startswith("★")
        assert row["theory 0"].endswith("rejected 1/1")
        assert row["theory 1"].endswith("rejected 0/1")
    assert rows[4]["observable"] == "jointly"
    assert rows[5]["theory 1"] == "0"
