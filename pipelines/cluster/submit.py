"""Handing a campaign to the workers of a Prefect server, and taking it back."""

import hashlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, Cancelling, Crashed

from pipelines.cluster import deployment
from pipelines.cluster.prefect_client import connected
from pipelines.engine import selection
from pipelines.engine.engine import Prepared
from pipelines.run import handing, runs
from pipelines.run.driving import Options
from storage.errors import CampaignError
from storage.files import lease
from storage.files.objects import Objects

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

STARTING = 600.0  # seconds in which a driver that runs must have taken the lease of its campaign
WAIT = 120.0  # seconds for a run to drain: a Prefect worker kills it after 30
LOOK = 1.0  # seconds between two looks

Say = Callable[[str], object]


def submit(prepared: Prepared, options: Options, pool: str, say: Say = print) -> FlowRun:
    """Have a campaign run by the workers of a pool; one that is being run is left alone.

    Raises CampaignError where nobody would run it, or where it runs with other settings.
    """
    selection.chosen(prepared.plan, options.only)
    with connected() as client:
        target = deployment.ready(client, pool)
        wanted = handing.parameters(prepared, options)
        run = _live(client, prepared.store.url, wanted)
        new = run is None
        if run is None:
            run = _new(client, target, prepared, options, wanted)
        say(f"{'submitted' if new else 'already submitted, ' + runs.state_of(run)}")
        say(f"run     {runs.address(run)}")
        say(f"store   {prepared.store.url}")
        return run


def cancel(what: str, say: Say = print) -> None:
    """Have the run of a store, a campaign's name or an id stopped, and wait until it has.

    Raises CampaignError where nothing is to be stopped, or nobody answers.
    """
    with connected() as client:
        run = runs.one(client, what)
        if runs.is_final(run):
            raise CampaignError(f"{what} is not running: its last run is {runs.state_of(run)}")
        if run.deployment_id is None and not _is_lost(run, STARTING):
            raise CampaignError(
                f"{what} is run by {_driver(run) or 'a process'}, not by a worker; "
                "Ctrl-C there, or SIGTERM, ends it"
            )
        client.set_flow_run_state(run.id, Cancelling())
        say(f"cancelling {runs.address(run)}")
        run = _ended(client, run)
        say(f"{runs.state_of(run).lower()}; what is finished is kept, and the same submit goes on")


def _ended(client: "SyncPrefectClient", run: FlowRun) -> FlowRun:
    """The run once it has come to an end; one that nobody drives any more is brought to it."""
    deadline = time.monotonic() + WAIT
    while not runs.is_final(run := client.read_flow_run(run.id)):
        if _is_lost(run, WAIT / 4):
            message = "its driver was gone before it was cancelled"
            client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
        elif time.monotonic() > deadline:
            raise CampaignError(
                f"the run is {runs.state_of(run)} after {WAIT:.0f} s; see {runs.address(run)}, and "
                "whether its worker lives"
            )
        else:
            time.sleep(LOOK)
    return run


def _live(client: "SyncPrefectClient", store: str, wanted: dict[str, object]) -> FlowRun | None:
    """The run that goes on already, if it does what is wanted."""
    for run in runs.of_store(client, store, runs.LIVE):
        if _is_lost(run, STARTING):
            message = "nobody drives the campaign any more"
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)
        elif run.parameters == wanted:
            return run
        else:
            raise CampaignError(
                f"{store} is being run with other settings: {runs.address(run)}; wait until that "
                f"run ends, or `finitewidth cancel {run.id}`, and submit again"
            )
    return None


def _new(
    client: "SyncPrefectClient",
    target: "UUID",
    prepared: Prepared,
    options: Options,
    wanted: dict[str, object],
) -> FlowRun:
    """A new run, or the one that somebody else makes of the same campaign at this moment.

    A key holds for ever, also when its run has ended. So it counts the runs that have; where an
    administrator has removed some of them, the next that is free is taken.
    """
    store = prepared.store.url
    number = runs.ended(client, store)
    while True:
        run = client.create_flow_run_from_deployment(
            target,
            parameters=wanted,
            name=prepared.spec.name,
            tags=runs.tags(prepared, options.executor),
            idempotency_key=key(store, number),
        )
        if not runs.is_final(run):
            return run
        number += 1


def key(store: str, number: int) -> str:
    """Of a campaign's store, whose name ends in the campaign's identity, and so many ended runs."""
    identity = store.rsplit("-", 1)[-1]
    return f"{identity}-{hashlib.sha256(store.encode()).hexdigest()[:16]}-{number}"


def _is_lost(run: FlowRun, patience: float) -> bool:
    """Whether a run that is said to go on has had no driver for so long, as after a power cut."""
    running = run.state is not None and (run.state.is_running() or run.state.is_cancelling())
    if not running or runs.age(run) < patience or (store := runs.store_of(run)) is None:
        return False
    seen = Objects(store).names(lease.FOLDER)  # none where the store is not to be seen from here
    return bool(seen) and _driver(run) is None


def _driver(run: FlowRun) -> str | None:
    store = runs.store_of(run)
    return lease.holder(Objects(store)) if store else None
