"""What the runs of a campaign wrote down of themselves."""

from storage.errors import CampaignError
from storage.files.sealed import unseal
from storage.store import kept
from storage.store.store import Store


def runs(store: Store) -> list[dict[str, object]]:
    """Start, host, command, commit and versions of each run, the oldest first.

    Raises CampaignError for a record that is not as it was written.
    """
    names = filter(kept.RUN.fullmatch, store.objects.names("provenance"))
    return [_read(store, name) for name in names]


def _read(store: Store, name: str) -> dict[str, object]:
    data = kept.read(store.objects, name) or b""
    try:
        return unseal(data)
    except ValueError:
        raise CampaignError(
            f"{store.url}/{name} is not as it was written ({len(data)} bytes); take it away with "
            f"`finitewidth verify --repair {store.url}`"
        ) from None
