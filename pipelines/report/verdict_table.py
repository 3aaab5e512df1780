"""Theories and observables against each other: the verdicts of a campaign in a table of text."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipelines.analysis.verdict_rows import Verdict
from pipelines.analysis.verdicts import KINDS
from pipelines.report import style
from pipelines.report.theory_names import in_words, observable_in_words
from pipelines.report.words import listed
from pipelines.text.rounding import UNKNOWN, digits, uncertain

WORDS = {
    "rejected": "rejected",
    "doubtful": "in doubt",
    "unresolved": "not resolved",
    "agrees": "agrees",
    "missing": "not compared",
}
OBSERVABLE = "observable"  # the head of the first column


def verdict_table(rows: Sequence[Verdict]) -> list[dict[str, str]]:
    """A row for each observable, a column for each theory: how often it holds, and how far off."""
    theories = list(dict.fromkeys(row.theory for row in rows))
    found: dict[str, dict[str, list[Verdict]]] = {}
    for row in sorted(rows, key=lambda row: row.test == "limit"):  # what was measured comes first
        found.setdefault(_about(row), {}).setdefault(row.theory, []).append(row)
    if "jointly" in found:  # the last
        found["jointly"] = found.pop("jointly")
    return [
        {OBSERVABLE: about} | {style.theory_title(t): _entry(each.get(t, [])) for t in theories}
        for about, each in found.items()
    ]


def counts(rows: Sequence[Verdict]) -> list[str]:
    """`the NNGP: rejected 3, agrees 6`, a line for each theory."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        if row.test != "joint" and row.kind in WORDS:
            found.setdefault(row.theory, Counter())[row.kind] += 1
    return [f"{in_words(theory)}: {_counted(kinds)}" for theory, kinds in found.items()]


def _about(row: Verdict) -> str:
    if not row.observable:
        return "jointly"
    words = observable_in_words(row.observable).removeprefix("the ")
    return f"{words}, infinite size" if row.test == "limit" else words


def _entry(rows: Sequence[Verdict]) -> str:
    known = [row for row in rows if row.kind in WORDS]
    if not known:
        return UNKNOWN
    kinds = Counter(row.kind for row in known)
    said = WORDS[known[0].kind] if len(kinds) == 1 else _counted(kinds)
    if known[0].test == "joint":
        return f"{said}, p = {digits(known[0].p)}" if known[0].kind != "missing" else said
    off = [row for row in known if np.isfinite(row.size)]
    if not off:
        return said
    worst = max(off, key=lambda row: abs(row.size))
    return f"{said}; at most {uncertain(100 * worst.size, 100 * worst.error)} %"


def _counted(kinds: Counter[str]) -> str:
    return listed(f"{WORDS[kind]} {kinds[kind]}" for kind in KINDS if kinds[kind])
