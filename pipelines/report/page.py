"""Pieces of a web page that needs nothing but itself: no script, no request, all text escaped.

In Jinja the same pieces took as many lines, and tables twice the time.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import Template

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1f2328; font: 17px/1.6 Charter, "Bitstream Charter",
  "Iowan Old Style", Cambria, Georgia, "DejaVu Serif", serif; -webkit-text-size-adjust: 100%; }
main { max-width: 46rem; margin: 0 auto; padding: 3rem 1.25rem 5rem; }
h1, h2, th, .facts, .lead, figcaption b, summary, nav {
  font-family: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: clamp(1.55rem, 5vw, 2rem); line-height: 1.2; margin: 0 0 .5rem;
  letter-spacing: -.015em; text-wrap: pretty; }
h2 { font-size: 1.2rem; margin: 3rem 0 .75rem; }
.facts { color: #59636e; font-size: .84rem; margin: 0 0 2rem; overflow-wrap: anywhere; }
.note { border-left: 3px solid #bf8700; background: #fff8e5; padding: .6rem 1rem; margin: 1.5rem 0;
  font-size: .95rem; }
.conclusions { background: #f6f8fa; border-radius: 8px; padding: 1.1rem 1.4rem;
  margin: 1.5rem 0 2rem; }
.conclusions h2 { margin: 0 0 .4rem; font-size: 1rem; }
.conclusions ul { margin: 0; padding-left: 1.1rem; }
.conclusions li { margin: .3rem 0; }
figure { margin: 2.75rem 0 0; }
figure img { display: block; width: 100%; max-width: 40rem; height: auto; margin: 0 auto; }
figcaption { font-size: .92rem; line-height: 1.5; color: #3d444d; margin: .75rem auto 0;
  max-width: 40rem; }
figcaption b { color: #1f2328; }
.wide { overflow-x: auto; margin: 0 -1.25rem; padding: 0 1.25rem; }
table { border-collapse: collapse; font-size: .86rem; line-height: 1.4; min-width: 100%;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; font-size: .76rem; color: #59636e;
  border-bottom: 1.5px solid #1f2328; vertical-align: bottom; }
th, td { padding: .4rem .7rem .4rem 0; }
td { border-bottom: 1px solid #e6e8eb; white-space: nowrap; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 9em; }
tr.bad td { background: #fff8e5; }
pre { font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  background: #f6f8fa; border-radius: 6px; padding: .9rem 1rem; overflow-x: auto; }
summary { cursor: pointer; font-size: .9rem; margin: .75rem 0; }
@media (max-width: 520px) { body { font-size: 16px; } .conclusions { padding: 1rem; }
  figure img { width: calc(100% + 1.6rem); max-width: none; margin-left: -.8rem; } }
@media print { main { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

LONG_ENTRY = 24  # characters that a cell of a table holds in one line


def text(content: str) -> str:
    """Plain text as HTML; `N = 16` and `3 %` are not broken between lines."""
    kept = re.sub(r" ([=×<>%]) ?", lambda m: m[0].replace(" ", "\N{NO-BREAK SPACE}", 1), content)
    return escape(re.sub(r"([=×<>]) ", "\\1\N{NO-BREAK SPACE}", kept))


def page(title: str, parts: Iterable[str]) -> str:
    """The whole document; the parts are HTML already."""
    return PAGE.substitute(title=escape(title), style=STYLE, body="\n".join(filter(None, parts)))


def paragraph(content: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{_class(kind)}>{text(content)}</p>"


def heading(content: str) -> str:
    """The title of a section."""
    return f"<h2>{text(content)}</h2>"


def bullets(lines: Iterable[str]) -> str:
    """A list of plain lines."""
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def picture(data: bytes, kind: str, name: str, title: str, caption: str) -> str:
    """A figure with its picture inside the page; `kind` is a media type."""
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure id="{escape(name)}"><img src="{source}" alt="{escape(title)}">'
        f"<figcaption><b>{escape(title)}.</b> {text(caption)}</figcaption></figure>"
    )


def table(rows: Sequence[Mapping[str, str]], marked: Sequence[bool] = ()) -> str:
    """Rows of text under the names of the first row; marked rows stand out."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(
        f"<tr{_class('bad' if mark else '')}>{''.join(map(_entry, row.values()))}</tr>"
        for row, mark in zip(rows, marked or [False] * len(rows), strict=True)
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _entry(content: str) -> str:
    return f"<td{_class('long' if len(content) > LONG_ENTRY else '')}>{text(content)}</td>"


def code(content: str) -> str:
    """Text as it is."""
    return f"<pre>{escape(content)}</pre>"


def folded(title: str, content: str) -> str:
    """HTML that opens at a click."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
