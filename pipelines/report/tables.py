"""Tables for a paper: the verdicts as CSV and TeX, and the papers of what was compared."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.analysis.verdict_rows import COLUMNS, Verdict
from storage.campaign.theories import record

BIBLIOGRAPHY = Path(__file__).parents[2] / "theory" / "references.bib"
CAPTION = (
    "Theories against what was measured: how many tests of each kind, and the largest relative "
    "deviation, measured minus predicted. Rejected is p < 0.001, in doubt p < 0.05, corrected for "
    "all tests of the kind; agreement is claimed where a tenth of the prediction would have been "
    "seen in 19 cases of 20."
)
TEX = {  # what TeX reads as a command, and letters that its fonts lack
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
    "−": "$-$", "×": r"$\times$", "χ": r"$\chi$", "σ": r"$\sigma$", "Λ": r"$\Lambda$",
    "∞": r"$\infty$", "→": r"$\to$", "φ": r"$\varphi$", "·": r"$\cdot$",
    "<": "$<$",
}  # fmt: skip
RAISED, LOWERED = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "₋₀₁₂₃₄₅₆₇₈₉"
PLAIN = "-0123456789"


def as_csv(rows: Sequence[Verdict]) -> str:
    """Every row of the verdicts under the names of its columns; NaN where a number is unknown."""
    found = io.StringIO()
    writer = csv.writer(found, lineterminator="\n")
    writer.writerow([name for name, *_ in COLUMNS])
    writer.writerows(rows)
    return found.getvalue()


def as_tex(rows: Sequence[Mapping[str, str]]) -> str:
    """A table of text as a `table` of LaTeX with its caption, which needs no package."""
    head = [*rows[0]] if rows else []
    lines = [
        r"\begin{table}",
        rf"\caption{{{_tex(CAPTION)}}}",
        rf"\begin{{tabular}}{{{'l' * len(head)}}}",
        r"\hline",
        _line(head),
        r"\hline",
        *(_line([*row.values()]) for row in rows),
        r"\hline",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return rf"{' & '.join(map(_tex, cells))} \\"


def _tex(text: str) -> str:
    """Text that TeX prints as it is: `10⁻³` is `10$^{-3}$`."""
    return "".join(map(_part, re.split(f"([{RAISED}]+|[{LOWERED}]+)", text)))


def _part(text: str) -> str:
    for letters, sign in ((RAISED, "^"), (LOWERED, "_")):
        if text[:1] and text[0] in letters:
            return f"${sign}{{{text.translate(str.maketrans(letters, PLAIN))}}}$"
    return "".join(TEX.get(letter, letter) for letter in text)


def bibliography(theories: Sequence[str]) -> str:
    """The BibTeX of the papers of these theories, in the order of their keys."""
    entries = dict(
        re.findall(r"^(?=@\w+\{([^,\n]*),$)(@.*?^\})", BIBLIOGRAPHY.read_text(), re.M | re.S)
    )
    records = [record(theory) for theory in theories]
    keys = sorted({key for each in records for key in each.papers if key in entries})
    own = dict.fromkeys(each.bibtex.strip() for each in records if each.bibtex)
    return "\n\n".join([*(entries[key] for key in keys), *own]) + "\n"
