"""Rows of text under a head, aligned: what `plan` and `status` print of cells.

rich is imported where it is used: a table that is watched needs it, others do not.
"""

import shutil
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

SHOWN_ROWS = 20  # rows, unless all are asked for
GAP, INDENT = "  ", "  "

Row = Mapping[str, str]


def width() -> int | None:
    """Of the terminal; None where the output goes elsewhere and may be as wide as it is."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def show(texts: Iterable[str]) -> None:
    """Texts one over the other on a terminal, and one below the other elsewhere; until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with suppress(KeyboardInterrupt):
        if not sys.stdout.isatty():
            before = None
            for text in texts:
                if text != before:
                    sys.stdout.write(f"{text}\n\n")
                    sys.stdout.flush()
                before = text
            return
        with Live(console=Console(), auto_refresh=False) as live:
            for text in texts:
                live.update(Text(text), refresh=True)


def table(
    rows: Sequence[Row], total: int, most: int | None = None, keep: Collection[str] = ()
) -> list[str]:
    """Lines of a table of the first of `total` rows, at most so wide.

    What is the same in all of them is said once, above, but for columns to keep; columns for which
    there is no room are named below.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    same = [
        name
        for name in names
        if name not in keep and len(rows) > 1 and len({row.get(name) for row in rows}) == 1
    ]
    differ = [name for name in names if name not in same]
    lines = _wrapped([f"{name} {rows[0][name]}" for name in same], most)
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in differ}
    kept = _fitting(widths, most)
    if kept:
        texts = [{name: name for name in kept}, *rows]
        lines += [
            _line([text.get(name, "").ljust(widths[name]) for name in kept]) for text in texts
        ]
    if left_out := differ[len(kept) :]:
        lines += _wrapped([f"no room for {', '.join(left_out)}"], None)
    if total > len(rows):
        lines.append(f"{INDENT}and {total - len(rows)} more cells; --all shows them")
    return lines


def _fitting(widths: Mapping[str, int], most: int | None) -> list[str]:
    """The first columns that fit; one does anywhere."""
    kept: list[str] = []
    used = len(INDENT)
    for name, width in widths.items():
        if kept and most is not None and used + width > most:
            break
        kept.append(name)
        used += width + len(GAP)
    return kept


def _line(texts: Sequence[str]) -> str:
    return f"{INDENT}{GAP.join(texts)}".rstrip()


def _wrapped(parts: Sequence[str], most: int | None) -> list[str]:
    """Parts one after another, in as many lines as they need."""
    lines: list[str] = []
    for part in parts:
        if lines and (most is None or len(lines[-1]) + len(part) + 2 <= most):
            lines[-1] += f", {part}"
        else:
            lines.append(f"{INDENT}{part}")
    return lines
