"""The campaign as a Prefect flow: a thin shell over the engine, a task for a stage or a wave.

Bodies of flows and tasks are short, since Prefect pickles them by value when it serves them.
"""

from typing import Any

from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.events.worker import EventsWorker
from prefect.exceptions import FailedRun
from prefect.futures import wait
from prefect.logging.handlers import APILogWorker
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from pipelines.engine import engine, stages
from pipelines.progress import doing
from pipelines.progress.progress import Progress
from pipelines.run import artifacts, driving, handing, runs
from storage.errors import CampaignError
from storage.reading.document import parse

DRAIN = 10.0  # seconds for the last logs and events
GRACE = 20.0  # seconds for waves that are told to stop; a Prefect worker kills after 30


@task(name="wave", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def wave(name: str, driven: Any, index: int, progress: Any) -> Any:
    """Run one wave of shards on the executor."""
    progress.stage(name)
    finished = 0
    try:
        for outcome in driven.run(driven.left[index]):
            progress.count(outcome)
            finished += outcome.receipt is not None
    except CampaignError as error:
        return Failed(message=str(error))  # as it is: Prefect logs what is raised with a traceback
    if driven.executor.stop.is_set() and finished < driven.left[index].shards:
        return Cancelled(message=f"stopped after {finished} shards")
    return finished


@task(name="stage", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def stage(name: str, driven: Any) -> Any:
    """Run one stage on what is stored."""
    try:
        stages.run_if_changed(name, driven.store, driven.prepared.plugins)
    except CampaignError as error:
        return Failed(message=str(error))


@flow(name="campaign", flow_run_name="{name}", persist_result=False, validate_parameters=False)
def campaign(name: str, spec: str, root: str, options: dict[str, Any]) -> Any:
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
            driving.driving(prepared, chosen) as (driven, progress),
            artifacts.Board(name, driven, progress),
        ):
            _simulate(driven, progress)
            while driven.refine():
                driving.grow(driven, progress)
                _simulate(driven, progress)
            driving.tell_others(driven, progress)
            with doing.heard(progress.detail):
                stages.all_in_order(lambda title: stage(title, driven), tell=progress.stage)
    except (CampaignError, FailedRun) as error:
        return Failed(message=str(error))
    return Completed(message=f"{driven.total} shards in {driven.store.url}")


def _simulate(driven: engine.Drive, progress: Progress) -> None:
    """All waves that are left, as many at once as the task runner has threads."""
    futures = []
    try:
        for index, work in enumerate(driven.left):
            futures.append(wave.submit(work.name, driven, index, progress))
        for future in futures:
            future.result()
    except BaseException:
        # Waves leave their loops before the executor is taken from them.
        driven.executor.stop.set()
        wait(futures, timeout=GRACE)
        raise
    driven.check()


def run(prepared: engine.Prepared, options: driving.Options) -> None:
    """Run the flow in this process against the Prefect server of the environment.

    Raises CampaignError where the campaign failed; the traceback is in the UI.
    """
    runner: Any = ThreadPoolTaskRunner(max_workers=options.waves_at_once)
    try:
        with tags(*runs.tags(prepared, options.executor)):
            state = campaign.with_options(task_runner=runner)(
                **handing.parameters(prepared, options), return_state=True
            )
    finally:
        _drain()
    if not state.is_completed():
        raise CampaignError(f"the flow run {state.name.lower()}: {state.message}")


def _drain() -> None:
    """Send what is left of logs and events while the server is there to take them.

    Left to the end of the process, they would wait for a server that has been stopped by then.
    """
    for service in (EventsWorker, APILogWorker):
        service.drain_all(timeout=DRAIN)
