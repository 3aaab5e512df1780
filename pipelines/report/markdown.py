"""Plain text inside Markdown: specs, axes and plug-ins have names that must not become markup."""

import re
from html import escape

_MARKUP = re.compile(r"([\\`*_\[\]#|~$])")


def text(content: str) -> str:
    """The text in one line, shown as it is."""
    return escape(_MARKUP.sub(r"\\\1", " ".join(content.split())), quote=False)
