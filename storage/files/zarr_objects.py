"""A place for objects as Zarr reads it: failures are one line, and foreign files are not seen.

What Zarr reads passes here twice: as objects, and as chunks that are decoded. It writes nothing.
"""

import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self, TypeAlias

import zarr
from obstore.store import LocalStore, S3Store
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, NDBuffer
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_pipeline
from zarr.storage import ObjectStore, StorePath

from storage.errors import CampaignError, damaged
from storage.files.objects import READ

if TYPE_CHECKING:
    from zarr.abc.store import ByteGetter
    from zarr.core.array_spec import ArraySpec
    from zarr.core.indexing import SelectorTuple

    from storage.files.objects import Objects

# A chunk, what it is a chunk of, what is wanted of it and where to, and whether that is all of it.
Wanted: TypeAlias = "tuple[ByteGetter, ArraySpec, SelectorTuple, SelectorTuple, bool]"


class ZarrObjects(ObjectStore[LocalStore | S3Store]):
    """What `Objects.zarr` gives."""

    def __init__(self, store: LocalStore | S3Store, objects: "Objects") -> None:
        super().__init__(store, read_only=True)
        self.objects = objects

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same place: it is never written."""
        return type(self)(self.store, self.objects)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of an object, None where there is none."""
        with self.objects.explained("read", key, READ):
            found = await super().get(key, prototype, byte_range)
        if found is not None:
            self.check_metadata(key, found.to_bytes())
        return found

    def check_metadata(self, key: str, data: bytes) -> None:
        """CampaignError where these should be metadata, and cannot be read as such."""
        if not key.endswith("zarr.json"):
            return
        try:
            json.loads(data)
        except ValueError as error:
            raise damaged(self.objects.url, key, error) from None

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Parts of several objects."""
        with self.objects.explained("read", "", READ):
            return await super().get_partial_values(prototype, key_ranges)

    async def exists(self, key: str) -> bool:
        """Whether there is an object of this name."""
        with self.objects.explained("read", key, READ):
            return await super().exists(key)

    async def list_prefix(self, prefix: str) -> AsyncGenerator[str, None]:
        """The names of all objects below a prefix."""
        for name in self.objects.names(prefix.strip("/")):
            yield name

    async def list(self) -> AsyncGenerator[str, None]:
        """The names of all objects."""
        async for name in self.list_prefix(""):
            yield name

    async def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        """The names of the groups and arrays directly below a prefix; on S3 whatever is there."""
        if self.objects.remote:
            with self.objects.explained("list", prefix, READ):
                found = [name async for name in super().list_dir(prefix)]
        else:
            place = self.objects.child(prefix.strip("/")) if prefix.strip("/") else self.objects
            found = [name for name in place.folders() if place.exists(f"{name}/zarr.json")]
        for name in found:
            yield name


class ExplainedPipeline(BatchedCodecPipeline):
    """Zarr's own way from bytes to numbers and back; bytes that mean nothing are one line."""

    async def read_batch(
        self, batch_info: Iterable[Wanted], out: NDBuffer, drop_axes: tuple[int, ...] = ()
    ) -> None:
        """Read and decode chunks into an array."""
        batch = list(batch_info)
        with _decoded(batch):
            await super().read_batch(batch, out, drop_axes)


@contextmanager
def _decoded(batch: Sequence[Wanted]) -> Iterator[None]:
    """CampaignError where chunks of ours cannot be decoded, whatever the codecs raise."""
    try:
        yield
    except CampaignError:
        raise
    except Exception as error:
        place = batch[0][0]
        if not (isinstance(place, StorePath) and isinstance(place.store, ZarrObjects)):
            raise
        raise damaged(place.store.objects.url, place.path, error) from error


register_pipeline(ExplainedPipeline)
if zarr.config.get("codec_pipeline.path").endswith(".BatchedCodecPipeline"):  # the default
    zarr.config.set({"codec_pipeline.path": f"{__name__}.ExplainedPipeline"})
