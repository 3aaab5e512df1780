"""data.zarr for Zarr and xarray to read, each object checked as by `Sound`."""

import asyncio
from typing import Self

from obstore.store import LocalStore, S3Store
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from storage.files.objects import Objects
from storage.files.zarr_objects import ZarrObjects
from storage.store.sound import Sound
from storage.store.wanted import Wanted


class SoundObjects(ZarrObjects):
    """data.zarr for Zarr to read, each object checked as by `Sound`."""

    def __init__(self, store: LocalStore | S3Store, sound: Sound) -> None:
        super().__init__(store, sound.objects)
        self.sound = sound

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same place: it is never written."""
        return type(self)(self.store, self.sound)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of an object, None where there is none, or it is of no finished shard."""
        hidden = key.rpartition("/")[2].startswith(".")  # metadata of Zarr's second format
        if hidden or byte_range is not None:
            return await super().get(key, prototype, byte_range)
        remote = self.objects.remote  # where even a receipt is a round trip
        found = await asyncio.to_thread(self.sound.read, key) if remote else self.sound.read(key)
        if found is None:
            return None
        self.check_metadata(key, found)
        return prototype.buffer.from_bytes(found)


def sound(objects: Objects) -> SoundObjects:
    """The hierarchy at a place, checked where the rest of its campaign lies beside it."""
    place, _, name = objects.url.rpartition("/")
    campaign = Objects(place) if name == "data.zarr" and place else None
    kept = campaign is not None and bool(campaign.names("specs") or campaign.names("copies"))
    wanted = Wanted(campaign) if campaign is not None and kept else None
    return SoundObjects(objects.zarr().store, Sound(objects, wanted))
