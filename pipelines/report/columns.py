"""Panels for a journal of two columns: each facet a picture of its own, as wide as a column."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import xarray as xr
from matplotlib.figure import Figure

from pipelines.report import style
from pipelines.report.figures.panel import Panel, drawn

LONGEST_NAME = 80  # characters of a name, that every file system takes


@dataclass(frozen=True)
class Column:
    """A facet of a panel with the name of its files and its caption."""

    panel: Panel
    data: xr.Dataset
    name: str
    caption: str

    def figure(self) -> Figure:
        """The picture, drawn anew each time."""
        return drawn(self.panel.draw, self.data, style.COLUMN)


def columns(panel: Panel) -> Iterator[Column]:
    """The facets of a panel, none of them drawn yet."""
    names: set[str] = set()
    for words, data in panel.facets(panel.data).items():
        name = stem = file_name(words if words.startswith(panel.name) else f"{panel.name} {words}")
        while name in names:
            name = f"{stem}-{len(names)}"
        names.add(name)
        title = f"{panel.title}: {words}" if words else panel.title
        yield Column(panel, data, name, f"{title}. {panel.caption}")


def file_name(words: str) -> str:
    """`learnability-he3-chit-0.01` for `learnability He₃, χT = 0.01`."""
    plain = "".join(map(_latin, unicodedata.normalize("NFKD", words.replace("−", "-"))))
    return re.sub(r"[^a-z0-9.-]+", "-", plain.lower())[:LONGEST_NAME].strip("-.")


def _latin(letter: str) -> str:
    """A Greek letter by its name."""
    name = unicodedata.name(letter, "")
    return name.rpartition(" ")[2] if name.startswith("GREEK") else letter
