"""The Zarr hierarchy of a campaign as it was when it was opened; a reader needs nothing else.

Zarr is imported where it is used: what is only passed on needs none.
"""

import json
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias, cast

from storage.arrays.chunks import Chunked
from storage.arrays.schema import SCHEMA_VERSION
from storage.errors import CampaignError, refused
from storage.files.objects import Objects

if TYPE_CHECKING:
    from zarr import Array, Group
    from zarr.core.metadata import ArrayV3Metadata

    from storage.arrays.documents import ArrayNode
    from storage.store.sound_objects import SoundObjects

Stored: TypeAlias = "Array[ArrayV3Metadata]"


@dataclass(frozen=True)
class Snapshot:
    """All groups and arrays that were published when they were first looked at.

    Their metadata are one object, so they always fit together, also while the campaign grows. Only
    the place travels between processes; a copy elsewhere looks for itself.
    """

    url: str  # of the hierarchy

    def __reduce__(self) -> "tuple[type[Snapshot], tuple[str]]":
        return Snapshot, (self.url,)

    @property
    def store(self) -> "SoundObjects":
        """The hierarchy for Zarr, read only, each object checked where it can be."""
        from storage.store.sound_objects import sound

        return sound(Objects(self.url))

    @cached_property
    def root(self) -> "Group":
        """The root group, read only."""
        import zarr

        return zarr.open_group(self.store, mode="r", use_consolidated=True)

    @cached_property
    def groups(self) -> "dict[str, Group]":
        """Every group by its path, the root's being empty."""
        from zarr import Group

        members = sorted(self.root.members(max_depth=None))
        return {"": self.root} | {path: node for path, node in members if isinstance(node, Group)}

    @cached_property
    def _arrays(self) -> dict[str, Stored]:
        return {}

    def array(self, path: str) -> Stored:
        """An array, whose metadata are looked up once."""
        if path not in self._arrays:
            self._arrays[path] = cast("Stored", self.root[path])
        return self._arrays[path]

    @cached_property
    def _numbers(self) -> dict[str, Chunked | None]:
        return {}

    def numbers(self, path: str) -> Chunked | None:
        """How an array is read chunk by chunk; None where it is packed as none of ours is."""
        if path not in self._numbers:
            try:
                node = cast("ArrayNode", self.array(path).metadata.to_dict())
                found = Chunked.parsed(path, node)
            except ValueError:
                found = None  # Zarr reads it
            self._numbers[path] = found
        return self._numbers[path]

    def explained(self) -> AbstractContextManager[None]:
        """As by the function of this name."""
        return explained(self.url)

    def group(self, path: str) -> "Group":
        """A group; CampaignError where there is none."""
        if path not in self.groups:
            known = ", ".join(filter(None, self.groups))
            raise CampaignError(
                f"{self.url}: found no group {path!r}, wanted one of {known}; groups of theories "
                "and fits appear when they have been computed"
            )
        return self.groups[path]


def explained(url: str) -> AbstractContextManager[None]:
    """CampaignError, in one line, for whatever Zarr and xarray say of damaged metadata."""
    return refused(
        lambda reason: (
            f"{url} cannot be read ({reason[:200]}); find what is damaged with "
            f"`finitewidth verify {url.removesuffix('/data.zarr')}`"
        )
    )


def find(path: str | os.PathLike[str]) -> Snapshot:
    """The hierarchy of a campaign's directory, or the one that is kept at the path itself.

    CampaignError where there is none, or one that a newer version has written.
    """
    place = Objects(os.fspath(path))
    for objects in (place.child("data.zarr"), place):
        if (metadata := objects.get("zarr.json")) is not None:
            _check(objects.url, metadata)
            return Snapshot(objects.url)
    raise CampaignError(
        f"{place.url}: no campaign is stored here; give the folder that `finitewidth run` printed"
    )


def _check(url: str, metadata: bytes) -> None:
    try:
        version = json.loads(metadata)["attributes"]["schema_version"]
    except (ValueError, LookupError, TypeError):
        raise CampaignError(
            f"{url}: found a Zarr hierarchy without schema_version, wanted that of a campaign; "
            "give the folder that `finitewidth run` printed"
        ) from None
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise CampaignError(
            f"{url}: found schema_version {version}, wanted at most {SCHEMA_VERSION}; open it with "
            "a newer finitewidth"
        )
