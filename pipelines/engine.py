"""The campaign engine: plain Python over an executor. Prefect and the command line are shells.

A campaign goes prepare (nothing is written), simulate in waves, predict, fit, report. All of it
may be repeated: what has a receipt is never computed again.
"""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pipelines.shadow  # noqa: F401  before any of the packages that may be hidden
from storage import lease
from storage.errors import CampaignError
from storage.objects import Objects
from storage.plan import Lane, Plan, plan
from storage.plugins import ALLOWED, Plugins, allow, named
from storage.spec import Campaign
from storage.store import Store
from workers import numerics
from workers.datasets import absolute, content_digests, dataset, pool
from workers.shard import Job, Outcome, attempt

if TYPE_CHECKING:
    from xarray import DataTree

WAVES = 100  # at most: a wave is a line in the Prefect UI
ROOT = "results"


class Executor(Protocol):
    """Where shards run: the shards of a lane one after another, lanes side by side."""

    stop: threading.Event  # set by whoever wants the run to end early

    def run(self, job: Job, lanes: Sequence[Lane]) -> Iterator[Outcome]:
        """Outcomes in the order in which they come."""
        ...


class Inline:
    """Runs every shard in this process, one after another."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def run(self, job: Job, lanes: Sequence[Lane]) -> Iterator[Outcome]:
        """Outcomes in the order of the lanes; a lane ends at its first failure."""
        for lane in lanes:
            for shard in lane:
                if self.stop.is_set():
                    return
                outcome = attempt(job, shard)
                yield outcome
                if outcome.receipt is None:
                    break


@dataclass(frozen=True)
class Prepared:
    """A campaign that has passed every check and of which nothing is written yet."""

    spec: Campaign
    plugins: Plugins
    sources: dict[str, str]
    root: str

    @property
    def store(self) -> Store:
        """Where the campaign is kept, or will be."""
        return Store(Objects(self.root).child(plan(self.spec, sources=self.sources).directory).url)


@dataclass(frozen=True)
class Wave:
    """Lanes that are driven together, under a name for the people who watch."""

    name: str
    lanes: tuple[Lane, ...]

    @property
    def shards(self) -> int:
        """How many shards the wave has left."""
        return sum(len(lane) for lane in self.lanes)


def allowed_plugins(named: Sequence[str]) -> list[str]:
    """Modules allowed by name on the command line or in the environment."""
    return [*named, *filter(None, os.environ.get(ALLOWED, "").split(","))]


def prepare(spec: Campaign, root: str = ROOT, plugins: Sequence[str] = ()) -> Prepared:
    """Check all that can be checked before anything is written.

    Raises CampaignError for plug-ins that are not allowed, data that are missing or too few.
    """
    found = allow(spec, allowed_plugins(plugins), Path.cwd())
    for name in named(spec):
        found.get(name)
    spec = absolute(spec)
    prepared = Prepared(spec, found, content_digests(spec, found), root)
    _check_data(prepared)
    return prepared


def _check_data(prepared: Prepared) -> None:
    """Draw the largest dataset and pool once: what fails here would fail in every shard."""
    planned = plan(prepared.spec, sources=prepared.sources)
    if planned.cells:
        largest = max(planned.cells, key=lambda cell: cell.spec.data.train)
        dataset(largest.spec, 0, prepared.plugins, prepared.sources)
    for cell in planned.regressions[:1]:
        pool(cell.spec, prepared.plugins, prepared.sources)


class Drive:
    """A campaign that this process holds the lease of."""

    def __init__(self, prepared: Prepared, held: lease.Lease, executor: Executor) -> None:
        self.prepared = prepared
        self.store = prepared.store
        self.executor = executor
        specs = self.store.add_spec(prepared.spec, prepared.sources)
        self.plan: Plan = plan(prepared.spec, specs, prepared.sources)
        self.store.allocate(self.plan)
        self.job = Job(
            self.store.url, held.epoch, self._numerics(), prepared.plugins, prepared.sources
        )
        self._record_run(held.epoch)
        self.total = sum(1 for _ in self.plan.shards())
        self.finished = self.store.ledger.finished()
        self.done = sum(shard.name in self.finished for shard in self.plan.shards())
        self.left = self._waves()
        self.failed: list[Outcome] = []

    def _numerics(self) -> dict[str, str]:
        """What the campaign computes with: decided at its first run, kept from then on."""
        found = json.dumps(numerics.describe()).encode()
        self.store.objects.create("provenance/numerics.json", found)
        return json.loads(self.store.objects.get("provenance/numerics.json") or b"{}")

    def _record_run(self, epoch: int) -> None:
        content = json.dumps(provenance(), indent=1).encode()
        self.store.objects.put(f"provenance/run-{epoch:04d}.json", content)

    def _waves(self) -> list[Wave]:
        """The work that is left, in waves of whole cells."""
        left: dict[str, list[Lane]] = {}
        for lane in self.plan.lanes():
            todo = tuple(shard for shard in lane if shard.name not in self.finished)
            if todo:
                left.setdefault(_wave_name(todo[0].kind, todo[0].cell.settings), []).append(todo)
        return _merged([Wave(name, tuple(lanes)) for name, lanes in left.items()])

    def run(self, wave: Wave) -> Iterator[Outcome]:
        """Run a wave; each outcome is counted before it is handed on."""
        for outcome in self.executor.run(self.job, wave.lanes):
            if outcome.receipt is None:
                self.failed.append(outcome)
            else:
                self.finished.add(outcome.shard.name)
                self.done += 1
            yield outcome

    def check(self) -> None:
        """Raise CampaignError where shards failed; what is finished stays."""
        if self.failed:
            first, count = self.failed[0], len(self.failed)
            raise CampaignError(
                f"{count} shard{'s' * (count > 1)} failed, "
                f"first {first.shard.name}: {first.reason}; "
                f"see {self.store.url}/ledger/failures, then run the same command again"
            )


def _wave_name(kind: str, settings: dict[str, Any]) -> str:
    if kind != "ensemble":
        return "regression"
    named = ", ".join(f"{path.split('.')[-1]} {value}" for path, value in settings.items())
    return f"ensemble {named}".strip()


def _merged(waves: list[Wave]) -> list[Wave]:
    """At most WAVES of them, neighbours put together."""
    size = -(-len(waves) // WAVES)
    if size <= 1:
        return waves
    groups = [waves[i : i + size] for i in range(0, len(waves), size)]
    return [
        Wave(f"{group[0].name} to {group[-1].name}", tuple(ln for w in group for ln in w.lanes))
        for group in groups
    ]


@contextmanager
def drive(prepared: Prepared, executor: Executor) -> Iterator[Drive]:
    """Hold the campaign's lease, sweep what killed writers left, and drive it."""
    store = prepared.store
    with lease.acquire(store.objects) as held:
        store.objects.sweep()
        yield Drive(prepared, held, executor)


def run(
    spec: Campaign,
    root: str = ROOT,
    plugins: Sequence[str] = (),
    watch: Callable[[Outcome], None] | None = None,
) -> "DataTree":
    """Run a campaign in this process to its end and open it as a labelled grid.

    The same as `finitewidth run --executor inline`, without Prefect and Ray: for notebooks.
    """
    from pipelines import stages
    from storage.reader import open_campaign

    prepared = prepare(spec, root, plugins)
    with drive(prepared, Inline()) as driven:
        for wave in driven.left:
            for outcome in driven.run(wave):
                if watch is not None:
                    watch(outcome)
        driven.check()
        stages.analyze(driven.store, prepared.plugins)
    return open_campaign(driven.store.url)


def provenance() -> dict[str, Any]:
    """What ran: versions, machine, command and commit."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": platform.node(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        **numerics.describe(),
    }


def _commit() -> str:
    """The commit of the code, where it runs from a checkout."""
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return "unknown"
    git = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"
