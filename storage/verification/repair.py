"""Making good what `verify` has found bad; for the holder of the lease.

Nothing is taken away of which the specs do not say that it can be made again: shards that no spec
asks for stay, and so does what lies in folders that are not ours.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from storage.arrays.layout import FLAG, GROUPS, Layout
from storage.errors import CampaignError
from storage.files import segments
from storage.files.compaction import Compaction
from storage.files.objects import Objects
from storage.planning.plan import Shard
from storage.store import kept
from storage.store.digests import NAME as DIGESTS
from storage.store.results import stored_plan
from storage.store.store import Store
from storage.verification.shard_checks import has_flag
from storage.verification.verify import Bad, Cure, folders_in_place, lanes_of

STAGES = "provenance/stages.json"  # which stages need not run again


def repair(store: Store, found: Sequence[Bad]) -> None:
    """Cure what was found, each in its way; CampaignError where something is in the way.

    Whenever this is interrupted, what is bad is still found, or is made again by the next run.
    """
    _clear_folders(store.objects)
    for each in found:
        if each.cure is Cure.RESTORE:
            kept.restore(store.objects, each.name, each.source)
        elif each.cure is Cure.FORGET:
            store.objects.delete(each.name)
    derived = [each.name for each in found if each.cure is Cure.DERIVE]
    for name in filter(segments.is_segment, derived):
        store.objects.delete(name)
    if others := [name for name in derived if not segments.is_segment(name)]:
        _derive(store, others)
    shards = [each.name for each in found if each.cure is Cure.COMPUTE]
    if shards:
        _clear(store, shards)
    Compaction(store.objects, store.ledger.finished())


def _clear_folders(objects: Objects) -> None:
    """Empty folders in the place of objects go; others hold what may be of use to somebody."""
    for name in folders_in_place(objects):
        _remove(objects, name)


def _remove(objects: Objects, name: str) -> None:
    """Remove an object, or an empty folder in its place."""
    if not _is_folder(objects, name):
        objects.delete(name)
        return
    try:
        os.rmdir(Path(objects.url, name))
    except OSError as error:
        raise CampaignError(
            f"{objects.url}/{name} is a folder in the place of an object ({error.strerror}); move "
            "it away"
        ) from None


def _is_folder(objects: Objects, name: str) -> bool:
    return not objects.remote and Path(objects.url, name).is_dir()


# -- groups, metadata and coordinates -------------------------------------------------------


def _derive(store: Store, names: Sequence[str]) -> None:
    """Take results away, and make metadata and coordinates of measured groups as they were."""
    store.change()
    store.objects.delete(STAGES)
    keys = [name.removeprefix("data.zarr/") for name in names if name != DIGESTS]
    for group in {key.partition("/")[0] for key in keys} - {*GROUPS.values(), "zarr.json"}:
        for name in store.objects.names(f"data.zarr/{group}"):
            _delete(store, name.removeprefix("data.zarr/"))
    for key in keys:
        _delete(store, key)
    planned = stored_plan(store)
    finished = planned.of(store.ledger.finished()).total() == sum(planned.work.values())
    store.allocate(planned, 0 if finished else planned.room)


def _delete(store: Store, key: str) -> None:
    _remove(store.objects, f"data.zarr/{key}")
    store.wanted.digests.note(key, None)


# -- shards ---------------------------------------------------------------------------------


def _clear(store: Store, names: Sequence[str]) -> None:
    """Clear shards, so that the next run computes them again.

    The receipt goes first, but for its copies: whenever this is interrupted, what has lost its
    receipt is computed again. Chunks that cannot be read are removed, so that readers find NaN
    instead of an error.
    """
    known = {shard.name: shard for lane in lanes_of(store) for shard in lane}
    layout = Layout(store.objects.get("data.zarr/zarr.json") or b"{}")
    cleared = [known[name] for name in names if name in known]
    segments.drop(store.objects, (shard.name for shard in cleared))
    for shard in cleared:
        store.ledger.clear(shard.name)
        for chunk in _unreadable(store.objects, layout, shard):
            _remove(store.objects, chunk)
        if has_flag(shard):
            store.write(shard, {FLAG: np.uint8(0)})


def _unreadable(objects: Objects, layout: Layout, shard: Shard) -> list[str]:
    """The chunks of a shard that are there and cannot be read."""
    found = []
    for stored in layout.of(shard):
        chunk = f"data.zarr/{stored.chunk(shard)}"
        if _is_folder(objects, chunk):
            found.append(chunk)
            continue
        try:
            data = objects.get(chunk)
            if data is not None:
                stored.decoded(data)
        except (CampaignError, ValueError):
            found.append(chunk)
    return found
