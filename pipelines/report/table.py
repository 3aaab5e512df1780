"""The table of cells: settings, physical numbers, learnability, convergence."""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from pipelines.report.words import name_and_symbol, number
from pipelines.text.rounding import UNKNOWN, plain, uncertain
from storage.arrays.coordinates import physical_temperature
from storage.backend.reader import open_raw
from storage.campaign.observables import learnabilities, split
from storage.planning.plan import Cell, EnsembleCell, Plan
from storage.store.store import Store

NEEDED_VARIABLES = {  # of each group, for the columns
    "/fits": ("measured", "standard_error"),
    "/progress": ("rhat", "ess_bulk", "diverged", "converged", "step_bias", "biased"),
    "/theory/nngp": ("coupling_times_width", "degrees_of_freedom"),
}


def cell_rows(
    planned: Plan, store: Store, cells: Sequence[EnsembleCell] | None = None
) -> tuple[list[dict[str, str]], list[bool]]:
    """A row of text for each cell, and whether all its datasets have converged.

    By default of every cell of the ensemble.
    """
    tree = open_raw(store.url)
    fits, progress, nngp = (_numbers(tree, path, len(planned.cells)) for path in NEEDED_VARIABLES)
    learned = learnabilities(planned.spec.data.components)
    rows, converged = [], []
    for cell in planned.cells if cells is None else cells:
        row = settings_row(cell) | physical_row(cell)
        if nngp is not None and "degrees_of_freedom" in nngp:
            row |= _regime(nngp.isel(cell=cell.index), cell)
        if fits is not None:
            row |= _learnability(fits.isel(cell=cell.index), learned)
        if progress is not None:
            one = progress.isel(cell=cell.index)
            row |= _mixing(one) | _step(one, cell)
            converged.append(bool((one["converged"] == 1).all()))
        else:
            converged.append(False)
        rows.append(row)
    return rows, converged


def _numbers(tree: xr.DataTree, path: str, cells: int) -> xr.Dataset | None:
    """What rows need of a group, read once; NaN for cells that it does not have."""
    if path not in tree.groups:
        return None
    data = tree[path].to_dataset()
    kept = data[[name for name in NEEDED_VARIABLES[path] if name in data]]
    settings = [n for n in kept.coords if n != "cell" and "cell" in kept[n].dims]  # in the plan
    return kept.drop_vars(settings).load().reindex(cell=range(cells))


def settings_row(cell: Cell) -> dict[str, str]:
    """What the sweep changes, by its symbol."""
    return {name_and_symbol(path)[1]: number(value) for path, value in cell.settings.items()}


def physical_row(cell: EnsembleCell) -> dict[str, str]:
    """Temperature and readout variance before and after the division by χ, and weight decays."""
    network, sampler = cell.spec.network, cell.spec.sampler
    temperature = physical_temperature(cell.spec)
    decay = [plain(temperature / variance) for variance in network.physical_weight_variance]
    row = {"T": plain(temperature), "σ_a²": plain(network.physical_weight_variance[-1])}
    if network.chi != 1:
        row = {"χ": plain(network.chi), "χT": plain(sampler.temperature)} | row
    return row | {"γ · fan-in": ", ".join(decay)}


def _regime(one: xr.Dataset, cell: EnsembleCell) -> dict[str, str]:
    """Effective coupling and degrees of freedom per neuron, mean over datasets."""
    named = {"U": "coupling_times_width", "dof/N": "degrees_of_freedom"}
    means = {name: float(one[key].mean()) / cell.spec.network.width for name, key in named.items()}
    return {
        name: plain(value, 3) if np.isfinite(value) else UNKNOWN for name, value in means.items()
    }


def _learnability(one: xr.Dataset, learned: Sequence[str]) -> dict[str, str]:
    """Mean over the datasets that were measured, √(Σ se²)/datasets as its error."""
    row, names = {}, [str(name) for name in one["observable"].values]
    last = next((when for kind, when in map(split, names) if kind in learned), "")
    for name in names:
        kind, when = split(name)
        if kind not in learned or when != last:
            continue
        part = one.sel(observable=name)
        values, errors = part["measured"].values, part["standard_error"].values
        known = np.isfinite(values)
        title = learnability_title(name)
        row[title] = UNKNOWN
        if known.any():
            error = float(np.sqrt((errors[known] ** 2).sum())) / known.sum()
            row[title] = uncertain(float(values[known].mean()), error)
    return row


def learnability_title(name: str) -> str:
    """The head of a column; the only target needs no name."""
    return name.replace("learnability target", "learnability")


def _mixing(one: xr.Dataset) -> dict[str, str]:
    return {
        "R-hat": extreme(one["rhat"].values, np.nanmax, ".3f"),
        "ESS": extreme(one["ess_bulk"].values, np.nanmin, ".0f"),
        "diverged": str(int(one["diverged"].sum())),
        "converged": f"{int((one['converged'] == 1).sum())} of {one.sizes['dataset']}",
    }


def _step(one: xr.Dataset, cell: EnsembleCell) -> dict[str, str]:
    """What the check of the step size found, or why there is none."""
    known = bool(np.isfinite(one["step_bias"].values).any())
    return {"step": step_in_words(cell, bool(one["biased"]) if known else None)}


def step_in_words(cell: EnsembleCell, biased: bool | None) -> str:
    """What is known of the bias of a cell's step size; None where its check has said nothing."""
    sampler = cell.spec.sampler
    if sampler.record.law == "none":
        return "targets no known law"
    if sampler.record.law == "in time":
        return "extrapolated"
    if not sampler.bias_order:
        return "exact"
    if biased is None:
        return UNKNOWN
    return "biased" if biased else "no bias seen"


def extreme(values: np.ndarray, which: Callable[[np.ndarray], float], digits: str) -> str:
    """The largest or the smallest of the values that are known."""
    return f"{which(values):{digits}}" if np.isfinite(values).any() else UNKNOWN
