"""What a campaign has found, in sentences with numbers, errors and p-values."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from pipelines.analysis.measured import CORRELATORS
from pipelines.analysis.verdicts import DOUBTED, Judged, Kind, digits, percent, size_of, summary
from pipelines.report.figures.cells import flat, group, label, swept, symbol
from pipelines.report.parts import part
from pipelines.report.ranking import closest_lines, joint_line
from pipelines.report.sentences.accuracy_conclusions import accuracy_lines
from pipelines.report.sentences.curve_conclusions import curve_lines
from pipelines.report.sentences.refusals import refusal_lines
from pipelines.report.sentences.shape_conclusions import shape_lines
from pipelines.report.sentences.time_conclusions import is_in_time, time_lines
from pipelines.report.sentences.undefined import undefined
from pipelines.report.theory_names import in_words, observable_in_words
from pipelines.text.rounding import plain, uncertain
from pipelines.theories.theory_groups import not_predicted
from storage.arrays.attributes import axes_of
from theory.statistics import bonferroni

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

WIDTH = "network_width"
NOT_SIZES = ("theory", "cell", "observable")  # of the dimensions of `scaling`
MOST_NAMED = 3
SHOWN = 7  # sentences that a summary has room for
FIRST = "learnability"

LIMITS = {
    "rejected": "the limit is not reached",
    "doubtful": "whether the limit is reached is in doubt",
    "unresolved": "the error is too large to tell whether the limit is reached",
    "agrees": "the limit is reached ({seen} would have been seen)",
    "missing": "the limit is not judged",
}


def conclusions(tree: "DataTree") -> list[str]:
    """Sentences for a person, from a campaign opened as a labelled grid or as it is stored.

    What is wrong with the sampling comes first, and what holds for the learnabilities and the
    learning curve before the other observables. The last are on sentences that failed, if any.
    """
    left_out: list[str] = []
    return [*sentences(tree, left_out), *left_out]


def sentences(tree: "DataTree", left_out: list[str]) -> list[str]:
    """The same without those on sentences that failed, which go to `left_out`."""
    lines: list[str] = []
    for what, say in PARTS.items():
        with part(f"The sentences on {what}", left_out):
            lines += list(say(tree))
    return [line[0].upper() + line[1:] for line in lines] or ["Nothing is compared yet."]


def _theories_in_order(tree: "DataTree") -> Iterator[str]:
    """Those on learnabilities, then those on regressions, then the other observables."""
    theories = list(_theories(tree))
    yield from (line for line in theories if FIRST in line)
    yield from refusal_lines(tree)
    yield from curve_lines(tree)
    yield from (line for line in theories if FIRST not in line)


def _together(tree: "DataTree") -> Iterator[str]:
    """What is said of theories as a whole."""
    yield from not_predicted(tree)
    fits = group(tree, "fits")
    if fits is not None and fits.sizes["theory"]:
        yield from joint_line(fits)


def _theories(tree: "DataTree") -> Iterator[str]:
    fits = _of_the_last_layer(group(tree, "fits"))
    if fits is None or not fits.sizes["theory"] or is_in_time(fits):
        return
    if bool(fits["residual"].isnull().all()):
        known = (progress := group(tree, "progress")) is not None and progress["converged"].any()
        why = "the step biases all that has converged" if known else "no dataset has converged"
        yield f"no theory is compared with the ensemble: {why}."
        return
    yield from closest_lines(fits)
    if (scaling := _of_the_last_layer(group(tree, "scaling"))) is None:
        yield from _cells(fits)
        return
    size = next(str(dim) for dim in scaling["residual"].dims if dim not in NOT_SIZES)
    if size == WIDTH and _moves_alone(fits, size):
        yield from _limits(scaling)
    else:
        yield from _extrapolations(scaling, symbol(scaling, size))
    yield from _sizes(scaling, fits, size)


def _of_the_last_layer(found: "Dataset | None") -> "Dataset | None":
    """Of what correlators say the last layer alone: the store has the others, and what follows."""
    if found is None or f"{CORRELATORS[0]} 1" not in found["observable"].values:
        return found
    names = [str(name) for name in found["observable"].values]
    kinds = (*CORRELATORS, "pre_activation_kurtosis")
    last = max(int(name.split()[1]) for name in names if name.split()[0] in CORRELATORS)
    return found.sel(observable=[name for name in names if name in [f"{k} {last}" for k in kinds]])


def _moves_alone(fits: "Dataset", size: str) -> bool:
    return any(list(settings) == [size] for settings in (axes_of(fits.attrs) or {}).values())


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


# -- laws in the size -----------------------------------------------------------------------


def _limits(scaling: "Dataset") -> Iterator[str]:
    """Whether the ensemble goes to the NNGP as the width grows."""
    if "nngp" not in scaling["theory"].values:
        return
    laws = scaling.sel(theory="nngp")
    if bool((laws["order"] == 0).all()):
        yield "nothing is extrapolated to infinite width: fewer than 3 widths are compared."
        return
    comparisons = int(laws["intercept_p_value"].notnull().sum())
    for cell in range(laws.sizes["cell"]):
        for observable in laws["observable"].values:
            law = laws.isel(cell=cell).sel(observable=observable)
            where = _at(label(laws, cell))
            yield f"{where}{_limit(law, str(observable), comparisons)}"


def _limit(law: "Dataset", observable: str, comparisons: int) -> str:
    name = observable_in_words(observable)
    order, goodness = int(law["order"]), float(law["goodness"])
    if order == 0:
        return f"{name} is not extrapolated to infinite width: fewer than 3 widths are compared."
    if goodness < DOUBTED:
        return (
            f"{name} follows no law a + b/N{' + c/N²' if order > 1 else ''} "
            f"(p = {digits(goodness)}): nothing is said of its limit."
        )
    judged = _intercept(law, comparisons)
    kind, verdict = judged.kind, LIMITS[judged.kind].format(seen=percent(judged.seen))
    if kind in ("rejected", "doubtful") and float(law["next_intercept_p_value"]) > DOUBTED:
        further = uncertain(float(law["next_intercept"]), float(law["next_intercept_error"]))
        kind = "doubtful"
        verdict = f"{LIMITS[kind]}, since a law with one more term gives {further}"
    found = uncertain(float(law["intercept"]), float(law["intercept_error"]))
    relative, p = judged.off.removesuffix(" off"), digits(float(law["intercept_p_value"]))
    return (
        f"{name} {_trend(law, kind, comparisons)}: extrapolated to infinite width it differs by "
        f"{found}, {relative} (p = {p}): {verdict}."
    )


def _extrapolations(scaling: "Dataset", letter: str) -> Iterator[str]:
    """Whether what the theories miss vanishes as the size grows."""
    comparisons = int(scaling["intercept_p_value"].notnull().sum())
    places = (scaling["theory"].values, range(scaling.sizes["cell"]), scaling["observable"].values)
    for theory, cell, observable in product(*places):
        law = scaling.sel(theory=theory, observable=observable).isel(cell=cell)
        if not int(law["order"]) or float(law["goodness"]) < DOUBTED:
            continue
        judged = _intercept(law, comparisons)
        yield (
            f"{_at(label(scaling, cell))}{in_words(str(theory))} on "
            f"{observable_in_words(str(observable))} is {judged.off} as 1/{letter} goes to zero "
            f"(p = {digits(float(law['intercept_p_value']))}): "
            f"{LIMITS[judged.kind].format(seen=percent(judged.seen))}."
        )


def _intercept(law: "Dataset", comparisons: int) -> Judged:
    """The residual at infinite size, relative to the prediction at the largest."""
    size = float(size_of(law["reference"].values, law["intercept"].values))
    return Judged(
        "",
        float(law["intercept"]) / size,
        float(law["intercept_error"]) / size,
        float(law["intercept_degrees"]),
        float(bonferroni(float(law["intercept_p_value"]), comparisons)),
        comparisons,
    )


def _trend(law: "Dataset", kind: Kind, comparisons: int) -> str:
    if float(law["slope_p_value"]) * comparisons > DOUBTED:
        return "shows no dependence on the width"
    if kind == "rejected":
        return "does not go to that of the NNGP"
    return f"approaches that of the NNGP as 1/N{' and 1/N²' if int(law['order']) > 1 else ''}"


def _sizes(scaling: "Dataset", fits: "Dataset", size: str) -> Iterator[str]:
    """Where each theory fails, size by size; theories that say the same are named together."""
    for cell, observable in product(range(scaling.sizes["cell"]), scaling["observable"].values):
        one = scaling.isel(cell=cell).sel(observable=observable)
        where = _at(label(scaling, cell))
        predicted = _predicted(scaling, fits, size, cell, str(observable))
        for theories, same in _alike(one, predicted, size):
            said = summary(_size_by_size(same, size))
            yield f"{where}{_named(theories)} on {observable_in_words(str(observable))}: {said}."


def _predicted(
    scaling: "Dataset", fits: "Dataset", size: str, cell: int, observable: str
) -> dict[str, np.ndarray]:
    """Whether each theory predicts the observable at each size, at one point of the other axes."""
    here = np.ones(fits.sizes["cell"], dtype=bool)
    for name in swept(scaling):
        here &= fits[name].values == scaling[name].values[cell]
    predicted = fits["predicted"].sel(observable=observable).isel(cell=here)
    known = predicted.notnull().any("dataset").transpose("theory", "cell").values
    along = fits[size].values[here]
    return {
        str(theory): np.isin(scaling[size].values, along[row])
        for theory, row in zip(fits["theory"].values, known, strict=True)
    }


def _alike(
    one: "Dataset", predicted: dict[str, np.ndarray], size: str
) -> Iterator[tuple[list[str], "Dataset"]]:
    """Theories that predict something, by equal residuals, and what is known of the first."""
    found: dict[bytes, list[str]] = {}
    for theory in map(str, one["theory"].values):
        residual = one["relative_residual"].sel(theory=theory).values
        if predicted[theory].any():
            same = residual.tobytes() + predicted[theory].tobytes()
            found.setdefault(same, []).append(theory)
    for first, *others in found.values():
        yield [first, *others], one.sel(theory=first).isel({size: predicted[first]})


def _size_by_size(one: "Dataset", size: str) -> list[Judged]:
    known = max(int(one["p_value"].notnull().sum()), 1)
    keys = ("relative_residual", "relative_error", "degrees", "p_value")
    rows = zip(*(one[key].values.tolist() for key in keys), strict=True)
    return [
        Judged(f"{symbol(one, size)} = {value:g}", r, e, f, p, known)
        for value, (r, e, f, p) in zip(one[size].values, rows, strict=True)
    ]


# -- campaigns without a law in the size ----------------------------------------------------


def _cells(fits: "Dataset") -> Iterator[str]:
    """Where each theory fails, cell by cell."""
    places = [label(fits, cell) for cell in range(fits.sizes["cell"])]
    for theory, observable in product(fits["theory"].values, fits["observable"].values):
        one = fits.sel(theory=theory, observable=observable)
        known = np.flatnonzero(one["predicted"].notnull().any("dataset").values)
        if not len(known):
            continue
        said = summary(_cell_by_cell(one.isel(cell=known), [places[cell] for cell in known]))
        name = observable_in_words(str(observable))
        yield f"{in_words(str(theory))} on {name}: {said}."


def _cell_by_cell(one: "Dataset", places: Sequence[str]) -> list[Judged]:
    known = max(int(one["p_value"].notnull().sum()), 1)
    size = size_of(one["mean_predicted"].values, one["mean_residual"].values)
    columns = (
        one["mean_residual"].values / size,
        one["mean_error"].values / size,
        one["degrees"].values,
        bonferroni(one["p_value"].values, known),
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        Judged(place, r, e, f, p, known) for place, (r, e, f, p) in zip(places, rows, strict=True)
    ]


# -- words ----------------------------------------------------------------------------------


def _named(names: Sequence[str]) -> str:
    return " and ".join(in_words(name) for name in names)


def _at(where: str) -> str:
    return f"at {where}, " if where else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


# -- all of them ----------------------------------------------------------------------------

# What a campaign shows, in its order; each by itself, so that one that fails leaves the others.
PARTS: dict[str, Callable[["DataTree"], Iterable[str]]] = {
    "chains that diverged": _divergence,
    "convergence": _convergence,
    "the step": _steps,
    "what is undefined": undefined,
    "theories as a whole": _together,
    "accuracy": accuracy_lines,
    "theories": _theories_in_order,
    "theories in time": time_lines,
    "pre-activations": shape_lines,
}
