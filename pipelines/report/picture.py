"""Figures as files: the same bytes for the same figure, whenever and wherever it is saved."""

import io
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from pipelines.report import style

LARGEST_PNG = 300_000  # bytes
RESOLUTIONS = (160, 120, 90, 60)  # dots per inch, the first that keeps a PNG small


def svg(figure: Figure) -> bytes:
    """The figure as SVG, glyphs as outlines."""
    return _saved(figure, format="svg", metadata={"Date": None})


def svg_with_text(figure: Figure, size: style.Size = style.PAGE) -> bytes:
    """The figure as SVG whose words can be edited, in the font of whoever opens it."""
    with style.look(size), mpl.rc_context({"svg.fonttype": "none"}):
        return _written(figure, format="svg", metadata={"Date": None})


def pdf(figure: Figure, size: style.Size = style.PAGE) -> bytes:
    """The figure as PDF, fonts embedded."""
    with style.look(size):
        return _written(figure, format="pdf", metadata={"CreationDate": None})


def png(figure: Figure) -> bytes:
    """The figure as PNG, at the best resolution that keeps it small."""
    smallest = b""
    for resolution in RESOLUTIONS:
        smallest = _saved(figure, format="png", dpi=resolution)
        if len(smallest) <= LARGEST_PNG:
            break
    return smallest


def _saved(figure: Figure, **options: Any) -> bytes:
    with style.look():
        return _written(figure, **options)


def _written(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, **options)
    return buffer.getvalue()
