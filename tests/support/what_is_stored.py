"""What a store holds, but for who wrote it and when."""

import json
from pathlib import Path

from support.driving import contents

# Who drove it and when; and what a store had when a stage ended, which may be more the second time.
UNLIKE = (
    "ledger/lease/",
    "ledger/pace.json",
    "ledger/segments/",
    "provenance/run-",
    "copies/provenance/run-",
    "provenance/stages.json",
)


def stored(root: Path) -> dict[str, bytes]:
    """All of a campaign but who drove it and when; of receipts what they say of the data."""
    found = {}
    for name, data in contents(root).items():
        place = name.partition("/")[2]
        if place.startswith("ledger/receipts/"):
            receipt = json.loads(data)
            kept = {key: receipt.get(key) for key in ("shard", "digests", "checkpoint", "diverged")}
            found[place] = json.dumps(kept).encode()
        elif not place.startswith(UNLIKE):
            found[place] = data
    return found
