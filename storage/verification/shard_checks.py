"""Finished shards against their receipts, side by side and without Zarr."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from copy import copy
from multiprocessing import get_context

from storage.arrays.layout import FLAG, GROUPS, Layout, Stored
from storage.errors import CampaignError
from storage.files.checkpoint import CorruptCheckpoint, load
from storage.files.ledger import Ledger, Receipt
from storage.files.objects import Objects
from storage.planning.plan import SAMPLED, WARMUP, Lane, Shard
from storage.store.store import Store, checkpoint_name

_READERS = 8  # lanes checked side by side on S3, where every chunk is a round trip
_BATCH = 64  # lanes handed out at once
_MANY = 2000  # shards, from which on other processes are worth their start
_SET, _UNSET = b"\1", b"\0"

Checked = tuple[str, str | None]  # a shard, or a spare checkpoint, and what is wrong with it


def check(
    store: Store,
    lanes: Sequence[Lane],
    finished: set[str],
    sound: frozenset[str],
    processes: int = 1,
) -> Iterator[Checked]:
    """Every shard that is finished or marked so, but those known to be sound."""
    try:
        metadata = store.objects.get("data.zarr/zarr.json") or b"{}"
        checks = _Checks(store.url, metadata, finished, sound)
    except (ValueError, CampaignError):
        return  # told elsewhere; nothing of a shard can be found without
    batches = [lanes[start : start + _BATCH] for start in range(0, len(lanes), _BATCH)]
    if store.objects.remote:
        yield from _side_by_side(ThreadPoolExecutor(_READERS), checks, batches)
    elif processes > 1 and len(finished) - len(sound) > _MANY:
        spawning = get_context("spawn")  # a store does not survive a fork
        yield from _side_by_side(ProcessPoolExecutor(processes, spawning), checks, batches)
    else:
        for lane in lanes:
            yield from checks.lane(lane)


def _side_by_side(
    pool: Executor, checks: "_Checks", batches: Sequence[Sequence[Lane]]
) -> Iterator[Checked]:
    with pool:
        try:
            for found in pool.map(_checked, map(checks.of, batches), batches):
                yield from found
        finally:
            pool.shutdown(cancel_futures=True)


def _checked(checks: "_Checks", lanes: Sequence[Lane]) -> list[Checked]:
    return [found for lane in lanes for found in checks.lane(lane)]


def is_spare(name: str) -> bool:
    """Whether what was checked is a spare checkpoint."""
    return name.startswith("checkpoints/")


def has_flag(shard: Shard) -> bool:
    """Whether a flag says for readers that it is finished."""
    return shard.kind != "spectrum" and shard.segment != WARMUP


class _Checks:
    """Of the shards of a store; it travels to other processes."""

    def __init__(
        self, url: str, metadata: bytes, finished: set[str], sound: frozenset[str]
    ) -> None:
        self.objects = Objects(url)
        self.ledger = Ledger(self.objects)
        self.arrays = Layout(metadata).arrays
        self.finished = finished
        self.sound = sound

    def of(self, lanes: Sequence[Lane]) -> "_Checks":
        """The same of some lanes alone, which is less to send."""
        names = {shard.name for lane in lanes for shard in lane}
        made = copy(self)
        made.finished, made.sound = self.finished & names, self.sound & names
        return made

    def lane(self, lane: Lane) -> Iterator[Checked]:
        """The shards of a lane."""
        last = max((i for i, shard in enumerate(lane) if shard.name in self.finished), default=-1)
        for i, shard in enumerate(lane):
            if shard.name in self.sound:
                continue
            if shard.name in self.finished:
                rest = lane[i + 1 :] if i == last else None
                yield shard.name, next(self._problems(shard, rest), None)
                if i == last - 1:
                    yield from self._spare(shard)
                continue
            reason = next(self._flag(shard, _UNSET), None)
            if reason is not None and not self._has_receipt(shard):  # none came meanwhile
                yield shard.name, reason

    def _has_receipt(self, shard: Shard) -> bool:
        try:
            return self.ledger.receipt(shard.name) is not None
        except CampaignError:  # a folder in its place
            return False

    def _problems(self, shard: Shard, rest: Lane | None) -> Iterator[str]:
        """What is wrong with a finished shard; `rest` is the lane after its last finished one."""
        try:
            receipt = self.ledger.receipt(shard.name)
        except CampaignError:
            yield "its receipt is not whole"
            return
        if receipt is None:  # cleared since it was listed
            return
        digests = receipt.get("digests")
        if not isinstance(digests, dict) or receipt.get("shard") != shard.name:
            yield "its receipt is that of another shard, or of none"
            return
        for name, wanted in digests.items():
            stored = self.arrays.get(f"{GROUPS[shard.kind]}/{name}")
            if stored is None:
                yield f"{name} is not in the store"
            else:
                yield from self._data(shard, name, stored, wanted)
        yield from self._flag(shard, _SET)
        if rest is not None and shard.kind in SAMPLED:
            yield from self._checkpoint(shard, receipt, rest)

    def _data(self, shard: Shard, name: str, stored: Stored, wanted: str) -> Iterator[str]:
        try:
            data = self._region(stored, shard)
        except (CampaignError, ValueError) as error:
            yield f"{name} cannot be read ({_brief(error)})"
            return
        found = None if data is None else hashlib.sha256(data).hexdigest()
        if found is None:
            yield f"{name} is missing"
        elif found != wanted:
            yield f"{name} has sha256 {found[:12]}, its receipt {str(wanted)[:12]}"

    def _flag(self, shard: Shard, wanted: bytes) -> Iterator[str]:
        stored = self.arrays.get(f"{GROUPS[shard.kind]}/{FLAG}")
        if stored is None or not has_flag(shard):
            return
        try:
            found = self._region(stored, shard) or _UNSET
        except (CampaignError, ValueError) as error:
            yield f"{FLAG} cannot be read ({_brief(error)})"
            return
        if found != wanted:
            state = "a receipt" if wanted == _SET else "no receipt"
            yield f"{FLAG} is {int.from_bytes(found[:1])}, and there is {state}"

    def _checkpoint(self, shard: Shard, receipt: Receipt, rest: Lane) -> Iterator[str]:
        try:
            state = load(self.objects, checkpoint_name(shard), receipt.get("checkpoint"))
        except CampaignError as error:
            corrupt = isinstance(error, CorruptCheckpoint)
            yield f"its checkpoint {'is damaged' if corrupt else 'cannot be read'}"
            return
        # A run that went on meanwhile has removed it for its own.
        if state is None and not (rest and self._has_receipt(rest[0])):
            yield "its checkpoint is missing"

    def _spare(self, shard: Shard) -> Iterator[Checked]:
        """The checkpoint that the last finished shard began with, where it is still there."""
        if shard.kind not in SAMPLED:
            return
        name = checkpoint_name(shard)
        try:
            receipt = self.ledger.receipt(shard.name) or {}
            load(self.objects, name, receipt.get("checkpoint"))
        except CorruptCheckpoint:
            yield name, "it is damaged, and the shard that began with it has one of its own"
        except CampaignError:  # a folder in its place, or a receipt that is told elsewhere
            return

    def _region(self, stored: Stored, shard: Shard) -> bytes | None:
        data = self.objects.get(f"data.zarr/{stored.chunk(shard)}")
        return None if data is None else stored.decoded(data)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:80]
