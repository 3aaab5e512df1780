"""What is finished and what failed: one receipt per shard, created only if absent."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, NotRequired, TypedDict, cast

from storage.errors import CampaignError
from storage.files.objects import Objects
from storage.files.sealed import seal, unseal

RECEIPTS = "ledger/receipts"
_FAILURES = "ledger/failures"
# A shard's name has no dot: a copy that somebody made is no receipt.
_SHARD = re.compile(rf"{RECEIPTS}/([^.]+)\.json")
_FAILURE = re.compile(rf"{_FAILURES}/([^.]+)-(\d+)\.json")
_READERS = 16  # receipts read side by side: on S3 each is a round trip
_BATCH = 1024  # receipts held in memory at once


class Where(TypedDict):
    """The process that did it."""

    host: str
    pid: int


class Receipt(Where):
    """What a finished shard says of itself."""

    shard: str
    digests: dict[str, str]  # of the region of each variable, sha256
    started: float  # by `time.time`
    seconds: float
    bytes: NotRequired[int]  # before compression
    diverged: NotRequired[int]  # chains
    again_on_cpu: NotRequired[list[str]]  # what a device got wrong
    checkpoint: NotRequired[str]  # sha256 of the state from which the next shard goes on


class Failure(NamedTuple):
    """One attempt at a shard that failed; attempts count from 1."""

    shard: str
    attempt: int
    record: dict[str, object]


@dataclass(frozen=True)
class Ledger:
    """The ledger of the campaign kept at `objects`.

    A shard (`ensemble/<cell>/d0000-b0000-s0003`) is finished when its receipt exists; the receipt
    is written after the data and never replaced.
    """

    objects: Objects

    def commit(self, shard: str, receipt: Mapping[str, object]) -> bool:
        """Write the receipt of a shard; False where there is one, which then stands.

        NumPy scalars are stored as numbers; NaN, infinity and whatever else JSON has no word for
        are a ValueError.
        """
        return self.objects.create(_receipt(shard), _json(shard, receipt))

    def receipt(self, shard: str) -> Receipt | None:
        """The receipt of a shard, None where it is not finished; CampaignError if not whole."""
        name = _receipt(shard)
        data = self.objects.get(name)
        if data is None:
            return None
        try:
            return cast("Receipt", unseal(data))
        except ValueError:
            url = self.objects.url
            raise CampaignError(
                f"found {url}/{name} with {len(data)} bytes that are no receipt; clear it with "
                f"`finitewidth verify --repair {url}` and run the campaign again"
            ) from None

    def finished(self) -> set[str]:
        """The shards that have a receipt, by one listing."""
        return {
            match[1] for name in self.objects.names(RECEIPTS) if (match := _SHARD.fullmatch(name))
        }

    def receipts(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, Receipt]]:
        """Finished shards, by default every one, with their receipts, in the order of names."""
        shards = sorted(self.finished() if names is None else names)
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(shards), _BATCH):
                batch = shards[start : start + _BATCH]
                for shard, receipt in zip(batch, pool.map(self.receipt, batch), strict=True):
                    if receipt is not None:  # else cleared since the listing
                        yield shard, receipt

    def fail(self, shard: str, record: Mapping[str, object]) -> int:
        """Write down a failed attempt at a shard, for people to read, and return its number."""
        data = _json(shard, record, indent=1)
        return next(
            attempt
            for attempt in count(1)
            if self.objects.create(f"{_FAILURES}/{shard}-{attempt}.json", data)
        )

    def failures(self) -> list[Failure]:
        """All failed attempts, by shard and attempt; a record that is not whole says so."""
        return sorted(self._failures(_FAILURES), key=lambda failure: failure[:2])

    def last_failures(self, finished: Container[str]) -> dict[str, dict[str, object]]:
        """What the last attempt at each shard says that has failed and is not finished."""
        failures = self.failures()
        return {each.shard: each.record for each in failures if each.shard not in finished}

    def clear(self, shard: str) -> None:
        """Forget all about a shard, so that the next run computes it again."""
        self.objects.delete(_receipt(shard))
        folder = f"{_FAILURES}/{shard}".rpartition("/")[0]
        for failure in self._failures(folder):
            if failure.shard == shard:
                self.objects.delete(f"{_FAILURES}/{shard}-{failure.attempt}.json")

    def _failures(self, folder: str) -> Iterator[Failure]:
        for name in self.objects.names(folder):
            match = _FAILURE.fullmatch(name)
            if match is not None and (data := self.objects.get(name)) is not None:
                yield Failure(match[1], int(match[2]), _readable(data))


def _receipt(shard: str) -> str:
    return f"{RECEIPTS}/{shard}.json"


def _json(shard: str, record: Mapping[str, object], indent: int | None = None) -> bytes:
    """In one line with sorted keys, or in many lines and the record's own order."""
    try:
        return seal(record, indent)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the record of {shard} is no strict JSON: {error}; write numbers, strings and null"
        ) from None


def _readable(data: bytes) -> dict[str, object]:
    try:
        return unseal(data)
    except ValueError:
        return {"error": f"the record of this failure is not whole: {len(data)} bytes"}
