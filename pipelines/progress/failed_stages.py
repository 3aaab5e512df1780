"""Which stages failed when they last ran, and why: kept in the store until they succeed."""

from storage.files.sealed import seal, unseal
from storage.store.store import Store

FAILED = "provenance/failed_stages.json"


def reasons(store: Store) -> dict[str, str]:
    """The reason of each stage that failed when it last ran, by its name; damaged, no reasons."""
    try:
        return unseal(store.objects.get(FAILED) or b"{}")
    except ValueError:
        return {}


def keep(store: Store, name: str, reason: str | None) -> None:
    """Remember why a stage failed, or with None that it did not."""
    known = reasons(store)
    kept = {stage: why for stage, why in known.items() if stage != name}
    if reason is not None:
        kept[name] = reason
    if kept == known:
        return
    if kept:
        store.objects.put(FAILED, seal(kept, indent=1))
    else:
        store.objects.delete(FAILED)
