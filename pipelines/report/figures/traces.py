"""Whether chains have mixed: traces of a few scalars and the ranks of their draws."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import group, label, shown_of
from pipelines.report.figures.panel import Panel
from storage.campaign.observables import LEARNABILITY, name_of

MOST_CHAINS = 4
MOST_SCALARS = 4
ROOM = 14  # characters of a label along the height of a scalar
RANK_BINS = 10
COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE)


def panel(tree: DataTree) -> Panel | None:
    """Loss, learnability and squared readout norm of a few chains of the least mixed dataset."""
    cells, progress = group(tree, "ensemble"), group(tree, "progress")
    if cells is None or "draw" not in cells.dims or not bool(cells["loss"].notnull().any()):
        return None
    place = worst(cells, progress)
    data = traces(cells.isel(place))
    if progress is not None:
        data = _with_r_hat(data, progress.isel(place))
    where = ", ".join(filter(None, [label(cells, place["cell"]), f"dataset {place['dataset']}"]))
    room = " R-hat and the effective sample sizes of every cell are in the table of cells."
    room += shown_of(len(_shown(data)), len(data), "scalars")
    title = "Traces of the chains"
    return Panel("traces", title, _caption(where, data), _draw, data, _facets, room)


def _facets(data: xr.Dataset) -> dict[str, xr.Dataset]:
    return {name.replace("_", " "): data[[name]] for name in _shown(data)}


def worst(cells: xr.Dataset, progress: xr.Dataset | None) -> dict[str, int]:
    """The cell and dataset with the largest R-hat, or else the first that has draws."""
    if progress is not None and bool(progress["rhat"].notnull().any()):
        score = progress["rhat"].max("quantity").transpose("cell", "dataset").values
    else:
        drawn = cells["loss"].notnull().any(("chain", "draw"))
        score = np.where(drawn.transpose("cell", "dataset").values, 1.0, np.nan)
    cell, dataset = np.unravel_index(np.nanargmax(score), score.shape)
    return {"cell": int(cell), "dataset": int(dataset)}


def traces(one: xr.Dataset) -> xr.Dataset:
    """The scalars of all chains of one dataset, (chain, draw), that have draws."""
    scalars = {"loss": one["loss"], "weight_norm": one["weight_norm"]}
    for component in one["component"].values:
        part = one["learnability"].sel(component=component, drop=True)
        scalars[name_of(LEARNABILITY.kind, component)] = part.assign_attrs(
            long_name=f"learnability of {component}", units="1"
        )
    found = xr.Dataset(scalars)
    drawn = found["loss"].notnull()
    return found.isel(chain=drawn.any("draw").values, draw=drawn.any("chain").values)


def _with_r_hat(data: xr.Dataset, progress: xr.Dataset) -> xr.Dataset:
    """Each scalar with its R-hat, where that is known."""
    names, values = progress["quantity"].values, progress["rhat"].values
    known = {str(name): float(value) for name, value in zip(names, values, strict=True)}
    return data.assign(
        {
            name: values.assign_attrs(rhat=known[str(name)])
            for name, values in data.data_vars.items()
            if np.isfinite(known.get(str(name), np.nan))
        }
    )


def _draw(data: xr.Dataset) -> Figure:
    names = _shown(data)
    figure = style.figure(0.9 + 1.45 * len(names))
    rows = figure.subplots(len(names), 2, sharex="col", width_ratios=[2.4, 1], squeeze=False)
    for (left, right), name in zip(rows, names, strict=True):
        _trace(left, data[name])
        left.set_ylabel(_title(str(name)))
        _ranks(right, data[name])
        if "rhat" in data[name].attrs:
            left.set_title(f"R-hat {data[name].attrs['rhat']:.3f}", loc="right", size="small")
    rows[-1, 0].set_xlabel("draw")
    rows[-1, 1].set_xlabel("rank")
    rows[0, 1].set_title("draws by rank", size="small")
    figure.align_ylabels(rows[:, 0])
    return figure


def _shown(data: xr.Dataset) -> list[str]:
    """The norm of the readout is the last, whether or not there is room for all learnabilities."""
    learned = [str(name) for name in data if name not in ("loss", "weight_norm")]
    names = ["loss", *learned[: MOST_SCALARS - 2], "weight_norm"]
    return [name for name in names if name in data]


def _title(name: str) -> str:
    if name == "weight_norm":
        return "$|a|^2$"
    short = name.replace("learnability target", "learnability")
    return style.wrapped(short.replace("learnability ", "learnab. "), ROOM, 2)


def _trace(axes: Axes, values: xr.DataArray) -> None:
    for chain, colour in zip(range(min(values.sizes["chain"], MOST_CHAINS)), COLOURS, strict=False):
        axes.plot(values["draw"], values.isel(chain=chain), color=colour, lw=0.9)
    style.grid(axes)


def _ranks(axes: Axes, values: xr.DataArray) -> None:
    """Histograms of the ranks among the draws of all chains: flat where chains agree."""
    table = values.transpose("chain", "draw").values
    known = np.isfinite(table)
    ranks = rankdata(table, nan_policy="omit").reshape(table.shape) / max(known.sum(), 1)
    for chain, colour in zip(ranks[:MOST_CHAINS], COLOURS, strict=False):
        kept = chain[np.isfinite(chain)]
        if not kept.size:
            continue
        bins = min(RANK_BINS, max(len(kept) // 7, 2))
        counts, edges = np.histogram(kept, bins, range=(0, 1))
        axes.stairs(counts / counts.mean(), edges, baseline=None, color=colour, lw=1.2)
    axes.axhline(1, color=style.INK, ls=(0, (2, 1.5)), lw=1.1)
    axes.set_ylim(0, None)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    style.grid(axes)


def _caption(where: str, data: xr.Dataset) -> str:
    count = min(data.sizes["chain"], MOST_CHAINS)
    return (
        f"{count} of {data.sizes['chain']} chains of the dataset that mixed least ({where}), "
        f"{data.sizes['draw']} draws each. Right: how often a chain's draws take each rank among "
        "the draws of all chains, 1 (dashed) on average if they sample one distribution."
    )
