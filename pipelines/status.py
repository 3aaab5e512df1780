"""What is finished, running, failed and converged, read from the store alone."""

import math

import numpy as np

from pipelines.report.table import cell_rows
from storage import lease
from storage.plan import Plan, plan
from storage.schema import REFUSED
from storage.store import Store

BEYOND_POOL = 0.3
SHOWN = 20  # failures at most, and receipts from which the pace is taken


def status(store: Store) -> str:
    """The state of a campaign in a few lines."""
    specs = store.specs()
    planned = plan(specs[-1], specs, store.sources(), store.rounds())
    finished = store.ledger.finished()
    names = [shard.name for shard in planned.shards()]
    done = [name for name in names if name in finished]
    holder = lease.holder(store.objects)
    failures = [fault for fault in store.ledger.failures() if fault.shard not in finished]
    lines = [
        f"{specs[-1].title or specs[-1].name}",
        f"store     {store.url}",
        f"shards    {len(done)} of {len(names)} finished" + _eta(store, names, finished, holder),
        f"driver    {holder or 'none; `finitewidth run` goes on where it stopped'}",
    ]
    lines += [f"failed    {fault.shard}: {fault.record['error']}" for fault in failures[:SHOWN]]
    lines += _kinds(planned, finished)
    lines += _regressions(planned, store)
    if planned.cells:
        rows, _ = cell_rows(planned, store)
        lines += ["  " + ", ".join(f"{key} {value}" for key, value in row.items()) for row in rows]
    return "\n".join(lines)


def _kinds(planned: Plan, finished: set[str]) -> list[str]:
    counts: dict[str, list[int]] = {}
    for shard in planned.shards():
        done, total = counts.setdefault(shard.kind, [0, 0])
        counts[shard.kind] = [done + (shard.name in finished), total + 1]
    return [f"          {kind}: {done} of {total}" for kind, (done, total) in counts.items()]


def _regressions(planned: Plan, store: Store) -> list[str]:
    """Sizes at which the pool shows that it is finite, and regressions that were refused."""
    regression = planned.spec.regression
    if regression is None:
        return []
    beyond = [size for size in regression.train if size > BEYOND_POOL * regression.pool]
    lines = []
    if beyond:
        sizes = ", ".join(str(size) for size in beyond)
        lines.append(
            f"  regression: {sizes} training points are more than {BEYOND_POOL:g} of the pool of "
            f"{regression.pool}, where theories of the pool miss"
        )
    group = store.root["regression"]
    refused = np.asarray(group["refused"][...]) if "refused" in group else np.zeros((1, 1, 1, 1))
    for why, value in REFUSED.items():
        for place, ridge in enumerate(regression.ridges):
            if value and (count := int((refused[..., place] == value).sum())):
                lines.append(f"  regression: ridge {ridge:g}: {count} refused as {why}")
    if regression.quartic is not None and "quartic_accepted" in group:
        sampled = np.isfinite(np.asarray(group["quartic_accepted"][...]))
        unmixed = sampled & np.isnan(np.asarray(group["quartic_error"][...]))
        for place, coupling in enumerate(regression.quartic.couplings):
            if count := int(unmixed[..., place].sum()):
                lines.append(f"  regression: coupling {coupling:g}: {count} refused as unmixed")
    return lines


def _eta(store: Store, names: list[str], finished: set[str], holder: str | None) -> str:
    """Time left at the pace of the receipts, if somebody is driving."""
    left = [name for name in names if name not in finished]
    if not left or holder is None:
        return ""
    recent = sorted(receipt["started"] for _, receipt in store.ledger.receipts())[-SHOWN:]
    if len(recent) < 2:
        return ""
    pace = (recent[-1] - recent[0]) / (len(recent) - 1)
    return f", about {math.ceil(pace * len(left))} s left at the pace of the last ones"
