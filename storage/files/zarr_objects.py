"""A place for objects as Zarr uses it: failures are one line, and foreign files are not seen.

What Zarr reads and writes passes here twice: as objects, and as chunks that are decoded.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import zarr
from obstore.store import LocalStore, S3Store
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, NDBuffer
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_pipeline
from zarr.storage import ObjectStore

from storage.errors import CampaignError, damaged
from storage.files import on_disk
from storage.files.objects import READ

if TYPE_CHECKING:
    from storage.files.objects import Objects


_KEY = re.compile(r"(.*/)?(zarr\.json|c(/\d+)*)")  # metadata, or a chunk


class ZarrObjects(ObjectStore[LocalStore | S3Store]):
    """What `Objects.zarr` gives."""

    def __init__(
        self, store: LocalStore | S3Store, *, read_only: bool = False, objects: "Objects"
    ) -> None:
        super().__init__(store, read_only=read_only)
        self.objects = objects

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same place, to be read or also written."""
        return type(self)(self.store, read_only=read_only, objects=self.objects)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of an object, None where there is none."""
        with self.objects.explained("read", key, READ):
            found = await super().get(key, prototype, byte_range)
        if found is not None and key.endswith("zarr.json"):
            self._check_metadata(key, found.to_bytes())
        return found

    def _check_metadata(self, key: str, data: bytes) -> None:
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

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        with self.objects.writing("write", key):
            if self.objects.forced:
                await self._force(key, value, replacing=True)
            else:
                await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write an object if there is none."""
        with self.objects.writing("write", key):
            if self.objects.forced:
                await self._force(key, value, replacing=False)
            else:
                await super().set_if_not_exists(key, value)

    async def _force(self, key: str, value: Buffer, replacing: bool) -> None:
        self._check_writable()
        path = Path(self.objects.url, key)
        await asyncio.to_thread(on_disk.write, path, value.to_bytes(), replacing=replacing)

    async def delete(self, key: str) -> None:
        """Remove an object; it need not exist."""
        with self.objects.writing("delete", key):
            if self.objects.forced:
                with suppress(FileNotFoundError):
                    await asyncio.to_thread(on_disk.remove, Path(self.objects.url, key))
            else:
                await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all objects of Zarr's below a prefix."""
        for name in filter(_KEY.fullmatch, self.objects.names(prefix.strip("/"))):
            await self.delete(name)

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
        self, batch_info: Iterable[Any], out: NDBuffer, drop_axes: tuple[int, ...] = ()
    ) -> None:
        """Read and decode chunks into an array."""
        batch = list(batch_info)
        with _decoded(batch):
            await super().read_batch(batch, out, drop_axes)

    async def write_batch(
        self, batch_info: Iterable[Any], value: NDBuffer, drop_axes: tuple[int, ...] = ()
    ) -> None:
        """Encode and write chunks; those that are written in part are decoded before."""
        batch = list(batch_info)
        with _decoded(batch):
            await super().write_batch(batch, value, drop_axes)


@contextmanager
def _decoded(batch: list[Any]) -> Iterator[None]:
    """CampaignError where chunks of ours cannot be decoded, whatever the codecs raise."""
    try:
        yield
    except CampaignError:
        raise
    except Exception as error:
        place = batch[0][0]
        if not isinstance(place.store, ZarrObjects):
            raise
        raise damaged(place.store.objects.url, place.path, error) from error


register_pipeline(ExplainedPipeline)
if zarr.config.get("codec_pipeline.path").endswith(".BatchedCodecPipeline"):  # the default
    zarr.config.set({"codec_pipeline.path": f"{__name__}.ExplainedPipeline"})
