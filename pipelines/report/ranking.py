"""Which theory explains which observable, and where each breaks: a table of text."""

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from pipelines.report import style
from pipelines.report.theory_names import in_words, observable_in_words
from pipelines.report.words import listed, number
from pipelines.text.rounding import UNKNOWN, plain

PARAMETERS = {"temperature": "T_eff/T", "chi": "χ_eff/χ"}


def ranking_rows(fits: xr.Dataset) -> list[dict[str, str]]:
    """A row for each observable that is predicted, a column for each theory.

    The typical relative deviation over the cells, ★ at the theory that comes closest, and how many
    cells reject it. The last rows hold all observables together and the fitted parameters.
    """
    theories = [str(name) for name in fits["theory"].values]
    if not theories:
        return []
    rows = []
    for observable in fits["observable"].values:
        one = fits.sel(observable=observable)
        if bool(one["score"].isnull().all()):
            continue
        entries = {style.theory_title(t): _entry(one.sel(theory=t)) for t in theories}
        rows.append({"observable": str(observable).replace("_", " ")} | entries)
    if not rows:
        return []
    joint = {style.theory_title(t): _joint(fits.sel(theory=t)) for t in theories}
    rows.append({"observable": "jointly"} | joint)
    rows += _criteria(fits)
    if "nuisance" in fits:
        for parameter, words in PARAMETERS.items():
            one = fits.sel(parameter=parameter)
            entries = {style.theory_title(t): _nuisance(one.sel(theory=t)) for t in theories}
            rows.append({"observable": f"{words} fitted (predicted)"} | entries)
    return rows


def closest_lines(fits: xr.Dataset, observables: Sequence[str]) -> Iterator[str]:
    """A sentence for each of these: which theory comes closest, where there are several."""
    for observable in fits["observable"].values:
        if observable not in observables:
            continue
        one = fits["score"].sel(observable=observable)
        scores = {str(name): float(one.sel(theory=name)) for name in one["theory"].values}
        ranked = sorted(
            (theory for theory, score in scores.items() if np.isfinite(score)),
            key=scores.__getitem__,
        )
        if len(ranked) > 1:
            first, *others = (
                f"{in_words(theory)} ({plain(100 * scores[theory], 2)} % off)" for theory in ranked
            )
            yield (
                f"on {observable_in_words(str(observable))} {first} comes closest, then "
                f"{listed(others)}."
            )


def _entry(one: xr.Dataset) -> str:
    score, broken = (float(one[name]) for name in ("score", "broken"))
    if not np.isfinite(score):
        return UNKNOWN
    star = "★ " if float(one["rank"]) == 1 else ""
    judged = int((one["p_value"].notnull()).sum())
    text = f"{star}{plain(100 * score, 2)} %"
    if not np.isfinite(broken):
        return f"{text}, not judged"
    return f"{text}, rejected {number(broken)}/{judged}"


def _joint(one: xr.Dataset) -> str:
    p = float(one["grid_p_value"])
    return f"p = {plain(p, 2)}" if np.isfinite(p) else UNKNOWN


def _criteria(fits: xr.Dataset) -> Iterator[dict[str, str]]:
    """A row for the theories that are given the data, and one for those that average over it."""
    for averaged, words in ((0, "given the data"), (1, "averaged over data")):
        alike = (fits["averaged"] == averaged).values
        known = fits["criterion"].isel(theory=alike).dropna("theory", how="all")
        if known.sizes["theory"] < 2:
            continue
        above = known - known.min("theory")
        entries = {style.theory_title(str(t)): UNKNOWN for t in fits["theory"].values}
        for theory in known["theory"].values:
            entries[style.theory_title(str(theory))] = _over_cells(above.sel(theory=theory))
        yield {"observable": f"Akaike's criterion above the best, {words}"} | entries


def _over_cells(values: xr.DataArray) -> str:
    """`0.5`, or `0.5 to 12` over several cells, which may share their data."""
    ends = [plain(float(end), 3) for end in (values.min(), values.max())]
    return " to ".join(dict.fromkeys(ends))


def _nuisance(one: xr.Dataset) -> str:
    """Median over the cells, with the median of their intervals of 68 %."""
    if bool(one["nuisance"].isnull().all()):
        return UNKNOWN
    value, low, high, predicted = (
        float(one[name].where(one["nuisance"].notnull()).median())
        for name in ("nuisance", "nuisance_low", "nuisance_high", "nuisance_predicted")
    )
    return f"{plain(value, 3)} [{plain(low, 3)}, {plain(high, 3)}] ({plain(predicted, 3)})"
