"""Flow runs of campaigns on a Prefect server: how they are tagged, and how they are found again."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from pipelines.text.durations import duration
from storage.errors import CampaignError
from storage.files.objects import Objects

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from pipelines.engine.engine import Prepared

FLOW = FlowFilter(name=FlowFilterName(any_=["campaign"]))
PAGE = 200  # runs that the server gives at once
LIVE = [state for state in StateType if state not in TERMINAL_STATES]


def tags(prepared: "Prepared", executor: str) -> list[str]:
    """What a run of a campaign is found by in the UI and by `runs`."""
    name, store = prepared.spec.name, prepared.store.url
    identity = store.rsplit("-", 1)[-1]
    return [f"campaign:{name}", f"identity:{identity}", f"executor:{executor}", _tag(store)]


def store_of(run: FlowRun) -> str | None:
    """Where the results of a run are kept."""
    found = [tag.removeprefix("store:") for tag in run.tags if tag.startswith("store:")]
    return found[0] if found else None


def of_store(
    client: "SyncPrefectClient", store: str, states: Sequence[StateType] = ()
) -> list[FlowRun]:
    """The runs of one campaign's store, the newest first."""
    return list(_runs(client, FlowRunFilter(tags=_all(_tag(store)), state=_types(states))))


def ended(client: "SyncPrefectClient", store: str) -> int:
    """How many runs of one campaign's store have come to an end."""
    wanted = FlowRunFilter(tags=_all(_tag(store)), state=_types([*TERMINAL_STATES]))
    return client.count_flow_runs(flow_filter=FLOW, flow_run_filter=wanted)


def find(
    client: "SyncPrefectClient",
    name: str | None = None,
    state: str | None = None,
    tags: Sequence[str] = (),
    store: str | None = None,
) -> Iterator[FlowRun]:
    """The runs of campaigns, the newest first; `store` is one campaign's, or a folder of stores."""
    wanted = [*tags, *([f"campaign:{name}"] if name else [])]
    filters = FlowRunFilter(
        tags=_all(*wanted) if wanted else None,
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[state])) if state else None,
    )
    place = Objects(store).url if store else ""
    for run in _runs(client, filters):
        if not place or f"{store_of(run)}/".startswith(f"{place}/"):
            yield run


def one(client: "SyncPrefectClient", what: str) -> FlowRun:
    """The newest run of a store, of a campaign's name, or of a run's id; a live one before others.

    Raises CampaignError where there is none, or where live ones of a name have several stores.
    """
    found = _named(client, what)
    live = [run for run in found if not is_final(run)]
    if len(stores := {store_of(run) or "" for run in live}) > 1:
        raise CampaignError(
            f"{len(stores)} campaigns named {what} are running; name one by its store: "
            f"{', '.join(sorted(stores))}"
        )
    if not found:
        raise CampaignError(
            f"{what}: no campaign's store, and no run of this name or id on the Prefect server; "
            "`finitewidth list --runs` shows them"
        )
    return (live or found)[0]


def is_final(run: FlowRun) -> bool:
    """Whether a run has come to an end."""
    return run.state is not None and run.state.is_final()


def state_of(run: FlowRun) -> str:
    """The name of a run's state, as the UI has it."""
    return run.state.name or run.state.type.value.capitalize() if run.state else "Unknown"


def address(run: FlowRun) -> str:
    """The page of a run in the UI."""
    return url_for("flow-run", obj_id=run.id) or str(run.id)


def lines(found: Iterator[FlowRun], most: int | None) -> Iterator[str]:
    """Two lines a run: what it is, and where to look."""
    for run in islice(found, most):
        began = run.start_time or run.expected_start_time or run.created
        when = f"{began:%Y-%m-%d %H:%M}" if began else ""
        took = duration(run.estimated_run_time.total_seconds()) if run.start_time else ""
        first = f"{run.name:24} {state_of(run):10} {when:16} {took:>9}  {store_of(run) or ''}"
        yield first.rstrip()
        yield f"    {address(run)}"
    if next(found, None) is not None:
        yield "and older ones; --all shows them"


def age(run: FlowRun) -> float:
    """Seconds for which a run has been in its state."""
    if run.state is None or run.state.timestamp is None:
        return 0.0
    return (datetime.now(UTC) - run.state.timestamp).total_seconds()


def _named(client: "SyncPrefectClient", what: str) -> list[FlowRun]:
    try:
        return [client.read_flow_run(UUID(what))]
    except (ValueError, ObjectNotFound):
        pass
    return list(find(client, name=what)) or of_store(client, _store(what))


def _store(what: str) -> str:
    return Objects(what.rstrip("/").removesuffix("/data.zarr")).url


def _runs(client: "SyncPrefectClient", wanted: FlowRunFilter) -> Iterator[FlowRun]:
    offset = 0
    while True:
        page = client.read_flow_runs(
            flow_filter=FLOW,
            flow_run_filter=wanted,
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=PAGE,
            offset=offset,
        )
        yield from page
        if len(page) < PAGE:
            return
        offset += PAGE


def _tag(store: str) -> str:
    return f"store:{store}"


def _all(*wanted: str) -> FlowRunFilterTags:
    return FlowRunFilterTags(all_=list(wanted))


def _types(states: Sequence[StateType]) -> FlowRunFilterState | None:
    if not states:
        return None
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))
