"""The pictures of a report, kept beside it and drawn anew only where what they show has changed."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr

from pipelines.progress.code_digest import code_digest
from pipelines.report.figures.panel import Panel
from pipelines.report.parts import part
from pipelines.report.picture import png, svg
from storage.files.objects import Objects
from storage.files.sealed import seal, unseal

LIST = "report/pictures.json"  # what each picture shows, and the digests of its files
LARGEST_SVG = 500_000  # bytes of a picture inside the page; of a larger one the PNG goes in
DRAWN_BY = ("matplotlib", "numpy", "scipy", "xarray")


@dataclass(frozen=True)
class Picture:
    """A panel as files: the SVG is empty where it is too large for a page."""

    panel: Panel
    png: bytes
    svg: bytes


def pictures(objects: Objects, panels: list[Panel], left_out: list[str]) -> list[Picture]:
    """The picture of each panel, from beside the report or drawn and put there.

    Pictures that an earlier report put there and that are of no panel now are removed; files of
    others stay.
    """
    known = _listed(objects)
    found, listed = [], {}
    for panel in panels:
        shows, picture = "", None
        with part(f"The picture “{panel.title}”", left_out):
            shows = digest(panel)
            picture = _kept(objects, panel, known.get(panel.name, {}), shows)
            fresh = picture is None
            picture = picture or _draw(panel)
        if picture is None:
            continue
        entry = {"shows": shows}
        for name, content in _files(picture):
            entry[name] = hashlib.sha256(content).hexdigest()
            if fresh:
                objects.put(name, content)
        listed[panel.name] = entry
        found.append(picture)
    for name in _names(known) - _names(listed):
        objects.delete(name)
    objects.put(LIST, seal(listed, indent=1))
    return found


def digest(panel: Panel) -> str:
    """What a picture follows from: numbers, words, and the code that draws."""
    said = [
        panel.name,
        panel.title,
        panel.caption,
        panel.room,
        _code(),
        _attributes(panel.data.attrs),
    ]
    found = hashlib.sha256(json.dumps(said).encode())
    for name in sorted(map(str, panel.data.variables)):
        variable = panel.data[name].variable
        about = [name, variable.dims, variable.shape, str(variable.dtype)]
        found.update(json.dumps([*about, _attributes(variable.attrs)]).encode())
        found.update(_bytes(variable))
    return found.hexdigest()


def _bytes(variable: xr.Variable) -> bytes:
    values = np.asarray(variable.values)
    return repr(values.tolist()).encode() if values.dtype == object else values.tobytes()


def _attributes(attrs: Mapping[object, object]) -> str:
    return repr(sorted((str(key), value) for key, value in attrs.items()))


@cache
def _code() -> str:
    """Of everything that the look of a picture depends on, with the libraries that draw."""
    here = Path(__file__).parent
    return code_digest(
        [*sorted(here.rglob("*.py")), here.parent / "text" / "rounding.py"], DRAWN_BY
    )


# -- files ----------------------------------------------------------------------------------


def _listed(objects: Objects) -> dict[str, dict[str, str]]:
    """What the last report drew; nothing where nobody can read the list any more."""
    try:
        entries = unseal(objects.get(LIST) or b"{}").items()
    except ValueError:
        return {}
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def _names(listed: Mapping[str, Mapping[str, str]]) -> set[str]:
    """The files of these pictures."""
    return {file for name, entry in listed.items() for file in _places(name) if file in entry}


def _places(name: str) -> tuple[str, str]:
    return f"report/{name}.png", f"report/{name}.svg"


def _files(picture: Picture) -> Iterator[tuple[str, bytes]]:
    for name, content in zip(_places(picture.panel.name), (picture.png, picture.svg), strict=True):
        if content:
            yield name, content


def _kept(objects: Objects, panel: Panel, entry: Mapping[str, str], shows: str) -> Picture | None:
    """The picture as it lies there, if it shows this and nobody has changed it."""
    if entry.get("shows") != shows:
        return None
    contents = [objects.get(name) or b"" if name in entry else b"" for name in _places(panel.name)]
    picture = Picture(panel, *contents)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in _files(picture)}
    return picture if digests == {k: v for k, v in entry.items() if k != "shows"} else None


def _draw(panel: Panel) -> Picture:
    drawn = svg(panel.figure)
    return Picture(panel, png(panel.figure), drawn if len(drawn) <= LARGEST_SVG else b"")
