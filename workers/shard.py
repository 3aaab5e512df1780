"""One shard from beginning to end: compute it, write its region, and then its receipt.

Kinds of shards are imported where they are used: no worker needs all.
"""

import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic_core import to_jsonable_python

from storage.campaign.plugins import Plugins
from storage.errors import CampaignError, UnreachableError, in_one_line
from storage.files import lease
from storage.files.checkpoint import CorruptCheckpoint, load, save
from storage.files.ledger import Receipt, Where
from storage.files.objects import Objects
from storage.planning.plan import SAMPLED, WARMUP, Shard
from storage.store.store import Store, checkpoint_name
from workers import numerics
from workers.devices.placement import TORCH, placement_of
from workers.faults import Fault, fault_of

MEND = "put right what the error names, then add --retry-failed to the command"
AGAIN = "run the same command again: what is finished is kept"
ADVICE = {
    Fault.MACHINE: AGAIN,
    Fault.MEMORY: f"use fewer workers, or machines with more memory, and {AGAIN}",
    Fault.BUG: MEND,
}

State = dict[str, np.ndarray]
Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """What a worker must know beside the shard; small, since it travels with every one."""

    place: Objects  # the campaign's directory
    epoch: int  # of the driver's lease
    numerics: dict[str, str]  # what the campaign computes with
    plugins: Plugins
    sources: dict[str, str]  # content hashes of the user's files and modules


@dataclass(frozen=True)
class Outcome:
    """A shard that ended: with its receipt, or with the reason why there is none."""

    shard: Shard
    receipt: Receipt | None
    reason: str = ""
    fault: Fault | None = None  # of what kind the reason is
    attempt: int = 1  # at the shard in this run, where workers die


class UnlikeWorkerError(CampaignError):
    """A worker that would compute other bits than the campaign has."""


def attempt(job: Job, shard: Shard) -> Outcome:
    """Run a shard and say how it ended; a fault is kept in the ledger with its traceback.

    Raises CampaignError for what is no fault of the shard: a store out of reach or in the hands
    of another driver, a worker that would compute other bits.
    """
    store = Store(job.place)
    try:
        return Outcome(shard, execute(job, shard, store))
    except (lease.SupersededError, UnlikeWorkerError, UnreachableError):
        raise
    except Exception as error:  # noqa: BLE001  a fault of one shard must not end the campaign
        record = failure(shard, error)
        store.ledger.fail(shard.name, record)
        return Outcome(shard, None, str(record["error"]), fault_of(error))


def failure(shard: Shard, error: Exception) -> dict[str, object]:
    """What is written down of a fault: what, what to do, what was computed, and where in the code.

    It is certain to repeat unless the machine is at fault.
    """
    fault = fault_of(error)
    return {
        "error": str(error) if isinstance(error, CampaignError) else in_one_line(error),
        "advice": ADVICE[fault],
        "fault": fault,
        "certain": fault is Fault.BUG,
        "computing": _computing(shard),
        "traceback": "".join(traceback.format_exception(error)).splitlines(),
        "when": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        **_place(),
    }


def _computing(shard: Shard) -> dict[str, object]:
    """A shard in words: settings of its cell, and its place in it."""
    settings = to_jsonable_python(shard.cell.settings)
    if shard.kind == "spectrum":
        return {"what": "spectrum of a regression", "cell": settings}
    if shard.kind == "regression":
        return {"what": "order of a regression", "cell": settings, "repeat": shard.repeat}
    return {
        "what": "chains" if shard.kind == "ensemble" else "chains at half the step",
        "cell": settings,
        "dataset": shard.dataset,
        "block": shard.block,
        "segment": "warm-up" if shard.segment == WARMUP else shard.segment,
    }


def execute(job: Job, shard: Shard, store: Store) -> Receipt:
    """Run a shard where it is and write it from there; only the receipt travels back."""
    if (known := store.ledger.receipt(shard.name)) is not None:
        return known
    placement = placement_of(job.numerics)
    found = numerics.describe(*placement)
    if unlike := numerics.difference(job.numerics, found):
        reason = numerics.why_no(placement.device)
        if not reason and found["backend"] == TORCH:
            reason = numerics.why_torch(placement.device)
        raise UnlikeWorkerError(
            f"this worker would compute other bits: {unlike}{reason and f' ({reason})'}; use the "
            "same versions and kind of processor, or start the campaign in another store"
        )
    started, began = time.time(), time.monotonic()
    job.plugins.load()
    numerics.settle(placement.device)
    told: list[str] = []
    with numerics.fixed_threads():
        values, state = compute(job, shard, store, told.append)
    if not lease.is_current(store.objects, job.epoch):
        raise lease.SupersededError(
            f"{store.url} was taken over by another driver while {shard.name} was computed; this "
            "run ends, and the other one goes on"
        )
    receipt: Receipt = {
        "shard": shard.name,
        "digests": store.write(shard, values),
        "bytes": sum(value.nbytes for value in values.values()),  # before compression
        "started": started,
        "seconds": time.monotonic() - began,
        **_place(),
    }
    if "status" in values:
        receipt["diverged"] = int(np.count_nonzero(values["status"]))
    if told:
        receipt["again_on_cpu"] = told
    if state is not None:
        receipt["checkpoint"] = save(store.objects, checkpoint_name(shard), state)
    if shard.kind == "regression" or (shard.kind in SAMPLED and shard.segment != WARMUP):
        store.write(shard, {"finished": np.uint8(1)})
    if state is not None and shard.segment > WARMUP + 1:
        # Before the receipt, since nobody comes back to a shard that has one.
        store.objects.delete(checkpoint_name(_previous(_previous(shard))))
    if not store.ledger.commit(shard.name, receipt):
        return store.ledger.receipt(shard.name) or receipt
    return receipt


def compute(
    job: Job, shard: Shard, store: Store, tell: Callable[[str], None]
) -> tuple[Values, State | None]:
    """The numbers of a shard, and the state from which the next one of its lane goes on.

    `tell` hears of what a device got wrong, and the CPU did again.
    """
    if shard.kind in SAMPLED:
        return ensemble_run(job, shard, _state_before(job, shard, store))
    from workers.regression import regression

    act = regression.spectrum if shard.kind == "spectrum" else regression.run
    placement = placement_of(job.numerics)
    return act(shard, job.plugins, job.sources, placement, tell), None


def ensemble_run(job: Job, shard: Shard, state: State | None) -> tuple[Values, State]:
    """One segment of a block of chains; torch is imported only where it is needed."""
    from workers.ensemble import ensemble

    return ensemble.run(shard, job.plugins, job.sources, state, placement_of(job.numerics))


def _state_before(job: Job, shard: Shard, store: Store) -> State | None:
    """The state that a shard goes on from: a checkpoint, or the lane run again from an earlier."""
    lost: list[Shard] = []
    state = None
    while state is None and shard.segment > WARMUP:
        shard = _previous(shard)
        state = _checkpoint(shard, store)
        if state is None:
            lost.append(shard)
    for earlier in reversed(lost):
        state = ensemble_run(job, earlier, state)[1]
    return state


def _checkpoint(shard: Shard, store: Store) -> State | None:
    receipt = store.ledger.receipt(shard.name)
    if receipt is None or "checkpoint" not in receipt:
        return None
    try:
        return load(store.objects, checkpoint_name(shard), receipt["checkpoint"])
    except CorruptCheckpoint as error:
        store.ledger.fail(shard.name, {"error": str(error), **_place()})
        return None


def _previous(shard: Shard) -> Shard:
    return Shard(shard.kind, shard.cell, shard.dataset, shard.block, shard.segment - 1)


def _place() -> Where:
    return {"host": socket.gethostname(), "pid": os.getpid()}
