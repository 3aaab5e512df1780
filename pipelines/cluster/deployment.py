"""The campaign flow as a Prefect deployment: what workers run of what is submitted.

There is one for each work pool, named as the pool. Workers find the flow by the path of its module,
so they need the package installed and no source code beside it.

Prefect is imported where it is used: it takes seconds, and most commands need none.
"""

from typing import TYPE_CHECKING, cast

from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkerStatus, WorkPoolStatus
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from pipelines.cluster.prefect_client import connected
from storage.errors import CampaignError

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

FLOW = "campaign"
ENTRYPOINT = "pipelines.cluster.deployed.campaign"
TYPE = "process"


def deploy(pool: str) -> str:
    """Make the deployment of a pool, or make it anew, and the pool if there is none.

    A pool that is there keeps its type and its settings. Returns the URL of the deployment.
    """
    from prefect.utilities.urls import url_for

    from pipelines.run.flows import campaign

    with connected() as client:
        _make_pool(client, pool)
        deployment = RunnerDeployment.from_flow(
            campaign, pool, work_pool_name=pool, entrypoint_type=EntrypointType.MODULE_PATH
        )
        deployment.entrypoint = ENTRYPOINT
        made = cast("UUID", deployment.apply())
        return url_for("deployment", obj_id=made) or ""


def ready(client: "SyncPrefectClient", pool: str) -> "UUID":
    """The deployment of a pool that a worker polls; CampaignError where something is missing."""
    try:
        state = client.read_work_pool(pool).status
        deployment = client.read_deployment_by_name(f"{FLOW}/{pool}")
    except ObjectNotFound:
        raise CampaignError(
            f"found no work pool {pool} with the deployment {FLOW}/{pool}; "
            f"make both with `finitewidth deploy --pool {pool}`"
        ) from None
    if state == WorkPoolStatus.PAUSED:
        raise CampaignError(
            f"the work pool {pool} is paused; `prefect work-pool resume {pool}` lets it go on"
        )
    workers = client.read_workers_for_work_pool(pool)
    if not any(worker.status == WorkerStatus.ONLINE for worker in workers):
        raise CampaignError(
            f"no worker polls the work pool {pool}; start one where the work is to be done: "
            f"`prefect worker start --pool {pool}`"
        )
    return deployment.id


def _make_pool(client: "SyncPrefectClient", pool: str) -> None:
    try:
        client.read_work_pool(pool)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=pool, type=TYPE, base_job_template=template))
