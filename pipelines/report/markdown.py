"""Plain text inside Markdown: specs, axes and plug-ins have names that must not become markup."""

import re
from collections.abc import Mapping, Sequence
from html import escape

_MARKUP = re.compile(r"([\\`*_\[\]#|~$])")


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows of plain text under the names of the first row."""
    if not rows:
        return ""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    escaped = [[text(cell) if cell != "---" else cell for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def text(content: str) -> str:
    """The text in one line, shown as it is."""
    return escape(_MARKUP.sub(r"\\\1", " ".join(content.split())), quote=False)
