"""Whether what is stored is what was computed: receipts against data, flags and checkpoints."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from storage.checkpoint import CorruptCheckpoint, load
from storage.errors import CampaignError
from storage.plan import SAMPLED, WARMUP, Lane, Shard, plan
from storage.regions import digest
from storage.store import Store, checkpoint_name

_READERS = 8  # lanes checked side by side: on S3 every chunk is a round trip
_FLAG = "finished"


class Bad(NamedTuple):
    """A shard that is not what its receipt says, and why."""

    shard: str
    reason: str


def verify(store: Store, watch: Callable[[str], None] | None = None) -> list[Bad]:
    """The bad shards of a campaign; `watch` is told the name of every shard that was checked.

    A shard is bad when its receipt is not whole, a variable is missing, unreadable or other than
    its sha256, `finished` contradicts the receipt, or, for the last finished shard of a block of
    chains, its checkpoint is gone or damaged. Raises CampaignError where no campaign is stored.
    """
    lanes = _lanes(store)
    finished = store.ledger.finished()
    unknown = finished - {shard.name for lane in lanes for shard in lane}
    bad = [Bad(name, "no spec of the store asks for it") for name in sorted(unknown)]
    with ThreadPoolExecutor(_READERS) as pool:
        for checked in pool.map(lambda lane: list(_check(store, lane, finished)), lanes):
            for name, reason in checked:
                if reason is not None:
                    bad.append(Bad(name, reason))
                if watch is not None:
                    watch(name)
    return bad


def repair(store: Store, shards: Sequence[str]) -> None:
    """Clear shards, so that the next run computes them again; for the holder of the lease.

    The receipt goes first: whenever this is interrupted, what has lost its receipt is computed
    again. Chunks that cannot be read are removed, so that readers find NaN instead of an error.
    """
    known = {shard.name: shard for lane in _lanes(store) for shard in lane}
    for name in shards:
        store.ledger.clear(name)
        if (shard := known.get(name)) is None:
            continue
        if _has_flag(shard):
            store.write(shard, {_FLAG: np.uint8(0)})
        for chunk in _unreadable(store, shard):
            store.objects.delete(chunk)


def _lanes(store: Store) -> list[Lane]:
    """All lanes of all specs of a store, each as long as the longest of them."""
    specs, sources = store.specs(), store.sources()
    longest: dict[str, Lane] = {}
    for spec in specs:
        for lane in plan(spec, specs, sources, store.rounds()).lanes():
            longest[lane[0].name] = max(lane, longest.get(lane[0].name, ()), key=len)
    return list(longest.values())


def _has_flag(shard: Shard) -> bool:
    return shard.kind != "spectrum" and shard.segment != WARMUP


def _check(store: Store, lane: Lane, finished: set[str]) -> Iterator[tuple[str, str | None]]:
    """The shards of a lane that are finished or marked so, each with what is wrong with it."""
    last = max((i for i, shard in enumerate(lane) if shard.name in finished), default=-1)
    for i, shard in enumerate(lane):
        if shard.name in finished:
            rest = lane[i + 1 :] if i == last else None
            yield shard.name, next(_problems(store, shard, rest), None)
            continue
        reason = next(_flag_problem(store, shard, 0), None)
        if reason is not None and store.ledger.receipt(shard.name) is None:  # none came meanwhile
            yield shard.name, reason


def _problems(store: Store, shard: Shard, rest: Lane | None) -> Iterator[str]:
    """What is wrong with a finished shard; `rest` is the lane after its last finished shard."""
    try:
        receipt = store.ledger.receipt(shard.name)
    except CampaignError:
        yield "its receipt is not whole"
        return
    if receipt is None:  # cleared since it was listed
        return
    digests = receipt.get("digests")
    if not isinstance(digests, dict) or receipt.get("shard") != shard.name:
        yield "its receipt is that of another shard, or of none"
        return
    for name in digests.keys() - set(store.variables(shard)):
        yield f"{name} is not in the store"
    for name, wanted in digests.items():
        yield from _data_problem(store, shard, name, wanted)
    yield from _flag_problem(store, shard, 1)
    if rest is not None and shard.kind in SAMPLED:
        yield from _checkpoint_problem(store, shard, receipt, rest)


def _data_problem(store: Store, shard: Shard, name: str, wanted: str) -> Iterator[str]:
    if not store.objects.exists(store.chunk(shard, name)):
        yield f"{name} is missing"
    else:
        try:
            found = digest(store.read(shard, [name])[name])
        except Exception as error:  # noqa: BLE001  damaged bytes make codecs raise nearly anything
            yield f"{name} cannot be read ({_brief(error)})"
        else:
            if found != wanted:
                yield f"{name} has sha256 {found[:12]}, its receipt {str(wanted)[:12]}"


def _flag_problem(store: Store, shard: Shard, wanted: int) -> Iterator[str]:
    if not _has_flag(shard):
        return
    try:
        found = int(store.read(shard, [_FLAG])[_FLAG])
    except Exception as error:  # noqa: BLE001  as above
        yield f"{_FLAG} cannot be read ({_brief(error)})"
    else:
        if found != wanted:
            state = "a receipt" if wanted else "no receipt"
            yield f"{_FLAG} is {found}, and there is {state}"


def _checkpoint_problem(
    store: Store, shard: Shard, receipt: Mapping[str, Any], rest: Lane
) -> Iterator[str]:
    try:
        state = load(store.objects, checkpoint_name(shard), receipt.get("checkpoint"))
    except CorruptCheckpoint:
        yield "its checkpoint is damaged"
        return
    # A run that went on meanwhile has removed it for its own.
    if state is None and not (rest and store.ledger.receipt(rest[0].name)):
        yield "its checkpoint is missing"


def _unreadable(store: Store, shard: Shard) -> list[str]:
    """The chunks of a shard that are there and cannot be read."""
    found = []
    for name in store.variables(shard):
        try:
            chunk = store.chunk(shard, name)
        except ValueError:  # the warm-up has no segment
            continue
        try:
            store.read(shard, [name])
        except Exception:  # noqa: BLE001  as above
            found.append(chunk)
    return found


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
