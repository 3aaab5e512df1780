"""What a campaign has found, in sentences with numbers, errors and p-values."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.analysis.verdict_rows import Verdict, verdicts
from pipelines.report.figures.cells import flat, group, label
from pipelines.report.parts import part
from pipelines.report.ranking import closest_lines
from pipelines.report.sentences.accuracy_conclusions import accuracy_lines
from pipelines.report.sentences.curve_conclusions import curve_lines
from pipelines.report.sentences.refusals import refusal_lines
from pipelines.report.sentences.shape_conclusions import shape_lines
from pipelines.report.sentences.undefined import undefined
from pipelines.report.sentences.verdict_sentences import Line, jointly, nothing_told, of_ensemble
from pipelines.report.theory_names import learn
from pipelines.text.rounding import plain
from pipelines.theories.theory_groups import not_predicted
from storage.campaign.observables import AT_POINTS, layers_of, learnabilities, name_of

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

Said = str | Line

MOST_NAMED = 3
OPEN_SENTENCES = 10  # sentences that a summary has room for


def conclusions(tree: "DataTree") -> list[str]:
    """Sentences for a person, from a campaign opened as a labelled grid or as it is stored.

    What is wrong with the sampling comes first, and what holds for the learnabilities and the
    learning curve before the other observables. The last are on sentences that failed, if any.
    """
    left_out: list[str] = []
    return [*(line.text for line in sentences(tree, left_out)), *left_out]


def sentences(tree: "DataTree", left_out: list[str]) -> list[Line]:
    """The same without those on sentences that failed, which go to `left_out`."""
    learn(tree)
    lines: list[Line] = []
    for what, say in PARTS.items():
        with part(f"The sentences on {what}", left_out):
            lines += [Line(line) if isinstance(line, str) else line for line in say(tree)]
    return [line._replace(text=line.text[0].upper() + line.text[1:]) for line in lines] or [
        Line("Nothing is compared yet.")
    ]


def _theories_in_order(tree: "DataTree") -> Iterator[Said]:
    """Those on learnabilities, then those on regressions, then the other observables."""
    rows = _of_the_last_layer(verdicts(tree))
    if nothing := list(nothing_told(rows)):
        yield from nothing
        rows = []
    cells = group(tree, "ensemble")
    learned = [] if cells is None else learnabilities(cells["component"].values)
    yield from _of(tree, [row for row in rows if row.observable in learned])
    yield from refusal_lines(tree)
    yield from curve_lines(tree)
    yield from _of(tree, [row for row in rows if row.observable not in learned])


def _of(tree: "DataTree", rows: Sequence[Verdict]) -> Iterator[Said]:
    """Which theory comes closest on each of the observables, then what each verdict is."""
    fits = group(tree, "fits")
    if fits is not None:
        yield from closest_lines(fits, _observables(rows))
    yield from of_ensemble(rows)


def _together(tree: "DataTree") -> Iterator[Said]:
    """What is said of theories as a whole."""
    yield from not_predicted(tree)
    yield from jointly(verdicts(tree))


def _observables(rows: Sequence[Verdict]) -> list[str]:
    return list(dict.fromkeys(row.observable for row in rows))


def _of_the_last_layer(rows: list[Verdict]) -> list[Verdict]:
    """Of what correlators say the last layer alone: the tables have the others, and all else."""
    names = _observables(rows)
    kinds = [record.kind for record in AT_POINTS]
    layers = layers_of(kinds[0], names)
    last = [name_of(kind, layers[-1]) for kind in kinds] if layers else names
    return [row for row in rows if row.observable in last]


# -- what may be compared -------------------------------------------------------------------


def _divergence(tree: "DataTree") -> Iterator[str]:
    """How many chains diverged, in how many cells, and what to do."""
    progress = group(tree, "progress")
    if progress is None:
        return
    diverged, sound = (
        progress[name].transpose("cell", "dataset").values.sum(1) for name in ("diverged", "chains")
    )
    if not (count := int(diverged.sum())):
        return
    which = "all" if not sound.sum() else f"{count} of {int((diverged + sound).sum())}"
    part_of = "all" if diverged.all() else f"{np.count_nonzero(diverged)} of"
    where = f" in {part_of} {len(diverged)} cells" if len(diverged) > 1 else ""
    lost = np.flatnonzero((diverged > 0) & (sound == 0))
    left = ""
    if sound.sum() and len(lost):
        left = f"; nothing is left at {_places(progress, lost)}"
    yield (
        f"{which} chains diverged{where} and {_is(count)} left out{left}: take a smaller "
        "sampler.step_size; where it is auto, a longer warm-up."
    )


def _convergence(tree: "DataTree") -> Iterator[str]:
    progress = group(tree, "progress")
    if progress is None:
        return
    finished = float(progress["finished_fraction"].mean())
    if finished < 1:
        yield f"{plain(100 * finished, 3)} % of the ensemble is finished; what follows may change."
    converged = progress["converged"].transpose("cell", "dataset").values > 0
    chains = progress["chains"].transpose("cell", "dataset").values
    started = chains >= 2
    if not started.any() or not progress.sizes["quantity"]:  # in time nothing has to converge
        return
    rhat = progress["rhat"].max("quantity").transpose("cell", "dataset").values
    ess = progress["ess_bulk"].min("quantity").transpose("cell", "dataset").values
    failed = np.argwhere(started & ~converged)
    if len(failed):
        named = "; ".join(_failure(progress, rhat, *place) for place in failed[:MOST_NAMED])
        more = f"; and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
        yield (
            f"{_count(len(failed), 'dataset')} {_is(len(failed))} not compared: not converged "
            f"({named}{more}); more draws or a longer warm-up would tell."
        )
    if converged.any():
        which = "all" if converged[started].all() else f"{converged.sum()} of {started.sum()}"
        yield (
            f"{which} datasets of {_count(len(converged), 'cell')} have converged: R-hat at most "
            f"{rhat[converged].max():.3f}, at least {ess[converged].min():.0f} effective draws of "
            "every quantity."
        )


def _steps(tree: "DataTree") -> Iterator[str]:
    """What the step checks found."""
    progress = group(tree, "progress")
    if progress is None or "step_bias" not in progress:
        return
    found = progress["step_bias"].transpose("cell", "observable")
    checked = found.notnull().any("observable").values
    marked = np.flatnonzero(progress["biased"].values > 0)
    if len(marked):
        steps = flat(tree["ensemble"].to_dataset()[["step_size"]]).isel(cell=marked, dataset=0)
        half = plain(float(steps["step_size"].min()) / 2, 2)
        yield (
            f"not compared, since the step is too long: {_places(progress, marked)}. Its bias "
            f"exceeds the error bars; give step_size: {half}, half of what was taken."
        )
    elif checked.any():
        yield (
            f"no bias of the step size is seen in {_count(int(checked.sum()), 'cell')} checked at "
            "half the step."
        )


def _places(cells: "Dataset", places: np.ndarray) -> str:
    """The first few of these cells by their settings, and how many more there are."""
    named = [label(cells, int(cell)) or "the cell" for cell in places[:MOST_NAMED]]
    more = f" and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else ""
    return f"{'; '.join(named)}{more}"


def _failure(progress: "Dataset", rhat: np.ndarray, cell: int, dataset: int) -> str:
    where = ", ".join(filter(None, [label(progress, cell), f"dataset {dataset}"]))
    found = rhat[cell, dataset]
    return f"{where}: R-hat {found:.3f}" if np.isfinite(found) else where


# -- words ----------------------------------------------------------------------------------


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


# -- all of them ----------------------------------------------------------------------------

# What a campaign shows, in its order; each by itself, so that one that fails leaves the others.
PARTS: dict[str, Callable[["DataTree"], Iterable[Said]]] = {
    "chains that diverged": _divergence,
    "convergence": _convergence,
    "the step": _steps,
    "what is undefined": undefined,
    "theories as a whole": _together,
    "accuracy": accuracy_lines,
    "theories": _theories_in_order,
    "pre-activations": shape_lines,
}
