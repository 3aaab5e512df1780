"""How much of the target the ensemble has learned, against the width."""

from xarray import DataTree

from pipelines.report.figures.cells import group
from pipelines.report.figures.comparison import compare
from pipelines.report.figures.panel import Panel
from storage.campaign.observables import learnabilities


def panel(tree: DataTree) -> Panel | None:
    """Learnability of each part of the target, with theories and residuals."""
    cells = group(tree, "ensemble")
    names = [] if cells is None else learnabilities(cells["component"].values)
    return compare(tree, names, "learnability", "Learnability")
