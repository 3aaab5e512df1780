"""What is written once and follows from nothing else: specs, sources, numerics, rounds, runs.

Of each there is a copy under `copies/`, whose name ends in the sha256 of what it holds. So either
of the two may be damaged: which one it is can be told, and the other one is good.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from storage.errors import CampaignError
from storage.files.objects import Objects
from storage.store.digests import digest

COPIES = "copies"
SOURCES, NUMERICS = "provenance/sources.json", "provenance/numerics.json"
RUN = re.compile(r"provenance/run-\d{4,}\.json")
NUMBERED = (("specs", "yaml"), ("refined", "json"))
_COPY = re.compile(rf"{COPIES}/(.+)\.([0-9a-f]{{64}})")


class Kept(NamedTuple):
    """An object of which there is a copy, with the digest that both had when they were written."""

    name: str
    digest: str

    @property
    def copy(self) -> str:
        """The name of the copy."""
        return f"{COPIES}/{self.name}.{self.digest}"


def keep(objects: Objects, name: str, data: bytes) -> None:
    """Write an object with its copy, if there is none; the copy of one that has none yet."""
    if name in (known := copies(objects)):
        read(objects, name, known)
        return
    objects.create(name, data)
    data = objects.get(name) or b""
    objects.create(Kept(name, digest(data)).copy, data)


def complete(objects: Objects) -> None:
    """Make the copies that a store of an earlier version, or of a killed driver, lacks."""
    for name in _originals(objects) - copies(objects).keys():
        data = objects.get(name) or b""
        objects.create(Kept(name, digest(data)).copy, data)


def copies(objects: Objects) -> dict[str, Kept]:
    """Every object that has a copy, by its name."""
    found = (_COPY.fullmatch(name) for name in objects.names(COPIES))
    return {match[1]: Kept(match[1], match[2]) for match in found if match}


def read(objects: Objects, name: str, known: dict[str, Kept] | None = None) -> bytes | None:
    """The bytes of an object as they were written, None where it never was.

    Raises CampaignError where it is gone or another one. Stores of earlier versions have no copies,
    and are believed.
    """
    kept = (copies(objects) if known is None else known).get(name)
    data = objects.get(name)
    if kept is not None and (data is None or digest(data) != kept.digest):
        found = "is missing" if data is None else "has changed since it was written"
        raise CampaignError(
            f"{objects.url}/{name} {found}; bring its copy back with `finitewidth verify --repair "
            f"{objects.url}`"
        )
    return data


def numbered(objects: Objects, folder: str, ending: str) -> list[tuple[str, bytes]]:
    """The objects `0001.<ending>`, `0002.<ending>`, ... of a folder in order, as by `read`."""
    stored, known = objects.numbered(folder, ending), copies(objects)
    place = re.compile(rf"{re.escape(folder)}/\d{{4,}}\.{re.escape(ending)}")
    names = {*stored, *filter(place.fullmatch, known)}
    return [(name, read(objects, name, known) or b"") for name in sorted(names)]


def damaged(objects: Objects) -> Iterator[tuple[str, str, str | None]]:
    """What is not as it was written: its name, why, and the name of what it can be made from."""
    known = copies(objects)
    for name, kept in sorted(known.items()):
        original = difference(objects, name, kept.digest)
        copy = difference(objects, kept.copy, kept.digest)
        if original:
            yield name, original, None if copy else kept.copy
        if copy:
            yield kept.copy, copy, None if original else name
    for name in _originals(objects) - known.keys() if known else ():
        data = objects.get(name)
        if data is not None:
            yield Kept(name, digest(data)).copy, "it is missing", name


def _originals(objects: Objects) -> set[str]:
    found = {name for folder, ending in NUMBERED for name in objects.numbered(folder, ending)}
    found |= set(filter(RUN.fullmatch, objects.names("provenance")))
    return found | {name for name in (SOURCES, NUMERICS) if objects.exists(name)}


def restore(objects: Objects, name: str, source: str) -> None:
    """Put an object back from its copy, or the other way round."""
    data = objects.get(source)
    if data is None:
        raise CampaignError(f"found no {objects.url}/{source}, wanted it to bring {name} back")
    objects.put(name, data)


def difference(objects: Objects, name: str, wanted: str) -> str:
    """What is wrong with an object; nothing where it has this digest."""
    try:
        data = objects.get(name)
    except CampaignError as error:
        return str(error)
    if data is None:
        return "it is missing"
    return "" if digest(data) == wanted else "it has changed since it was written"
