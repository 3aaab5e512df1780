"""Receipts a second time, many in one object, so that reading all of them takes seconds.

What says that a shard is finished is its receipt alone. A segment is a copy that only drivers make;
where it is damaged it is as if there were none, and so it is with a line whose receipt is gone.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Lock

from storage.files.ledger import RECEIPTS, Receipt
from storage.files.objects import Objects
from storage.files.sealed import text

FOLDER = "ledger/segments"
_NAME = re.compile(rf"{FOLDER}/\d{{6,}}\.jsonl")
READERS = 16  # objects read side by side: on S3 each is a round trip
_FEW = 200  # receipts that are read sooner by themselves
_HELD = 64  # segments in memory at once, of 1 MB each

Lines = dict[str, bytes]  # of a segment: what is the receipt of each shard, as JSON
Receipts = Mapping[str, Mapping[str, object]]  # by their shards


def segments(objects: Objects) -> list[str]:
    """The names of all segments, in the order in which they were written."""
    return [*filter(is_segment, objects.names(FOLDER))]


def is_segment(name: str) -> bool:
    """Whether an object is a segment."""
    return bool(_NAME.fullmatch(name))


def read(objects: Objects, name: str) -> Lines | None:
    """What a segment holds; None where it is damaged, or has gone."""
    digest, _, content = (objects.get(name) or b"").partition(b"\n")
    if digest != _digest(name, content):
        return None
    shards, *lines = content[:-1].split(b"\n")
    return dict(zip(json.loads(shards), lines, strict=True))


def each(objects: Objects) -> Iterator[tuple[str, Lines | None]]:
    """Every segment and what it holds."""
    return _side_by_side(objects, segments(objects))


def write(objects: Objects, receipts: Receipts) -> None:
    """Write a segment under the next number that is free."""
    lines = [json.dumps([*receipts]), *map(text, receipts.values())]
    content = "".join(f"{line}\n" for line in lines).encode()
    first = len(segments(objects)) + 1
    names = (f"{FOLDER}/{number:06d}.jsonl" for number in count(first))
    next(n for n in names if objects.create(n, _digest(n, content) + b"\n" + content))


def drop(objects: Objects, shards: Iterable[str]) -> None:
    """Take away the segments with one of these shards, whose receipts will go or change."""
    gone = set(shards)
    for name, lines in each(objects):
        if lines is None or not gone.isdisjoint(lines):
            objects.delete(name)


class Copies:
    """Receipts for readers, from segments where there are some and many receipts are wanted.

    What has been finished or cleared since the first look, it does not know.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._asked = 0
        self._places: dict[str, str] | None = None  # of a shard: its segment
        self._listed: dict[str, set[str]] = {}  # of a folder: the receipts there
        self._held: dict[str, Lines] = {}
        self._lock = Lock()

    def receipt(self, shard: str) -> Receipt | None:
        """The receipt of a shard; None where the receipt itself must be asked."""
        with self._lock:
            self._asked += 1
            if self._asked <= _FEW:
                return None
            name = self._all().get(shard)
            if name is None or not self._is_finished(shard):
                return None
            line = self._lines(name).get(shard)
        return None if line is None else json.loads(line)

    def _all(self) -> dict[str, str]:
        if self._places is None:
            self._places = {
                shard: name for name, lines in each(self._objects) for shard in lines or ()
            }
        return self._places

    def _is_finished(self, shard: str) -> bool:
        folder = f"{RECEIPTS}/{shard}".rpartition("/")[0]
        if folder not in self._listed:
            self._listed[folder] = set(self._objects.names(folder))
        return f"{RECEIPTS}/{shard}.json" in self._listed[folder]

    def _lines(self, name: str) -> Lines:
        if name not in self._held:
            if len(self._held) >= _HELD:
                self._held.clear()
            self._held[name] = read(self._objects, name) or {}
        return self._held[name]


def _digest(name: str, content: bytes) -> bytes:
    """Of a segment, which in the place of another one is damaged, too."""
    return hashlib.sha256(name.encode() + content).hexdigest().encode()


def _side_by_side(objects: Objects, names: list[str]) -> Iterator[tuple[str, Lines | None]]:
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(names), READERS):
            batch = names[start : start + READERS]
            yield from zip(batch, pool.map(lambda name: read(objects, name), batch), strict=True)
