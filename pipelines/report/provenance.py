"""What the runs of a campaign wrote down of themselves."""

import re
from typing import Any

from storage.errors import CampaignError
from storage.sealed import unseal
from storage.store import Store

RUN = re.compile(r"provenance/run-\d{4,}\.json")


def runs(store: Store) -> list[dict[str, Any]]:
    """Start, host, command, commit and versions of each run, the oldest first.

    Raises CampaignError for a record that is not as it was written.
    """
    names = filter(RUN.fullmatch, store.objects.names("provenance"))
    return [_read(store, name) for name in names]


def _read(store: Store, name: str) -> dict[str, Any]:
    data = store.objects.get(name) or b""
    try:
        return unseal(data)
    except ValueError:
        raise CampaignError(
            f"{store.url}/{name} is not as it was written ({len(data)} bytes); take it away with "
            f"`finitewidth verify --repair {store.url}`"
        ) from None
