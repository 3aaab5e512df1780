"""Digests of what data.zarr holds besides the regions of shards: metadata, coordinates, results.

Whoever changes any of it takes the list of digests away first and writes it again last, so that
what is listed is whole. Where a driver was killed in between there is no list; the next one reads
everything and makes it anew.
"""

import hashlib
from collections.abc import Callable, Iterable

from storage.files.objects import Objects
from storage.files.sealed import seal, unseal

NAME = "provenance/digests.json"


class Digests:
    """The list of digests in the store of a campaign, and what this process has changed since."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._listed: dict[str, str] | None = None
        self._noted: dict[str, str | None] = {}
        self._changing = False

    def begin(self) -> None:
        """Something will change: no list is better than one of before."""
        if not self._changing:
            self._listed = self._read()
            self.objects.delete(NAME)
            self._changing = True

    def note(self, key: str, data: bytes | None) -> None:
        """An object below data.zarr was written, or removed."""
        self._noted[key] = None if data is None else digest(data)

    def below(self, prefix: str) -> list[str]:
        """The objects below a prefix that must be there."""
        if self._listed is None and not self._changing:
            self._listed = self._read() or {}
        known = (self._listed or {}) | self._noted
        return [key for key, found in known.items() if found and key.startswith(f"{prefix}/")]

    def keep(self, everything: Callable[[], Iterable[str]]) -> None:
        """All that was changed is whole; `everything` names what to read where no list was."""
        if self._listed is None:
            self._listed = {key: digest(self._content(key)) for key in everything()}
        changed = self._listed | self._noted
        self._listed = {key: found for key, found in changed.items() if found is not None}
        self._noted = {}
        self.objects.put(NAME, seal(self._listed))
        self._changing = False

    def wanted(self, key: str) -> str | None:
        """The digest that an object must have; None where none is known."""
        if key in self._noted:
            return self._noted[key]
        if self._listed is None and not self._changing:
            self._listed = self._read() or {}
        return (self._listed or {}).get(key)

    def look_again(self) -> None:
        """Another process may have changed what is listed."""
        if not self._changing:
            self._listed = None

    def listed(self) -> dict[str, str] | None:
        """The list as it is stored, None where there is none; ValueError where it is damaged."""
        data = self.objects.get(NAME)
        return None if data is None else unseal(data)

    def _read(self) -> dict[str, str] | None:
        try:
            return self.listed()
        except ValueError:
            return None

    def _content(self, key: str) -> bytes:
        return self.objects.get(f"data.zarr/{key}") or b""


def digest(data: bytes) -> str:
    """sha256 of the bytes of an object."""
    return hashlib.sha256(data).hexdigest()
