"""The campaign as a Prefect flow: a thin shell over the engine, a task for a stage or a wave.

Bodies of flows and tasks are short, since Prefect pickles them by value when it serves them.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import TagsContext
from prefect.events.worker import EventsWorker
from prefect.exceptions import FailedRun
from prefect.futures import PrefectFuture, wait
from prefect.logging.handlers import APILogWorker
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from pipelines.engine import engine, stages, waves
from pipelines.progress.progress import Progress
from pipelines.run import artifacts, driving, handing, runs
from pipelines.run.draining import Drained, ending
from storage.errors import CampaignError, IncompleteError
from storage.reading.document import parse

# While a server is away, Prefect would show each event and log that it could not send, whole.
logging.getLogger("prefect._internal.concurrency").setLevel(logging.CRITICAL)
logging.raiseExceptions = False

DRAIN = 10.0  # seconds for the last logs and events
LOOK = 5.0  # seconds between two looks at whether the run was cancelled
LAST_SECONDS = 5.0  # seconds for the waves of a run that ended to say so
INCOMPLETE = "Incomplete"  # name of the state of a run that ended without some of its shards


@task(name="wave", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def wave(name: str, line: "waves.Line") -> "int | State":
    """Show a wave from its first shard to its last; the flow itself drives the shards."""
    line.wait()
    if line.failed:
        first = line.failed[0]
        return Failed(message=f"{len(line.failed)} shards failed, first {first.shard.name}")
    if not line.complete:
        return Cancelled(message=f"stopped after {line.finished} shards")
    return line.finished


@task(name="stage", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def stage(name: str, driven: "engine.Drive") -> "State | None":
    """Run one stage on what is stored."""
    try:
        stages.run_if_changed(name, driven.store, driven.prepared.plugins)
    except CampaignError as error:
        return Failed(message=str(error))


THREADS: Any = ThreadPoolTaskRunner(max_workers=waves.MOST_WAVES)  # in each of them a wave waits


@flow(
    name="campaign",
    flow_run_name="{name}",
    task_runner=THREADS,
    persist_result=False,
    validate_parameters=False,
)
def campaign(name: str, spec: str, root: str, options: dict[str, Any]) -> "State":
    """Simulate a campaign wave by wave, then assess, predict, fit and report.

    `spec` is YAML, or the name under which a long one is kept below `root`, and `options` the
    fields of `driving.Options`: little enough for Prefect to keep.
    """
    chosen = driving.Options(**options)
    try:
        prepared = engine.prepare(
            parse(handing.spec(spec, root)), root, chosen.plugins, chosen.durable, chosen.folder
        )
        with (
            # A task with tags asks the server for a slot first, and is lost where that is away.
            TagsContext(current_tags=set()),
            ending(),
            driving.driving(prepared, chosen) as (driven, progress),
            _cancelled_in_the_ui(driven.executor.stop),
            artifacts.Board(name, driven, progress),
        ):
            _simulate(driven, progress)
            driving.analyze(driven, progress, lambda title: stage(title, driven))
    except Drained as drained:
        return Cancelled(message=f"stopped: {drained.message}; the same campaign goes on")
    except IncompleteError as error:
        return Failed(name=INCOMPLETE, message=str(error))
    except (CampaignError, FailedRun) as error:
        return Failed(message=str(error))
    return Completed(message=f"{driven.total} shards in {driven.store.url}")


@contextmanager
def _cancelled_in_the_ui(stop: threading.Event) -> Iterator[None]:
    """Set `stop` when this flow run is cancelled.

    A worker sends a signal as well; nobody else does it for a run that was started by hand.
    """
    run, over = flow_run.id, threading.Event()

    def look() -> None:
        with get_client(sync_client=True) as client:
            while not over.wait(LOOK):
                with suppress(httpx.HTTPError):  # a server that is away for a while
                    state = client.read_flow_run(run).state
                    if state is not None and (state.is_cancelling() or state.is_cancelled()):
                        stop.set()

    looking = threading.Thread(target=look, name="cancelled", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join(LAST_SECONDS)


def _simulate(driven: engine.Drive, progress: Progress) -> None:
    """Simulate, with a task run for every wave from its first shard on."""
    shown: list[PrefectFuture[int | State]] = []
    try:
        driving.simulate(
            driven,
            progress,
            began=lambda line: shown.append(wave.submit(line.wave.name, line)),
        )
    finally:
        wait(shown, timeout=LAST_SECONDS)


def run(prepared: engine.Prepared, options: driving.Options) -> None:
    """Run the flow in this process against the Prefect server of the environment.

    Raises CampaignError where the campaign failed; the traceback is in the UI. Also where the
    server is gone for good: Prefect asks it again and again before it gives up.
    """
    try:
        with tags(*runs.tags(prepared, options.executor)):
            state = campaign(**handing.parameters(prepared, options), return_state=True)
    except httpx.TransportError as error:
        raise CampaignError(
            f"the Prefect server at {PREFECT_API_URL.value()} does not answer any more ({error}); "
            "what is finished is kept, and the same command goes on"
        ) from None
    finally:
        _drain()
    if state.is_cancelled():
        raise Drained(state.message or "")
    if not state.is_completed():
        kind = IncompleteError if state.name == INCOMPLETE else CampaignError
        raise kind(f"the flow run {state.type.value.lower()}: {state.message}")


def _drain() -> None:
    """Send what is left of logs and events while the server is there to take them.

    Left to the end of the process, they would wait for a server that has been stopped by then.
    """
    for service in (EventsWorker, APILogWorker):
        service.drain_all(timeout=DRAIN)
