"""data.zarr as analysis reads it: what is missing, or other than was written, is one line."""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from storage.errors import CampaignError
from storage.files.objects import Objects
from storage.store.wanted import METADATA, Wanted

KEY = re.compile(r"(.*/)?(zarr\.json|c(/\d+)*)")  # metadata, or a chunk
_READERS = 16  # chunks read side by side from a bucket, where each is a round trip


class Sound:
    """The objects of data.zarr; nothing is read that is not as it was written."""

    def __init__(self, objects: Objects, wanted: Wanted | None) -> None:
        """Nothing is checked where it is not known what is `wanted`."""
        self.objects = objects
        self.wanted = wanted

    def read(self, key: str) -> bytes | None:
        """The bytes of an object, None where there is none, or it is of no finished shard."""
        found = self.objects.get(key)
        if self.wanted is None:
            return found
        try:
            seen = self.wanted.checked(key, found)
        except CampaignError:  # unless it was written between the two looks
            found = self.objects.get(key)
            seen = self.wanted.checked(key, found)
        return found if seen else None

    def fetch(self, keys: Sequence[str]) -> Iterable[bytes | None]:
        """The same for many objects."""
        if not self.objects.remote or len(keys) < 2:
            return map(self.read, keys)
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(self.read, keys))

    def write(self, key: str, data: bytes) -> None:
        """Write an object."""
        self.objects.put(key, data)
        self._note(key, data)

    def create(self, key: str, data: bytes) -> None:
        """Write an object if there is none."""
        self.objects.create(key, data)
        self._note(key, self.objects.get(key))

    def delete(self, key: str) -> None:
        """Remove an object; it need not exist."""
        self.objects.delete(key)
        self._note(key, None)

    def delete_below(self, path: str) -> None:
        """Remove all objects of Zarr's below a path; what was gone already is not missed any more.

        Foreign files stay.
        """
        for name in filter(KEY.fullmatch, self.objects.names(path)):
            self.delete(name)
        if self.wanted is not None:
            for key in self.wanted.digests.below(path):
                self._note(key, None)

    def _note(self, key: str, data: bytes | None) -> None:
        if self.wanted is None:
            return
        if key == METADATA:
            self.wanted.forget()
        if self.wanted.layout().find(key) is None:
            self.wanted.digests.note(key, data)
