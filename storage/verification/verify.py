"""Whether what is stored is what was written: everything against its digest, nothing changed."""

import json
import os
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple, cast

from storage.arrays.layout import GROUPS
from storage.errors import CampaignError
from storage.files import segments
from storage.files.compaction import contradiction
from storage.files.lease import holder
from storage.files.objects import Objects
from storage.files.sealed import unseal
from storage.planning.plan import Lane, plan
from storage.store import kept
from storage.store.digests import NAME as DIGESTS
from storage.store.store import Store
from storage.verification import shard_checks
from storage.verification.shard_checks import is_spare

_RECORD = re.compile(
    r"(provenance/(digests|stages|failed_stages|predictions|run-\d{4,})|ledger/(pace|packing)"
    r"|ledger/failures/[^.]+-\d+)\.json"
)
_ROOT = "data.zarr/zarr.json"
_MEASURED = frozenset(GROUPS.values())
_SHARED = ("shape", "codecs", "dimension_names")  # of an array and of what readers see of it
_LEASE = re.compile(r"ledger/lease/\d+\.json")
# What no folder is called.
_OBJECT = re.compile(r".+\.(jsonl?|yaml|npz|html|png|svg|[0-9a-f]{64})")


class Cure(StrEnum):
    """What `repair` does about it."""

    COMPUTE = "cleared, so that a run computes it again"
    RESTORE = "brought back from its copy"
    DERIVE = "made anew from the specs, or by the next run"
    FORGET = "taken away: nothing follows from it"
    NONE = "left as it is"


class Bad(NamedTuple):
    """A shard or an object that is not what was written, and why."""

    name: str
    reason: str
    cure: Cure = Cure.COMPUTE
    source: str = ""  # from which it is brought back


def verify(
    store: Store,
    watch: Callable[[str, bool], None] | None = None,
    sound: frozenset[str] = frozenset(),
    processes: int = 1,
) -> list[Bad]:
    """What is bad in a campaign; `watch` is told of every shard that was checked.

    Shards that are known to be `sound` are not looked at; many are shared among `processes`. A
    shard is bad when its receipt is not whole, a variable is missing, unreadable or other than its
    sha256, `finished` contradicts the receipt, or, for the last finished shard of a block of
    chains, its checkpoint is gone or damaged; that before it may be gone, but not damaged. Where
    specs or the metadata of the root are damaged it says so and looks at no shard, which nobody can
    tell without them: look again when they are
    cured. Raises CampaignError where no campaign is stored.
    """
    objects = store.objects
    bad = [
        Bad(name, reason, Cure.RESTORE if source else Cure.NONE, source or "")
        for name, reason, source in kept.damaged(objects)
    ]
    bad += _records(objects)
    bad += _segments(objects)
    if (lanes := _lanes(store, bad)) is not None:
        bad += _listed(store)
        if _ROOT not in {each.name for each in bad}:  # else nobody can tell where shards lie
            bad += _shards(store, lanes, watch, sound, processes)
    known = {each.name for each in bad}
    return bad + [each for each in _folders(objects) if each.name not in known]


def lanes_of(store: Store) -> list[Lane]:
    """All lanes of all specs of a store, each as long as the longest of them."""
    specs, sources, rounds = store.specs(), store.sources(), store.rounds()
    longest: dict[str, Lane] = {}
    for spec in specs:
        for lane in plan(spec, specs, sources, rounds).lanes():
            longest[lane[0].name] = max(lane, longest.get(lane[0].name, ()), key=len)
    return list(longest.values())


def _lanes(store: Store, bad: list[Bad]) -> list[Lane] | None:
    """All lanes, or None where the specs cannot be told; then what is bad says so."""
    try:
        return lanes_of(store)
    except CampaignError as error:
        if not store.objects.names("specs") and not bad:
            raise
        if not any(each.cure is Cure.RESTORE for each in bad):
            bad.append(Bad("specs", str(error), Cure.NONE))
        return None


def _shards(
    store: Store,
    lanes: list[Lane],
    watch: Callable[[str, bool], None] | None,
    sound: frozenset[str],
    processes: int,
) -> Iterator[Bad]:
    finished = store.ledger.finished()
    unknown = finished - {shard.name for lane in lanes for shard in lane}
    for name in sorted(unknown):
        yield Bad(name, "no spec of the store asks for it", Cure.NONE)
    for name, reason in shard_checks.check(store, lanes, finished, sound, processes):
        if reason is not None:
            yield Bad(name, reason, Cure.FORGET if is_spare(name) else Cure.COMPUTE)
        if watch is not None and not is_spare(name):
            watch(name, reason is None)


def _records(objects: Objects) -> Iterator[Bad]:
    """Notes of drivers and workers, in JSON."""
    copied = kept.copies(objects).keys() | {kept.SOURCES, kept.NUMERICS}
    for name in [*objects.names("provenance"), *objects.names("ledger")]:
        if _RECORD.fullmatch(name) and name not in copied:
            if reason := _unsealed(objects, name):
                yield Bad(name, reason, Cure.DERIVE if name == DIGESTS else Cure.FORGET)
        elif _LEASE.fullmatch(name) and (reason := _unsealed(objects, name)):
            yield Bad(name, f"{reason}; the next driver waits for it in vain", Cure.NONE)


def _segments(objects: Objects) -> Iterator[Bad]:
    """Copies of receipts, of which a driver may take some away while this looks."""
    for name, lines in segments.each(objects):
        reason = "it is not as it was written" if lines is None else contradiction(objects, lines)
        if reason and objects.exists(name):
            yield Bad(name, reason, Cure.DERIVE)


def _unsealed(objects: Objects, name: str) -> str:
    """What is wrong with a record; nothing where it is whole, or has gone meanwhile."""
    for _ in range(2):  # it may be written while it is read
        data = objects.get(name)
        try:
            if data is not None:
                unseal(data)
        except ValueError:
            continue
        return ""
    return "it is not as it was written"


def _listed(store: Store) -> Iterator[Bad]:
    """What data.zarr holds besides the regions of shards."""
    digests = store.wanted.digests
    try:
        listed = digests.listed()
    except ValueError:
        return  # the list is a record, and told as one
    if listed is None:
        if kept.copies(store.objects) and holder(store.objects) is None:
            yield Bad(DIGESTS, "it is missing: results are not checked", Cure.DERIVE)
        yield from _unlisted(store.objects)
        return
    for key, wanted in listed.items():
        reason = kept.difference(store.objects, f"data.zarr/{key}", wanted)
        if reason and (digests.listed() or {}).get(key) == wanted:  # no driver has changed it
            yield Bad(f"data.zarr/{key}", reason, Cure.DERIVE)


def _unlisted(objects: Objects) -> Iterator[Bad]:
    """Metadata of measured groups in a store that lists no digests: each is there twice."""
    consolidated = _object(_object(_json(objects, _ROOT)).get("consolidated_metadata"))
    if not isinstance(consolidated.get("metadata"), dict) and objects.names("data.zarr"):
        yield Bad(_ROOT, "it cannot be read", Cure.DERIVE)
    published = _object(consolidated.get("metadata"))
    for path in (path for path in published if path.split("/")[0] in _MEASURED):
        name, node = f"data.zarr/{path}/zarr.json", _object(published[path])
        found = _object(_json(objects, name))
        if not found:
            yield Bad(name, "it cannot be read", Cure.DERIVE)
        elif any(found.get(key) != node.get(key) for key in _SHARED):
            yield Bad(name, "it is not what is published", Cure.DERIVE)
            yield Bad(_ROOT, f"it has another {path}", Cure.DERIVE)


def _json(objects: Objects, name: str) -> object:
    """What an object holds; None where nobody can read it."""
    try:
        return json.loads(objects.get(name) or b"")
    except (ValueError, RecursionError, CampaignError):
        return None


def _object(value: object) -> dict[str, object]:
    """An object of JSON; an empty one where it is anything else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _folders(objects: Objects) -> Iterator[Bad]:
    """Folders in the place of objects; in a bucket there are none."""
    for name in folders_in_place(objects):
        yield Bad(name, "a folder is in its place", Cure.FORGET)


def folders_in_place(objects: Objects) -> list[str]:
    """The names of objects that are folders, which nothing of ours makes."""
    if objects.remote:
        return []
    found = []
    for place, below, _ in os.walk(objects.url):
        found += [os.path.join(place, name) for name in below if _OBJECT.fullmatch(name)]
        below[:] = [name for name in below if name != "c"]  # chunks are read one by one
    return sorted(os.path.relpath(path, objects.url) for path in found)
