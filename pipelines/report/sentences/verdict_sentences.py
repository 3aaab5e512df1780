"""Verdicts in sentences: what the rows of the store say, put into words and never judged anew."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pipelines.analysis.verdict_rows import Verdict, verdicts
from pipelines.analysis.verdicts import KINDS
from pipelines.report.theory_names import in_words, observable_in_words
from pipelines.report.words import listed
from pipelines.text.rounding import digits, percent, uncertain

if TYPE_CHECKING:
    from xarray import DataTree

MOST_PLACES = 4  # named one by one
TIME = "t = "  # the beginning of a place in time
TIMES = 3.0  # relative deviations above that are told as factors
OF_ENSEMBLE = ("limit", "size", "cell", "time")
TELLING = ("rejected", "doubtful", "unresolved", "agrees")  # kinds that know something
JOINTLY = {
    "rejected": "reject {theories}",
    "doubtful": "doubt {theories}",
    "unresolved": "do not decide on {theories}",
    "agrees": "agree with {theories}",
}
ABOUT = {  # what a test is of, after the theory and the observable
    "limit": "{theories} on {observable} at infinite size",
    "size": "{theories} on {observable}",
    "cell": "{theories} on {observable}",
    "time": "{theories} on {observable}",
    "curve": "{theories} on {observable}",
}
SAID = {
    "rejected": "rejected{places} (measured {off}{at}, p = {p}{why})",
    "doubtful": "in doubt{places} (measured {off}{at}, p = {p}{why})",
    "unresolved": "not resolved{places} (measured {off}{at}, p = {p}{why})",
    "agrees": "in agreement{places} (at most {off}; {seen} would have been seen{why})",
    "missing": "not compared{places} ({reasons})",
}


class Line(NamedTuple):
    """A sentence, and the theory under which it is folded; none where it is of all."""

    text: str
    theory: str = ""


def of_ensemble(rows: Sequence[Verdict]) -> Iterator[Line]:
    """A sentence for each theory on each observable, and for each point if these are few."""
    for test in OF_ENSEMBLE:
        yield from _sentences(_of_few_points([row for row in rows if row.test == test]))


def _of_few_points(rows: Sequence[Verdict]) -> Sequence[Verdict]:
    """Many points of the other axes are places, as are those of the axis of the test.

    Where each point has all times, two are many.
    """
    in_time = any(row.place.startswith(TIME) for row in rows)
    if len({row.point for row in rows}) <= (1 if in_time else MOST_PLACES):
        return rows
    return [row._replace(point="", place=_whole_place(row)) for row in rows]


def _whole_place(row: Verdict) -> str:
    at_infinity = row.test == "limit" and not row.place.startswith(TIME)
    return row.point if at_infinity else f"{row.point}, {row.place}"


def nothing_told(rows: Sequence[Verdict]) -> Iterator[Line]:
    """That no theory is compared with an ensemble, and why; nothing where one is."""
    known = [row for row in rows if row.test in OF_ENSEMBLE]
    if known and not any(row.kind in TELLING for row in known):
        reasons = dict.fromkeys(row.reason for row in known if row.test != "limit" and row.reason)
        yield Line(f"no theory is compared with the ensemble: {listed(reasons)}.")


def of_curves(tree: "DataTree") -> Iterator[Line]:
    """A sentence for each theory on each observable of a learning curve."""
    rows = [row for row in verdicts(tree) if row.test == "curve"]
    yield from _sentences(rows)
    if (tests := sum(row.kind in TELLING for row in rows)) > 1:
        yield Line(
            f"p-values of learning curves are of Hotelling's test, corrected for {tests} of them."
        )


def jointly(rows: Sequence[Verdict]) -> Iterator[Line]:
    """What all observables together say of the theories."""
    said = []
    for kind, words in JOINTLY.items():
        alike = [row for row in rows if row.test == "joint" and row.kind == kind]
        if alike:
            named = listed(f"{in_words(row.theory)} (p = {digits(row.p)})" for row in alike)
            said.append(words.format(theories=named))
    if said:
        yield Line(f"all observables of all cells together {listed(said)}.")


def _sentences(rows: Iterable[Verdict]) -> Iterator[Line]:
    together: dict[tuple[str, str], dict[str, list[Verdict]]] = {}
    for row in rows:
        if row.kind != "silent":
            about = together.setdefault((row.point, row.observable), {})
            about.setdefault(row.theory, []).append(row)
    for theories in together.values():
        for names, alike in _alike(theories):
            first = alike[0]
            about = ABOUT[first.test].format(
                theories=listed(in_words(name) for name in names),
                observable=observable_in_words(first.observable),
            )
            where = f"at {first.point}, " if first.point else ""
            yield Line(f"{where}{about}: {summary(alike)}.", names[0])


def _alike(theories: dict[str, list[Verdict]]) -> Iterator[tuple[list[str], list[Verdict]]]:
    """Theories with the same numbers are named together."""
    found: dict[str, list[str]] = {}
    for theory, rows in theories.items():
        same = repr([row._replace(theory="") for row in rows])
        found.setdefault(same, []).append(theory)
    for names in found.values():
        yield names, theories[names[0]]


def summary(rows: Sequence[Verdict]) -> str:
    """`rejected at N = 16 (measured 7.3(1) % off); in agreement at N = 64 ...`, worst first."""
    parts = []
    for kind in KINDS:
        alike = [row for row in rows if row.kind == kind]
        if kind in SAID and alike:
            parts.append(_said(alike, len(rows)))
    return "; ".join(parts)


def _said(alike: Sequence[Verdict], total: int) -> str:
    worst = max(alike, key=lambda row: abs(row.size))
    return SAID[worst.kind].format(
        places=_places(alike, total),
        off=_off(worst),
        at=f" at {worst.place}" if len(alike) > 1 else "",
        p=digits(min(row.p for row in alike)),
        seen=percent(max(row.seen for row in alike)),
        why=f"; {worst.reason}" if worst.reason else "",
        reasons=_reasons(alike),
    )


def _reasons(alike: Sequence[Verdict]) -> str:
    """Each reason once, as many as are read."""
    reasons = list(dict.fromkeys(row.reason for row in alike))
    more = len(reasons) - MOST_PLACES
    return "; ".join(reasons[:MOST_PLACES] + ([f"and {more} more reasons"] if more > 0 else []))


def _off(row: Verdict) -> str:
    """The relative deviation with its standard error, in percent; large ones as factors."""
    if row.size != row.size:  # nan
        return "not the zero that is predicted"
    if 1 + row.size > TIMES:
        return f"{uncertain(1 + row.size, row.error)} times what is predicted"
    return f"{uncertain(100 * row.size, 100 * row.error)} % off"


def _places(alike: Sequence[Verdict], total: int) -> str:
    """` at N = 16, 64 and 256`, ` everywhere`, ` in 7 of 9 places, t = 0.1 to 3`."""
    names = [row.place for row in alike]
    if not any(names) or (alike[0].test == "limit" and total == 1):
        return ""
    if len(alike) == total > 1:
        return " everywhere"
    if len(alike) > MOST_PLACES:
        if all(name.startswith(TIME) for name in names):
            return f" at {len(alike)} of {total} times{_span(names)}"
        return f" in {len(alike)} of {total} places{_span(names)}"
    return f" at {joined(names)}"


def _span(places: Sequence[str]) -> str:
    """`, t = 0.1 to 3`, from the first to the last of places in time; nothing of others."""
    times = [when for _, at, when in (place.rpartition(TIME) for place in places) if at]
    if len(times) < len(places):
        return ""
    ends = dict.fromkeys([min(times, key=float), max(times, key=float)])
    return f", {TIME}{' to '.join(ends)}"


def joined(names: Sequence[str]) -> str:
    """`N = 16, 64 and 256`; places of several settings are separated by semicolons."""
    pairs = [name.partition(" = ") for name in names]
    symbols = {symbol for symbol, *_ in pairs}
    if len(names) == 1 or len(symbols) > 1 or any("," in name for name in names):
        return "; ".join(names)
    return f"{symbols.pop()} = {listed(value for *_, value in pairs)}"
