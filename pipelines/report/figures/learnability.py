"""How much of the target the ensemble has learned, against the width."""

from xarray import DataTree

from pipelines.report.figures.comparison import compare
from pipelines.report.figures.panel import Panel


def panel(tree: DataTree) -> Panel | None:
    """Learnability of each part of the target, with theories and residuals."""
    return compare(tree, ("learnability",), "learnability", "Learnability")
