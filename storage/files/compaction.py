"""Making segments of receipts, and whether they still are what receipts say."""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from storage.errors import CampaignError
from storage.files.ledger import RECEIPTS, Ledger
from storage.files.objects import Objects
from storage.files.sealed import unseal
from storage.files.segments import READERS, Lines, Receipts, each, write

SIZE = 1000  # receipts of a segment


def contradiction(objects: Objects, lines: Lines) -> str:
    """What receipts say against a segment; nothing where they are what it holds, or unreadable."""
    names = {f"{RECEIPTS}/{shard}.json": line for shard, line in lines.items()}
    with ThreadPoolExecutor(READERS) as pool:
        said = pool.map(lambda name: _said(objects, name), names)
        for (name, line), found in zip(names.items(), said, strict=True):
            if found is None:
                return f"{name} is missing"
            if found and found != json.loads(line):
                return f"{name} says something else"
    return ""


def _said(objects: Objects, name: str) -> dict[str, object] | None:
    """A receipt, None where there is none; an empty one where it is damaged, as is told of it."""
    data = objects.get(name)
    try:
        return None if data is None else unseal(data)
    except ValueError:
        return {}


class Compaction:
    """The driver's part: whenever there are enough receipts that no segment holds, it gets one."""

    def __init__(self, objects: Objects, finished: Iterable[str]) -> None:
        """`finished` shards; segments that are damaged, or hold another one, are taken away."""
        self._objects = objects
        known = set(finished)
        loose = set(known)
        for name, lines in each(objects):
            if lines is not None and lines.keys() <= known:
                loose.difference_update(lines)  # unlike -=, it copies nothing
            else:
                objects.delete(name)
        self._loose: dict[str, Mapping[str, object] | None] = dict.fromkeys(sorted(loose))
        self._compact()

    def add(self, shard: str, receipt: Mapping[str, object]) -> None:
        """A shard has got its receipt."""
        self._loose[shard] = receipt
        self._compact()

    def _compact(self) -> None:
        while len(self._loose) >= SIZE:
            taken = dict(islice(self._loose.items(), SIZE))
            write(self._objects, self._read(taken))
            for shard in taken:
                del self._loose[shard]

    def _read(self, taken: Mapping[str, Mapping[str, object] | None]) -> Receipts:
        """Those of earlier runs are read; what is damaged is left out."""
        ledger = Ledger(self._objects)

        def receipt(shard: str) -> Mapping[str, object] | None:
            try:
                return taken[shard] or ledger.receipt(shard)
            except CampaignError:
                return None

        with ThreadPoolExecutor(READERS) as pool:
            found = zip(taken, pool.map(receipt, taken), strict=True)
            return {shard: record for shard, record in found if record is not None}
