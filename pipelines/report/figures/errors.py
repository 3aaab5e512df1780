"""Error of the mean output and spread of the ensemble, against the width."""

from xarray import DataTree

from pipelines.report.figures.comparison import compare
from pipelines.report.figures.panel import Panel


def panel(tree: DataTree) -> Panel | None:
    """Squared error of the mean output and predictive variance, with theories and residuals."""
    return compare(tree, ("mse_mean", "predictive_variance"), "errors", "Error and variance")
