"""The class balance of training and test points in words: as planned, and as stored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.text.rounding import plain
from storage.arrays.schema import CLASSES
from storage.backend.reader import open_raw
from storage.campaign.plugins import Plugins
from storage.planning.identity import Sources
from storage.planning.plan import Plan, RegressionCell
from storage.store.store import Store
from workers.data.balance import class_counts
from workers.data.datasets import dataset, pool

if TYPE_CHECKING:
    from xarray import DataArray, DataTree

    from pipelines.engine.engine import Prepared

Target = tuple[float, ...]
Balance = Mapping[str, Mapping[Target, int]]  # set of points -> target of a class -> points

SETS = {
    "train": "training points",
    "test": "test points",
    "probe": "probe points",
    "pool": "points of the pool",
    "heldout": "held-out points",
}


def planned_balance(prepared: "Prepared", planned: Plan) -> list[str]:
    """Lines of the plan: classes of the first dataset and of the pool, and what is missing there.

    None where targets are not classes.
    """
    found = [*_planned(prepared, planned)]
    return [line for each in found for line in (f"classes  {_words([each])}", *_warnings(each))]


def stored_balance(store: Store) -> str:
    """A sentence for the report, over all cells and datasets that are stored; empty without any."""
    if not store.specs()[-1].data.may_have_classes:
        return ""
    groups = [open_raw(store.url).children.get(name) for name in ("ensemble", "regression")]
    found = [words for group in groups if group is not None and (words := _stored(group))]
    return f"Classes: {'; '.join(found)}." if found else ""


def _planned(prepared: "Prepared", planned: Plan) -> Iterator[Balance]:
    given = prepared.plugins, prepared.sources
    if not prepared.spec.data.may_have_classes:
        return
    for cell in planned.cells[:1]:
        data, probes = dataset(cell.spec, 0, *given), cell.spec.observe.points
        yield from _balance({"train": data.y_clean, "test": data.y_test}, probes)
    for cell in planned.regressions[:1]:
        yield from _pool_balance(cell, given)


def _pool_balance(cell: RegressionCell, given: tuple[Plugins, Sources]) -> Iterator[Balance]:
    points = pool(cell.spec, *given)
    yield from _balance({"pool": points.y, "heldout": points.y_heldout})


def _balance(targets: dict[str, np.ndarray], probes: int = 0) -> Iterator[Balance]:
    """Of sets that are not empty; probe points, the first for testing, where they are a part."""
    sets = {name: y for name, y in targets.items() if len(y)}
    if 0 < probes < len(sets.get("test", ())):
        sets["probe"] = sets["test"][:probes]
    if (classes := class_counts(sets)) is not None:
        yield {name: _by_target(classes[0], counts) for name, counts in classes[1].items()}


def _by_target(targets: np.ndarray, counts: np.ndarray) -> dict[Target, int]:
    """Points of each class; places without a class are left out."""
    rows = [tuple(np.atleast_1d(target).tolist()) for target in targets]
    paired = zip(rows, counts, strict=True)
    return {row: int(count) for row, count in paired if not np.isnan(row).any()}


def _words(found: Sequence[Balance]) -> str:
    """Each set with its classes: the least and the most points of each over what was found."""
    targets = sorted({target for each in found for by in each.values() for target in by})
    return "; ".join(
        f"{SETS[name]} {', '.join(_part(t, _counts(found, name, t)) for t in targets)}"
        for name in found[0]
    )


def _counts(found: Iterable[Balance], name: str, target: Target) -> list[int]:
    return [each[name].get(target, 0) for each in found if name in each]


def _part(target: Target, counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    number = "none" if not most else str(least) if least == most else f"{least} to {most}"
    return f"{number} with target {_target(target)}"


def _target(target: Target) -> str:
    shown = ", ".join(plain(value, digits=6) for value in target)
    return shown if len(target) == 1 else f"({shown})"


def _warnings(balance: Balance) -> Iterator[str]:
    """A class that only some of the sets have."""
    everything = sorted({target for by in balance.values() for target in by})
    for name, by in balance.items():
        if missing := [target for target in everything if not by.get(target)]:
            yield (
                f"warning  none of the {SETS[name]} has target {_target(missing[0])}, which others "
                "have; ask for more of them, or look at the order of the file"
            )


def _stored(group: "DataTree") -> str:
    if "class_target" not in group:
        return ""
    data = group.dataset
    names = [name for name in SETS if f"{name}_class_count" in data]
    targets = _by_place(data["class_target"])
    counts = {name: _by_place(data[f"{name}_class_count"])[..., 0] for name in names}
    found = [
        {name: _by_target(rows, counts[name][place]) for name in names}
        for place, rows in enumerate(targets)
    ]
    known = [each for each in found if any(sum(by.values()) for by in each.values())]
    sets = [name for name in names if any(sum(each[name].values()) for each in known)]
    return _words([{name: each[name] for name in sets} for each in known]) if known else ""


def _by_place(variable: "DataArray") -> np.ndarray:
    """Numbers (place, class, output) over all cells and datasets."""
    last = [dim for dim in ("class_index", "target") if dim in variable.dims]
    values = variable.transpose(..., *last).values
    return values.reshape(-1, CLASSES, values.shape[-1] if len(last) > 1 else 1)
