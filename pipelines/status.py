"""What is finished, running, failed and converged, read from the store alone."""

import math
import statistics
from typing import Any

from storage import lease
from storage.plan import Plan, plan
from storage.store import Store

SHOWN = 20  # failures at most, and receipts from which the pace is taken


def status(store: Store) -> str:
    """The state of a campaign in a few lines."""
    specs = store.specs()
    planned = plan(specs[-1], specs, store.sources())
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
    lines += [_cell_line(row) for row in cell_table(store)]
    return "\n".join(lines)


def _kinds(planned: Plan, finished: set[str]) -> list[str]:
    counts: dict[str, list[int]] = {}
    for shard in planned.shards():
        done, total = counts.setdefault(shard.kind, [0, 0])
        counts[shard.kind] = [done + (shard.name in finished), total + 1]
    return [f"          {kind}: {done} of {total}" for kind, (done, total) in counts.items()]


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


def cell_table(store: Store) -> list[dict[str, Any]]:
    """A row for each cell: its settings, learnability with error, R-hat, ESS, diverged chains."""
    from storage.reader import open_raw

    tree = open_raw(store.url)
    if "progress" not in tree.children or "ensemble" not in tree.children:
        return []
    ensemble, progress = tree["ensemble"].to_dataset(), tree["progress"].to_dataset()
    settings = [name for axis in ensemble.attrs.get("axes", {}).values() for name in axis]
    rows = []
    for cell in range(ensemble.sizes["cell"]):
        row = {name: ensemble[name].values[cell].item() for name in settings}
        row["physical temperature"] = f"{float(ensemble.physical_temperature[cell]):.4g}"
        for component in ensemble.component.values:
            chains = ensemble.learnability.isel(cell=cell).sel(component=component).mean("draw")
            row[f"learnability {component}"] = _mean_with_error(chains.values)
        quantities = progress.isel(cell=cell)
        row["R-hat"] = f"{float(quantities.rhat.max()):.3f}"
        row["ESS"] = f"{float(quantities.ess_bulk.min()):.0f}"
        row["diverged"] = int(quantities.diverged.sum())
        row["converged"] = "yes" if bool((quantities.converged == 1).all()) else "no"
        rows.append(row)
    return rows


def _mean_with_error(chains: Any) -> str:
    """Mean over chains (dataset, chain) with the standard error of independent chains."""
    rows = [[value for value in row if math.isfinite(value)] for row in chains.tolist()]
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        return "not measured"
    mean = statistics.fmean(statistics.fmean(row) for row in rows)
    variance = sum(statistics.variance(row) / len(row) for row in rows) / len(rows) ** 2
    return f"{mean:.4f} ± {math.sqrt(variance):.4f}"


def _cell_line(row: dict[str, Any]) -> str:
    return "  " + ", ".join(f"{key} {value}" for key, value in row.items())
