"""Which stages need not run again: what they follow from is as it was when they last ended.

A stage follows from the finished shards, the specs, the plug-ins and the code. The record of it is
taken away before the stage begins and written when it has ended, so that one which was killed in
the middle runs again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from pipelines.progress.code_digest import code_digest
from storage.campaign.plugins import Plugins
from storage.files.sealed import seal, unseal
from storage.store.store import Store

FRESH_STAGES = "provenance/stages.json"
PACKAGES = ("pipelines", "storage", "theory", "workers")
LIBRARIES = ("matplotlib", "numpy", "scipy", "torch", "xarray")


def state(store: Store, plugins: Plugins) -> str:
    """A digest of all that the stages follow from."""
    specs = [store.objects.get(name) or b"" for name in store.objects.numbered("specs", "yaml")]
    return _digest(
        [
            code(),
            plugins.digests,
            [hashlib.sha256(spec).hexdigest() for spec in specs],
            [[each.specs, *map(dict, each.points)] for each in store.rounds()],
            sorted(store.ledger.finished()),
        ]
    )


def is_fresh(store: Store, name: str, now: str) -> bool:
    """Whether a stage last ended in this state, and what it wrote then is still there."""
    then, written = _records(store).get(name, ("", []))
    return then == now and set(written) <= set(_written(store))


def keep(store: Store, name: str, now: str) -> None:
    """A stage has ended: remember of what."""
    _put(store, _records(store) | {name: (now, _written(store))})


def forget(store: Store, names: Sequence[str]) -> None:
    """These stages have to run."""
    records = _records(store)
    if any(name in records for name in names):
        _put(store, {name: record for name, record in records.items() if name not in names})


def _records(store: Store) -> dict[str, tuple[str, list[str]]]:
    """What is remembered; nothing where nobody can read it any more."""
    try:
        return unseal(store.objects.get(FRESH_STAGES) or b"{}")
    except ValueError:
        return {}


def _put(store: Store, records: Mapping[str, object]) -> None:
    store.objects.put(FRESH_STAGES, seal(records, indent=1))


def _written(store: Store) -> list[str]:
    """The groups of the store, and the page."""
    groups = [name for name, _ in store.root.groups()]
    below = store.root.group("theory").groups() if "theory" in groups else ()
    theories = [name for name, _ in below]
    page = ["report"] if store.objects.exists("report/report.html") else []
    return sorted([*groups, *(f"theory/{name}" for name in theories), *page])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def code() -> str:
    """Of our own packages, and of the libraries that make numbers and pictures."""
    top = Path(__file__).parents[2]
    folders = (top / package for package in PACKAGES)
    return code_digest((path for each in folders for path in sorted(each.rglob("*.py"))), LIBRARIES)
