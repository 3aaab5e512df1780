"""The campaign as a Prefect flow: a thin shell over the engine, a task for a stage or a wave.

Bodies of flows and tasks are short, since Prefect pickles them by value when it serves them.
"""

from typing import Any

from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from pipelines import artifacts, engine, stages
from storage.errors import CampaignError
from storage.reading import dump_yaml, parse


@task(name="wave", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def wave(name: str, driven: Any, index: int, progress: Any, bar: Any) -> int:
    """Run one wave of shards on the executor, moving the progress artifact."""
    progress.stage(name)
    finished = 0
    for outcome in driven.run(driven.left[index]):
        progress.count(outcome)
        bar.move(progress.fraction)
        finished += outcome.receipt is not None
    return finished


@task(name="stage", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def stage(name: str, driven: Any) -> None:
    """Run one stage on what is stored."""
    stages.STAGES[name](driven.store, driven.prepared.plugins)


@flow(name="campaign", flow_run_name="{name}", persist_result=False, validate_parameters=False)
def campaign(name: str, spec: str, root: str, options: dict[str, Any]) -> Any:
    """Simulate a campaign wave by wave, then assess, predict, fit and report.

    `spec` is YAML and `options` the fields of `stages.Options`: little enough for Prefect to keep.
    """
    chosen = stages.Options(**options)
    prepared = engine.prepare(parse(spec), root, chosen.plugins)
    with stages.driving(prepared, chosen) as (driven, progress):
        bar = artifacts.Bar(name, progress.fraction)
        try:
            futures = [
                wave.submit(work.name, driven, index, progress, bar)
                for index, work in enumerate(driven.left)
            ]
            for future in futures:
                future.result()
        except BaseException:
            driven.executor.stop.set()  # waves leave their loops; the executor ends their shards
            raise
        try:
            driven.check()
        except CampaignError as error:
            return Failed(message=str(error))
        for title in stages.STAGES:
            progress.stage(title)
            stage(title, driven)
        bar.move(1.0, at_once=True)
        artifacts.publish(name, driven.store)
    return Completed(message=f"{driven.total} shards in {driven.store.url}")


def run(prepared: engine.Prepared, options: stages.Options) -> None:
    """Run the flow in this process against the Prefect server of the environment.

    Raises CampaignError where the campaign failed; the traceback is in the UI.
    """
    runner: Any = ThreadPoolTaskRunner(max_workers=options.waves_at_once)
    name, identity = prepared.spec.name, prepared.store.url.rsplit("-", 1)[-1]
    with tags(f"campaign:{name}", f"identity:{identity}", f"executor:{options.executor}"):
        state = campaign.with_options(task_runner=runner)(
            name,
            dump_yaml(prepared.spec),
            prepared.root,
            {**vars(options), "plugins": list(options.plugins)},
            return_state=True,
        )
    if not state.is_completed():
        raise CampaignError(f"the flow run {state.name.lower()}: {state.message}")
