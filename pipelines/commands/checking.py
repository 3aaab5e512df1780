"""`finitewidth verify`: what was found of a store, while it goes on, and what was made good.

One that was interrupted goes on where it was: what was sound within the last day is kept in the
user's cache, and is not looked at again until a verification has come to its end.
"""

import hashlib
import json
import sys
import time
from collections import Counter
from contextlib import suppress

from pipelines.report.damage import damaged
from storage.errors import CampaignError
from storage.store.holding import held
from storage.store.store import Store
from storage.verification.repair import repair
from storage.verification.verify import Bad, Cure, verify
from workers.machine import cache
from workers.machine.cores import available_cores

DAY = 86400  # seconds
ROUNDS = 3  # of repair: what is brought back may show what else is bad
QUIET = 10  # seconds between two lines that count, and between two notes of what is sound


def check(store: Store, mend: bool) -> bool:
    """Check all that is stored, and make it good if asked; whether nothing bad is left."""
    bad = _told(store)
    if not bad:
        _say("every finished shard is sound")
        return True
    if not mend:
        cured = any(each.cure is not Cure.NONE for each in bad)
        _say(f"{len(bad)} bad; {'add --repair' if cured else 'nothing here cures them'}")
        return False
    with held(store) as (fenced, _):
        for _ in range(ROUNDS):
            if all(each.cure is Cure.NONE for each in bad):
                break
            repair(Store(fenced.objects), bad)
            for cure, count in Counter(each.cure for each in bad).items():
                _say(f"{count} {cure}")
            bad = _told(Store(store.url))
    _say("`finitewidth run` makes anew what is missing")
    return not bad


def _told(store: Store) -> list[Bad]:
    found = look(store)
    for name, reason, *_ in found:
        _say(f"bad: {name}: {reason}")
    return found


def look(store: Store) -> list[Bad]:
    """What is bad in a store, told while it is looked for."""
    if not store.objects.names("specs") and not store.objects.names("copies"):
        raise CampaignError(
            f"{store.url}: no campaign is stored here; give the folder that `finitewidth run` "
            "printed"
        )
    note = _Note(store)
    found = verify(store, note.count, note.sound, available_cores())
    found += damaged(store.objects)
    note.forget()
    return found


class _Note:
    """Which shards were sound in a verification that has not ended yet."""

    def __init__(self, store: Store) -> None:
        name = hashlib.sha256(store.url.encode()).hexdigest()[:32]
        self._path = cache.folder() / "verified" / f"{name}.json"
        self.sound = self._read()
        self._new: set[str] = set()
        self._spoke = time.monotonic()
        if self.sound:
            _say(f"going on: {len(self.sound)} shards were sound before")

    def count(self, shard: str, sound: bool) -> None:
        """Another shard was looked at."""
        if sound:
            self._new.add(shard)
        if time.monotonic() - self._spoke > QUIET:
            self._spoke = time.monotonic()
            self._write()
            counted = len(self.sound) + len(self._new)
            print(f"{counted} shards are sound so far", file=sys.stderr, flush=True)  # noqa: T201

    def forget(self) -> None:
        """It has ended."""
        with suppress(OSError):  # it lies where this user may not write
            self._path.unlink(missing_ok=True)

    def _read(self) -> frozenset[str]:
        try:
            if time.time() - self._path.stat().st_mtime < DAY:
                return frozenset(map(str, json.loads(self._path.read_bytes())))
        except (OSError, ValueError, TypeError):
            pass
        return frozenset()

    def _write(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial = self._path.with_suffix(".partial")
            partial.write_text(json.dumps(sorted(self.sound | self._new)))
            partial.rename(self._path)
        except OSError:  # a note that cannot be kept is no reason to stop
            return


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201
