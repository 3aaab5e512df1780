"""The stages after the simulation, with everything heavy imported where it is used."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from pipelines.progress import failed_stages, freshness
from storage.campaign.plugins import Plugins
from storage.errors import CampaignError
from storage.files.lease import SupersededError
from storage.store.store import Store


def assess(store: Store, plugins: Plugins) -> None:
    """R-hat, effective sample sizes and the convergence gate."""
    from pipelines.analysis.convergence import assess

    assess(store)


def predict(store: Store, plugins: Plugins) -> None:
    """Every theory of the campaign, in the shape of the measurement."""
    from pipelines.theories.predict import predict

    predict(store, plugins)


def fit(store: Store, plugins: Plugins) -> None:
    """Measured against predicted."""
    from pipelines.analysis.fits import fit

    fit(store, plugins)


def report(store: Store, plugins: Plugins) -> None:
    """The page with the pictures."""
    from pipelines.report.html import write_report

    write_report(store)


REPORT = "report"
STAGES: dict[str, Callable[[Store, Plugins], None]] = {
    "assess convergence": assess,
    "predict": predict,
    "fit": fit,
    REPORT: report,
}


COMPARING = ("assess convergence", "predict", "fit")  # those that a campaign refines itself by


def analyze(store: Store, plugins: Plugins, names: Sequence[str] = tuple(STAGES)) -> None:
    """The stages after the simulation, in their order, as `in_order` runs them."""
    in_order(names, lambda name: run_if_changed(name, store, plugins))


def all_in_order(run: Callable[[str], object], tell: Callable[[str], object]) -> None:
    """Run every stage as `in_order` does, telling its name before."""

    def told(name: str) -> None:
        tell(name)
        run(name)

    in_order(tuple(STAGES), told)


def in_order(names: Sequence[str], run: Callable[[str], object]) -> None:
    """Run stages by their names, and then raise what the first that failed has raised.

    The others have had their turn by then, the report among them: it shows what there is. What
    they raised is a line each, since it often follows from the first.
    """
    for name in names:
        if name not in STAGES:
            raise CampaignError(f"there is no stage {name}; choose from {', '.join(STAGES)}")
    failures = [found for name in names if (found := _failure(name, run)) is not None]
    if failures:
        if REPORT not in names and (found := _failure(REPORT, run)) is not None:
            failures.append(found)
        for other in failures[1:]:
            print(f"then {other or type(other).__name__}", file=sys.stderr)  # noqa: T201
        raise failures[0]


def _failure(name: str, run: Callable[[str], object]) -> Exception | None:
    try:
        run(name)
    except SupersededError:  # the other driver runs them all
        raise
    except Exception as error:  # noqa: BLE001  the first is raised when the report is written
        return error
    return None


def run_if_changed(name: str, store: Store, plugins: Plugins) -> None:
    """Run one stage, unless it has ended before and would do the same again."""
    now = freshness.state(store, plugins)
    if not freshness.is_fresh(store, name, now):
        _run(name, store, plugins, now)


def run(name: str, store: Store, plugins: Plugins) -> None:
    """Run one stage on what is stored; where it fails, the store keeps the reason for the report.

    Raises CampaignError as the stage does, with its name before the reason.
    """
    _run(name, store, plugins, freshness.state(store, plugins))


def _run(name: str, store: Store, plugins: Plugins, now: str) -> None:
    order = list(STAGES)
    freshness.forget(store, order[order.index(name) :])  # later ones read what this one writes
    try:
        STAGES[name](store, plugins)
    except SupersededError:
        raise
    except Exception as error:
        with suppress(CampaignError):  # the failure of the stage is the one to tell of
            failed_stages.keep(store, name, " ".join(f"{error or type(error).__name__}".split()))
        if isinstance(error, CampaignError):
            raise CampaignError(f"the stage {name} failed: {error}") from error
        raise
    failed_stages.keep(store, name, None)
    freshness.keep(store, name, now)
