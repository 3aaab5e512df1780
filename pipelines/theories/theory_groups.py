"""What the groups `theory/<name>` share: where a theory predicts, and why it does not elsewhere.

Each group has `applies`, whether there is a prediction, and `reason`, why there is none: for each
cell, and each dataset where the theory is given the data.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.arrays.schema import Variable
from storage.campaign.resolved import sampled
from storage.campaign.theories import record
from storage.campaign.theory_spec import group_name  # by this name for all who read a group
from storage.planning.plan import Cell
from storage.reading.theory_rules import covered
from storage.store.store import Store, create_array

if TYPE_CHECKING:
    from xarray import DataTree

VARIABLES = {
    "applies": Variable(
        ("cell", "dataset"),
        "u1",
        "whether the theory predicts anything",
        attrs={"flag_values": [0, 1], "flag_meanings": "not_predicted predicted"},
    ),
    "reason": Variable(("cell", "dataset"), "T", "why the theory predicts nothing"),
}

Reasons = NDArray[np.object_]  # of text, empty where there is a prediction: (cell[, dataset])


def reasons_of(theory: str, cells: Sequence[Cell], datasets: int | None = None) -> Reasons:
    """Why a theory does not hold for cells; empty where it does. By dataset, if there are any."""
    held = record(theory).conditions  # a plug-in's, too
    found = np.array(
        [next(filter(None, (each(sampled(cell.spec)) for each in held)), "") for cell in cells],
        dtype=object,
    )
    return found if datasets is None else np.repeat(found[:, None], datasets, axis=1)


def write_reasons(store: Store, theory: str, reasons: Reasons) -> None:
    """Write `applies` and `reason` into the group of a theory."""
    group = store.root.group(group_name(theory))
    group.update_attributes({"theory": theory})
    values = {"applies": reasons == "", "reason": reasons.astype(np.dtypes.StringDType())}
    for name, variable in VARIABLES.items():
        dims = variable.dims[: reasons.ndim]
        kept = Variable(dims, variable.dtype, variable.long_name, attrs=variable.attrs)
        array = create_array(group, name, reasons.shape, reasons.shape, kept)
        array[...] = values[name]


def not_predicted(tree: "DataTree") -> list[str]:
    """A sentence for each theory that predicts nothing somewhere: in how many cells, and why.

    Of a campaign opened as a labelled grid or as it is stored.
    """
    return [f"{sentence}." for sentence in _sentences(tree)]


def _sentences(tree: "DataTree") -> Iterator[str]:
    theories = tree.children.get("theory")
    for node in theories.children.values() if theories is not None else ():
        if "applies" not in node:
            continue
        applies, reasons = (
            node[key].transpose(..., *{"dataset"}.intersection(node[key].dims)).values
            for key in VARIABLES
        )
        datasets = applies.shape[-1] if "dataset" in node["applies"].dims else 1
        applies, reasons = applies.reshape(-1, datasets), reasons.reshape(-1, datasets)
        stored = np.isfinite(applies).all(1)  # a point of the grid may have no cell
        applies, reasons = applies[stored] > 0, reasons[stored]
        if applies.all():
            continue
        theory, somewhere = f"theory {node.attrs['theory']}", applies.any(1)
        if not somewhere.all():
            yield covered(theory, "predicts", np.where(somewhere, "", reasons[:, 0]).tolist())
        if not applies[somewhere].all():
            these = "datasets" if somewhere.all() else "datasets of these"
            yield covered(theory, "predicts", reasons[somewhere].ravel().tolist(), these)
