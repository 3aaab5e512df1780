"""All panels of a report, in its order."""

from collections.abc import Callable

from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures import (
    curves,
    distances,
    errors,
    evidence,
    flow,
    histograms,
    kernels,
    learnability,
    learning,
    order,
    overlaps,
    quartic,
    residuals,
    spectrum,
    starts,
    traces,
    weights,
)
from pipelines.report.figures.panel import Panel

# What a panel shows, for campaigns that lack it.
PANELS: dict[str, Callable[[DataTree], Panel | None]] = {
    "learnability along a sweep": learnability.panel,
    "errors along a sweep": errors.panel,
    "the learning curve of a regression": learning.panel,
    "several theories of a learning curve": curves.panel,
    "residuals of theories of a learning curve": residuals.panel,
    "decimated regressions beside the whole": distances.panel,
    "a quartic term in the loss": quartic.panel,
    "the spectrum of a regression": spectrum.panel,
    "the flow of a regression": flow.panel,
    "chains by where they began": starts.panel,
    "the evidence along temperatures": evidence.panel,
    "weights along a sweep": weights.panel,
    "overlaps of neurons with a teacher": overlaps.panel,
    "histograms of pre-activations": histograms.panel,
    "pre-activations along a sweep": order.panel,
    "kernels against a theory": kernels.panel,
    "traces of chains": traces.panel,
}


def panels(tree: DataTree) -> tuple[list[Panel], list[str]]:
    """The panels that the campaign has numbers for, and what the others would have shown."""
    with style.look():
        found = {what: make(tree) for what, make in PANELS.items()}
        made = [panel for panel in found.values() if panel is not None]
        for panel in made:  # laid out once, so that every format has the same layout
            panel.figure.draw_without_rendering()
            panel.figure.set_layout_engine("none")
    return made, [what for what, panel in found.items() if panel is None]
