"""data.zarr as analysis reads it: what is missing, or other than was written, is one line."""

import asyncio
from typing import Self

from obstore.store import LocalStore, S3Store
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from storage.errors import CampaignError
from storage.files.objects import Objects
from storage.files.zarr_objects import ZarrObjects
from storage.store.wanted import METADATA, Wanted


class SoundObjects(ZarrObjects):
    """data.zarr for Zarr, in which nothing is read that is not as it was written."""

    def __init__(
        self,
        store: LocalStore | S3Store,
        *,
        read_only: bool = False,
        objects: Objects,
        wanted: Wanted | None = None,
    ) -> None:
        super().__init__(store, read_only=read_only, objects=objects)
        self.wanted = wanted

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same place, to be read or also written."""
        return type(self)(self.store, read_only=read_only, objects=self.objects, wanted=self.wanted)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of an object, None where there is none, or it is of no finished shard."""
        found = await super().get(key, prototype, byte_range)
        if self.wanted is None or byte_range is not None:
            return found
        try:
            return await self._seen(key, found)
        except CampaignError:  # unless it was written between the two looks
            return await self._seen(key, await super().get(key, prototype, byte_range))

    def read(self, key: str) -> bytes | None:
        """What `get` gives, without a loop of events."""
        found = self.objects.get(key)
        if self.wanted is None:
            return found
        try:
            seen = self.wanted.checked(key, found)
        except CampaignError:  # unless it was written between the two looks
            found = self.objects.get(key)
            seen = self.wanted.checked(key, found)
        return found if seen else None

    async def _seen(self, key: str, found: Buffer | None) -> Buffer | None:
        assert self.wanted is not None
        data = None if found is None else found.to_bytes()
        if self.objects.remote:  # a receipt is a round trip
            seen = await asyncio.to_thread(self.wanted.checked, key, data)
        else:
            seen = self.wanted.checked(key, data)
        return found if seen else None

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        await super().set(key, value)
        self._note(key, value.to_bytes())

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write an object if there is none."""
        await super().set_if_not_exists(key, value)
        self._note(key, self.objects.get(key))

    async def delete(self, key: str) -> None:
        """Remove an object; it need not exist."""
        await super().delete(key)
        self._note(key, None)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all objects below a prefix; what was gone already is not missed any more."""
        await super().delete_dir(prefix)
        if self.wanted is not None:
            for key in self.wanted.digests.below(prefix.strip("/")):
                self._note(key, None)

    def _note(self, key: str, data: bytes | None) -> None:
        if self.wanted is None:
            return
        if key == METADATA:
            self.wanted.forget()
        if self.wanted.layout().find(key) is None:
            self.wanted.digests.note(key, data)


def sound(objects: Objects, read_only: bool = False) -> SoundObjects:
    """The hierarchy at a place, checked where the rest of its campaign lies beside it."""
    place, _, name = objects.url.rpartition("/")
    campaign = Objects(place) if name == "data.zarr" and place else None
    kept = campaign is not None and bool(campaign.names("specs") or campaign.names("copies"))
    wanted = Wanted(campaign) if campaign is not None and kept else None
    return SoundObjects(
        objects.zarr(read_only).store, read_only=read_only, objects=objects, wanted=wanted
    )
