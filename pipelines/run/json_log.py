"""What a run says as one JSON object a line, for programs that collect logs."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO

from storage.errors import CampaignError
from workers.shard import Outcome

FACTS = ("host", "pid", "seconds", "diverged")  # of receipts


class JsonLog:
    """Lines with time (UTC), level, campaign and message; of shards also shard and attempt."""

    def __init__(self, campaign: str, stream: TextIO | None = None) -> None:
        self._campaign = campaign
        self._stream = stream or sys.stderr

    def said(self, text: str) -> None:
        """A line for people."""
        self.write("info", text)

    def staged(self, name: str) -> None:
        """Another wave or stage begins."""
        self.write("info", f"{name} begins", stage=name)

    def grown(self, total: int) -> None:
        """There is more to do."""
        self.write("info", f"{total} shards in all", total=total)

    def counted(self, outcome: Outcome) -> None:
        """A shard has ended."""
        facts = {"shard": outcome.shard.name, "attempt": outcome.attempt}
        if outcome.receipt is None:
            self.write("error", f"failed: {outcome.reason}", **facts)
            return
        receipt = dict(outcome.receipt)
        known = {name: receipt[name] for name in FACTS if name in receipt}
        self.write("info", "finished", **facts, **known)

    def write(self, level: str, message: str, **facts: object) -> None:
        """One line, whole even where several threads write."""
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        about = {"time": moment, "level": level, "campaign": self._campaign, "message": message}
        self._stream.write(json.dumps(about | facts) + "\n")
        self._stream.flush()


@contextmanager
def logged(campaign: str) -> Iterator[JsonLog]:
    """A log on standard error, also of the error with which the block ends."""
    log = JsonLog(campaign)
    try:
        yield log
    except CampaignError as error:
        log.write("error", str(error))
        raise
