"""Observables of the ensemble that have no value, or no error bar, where chains were sampled.

What is undefined is NaN in `fits`, is compared with no theory, and is part of no joint test.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pipelines.analysis.chains import FEWEST_CHAINS
from pipelines.analysis.measured import FEWEST_FOR_PAIRS
from pipelines.report.figures.cells import group, label
from pipelines.report.theory_names import learn, observable_in_words
from pipelines.report.words import listed
from storage.campaign.observables import learnabilities

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

MOST_NAMED = 3
ZERO = "that part of the target is zero at the test points"
ALIKE = {"overlap_kurtosis": "all overlaps are alike"}
FEW_POINTS = "there are fewer test points than parts of the target"
TOO_FEW_CHAINS = (
    f"no error bar is known with {FEWEST_CHAINS} chains, {FEWEST_FOR_PAIRS} would do: what takes "
    "pairs of chains leaves none of them out"
)


def undefined(tree: "DataTree") -> list[str]:
    """A sentence for each observable that is undefined somewhere: which, where and why.

    The tree is a campaign opened as a labelled grid or as it is stored.
    """
    learn(tree)
    fits, progress, ensemble = (group(tree, name) for name in ("fits", "progress", "ensemble"))
    if fits is None or progress is None or ensemble is None:
        return []
    sampled = (progress["chains"] >= FEWEST_CHAINS).transpose("cell", "dataset").values
    points = ensemble["label"].sizes["test"] * ensemble["label"].sizes.get("target", 1)
    learned = learnabilities(ensemble["component"].values)
    reasons = ALIKE | dict.fromkeys(learned, FEW_POINTS if points < len(learned) else ZERO)
    lines = [*_without(fits, "measured", sampled, reasons)]
    few = sampled & (progress["chains"] < FEWEST_FOR_PAIRS).transpose("cell", "dataset").values
    pairs = {"mse_mean": TOO_FEW_CHAINS, "predictive_variance": TOO_FEW_CHAINS}
    return [*lines, *_without(fits, "standard_error", few, pairs)]


def _without(
    fits: "Dataset", name: str, where: np.ndarray, reasons: dict[str, str]
) -> Iterator[str]:
    """Of the observables with a reason, those that have no number of this name somewhere."""
    missing = fits[name].isnull().transpose("observable", "cell", "dataset").values & where
    for place, observable in enumerate(fits["observable"].values):
        cells = missing[place].any(1)
        reason = reasons.get(str(observable))
        if reason is None or not cells.any():
            continue
        subject = observable_in_words(str(observable))
        if name == "standard_error":
            yield f"of {subject}, at {_places(fits, cells)}, {reason}."
        else:
            yield f"{subject} is undefined, and not compared, at {_places(fits, cells)}: {reason}."


def _places(fits: "Dataset", cells: np.ndarray) -> str:
    """`ε = 0 and ε = 1`, `every cell`, `9 of 12 cells`."""
    if cells.all():
        return "every cell"
    found = np.flatnonzero(cells)
    if len(found) > MOST_NAMED:
        return f"{len(found)} of {len(cells)} cells"
    return listed(label(fits, int(cell)) or "the cell" for cell in found)
