"""Tables of cells: aligned, no wider than a terminal, folded, and nothing left out unsaid."""

import io
import sys

import pytest

from pipelines.text import columns

ROWS = [{"N": str(n), "T": "0.5", "learnability": f"{n / 7:.{n % 5}f}"} for n in (4, 16, 1024)]


def test_what_is_the_same_everywhere_is_said_once():
    same, head, *lines = columns.table(ROWS, len(ROWS))
    assert same == "  T 0.5"
    assert head.split() == ["N", "learnability"]
    assert [line.split() for line in lines] == [[row["N"], row["learnability"]] for row in ROWS]
    assert len({line.index(row["learnability"]) for line, row in zip(lines, ROWS)}) == 1  # noqa: B905


def test_a_single_row_keeps_its_columns():
    head, line = columns.table(ROWS[:1], 1)
    assert head.split() == ["N", "T", "learnability"]
    assert line.split() == ["4", "0.5", ROWS[0]["learnability"]]


@pytest.mark.parametrize("width", range(1, 60, 7))
def test_what_does_not_fit_is_named(width):
    rows = [{f"c{i}": str(i * n) for i in range(1, 9)} for n in (1, 20)]
    *lines, last = columns.table(rows, 2, width)
    shown = lines[0].split()
    if len(shown) < 8:
        named = last.removeprefix("  no room for ").split(", ")
        assert shown + named == list(rows[0])
        assert len(shown) == 1 or max(map(len, lines)) <= width


def test_rows_that_are_folded_are_counted():
    assert columns.table(ROWS, 503)[-1] == "  and 500 more cells; --all shows them"


def test_elsewhere_than_on_a_terminal_lines_are_as_wide_as_they_are(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert columns.width() is None


def test_watching_elsewhere_than_on_a_terminal_prints_what_has_changed(capsys):
    columns.show(iter(["a", "a", "b"]))
    assert capsys.readouterr().out == "a\n\nb\n\n"
