"""How far the weights have left their prior, against the swept setting."""

from xarray import DataTree

from pipelines.report.figures.comparison import compare
from pipelines.report.figures.panel import Panel


def panel(tree: DataTree) -> Panel | None:
    """Variance of first-layer weights along the teacher, and norm of the readout, with theories."""
    return compare(tree, ("hidden_variance teacher", "weight_norm"), "weights", "Weights")
