"""The class balance of training and test points in words: as planned, and as stored."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.text.rounding import plain
from storage.arrays.schema import CLASSES
from storage.backend.reader import open_raw
from storage.campaign.plugins import Plugins
from storage.campaign.source_spec import Data
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
    name, found = _namer(prepared.spec.data), [*_planned(prepared, planned)]
    return [
        line
        for each in found
        for line in (f"classes  {_words([each], name)}", *_warnings(each, name))
    ]


def stored_balance(store: Store) -> str:
    """A sentence for the report, over all cells and datasets that are stored; empty without any."""
    data = store.specs()[-1].data
    if not data.may_have_classes:
        return ""
    name = _namer(data)
    groups = [open_raw(store.url).children.get(name) for name in ("ensemble", "regression")]
    found = [words for group in groups if group is not None and (words := _stored(group, name))]
    return f"Classes: {'; '.join(found)}." if found else ""


def _planned(prepared: "Prepared", planned: Plan) -> Iterator[Balance]:
    given = prepared.plugins, prepared.sources
    if not prepared.spec.data.may_have_classes:
        return
    for cell in planned.cells[:1]:
        data, probes = dataset(cell.spec, 0, *given), cell.spec.observe.points
        targets = {"train": data.y_clean, "test": data.y_test}
        yield from _balance(targets, cell.spec.data, probes)
    for cell in planned.regressions[:1]:
        yield from _pool_balance(cell, given)


def _pool_balance(cell: RegressionCell, given: tuple[Plugins, Sources]) -> Iterator[Balance]:
    points = pool(cell.spec, *given)
    yield from _balance({"pool": points.y, "heldout": points.y_heldout}, cell.spec.data)


def _balance(targets: dict[str, np.ndarray], data: Data, probes: int = 0) -> Iterator[Balance]:
    """Of sets that are not empty; probe points, the first for testing, where they are a part."""
    sets = {name: y for name, y in targets.items() if len(y)}
    if 0 < probes < len(sets.get("test", ())):
        sets["probe"] = sets["test"][:probes]
    if (classes := class_counts(sets, data.class_targets)) is not None:
        yield {name: _by_target(classes[0], counts) for name, counts in classes[1].items()}


def _by_target(targets: np.ndarray, counts: np.ndarray) -> dict[Target, int]:
    """Points of each class; places without a class are left out."""
    rows = [tuple(np.atleast_1d(target).tolist()) for target in targets]
    paired = zip(rows, counts, strict=True)
    return {row: int(count) for row, count in paired if not np.isnan(row).any()}


def _namer(data: Data) -> Callable[[Target], str]:
    """What tells the class of a target: its name where the data give it an output, or itself."""
    if data.class_targets is None:
        return lambda target: f"with target {_target(target)}"
    return lambda target: f"of class {data.output_names[int(np.argmax(target))]}"


def _words(found: Sequence[Balance], name: Callable[[Target], str]) -> str:
    """Each set with its classes: the least and the most points of each over what was found."""
    targets = _targets(by for each in found for by in each.values())
    return "; ".join(
        f"{SETS[kind]} {', '.join(_part(name(t), _counts(found, kind, t)) for t in targets)}"
        for kind in found[0]
    )


def _targets(counts: Iterable[Mapping[Target, int]]) -> list[Target]:
    """Numbers by their size; of several outputs those with the first one largest come first."""
    every = sorted({target for by in counts for target in by})
    return every if len(every[0]) == 1 else every[::-1]


def _counts(found: Iterable[Balance], name: str, target: Target) -> list[int]:
    return [each[name].get(target, 0) for each in found if name in each]


def _part(name: str, counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    number = "none" if not most else str(least) if least == most else f"{least} to {most}"
    return f"{number} {name}"


def _target(target: Target) -> str:
    shown = ", ".join(plain(value, digits=6) for value in target)
    return shown if len(target) == 1 else f"({shown})"


def _warnings(balance: Balance, name: Callable[[Target], str]) -> Iterator[str]:
    """A class that only some of the sets have."""
    everything = _targets(balance.values())
    for kind, by in balance.items():
        missing = [target for target in everything if not by.get(target)]
        if missing and any(other.get(missing[0]) for other in balance.values()):
            yield (
                f"warning  none {name(missing[0])} is among the {SETS[kind]}, though others have "
                "some; ask for more points, or look at the order of the file"
            )


def _stored(group: "DataTree", name: Callable[[Target], str]) -> str:
    if "class_target" not in group:
        return ""
    data = group.dataset
    kinds = [kind for kind in SETS if f"{kind}_class_count" in data]
    targets = _by_place(data["class_target"])
    counts = {kind: _by_place(data[f"{kind}_class_count"])[..., 0] for kind in kinds}
    found = [
        {kind: _by_target(rows, counts[kind][place]) for kind in kinds}
        for place, rows in enumerate(targets)
    ]
    known = [each for each in found if any(sum(by.values()) for by in each.values())]
    sets = [kind for kind in kinds if any(sum(each[kind].values()) for each in known)]
    return _words([{kind: each[kind] for kind in sets} for each in known], name) if known else ""


def _by_place(variable: "DataArray") -> np.ndarray:
    """Numbers (place, class, output) over all cells and datasets."""
    last = [dim for dim in ("class_index", "target") if dim in variable.dims]
    values = variable.transpose(..., *last).values
    return values.reshape(-1, CLASSES, values.shape[-1] if len(last) > 1 else 1)
