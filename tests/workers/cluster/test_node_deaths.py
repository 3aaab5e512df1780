"""A node with a GPU that dies in the middle, on a real cluster of several: nothing is lost."""

import os
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_card import FakeCard  # as the actors name it, which know no `support`

from pipelines.run import driving
from support.driving import HERE, contents, prepared, simulate, unlike
from workers import numerics
from workers.cluster import pool, remote
from workers.cluster.actors import GpuExecutor
from workers.devices.placement import TORCH

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(600)]

SETTINGS = (
    "sweep={size: {network.width: [4]}}",
    "sampler.draws=16",
    "regression=null",
    "theories=[]",
)
HEAD = {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}
GPUS = 2  # nodes with one each, beside the head


@pytest.fixture
def cluster(short, monkeypatch) -> Iterator[Any]:
    """A head that has none, and the nodes, each a raylet of its own on this machine."""
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(pool, "RENEW", 0.0)
    monkeypatch.setattr(pool, "BACKOFF", 0.1)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    remote._set_environment("elsewhere")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
    from ray.cluster_utils import Cluster

    node = {"object_store_memory": remote.OBJECT_STORE}
    found = Cluster(initialize_head=True, head_node_args=node | HEAD)
    try:
        for _ in range(GPUS):
            found.add_node(**node, num_cpus=1, num_gpus=1)
        found.wait_for_nodes()
        yield found
    finally:
        found.shutdown()


def test_what_a_dead_node_was_doing_is_done_on_another(cluster, tmp_path, monkeypatch):
    campaign, inline = (prepared(tmp_path / name, *SETTINGS) for name in ("gpus", "inline"))
    dying = list(cluster.worker_nodes)[:1]

    def end_a_node() -> None:
        """As a power cut would: the raylet and all that it has started."""
        if dying and contents(Path(campaign.store.url, "ledger", "receipts")):
            cluster.remove_node(dying.pop(), allow_graceful=False)

    class Watched(GpuExecutor):
        def size(self):
            end_a_node()
            return super().size()

    monkeypatch.setattr(driving, "_warn", lambda *_: None)  # it would compile what nobody uses
    monkeypatch.setattr(driving, "GpuExecutor", lambda found: Watched(found, partial(FakeCard, 16)))
    options = driving.Options(device="cuda", address=cluster.address)
    with driving.driving(campaign, options) as (driven, progress):
        driving.simulate(driven, progress)
        assert isinstance(driven.executor, Watched)
    assert dying == []
    errors = {
        failure.record["error"].partition(":")[0] for failure in driven.store.ledger.failures()
    }
    assert errors
    assert errors <= {"ActorDiedError", "ActorUnavailableError"}
    assert (driven.failed, driven.done) == ([], driven.total)
    simulate(inline, numerics.describe(backend=TORCH))
    assert unlike(contents(driven.store.data), contents(inline.store.data)) == []
