"""Power laws, the Wilsonian flow and a quartic loss of a regression, in sentences."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pipelines.report.figures import quartic
from pipelines.report.figures.cells import group, label
from pipelines.report.words import listed
from pipelines.text.rounding import plain, uncertain

if TYPE_CHECKING:
    from xarray import Dataset, DataTree


MANY_CELLS = 6  # whose ends are told, and not each of them


def law_lines(tree: "DataTree") -> Iterator[str]:
    """Exponents of spectrum and target, and those of the error beside what is predicted."""
    found, flow = group(tree, "exponents"), group(tree, "flow")
    if found is None:
        return
    exist = (found["spectral_exponent"].sel(law="power") > 0).values  # else there is no sum
    if many := exist.sum() > MANY_CELLS:
        yield _spectra(found, np.flatnonzero(exist))
    for cell in range(found.sizes["cell"]):
        one = found.isel(cell=cell)
        where = f"at {name}, " if (name := label(found, cell)) else ""
        if exist[cell] and not many:
            yield _spectrum(one, where)
        if not bool(one["slope"].isnull().all()):
            yield _slopes(one, None if flow is None else flow.isel(cell=cell), where)


def free_lines(tree: "DataTree") -> Iterator[str]:
    """What a fit makes of the effective ridge where its scale is left free."""
    if (found := group(tree, "exponents")) is None:
        return
    for cell in range(found.sizes["cell"]):
        said = []
        for ridge in range(found.sizes["ridge"]):
            factor = found.isel(cell=cell, ridge=ridge).sel(parameter="ridge_factor")
            low, high = float(factor["fitted_low"]), float(factor["fitted_high"])
            if np.isfinite(low) and np.isfinite(high):
                value = uncertain(float(factor["fitted"]), (high - low) / 2)
                said.append(f"{value} at T = {plain(float(factor['ridge']))}")
        if said:
            where = f"at {name}, " if (name := label(found, cell)) else ""
            yield (
                f"{where}with its scale left free, the effective ridge fits best at "
                f"{listed(said)} of what is predicted."
            )


def _spectrum(one: "Dataset", where: str) -> str:
    law, shifted = one.sel(law="power"), one.sel(law="zipf_mandelbrot")
    text = (
        f"{where}kernel eigenvalues fall as k to minus 1 + α with α = "
        f"{_value(law, 'spectral_exponent')}, squared coefficients of the target with β = "
        f"{_value(law, 'target_exponent')}"
    )
    if abs(float(shifted["offset"])) > 3 * float(shifted["offset_error"]):
        text += (
            f"; with k + b for k, as Zipf and Mandelbrot have it, b is {_value(shifted, 'offset')} "
            f"and α = {_value(shifted, 'spectral_exponent')}"
        )
    return f"{text}."


def _spectra(found: "Dataset", cells: np.ndarray) -> str:
    """The least and the largest exponents of many cells."""
    laws = found.sel(law="power")

    def ends(name: str) -> str:
        known = cells[np.isfinite(laws[name].values[cells])]
        if not len(known):
            return "unknown"
        ordered = known[np.argsort(laws[name].values[known])]
        said = [f"{_value(laws.isel(cell=c), name)} at {label(found, c)}" for c in ordered[[0, -1]]]
        return f"between {' and '.join(said)}"

    return (
        f"in {len(cells)} cells kernel eigenvalues fall as k to minus 1 + α with α "
        f"{ends('spectral_exponent')}, squared coefficients of the target with β "
        f"{ends('target_exponent')}."
    )


def _slopes(one: "Dataset", flow: "Dataset | None", where: str) -> str:
    """All ridges in one sentence."""
    parts = []
    for place, ridge in enumerate(one["ridge"].values):
        at = one.isel(ridge=place)
        if bool(at["slope"].isnull()):
            continue
        told = []
        if "effective_ridge" in one["theory"].values:
            predicted = float(at["slope_predicted"].sel(theory="effective_ridge"))
            told.append(f"{plain(predicted, 3)} by the effective ridge")
        if flow is not None:
            told += _flow(flow.isel(ridge=place))
        beside = f" ({', '.join(told)})" if told else ""
        parts.append(f"{_value(at, 'slope')} at T = {plain(float(ridge))}{beside}")
    return f"{where}the error over the pool falls as n to minus {listed(parts)}."


def _flow(running: "Dataset") -> list[str]:
    exponents = running["flow_exponent"].values
    if not np.isfinite(exponents).any():
        return []
    dimensions = running["dimension"].values[np.isfinite(exponents)]
    ends = running["last_learned"].values
    return [
        f"{_range(exponents)} by the flow, which ends at {_range(ends)} modes with D = "
        f"{_range(dimensions)}"
    ]


def _range(values: np.ndarray) -> str:
    """`0.50 to 0.55`, or the one number that all are."""
    ends = [plain(float(end), 3) for end in (np.nanmin(values), np.nanmax(values))]
    return " to ".join(dict.fromkeys(ends))


def quartic_lines(tree: "DataTree") -> Iterator[str]:
    """What the strongest quartic term does to the error, and which samples of it were refused."""
    measured = group(tree, "regression")
    if measured is None or "quartic_error" not in measured:
        return
    if "pool_error" in measured:
        yield from _ratios(tree, measured)
    for cell in range(measured.sizes["cell"]):
        where = f"at {name}, " if (name := label(measured, cell)) else ""
        if said := _unmixed(measured.isel(cell=cell)):
            yield f"{where}{said}"


def _ratios(tree: "DataTree", measured: "Dataset") -> Iterator[str]:
    """How much the error changes at few points and at many, at the ridge where it does most."""
    theory, without = group(tree, "theory/quartic"), group(tree, "theory/effective_ridge")
    found = quartic.ratios(measured, theory, without)
    for cell in range(found.sizes["cell"]):
        where = f"at {name}, " if (name := label(found, cell)) else ""
        strongest = found.isel(cell=cell, coupling=int(found["coupling"].values.argmax()))
        change = np.abs(strongest["ratio"].mean("train").values - 1)
        if np.isfinite(change).any():
            one = strongest.isel(ridge=int(np.nanargmax(change)))
            yield _ratio(one.isel(train=np.isfinite(one["ratio"].values)), where)


def _unmixed(one: "Dataset") -> str:
    """How many samples with a quartic term were refused, at which ridges and couplings."""
    refused = one["quartic_error"].isnull() & one["quartic_accepted"].notnull()
    if not (count := int(refused.sum())):
        return ""
    places = [
        listed(plain(float(value)) for value in one[name].values[refused.any(others).values])
        for name, others in (
            ("ridge", ("repeat", "train", "coupling")),
            ("coupling", ("repeat", "train", "ridge")),
        )
    ]
    return (
        f"{count} of {int(one['quartic_accepted'].notnull().sum())} samples with a quartic term "
        f"were refused, as their chains stand still or disagree (T = {places[0]}; u = "
        f"{places[1]}), and no mean over repeats is taken there; give regression.quartic more "
        "warmup and draws."
    )


def _ratio(one: "Dataset", where: str) -> str:
    ends = [one.isel(train=place) for place in dict.fromkeys((0, one.sizes["train"] - 1))]
    said = [
        f"{uncertain(float(end['ratio']), float(end['ratio_error']))} at n = {int(end['train'])}"
        for end in ends
    ]
    text = (
        f"{where}with the quartic coupling u = {plain(float(one['coupling']))} the error over the "
        f"pool at T = {plain(float(one['ridge']))} is {listed(said)} of that without"
    )
    if "predicted" in one:
        predicted = listed(f"{float(end['predicted']):.3f}" for end in ends)
        text += f"; the renormalized ridge has {predicted}"
    return f"{text}."


def _value(one: "Dataset", name: str) -> str:
    return uncertain(float(one[name]), float(one[f"{name}_error"]))
