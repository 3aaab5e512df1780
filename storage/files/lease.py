"""One driver at a time: epochs of a lease, each a file that is created only if absent.

The current lease is the one of the highest epoch. Taking over creates the next epoch, so that of
two takers one wins, and a driver that was paused past its time finds a higher epoch instead of its
own lease. Epochs are never removed.
"""

import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import psutil

from storage.errors import CampaignError
from storage.files.objects import Objects

FOLDER = "ledger/lease"
_EPOCH = re.compile(rf"{FOLDER}/(\d{{6,}})\.json")
_INTERVAL = 10.0  # seconds between renewals
_MISSED = 3  # renewals in a row that a holder elsewhere may miss
_SAME_START = 2.0  # seconds: the boot time, from which starts are measured, is a whole number

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds an epoch of the lease, as its file says."""

    token: str  # of this acquisition
    host: str
    pid: int
    started: float  # seconds from boot to the start of the process
    acquired: float  # Unix time, for people only: clocks of two hosts may differ
    renewed: float  # Unix time, likewise
    interval: float  # seconds between renewals
    released: bool = False

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.acquired, UTC)
        return (
            f"process {self.pid} on {self.host.split('/')[0]} since {since:%Y-%m-%d %H:%M:%S} UTC"
        )


class SupersededError(CampaignError):
    """Another driver has taken the campaign over; what this one does is not wanted any more."""


class Lease:
    """The lease of one epoch, renewed by a thread until it is released or lost.

    `lost` is set when a higher epoch is seen: somebody took this driver for dead, and nothing may
    be written any more. A driver calls `require` before it writes.
    """

    def __init__(self, objects: Objects, epoch: int, holder: Holder) -> None:
        self.objects = objects
        self.epoch = epoch
        self.lost = threading.Event()
        self._holder = holder
        self._held = _clock()  # when it was certainly ours
        self._stop = threading.Event()
        self._renewing = threading.Lock()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{epoch}", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Stop renewing and mark the epoch as released, so that the next driver need not wait."""
        self._stop.set()
        self._thread.join()
        with suppress(CampaignError):  # out of reach: then it lapses by itself
            self._write(released=True)

    def require(self) -> None:
        """SupersededError where the lease is lost, as by a process that was suspended for long.

        Nobody takes it before three intervals without a renewal, so the store is asked only where
        the last one is older than one; and it is renewed first, for whoever may be watching.
        """
        if not self.lost.is_set() and _clock() - self._held > self._holder.interval:
            self._confirm()
        if self.lost.is_set():
            _, data = _highest(self.objects)
            taker = (_holder(data) if data else None) or "an unknown process"
            raise SupersededError(
                f"{self.objects.url} was taken over by {taker}, while this run was suspended or "
                "out of reach; this one ends and changes nothing more, the other one goes on"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _renew(self) -> None:
        while not self._stop.wait(self._holder.interval):
            with suppress(CampaignError):  # out of reach for now: the next renewal may succeed
                self._confirm()
            if self.lost.is_set():
                return

    def _confirm(self) -> None:
        """Renew the lease and see whether it still is ours."""
        with self._renewing:
            began = _clock()
            self._write()
            if is_current(self.objects, self.epoch):
                self._held = began
            else:
                self.lost.set()

    def _write(self, released: bool = False) -> None:
        holder = replace(self._holder, renewed=time.time(), released=released)
        self.objects.put(_name(self.epoch), _bytes(holder))


def acquire(objects: Objects, interval: float = _INTERVAL) -> Lease:
    """Take the lease of the campaign at `objects`; CampaignError while another driver is alive.

    A holder on this host is dead when its process is: it is replaced at once, however long ago it
    renewed. A holder elsewhere is watched for three of its intervals (seconds) by the clock of this
    process, and is dead if it does not renew meanwhile: the time of its last renewal was read from
    another clock, which may be wrong by more than that.
    """
    if not interval > 0:
        raise ValueError(f"found a renewal interval of {interval} s, wanted a positive one")
    while True:
        epoch, data = _highest(objects)
        if data is not None and _alive(objects, epoch, data):
            raise CampaignError(
                f"found {objects.url} driven by {_holder(data) or 'an unknown process'}, wanted no "
                "other driver; wait until that one ends, or stop it, and run again"
            )
        now = time.time()
        me = os.getpid()
        holder = Holder(uuid.uuid4().hex, _host(), me, _started(me), now, now, interval)
        name, mine = _name(epoch + 1), _bytes(holder)
        # An answer lost on the network makes a put look beaten by itself.
        if objects.create(name, mine) or objects.get(name) == mine:
            return Lease(objects, epoch + 1, holder)


def is_current(objects: Objects, epoch: int) -> bool:
    """Whether no higher epoch was taken: one look-up, for workers to ask before they write."""
    return not objects.exists(_name(epoch + 1))


def holder(objects: Objects) -> str | None:
    """Who drives the campaign now, in words, or None; one elsewhere is believed by its clock."""
    _, data = _highest(objects)
    found = _holder(data) if data is not None else None
    if found is None or found.released:
        return None
    here = found.host == _host()
    alive = _runs(found) if here else time.time() - found.renewed < _MISSED * found.interval
    return str(found) if alive else None


def _name(epoch: int) -> str:
    return f"{FOLDER}/{epoch:06d}.json"


def _highest(objects: Objects) -> tuple[int, bytes | None]:
    """The highest epoch and its file; (0, None) where nobody ever held the lease.

    A folder in the place of a file is an epoch of nobody: it cannot be written, and is passed over.
    """
    names = objects.names(FOLDER)
    if not objects.remote:  # a bucket has no folders
        names += [f"{FOLDER}/{name}" for name in objects.folders(FOLDER)]
    epoch = max((int(match[1]) for name in names if (match := _EPOCH.fullmatch(name))), default=0)
    return epoch, objects.get(_name(epoch)) if epoch else None


def _alive(objects: Objects, epoch: int, data: bytes) -> bool:
    holder = _holder(data)
    if holder and holder.released:
        return False
    if holder and holder.host == _host():
        return _runs(holder)
    interval = holder.interval if holder else _INTERVAL
    log.warning(
        "the lease of %s is held by %s; watching for %.0f s whether it is renewed",
        objects.url,
        holder or "an unknown process",
        _MISSED * interval,
    )
    return _renews(objects, epoch, data, interval)


def _runs(holder: Holder) -> bool:
    """Whether the process of a holder on this host still is: same id, same start, no zombie."""
    try:
        process = psutil.Process(holder.pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return abs(_started(holder.pid) - holder.started) < _SAME_START
    except psutil.ZombieProcess:
        return False
    except psutil.NoSuchProcess:
        return psutil.pid_exists(holder.pid)  # hidden from this user, but there
    except psutil.AccessDenied:
        return True


def _renews(objects: Objects, epoch: int, data: bytes, interval: float) -> bool:
    """Whether the file of an epoch changes within three intervals, other than by a release.

    The last look is taken after the time is up, so that a pause of this process harms nobody.
    """
    deadline = time.monotonic() + _MISSED * interval
    while True:
        last = time.monotonic() >= deadline
        now = objects.get(_name(epoch))
        if now is not None and now != data:
            holder = _holder(now)
            return holder is None or not holder.released
        if last:
            return False
        time.sleep(min(1.0, interval / 4))


def _clock() -> float:
    """Seconds of a clock that nobody sets, and that runs on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _started(pid: int) -> float:
    """Seconds from boot to the start of a process: unlike Unix time, safe from set clocks."""
    return psutil.Process(pid).create_time() - psutil.boot_time()


def _host() -> str:
    """Name, boot and process-id namespace: where a process id means one process.

    Containers on one machine may share the name and the boot; a namespace is what tells their
    process ids apart.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    machine = Path("/etc/machine-id")
    known = next((file.read_text().strip() for file in (boot, machine) if file.exists()), "")
    namespace = Path("/proc/self/ns/pid")
    ids = os.readlink(namespace) if namespace.is_symlink() else ""
    return f"{socket.gethostname()}/{known}/{ids}"


def _bytes(holder: Holder) -> bytes:
    return f"{json.dumps(asdict(holder), sort_keys=True)}\n".encode()


def _holder(data: bytes) -> Holder | None:
    """Who wrote these bytes; None where they are not whole."""
    try:
        return Holder(**json.loads(data))
    except (TypeError, ValueError):
        return None
