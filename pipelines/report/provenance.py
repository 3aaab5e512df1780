"""What the runs of a campaign wrote down of themselves."""

import json
import re
from typing import Any

from storage.store import Store

RUN = re.compile(r"provenance/run-\d{4,}\.json")


def runs(store: Store) -> list[dict[str, Any]]:
    """Start, host, command, commit and versions of each run, the oldest first."""
    names = filter(RUN.fullmatch, store.objects.names("provenance"))
    return [json.loads(store.objects.get(name) or b"{}") for name in names]
