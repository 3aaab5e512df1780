"""Rows in words: each is told once, under its kind, and nothing is judged on the way."""

import math

from pipelines.analysis.verdict_rows import Verdict
from pipelines.analysis.verdicts import Kind
from pipelines.report.sentences.verdict_sentences import joined, jointly, of_ensemble, summary
from pipelines.report.verdict_table import counts, verdict_table


def row(place: str, kind: Kind, size=math.nan, error=math.nan, p=math.nan, **changed) -> Verdict:
    found = Verdict(
        "size", "nngp", "mse_mean", "", place, kind, size, error, 0, 0, p, 6.5 * error, ""
    )
    return found._replace(**changed)


FOUND = [
    row("N = 16", "rejected", 0.30, 0.01, 1e-8),
    row("N = 64", "rejected", 0.10, 0.01, 1e-5),
    row("N = 256", "agrees", 0.01, 0.01, 0.5),
    row("N = 1024", "missing", reason="no dataset has converged"),
]


def test_a_summary_names_the_worst_first_and_every_place_once():
    assert summary(FOUND) == (
        "rejected at N = 16 and 64 (measured 30.0(1.0) % off at N = 16, p = 10⁻⁸); in agreement at "
        "N = 256 (at most 1.0(1.0) % off; 6.5 % would have been seen); not compared at N = 1024 "
        "(no dataset has converged)"
    )


def test_what_is_rejected_is_told_whatever_its_numbers_are():
    """Sentences read the kind: they would repeat one that the numbers contradict."""
    assert summary([row("", "rejected", 0.0, 0.1, 1.0)]).startswith("rejected (")
    assert summary([row("", "agrees", 9.0, 0.1, 0.0)]).startswith("in agreement (")


def test_networks_in_time_are_told_of_time_by_time():
    in_time = {"test": "time", "observable": "loss", "point": "N = 16"}
    rows = [
        row(f"t = {when}", "rejected" if when > 5 else "agrees", 0.1 * when, 0.01, 0.5, **in_time)
        for when in range(1, 7)
    ]
    (line,) = of_ensemble(rows)
    assert line.text == (
        "at N = 16, the NNGP on the training loss: rejected at t = 6 (measured 60.0(1.0) % off, "
        "p = 0.5); in agreement at 5 of 6 times, t = 1 to 5 (at most 50.0(1.0) % off; 6.5 % would "
        "have been seen)."
    )


def test_times_of_several_points_are_one_sentence():
    rows = [
        row(
            f"t = {when}", "rejected" if when == "30" else "agrees", 0.1 * size, 0.01, 0.5,
            test="time", observable="loss", point=f"N = {size}",
        )
        for size in (1, 2)
        for when in ("0.3", "2", "30")
    ]  # fmt: skip
    (line,) = of_ensemble(rows)
    assert line.text == (
        "the NNGP on the training loss: rejected at N = 1, t = 30; N = 2, t = 30 (measured "
        "20.0(1.0) % off at N = 2, t = 30, p = 0.5); in agreement at N = 1, t = 0.3; N = 1, t = 2; "
        "N = 2, t = 0.3; N = 2, t = 2 (at most 20.0(1.0) % off; 6.5 % would have been seen)."
    )
    three = [each._replace(point=f"N = {size}") for size in (1, 2, 3) for each in rows[:3]]
    (line,) = of_ensemble(three)
    assert "in agreement in 6 of 9 places, t = 0.3 to 2 (at most" in line.text


def test_many_points_of_other_axes_are_one_sentence():
    heats = [round(0.1 * number, 1) for number in range(1, 21)]
    at_infinity = {"test": "limit", "size": math.nan, "p": 1e-6}
    limits = [
        row("1/N → 0", "missing", **at_infinity, point=f"χT = {heat}", reason=f"because of {heat}")
        for heat in heats[:15]
    ]
    at_infinity |= {"size": 0.2, "error": 0.01}
    limits += [row("1/N → 0", "rejected", **at_infinity, point=f"χT = {t}") for t in heats[15:]]
    (line,) = of_ensemble(limits)
    assert line.text == (
        "the NNGP on the error of the mean output at infinite size: rejected in 5 of 20 places "
        "(measured 20.0(1.0) % off at χT = 1.6, p = 10⁻⁶); not compared in 15 of 20 places "
        "(because of 0.1; because of 0.2; because of 0.3; because of 0.4; and 11 more reasons)."
    )
    sizes = [row(f"N = {n}", "agrees", 0, 0.01, point=f"χT = {t}") for t in heats for n in (4, 8)]
    (line,) = of_ensemble(sizes)
    assert " in agreement everywhere " in line.text
    assert len(list(of_ensemble(sizes[:8]))) == 4  # a few points have a sentence each


def test_what_was_measured_comes_before_its_limit_in_the_table():
    limits = [row("1/N → 0", "rejected", 0.1, test="limit", observable=name) for name in ("a", "b")]
    names = [each["observable"] for each in verdict_table([*limits, *FOUND])]
    assert names == ["error of the mean output", "a, infinite size", "b, infinite size"]


def test_theories_with_the_same_numbers_are_named_together():
    others = [each._replace(theory="kernel_scaling") for each in FOUND]
    (line,) = of_ensemble([*FOUND, *others])
    assert line.text.startswith("the NNGP and kernel scaling on the error of the mean output: ")
    first, second = of_ensemble([*FOUND, *others[:2]])
    assert (first.theory, second.theory) == ("nngp", "kernel_scaling")


def test_what_all_observables_together_say_is_one_sentence():
    rows = [
        row("", "rejected", p=0.0, theory="nngp", test="joint"),
        row("", "agrees", p=0.3, theory="order_parameter", test="joint"),
        row("", "missing", theory="gfl", test="joint"),
    ]
    (line,) = jointly(rows)
    assert line.text == (
        "all observables of all cells together reject the NNGP (p = 0) and agree with the full "
        "action S(q) (p = 0.3)."
    )


def test_a_table_counts_the_kinds():
    (found,) = verdict_table(FOUND)
    assert found == {
        "observable": "error of the mean output",
        "NNGP": "rejected 2, agrees 1 and not compared 1; at most 30.0(1.0) %",
    }
    assert counts(FOUND) == ["the NNGP: rejected 2, agrees 1 and not compared 1"]
    silent = [each._replace(theory="vga", kind="silent") for each in FOUND]
    (found,) = verdict_table([*FOUND, *silent])
    assert found["Gaussian neurons"] == "–"


def test_places_of_several_settings_stay_apart():
    assert joined(["N = 1", "N = 2", "N = 3"]) == "N = 1, 2 and 3"
    assert joined(["N = 1, n = 5", "N = 2, n = 5"]) == "N = 1, n = 5; N = 2, n = 5"
    assert joined(["N = 1"]) == "N = 1"
