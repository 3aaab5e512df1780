"""What the runs of a campaign wrote down of themselves."""

import json
from typing import Any

from storage.store import Store


def runs(store: Store) -> list[dict[str, Any]]:
    """Start, host, command, commit and versions of each run, the oldest first."""
    names = [name for name in store.objects.names("provenance") if "/run-" in name]
    return [json.loads(store.objects.get(name) or b"{}") for name in names]
