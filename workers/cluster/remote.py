"""Shards as Ray tasks. The only module that knows Ray.

It is imported where it is used, after its settings are in the environment, from which it reads
them.
"""

import fcntl
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any, NamedTuple

from storage.errors import CampaignError, UnreachableError
from storage.files.ledger import Receipt
from storage.planning.plan import Lane, Shard
from storage.store.store import Store
from workers.cluster.packing import Ran
from workers.cluster.pool import Began, Ending, Pool, Request, Seconds, Size, alike, unheard
from workers.faults import Fault
from workers.machine.cores import available_cores
from workers.shard import Job, Outcome, attempt

OBJECT_STORE = 100_000_000  # bytes; only receipts travel through it
CONNECT = 10  # seconds
HOST = "127.0.0.1"  # where a cluster of this machine's own listens
# Characters of a folder for temporary files. A socket's path has at most 107, on macOS 103, and
# Ray takes for it /fwabcdefgh/r/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.
LONGEST_PATH = 26
OPEN_FOLDER = "r"  # what Ray opens to everybody, in a folder that lets nobody in
LOCK = "driver"  # held by the process whose folder it is
YOUNG = 60  # seconds: a folder as new as that may not be locked yet

_locks: dict[str, int] = {}  # descriptors by folder


class Reply(NamedTuple):
    """What comes back from a worker: an outcome without its shard, and where it was computed."""

    node: str
    receipt: Receipt | None
    reason: str = ""
    fault: Fault | None = None
    ran: Ran | None = None  # on a GPU


def node() -> str:
    """On a worker: the id of its node."""
    import ray

    return ray.get_runtime_context().get_node_id()


def attempted(job: Job, shard: Shard) -> Reply:
    """On a worker: the attempt at a shard."""
    try:
        found = attempt(job, shard)
    except UnreachableError as error:
        return Reply(node(), None, str(error), Fault.MACHINE)
    return Reply(node(), found.receipt, found.reason, found.fault)


class RayExecutor:
    """Runs lanes side by side on a Ray cluster, the shards of a lane one after another."""

    def __init__(self, nodes_elsewhere: bool, watch: Callable[[], None] = lambda: None) -> None:
        """`watch` is called again and again, and raises where the cluster is no more."""
        import ray
        from ray import exceptions as errors

        self._ray = ray
        self._deaths = (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ActorDiedError,
            errors.ActorUnavailableError,
            errors.ObjectLostError,
        )
        if nodes_elsewhere:  # else the raylet that died was the only one
            self._deaths += (errors.LocalRayletDiedError,)
        self.nodes_elsewhere = nodes_elsewhere
        self._task = ray.remote(num_cpus=1, max_retries=0)(attempted)
        self._nodes: dict[str, int] = {}  # cores of each that is alive, by its id
        self._running: dict[Hashable, tuple[Job, Shard]] = {}
        self._done: SimpleQueue[tuple[Hashable, Future[Reply]]] = SimpleQueue()
        self.watch = watch
        self.stop = threading.Event()

    def run(
        self,
        job: Job,
        lanes: Iterable[Lane],
        seconds: Seconds = alike,
        began: Began = unheard,
    ) -> Iterator[Outcome]:
        """Outcomes as they come; what machines fail at is tried again elsewhere."""
        return Pool(self, job, lanes, seconds, began).run(self.stop)

    # -- what the pool asks for -----------------------------------------------------------------

    def size(self) -> Size:
        """The cores of the nodes that are there now."""
        self.watch()  # Ray would wait for a minute for a head that has ended, and exit
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        self._nodes = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in alive}
        cores = self._nodes.values()
        return Size(sum(cores), max(cores, default=0))

    def submit(self, job: Job, shard: Shard, request: Request) -> Hashable:
        """Hand an attempt to Ray, and hear of its end in a queue.

        `ray.wait` would look at all that are under way for each that ends.
        """
        attempt = self._placed(request).remote(job, shard)
        self._running[attempt] = job, shard
        attempt.future().add_done_callback(lambda found: self._done.put((attempt, found)))
        return attempt

    def ended(self, timeout: float) -> list[tuple[Hashable, Ending]]:
        """The attempts that have ended."""
        self.watch()
        found = []
        with suppress(Empty):
            found.append(self._done.get(timeout=timeout))
            while True:
                found.append(self._done.get_nowait())
        known = [(attempt, future) for attempt, future in found if attempt in self._running]
        return [(attempt, self._ending(attempt, future)) for attempt, future in known]

    def cancel(self, attempt: Hashable) -> None:
        """End the worker of an attempt, or forget it where it has none yet."""
        if self._running.pop(attempt, None) is not None:
            self._ray.cancel(attempt, force=True)

    def now(self) -> float:
        """Seconds of a clock that nobody sets."""
        return time.monotonic()

    def _placed(self, request: Request) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options: dict[str, object] = {}
        if request.cores > 1:
            options["num_cpus"] = request.cores
        others = [
            node
            for node, cores in self._nodes.items()
            if cores >= request.cores and node != request.avoiding
        ]
        if request.avoiding and others:
            other = others[len(self._running) % len(others)]
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(other, soft=True)
        return self._task.options(**options) if options else self._task

    def everywhere(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function once on every node; what does not answer soon is let be."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = self._ray.remote(num_cpus=0, max_retries=0)(function)
        places = [node["NodeID"] for node in self._ray.nodes() if node["Alive"]]
        strategies = [NodeAffinitySchedulingStrategy(place, soft=False) for place in places]
        tasks = [task.options(scheduling_strategy=each).remote(*arguments) for each in strategies]
        self._ray.wait(tasks, num_returns=len(tasks), timeout=CONNECT)

    def _ending(self, attempt: Hashable, found: "Future[Reply]") -> Ending:
        """How an attempt ended; CampaignError where that ends the run."""
        from ray import exceptions as errors

        job, shard = self._running.pop(attempt)
        try:
            node, receipt, reason, fault, _ = found.result()
        except self._deaths as error:
            memory = isinstance(error, errors.OutOfMemoryError)
            fault = Fault.MEMORY if memory else Fault.MACHINE
            death = f"{type(error).__name__}: its worker died"
            Store(job.place).ledger.fail(
                shard.name, {"error": death, "reason": str(error), "fault": fault}
            )
            return Ending(Outcome(shard, None, death, fault))
        except errors.RayTaskError as error:
            if isinstance(error.cause, CampaignError):
                raise CampaignError(str(error.cause)) from None
            raise
        except errors.RayError as error:
            reason = str(error).partition("\n")[0]
            raise failed(f"{type(error).__name__}: {reason}") from None
        return Ending(Outcome(shard, receipt, reason, fault), node)


def failed(reason: str) -> CampaignError:
    """What ends a run that no other attempt would save."""
    return CampaignError(
        f"Ray has failed ({reason}); what is finished is kept: run the same command again"
    )


@contextmanager
def cluster(address: str | None = None, cpus: int | None = None) -> Iterator[RayExecutor]:
    """A Ray cluster for the length of a run: a local one of its own, or the one at `address`.

    By default a local one has a worker for each core that this process may use.
    """
    _set_environment(address)
    import ray

    folder, watch = "" if address else _short_folder(), _nothing
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            _attach(ray, address)
        else:
            _start(ray, cpus or available_cores(), folder)
            watch = _watch_of(ray)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # ray.init puts sys.exit in its place
        yield RayExecutor(nodes_elsewhere=address is not None, watch=watch)
    finally:
        ray.shutdown()
        if folder:
            _remove(folder)


def _nothing() -> None:
    """There is nothing to watch."""


def _watch_of(ray: ModuleType) -> Callable[[], None]:
    """Raises CampaignError when the head of a local cluster has died.

    Ray itself would wait for it for a minute, and then end this process with words of its own.
    """
    (head,) = ray._private.worker._global_node.all_processes["gcs_server"]

    def watch() -> None:
        if head.process.poll() is not None:
            raise failed(f"its head ended with status {head.process.returncode}")

    return watch


def _short_folder() -> str:
    """A new folder that nobody else may read, for Ray's sockets, whose paths must stay short.

    It is among the other temporary files where that is short enough, as in a job of Slurm or on
    macOS it is not. There, folders of drivers that have been killed are removed.
    """
    places = ["/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", "")]  # noqa: S108
    with suppress(FileNotFoundError):  # no such place can be written
        places.insert(0, tempfile.gettempdir())
    for place in places:
        if 0 < len(os.fsencode(place)) <= LONGEST_PATH:
            with suppress(OSError):
                _sweep(Path(place))
                return _locked(tempfile.mkdtemp(prefix="fw", dir=place))
    raise CampaignError(
        f"Ray needs a folder for its sockets with a path of at most {LONGEST_PATH} characters; "
        f"found TMPDIR={os.environ.get('TMPDIR', '')}, and none in "
        f"{', '.join(filter(None, places))} that can be written; set TMPDIR to a short folder, or "
        "use --executor inline"
    )


def _locked(folder: str) -> str:
    """The folder, marked as that of this process for as long as it lives."""
    descriptor = os.open(Path(folder, LOCK), os.O_CREAT | os.O_WRONLY, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # released by the system when this process ends
    _locks[folder] = descriptor
    return folder


def _remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(_locks.pop(folder))


def _sweep(place: Path) -> None:
    """Remove the folders of drivers of this user that were killed, whatever they left in them."""
    for folder in place.glob("fw????????"):
        with suppress(OSError):
            found = folder.lstat()
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < YOUNG:
                continue
            with (folder / LOCK).open("r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def _set_environment(address: str | None) -> None:
    """What Ray reads when it is imported, and its workers inherit.

    A local cluster answers only to a token of its own, made here and kept in no file.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # no cluster starts by itself when ours has ended
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PYTHONIOENCODING"] = "utf-8"  # of workers' logs, whatever that of the terminal is
    if address is None and "ray" not in sys.modules:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # it listens on loopback alone
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(16)


def check(address: str | None) -> None:
    """CampaignError where nothing listens at an address: Ray itself would try for minutes."""
    if address is None or address == "auto":
        return
    host, _, port = address.rpartition(":")
    advice = "give host:port of a cluster's head, or leave --address out"
    if not host or "/" in host or not port.isdecimal():
        raise CampaignError(f"--address {address}: found no host:port; {advice}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CampaignError(
            f"--address {address}: no Ray cluster answers there ({reason}); {advice}"
        ) from None


def _start(ray: ModuleType, cpus: int, folder: str) -> None:
    """A local cluster; one line where the machine has too little for it, such as open files."""
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            _temp_dir=os.path.join(folder, OPEN_FOLDER),
            _node_ip_address=HOST,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises plain ones, too, as where it starts slowly
        reason = " ".join(str(error).split())[:200]
        raise CampaignError(
            f"Ray cannot start here ({reason}); raise the limits of this machine (ulimit -a), or "
            "use --executor inline"
        ) from error


def _attach(ray: ModuleType, address: str) -> None:
    check(address)
    try:
        ray.init(address=address, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CampaignError(
            f"--address {address}: no Ray cluster answers there ({reason}); give host:port of its "
            "head, or leave --address out"
        ) from None
