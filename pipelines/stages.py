"""The stages after the simulation, with everything heavy imported where it is used."""

from collections.abc import Callable, Sequence

from storage.errors import CampaignError
from storage.plugins import Plugins
from storage.store import Store


def assess(store: Store, plugins: Plugins) -> None:
    """R-hat, effective sample sizes and the convergence gate."""
    from pipelines.analysis.convergence import assess

    assess(store)


def predict(store: Store, plugins: Plugins) -> None:
    """Every theory of the campaign, in the shape of the measurement."""
    from pipelines.analysis.predict import predict

    predict(store, plugins)


def fit(store: Store, plugins: Plugins) -> None:
    """Measured against predicted."""
    from pipelines.analysis.fits import fit

    fit(store)


def report(store: Store, plugins: Plugins) -> None:
    """The page with the pictures."""
    from pipelines.report.html import write_report

    write_report(store)


STAGES: dict[str, Callable[[Store, Plugins], None]] = {
    "assess convergence": assess,
    "predict": predict,
    "fit": fit,
    "report": report,
}


COMPARING = ("assess convergence", "predict", "fit")  # those that a campaign refines itself by


def analyze(store: Store, plugins: Plugins, names: Sequence[str] = tuple(STAGES)) -> None:
    """The stages after the simulation, in their order."""
    for name in names:
        if name not in STAGES:
            raise CampaignError(f"there is no stage {name}; choose from {', '.join(STAGES)}")
        STAGES[name](store, plugins)
