"""The batch script of deploy/slurm, on a Slurm of two nodes that runs here for as long."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from storage.store.store import Store
from support import slurm
from support.driving import HERE, SMALL, contents

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
PATIENCE = 600  # seconds that anything may take: jobs start Python, Ray and a compiler first
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}


def until(condition: Callable[[], object]) -> None:
    """Wait for something that must happen."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def queue() -> Iterator[slurm.Slurm]:
    """A Slurm in whose jobs `finitewidth` is found."""
    if why := slurm.missing():
        pytest.skip(why)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with slurm.slurm({"PATH": path, "PYTHONPATH": str(HERE.parent)}) as started:
        yield started


def start(queue: slurm.Slurm, root: Path, *options: str) -> str:
    """Submit a campaign of some 200 shards, with options of sbatch."""
    campaign = (SMALL, "--store", root, "--set", "ensemble.datasets=12")
    return queue.submit("--cpus-per-task=1", *options, slurm.BATCH / "campaign.sbatch", *campaign)


def ended(queue: slurm.Slurm, job: str) -> str:
    """The last state of a job, once it is there."""
    until(lambda: queue.state(job) in ENDED)
    return queue.state(job)


def finished(root: Path) -> set[str]:
    """The shards that have a receipt, of the one campaign in a folder."""
    return {name for each in root.glob("small-*") for name in Store(str(each)).ledger.finished()}


def processes(job: str) -> dict[int, str]:
    """Processes of a job, and the node that each is on."""
    found = {}
    for each in psutil.process_iter():
        try:
            known = each.environ()
        except (psutil.Error, OSError):
            continue
        if known.get("SLURM_JOB_ID") == job:
            found[each.pid] = known.get("SLURMD_NODENAME", "")
    return found


def leaves_nothing(job: str) -> None:
    """Neither a process nor a folder of a job stays."""
    until(lambda: not processes(job))
    assert list(Path("/tmp").glob(f"fw{job}.*")) == []


def test_a_job_before_its_limit_drains_and_goes_on_in_the_queue(queue, tmp_path):
    """USR1 is what Slurm sends before the limit."""
    job = start(queue, tmp_path, "--nodes=2", "--gres=gpu:1")
    nodes: dict[int, str] = {}
    until(lambda: nodes.update(processes(job)) or len(finished(tmp_path)) > 40)
    tokens = list(Path("/tmp").glob(f"fw{job}.*/token"))
    assert len(tokens) == 3  # of the script and of two nodes
    secret = tokens[0].read_text()
    for each in tokens:
        assert each.read_text() == secret
        assert each.stat().st_mode & 0o777 == 0o600
    for process in map(psutil.Process, processes(job)):
        with suppress(psutil.NoSuchProcess):
            assert secret not in " ".join([*process.cmdline(), *process.environ().values()])
    queue.call("scancel", "--batch", "--signal=USR1", job)
    until(lambda: "Restarts=1" in queue.fields(job))
    until(lambda: "going back to the queue" in queue.log(job))
    before = finished(tmp_path)
    store = Store(str(*tmp_path.glob("small-*")))
    receipts = dict(store.ledger.receipts(before))
    assert ended(queue, job) == "COMPLETED", queue.log(job)
    log = queue.log(job)
    assert log.count("2 nodes with 2 CPUs and 2 GPUs") == 2, log
    assert before < finished(tmp_path)
    assert dict(store.ledger.receipts(before)) == receipts  # nothing was computed again
    used = {nodes[each["pid"]] for each in receipts.values() if each["pid"] in nodes}
    assert used == {"n1", "n2"}
    assert secret not in log
    assert not [name for name, data in contents(tmp_path).items() if secret.encode() in data]
    leaves_nothing(job)


def test_two_jobs_on_one_node_do_not_meet_and_one_may_be_cancelled(queue, tmp_path):
    roots = [tmp_path / "one", tmp_path / "other"]
    jobs = [start(queue, root, "--nodelist=n1") for root in roots]
    until(lambda: all(finished(root) for root in roots))
    queue.call("scancel", jobs[0])
    assert ended(queue, jobs[0]) == "CANCELLED"
    until(lambda: not processes(jobs[0]))  # a folder may stay for the next job to remove
    assert ended(queue, jobs[1]) == "COMPLETED", queue.log(jobs[1])
    begun = re.compile(r"1 nodes with 1 CPUs and 0 GPUs at (\S+)")
    addresses = [begun.findall(queue.log(each)) for each in jobs]
    assert len(addresses[0]) == len(addresses[1]) == 1, queue.log(jobs[0]) + queue.log(jobs[1])
    assert addresses[0] != addresses[1]
    leaves_nothing(jobs[1])
