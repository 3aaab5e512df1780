"""All panels of a report, in its order."""

from collections.abc import Callable
from dataclasses import dataclass

from xarray import DataTree

from pipelines.report.figures import (
    curves,
    distances,
    errors,
    evidence,
    flow,
    functions,
    grid,
    histograms,
    in_time,
    kernels,
    layers,
    learnability,
    learning,
    order,
    overlaps,
    phases,
    quartic,
    residuals,
    spectrum,
    starts,
    traces,
    weights,
    widths,
)
from pipelines.report.figures.panel import Panel
from pipelines.report.parts import part

# What a panel shows, for campaigns that lack it.
PANELS: dict[str, Callable[[DataTree], Panel | None]] = {
    "networks in time": in_time.panel,
    "random functions": functions.panel,
    "order and chaos": phases.panel,
    "correlations through the layers": layers.panel,
    "priors at finite width": widths.panel,
    "learnability along a sweep": learnability.panel,
    "errors along a sweep": errors.panel,
    "theories over two settings": grid.panel,
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


@dataclass(frozen=True)
class Panels:
    """What a campaign shows, what it has no numbers for, and the lines on what fails."""

    made: list[Panel]
    missing: list[str]
    left_out: list[str]


def panels(tree: DataTree) -> Panels:
    """The panels of a campaign, none of them drawn yet."""
    found = Panels([], [], [])
    for what, make in PANELS.items():
        with part(f"The picture of {what}", found.left_out):
            panel = make(tree)
            if panel is None:
                found.missing.append(what)
            else:
                found.made.append(panel)
    return found
