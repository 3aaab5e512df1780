"""Kernels of the last hidden layer, measured and predicted, side by side."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import by_cell, chosen, group, label, shown_of, spread
from pipelines.report.figures.panel import Panel
from pipelines.text.rounding import plain

ORDER = (
    "scale_mixture",
    "kernel_scaling",
    "nngp",
)  # of theories, the first that has a kernel is shown
TITLES = ("measured", "predicted", "difference")
ROOM, MOST_LINES = 19, 3  # of the label along the height of a kernel
MOST_POINTS = 96  # drawn; the data keep all
DATASET = 0  # probe points are those of one dataset


def panel(tree: DataTree) -> Panel | None:
    """Measured, predicted and their difference for the first and the last cell of the sweep."""
    cells = group(tree, "ensemble")
    found = _theory(tree)
    if cells is None or "kernel_square" not in cells or found is None:
        return None
    theory, predicted = found
    data = compare(cells, predicted).assign_attrs(theory=theory)
    data = data.isel(cell=data["measured"].notnull().any(("probe", "probe_2")).values)
    if not data.sizes["cell"]:
        return None
    data = data.isel(cell=chosen(data, 2))
    room = shown_of(data.sizes["cell"], cells.sizes["cell"], "cells")
    title = "Kernel of the hidden layer"
    return Panel("kernels", title, _caption(data), _draw, data, by_cell, room)


def _theory(tree: DataTree) -> tuple[str, xr.Dataset] | None:
    for name in ORDER:
        predicted = group(tree, f"theory/{name}")
        if predicted is not None and "kernel" in predicted:
            return name, predicted
    return None


def compare(cells: xr.Dataset, predicted: xr.Dataset) -> xr.Dataset:
    """Kernels (cell, probe, probe_2) of one dataset's last layer, probes sorted by their labels."""
    last = {"dataset": DATASET, "layer": -1}
    one = cells.isel(last)
    measured = one["kernel"].mean(("block", "segment"), keep_attrs=True).astype(float)
    square = one["kernel_square"].mean(("block", "segment"))
    expected = predicted["kernel"].isel(last).astype(float)
    points = measured.sizes["probe"]
    labels = one["label"].isel(cell=0, test=slice(points)).values
    label_of = labels.reshape(points, -1)[:, 0]  # of the first output
    order = np.lexsort((_leading(expected.isel(cell=0).values), -label_of))
    found = xr.Dataset(
        {
            "measured": measured,
            "predicted": expected,
            "difference": (measured - expected).assign_attrs(
                long_name="measured minus predicted", units="1"
            ),
            "deviation": ((square - measured**2).clip(min=0) ** 0.5).assign_attrs(
                long_name="standard deviation over chains and draws", units="1"
            ),
        },
        attrs=cells.attrs,
    ).isel(probe=order, probe_2=order)
    return found.assign(label=("probe", label_of[order], one["label"].attrs))


def _leading(kernel: np.ndarray) -> np.ndarray:
    """Places along the kernel's leading mode, which sorts points of one label among themselves."""
    if not np.isfinite(kernel).all():
        return np.arange(len(kernel), dtype=float)
    vector = np.linalg.eigh(kernel)[1][:, -1]
    return vector * np.sign(vector.sum() or 1.0)


def _size(values: xr.DataArray, share: float) -> float:
    """How large all but the largest few are: the ends of a scale of colours, also for nothing."""
    known = np.abs(values.values[np.isfinite(values.values)])
    return (float(np.quantile(known, share)) if known.size else 0.0) or 1.0


def _draw(data: xr.Dataset) -> Figure:
    rows = data.sizes["cell"]
    figure = style.figure(0.75 + 1.75 * rows)
    cells = figure.add_gridspec(
        rows + 1, 4, width_ratios=[1, 1, 1, 0.06], height_ratios=[1] * rows + [0.05]
    )
    places = spread(data.sizes["probe"], MOST_POINTS)
    data = data.isel(probe=places, probe_2=places)
    limit = _size(data["predicted"], 0.98)
    shared: AxesImage | None = None
    for row in range(rows):
        one = data.isel(cell=row)
        largest = _size(one["difference"], 0.99)
        for column, name in enumerate(TITLES):
            axes = figure.add_subplot(cells[row, column])
            last = name == "difference"
            bound, colours = (largest, "PuOr_r") if last else (limit, "RdBu_r")
            image = axes.imshow(
                one[name], cmap=colours, vmin=-bound, vmax=bound, interpolation="none"
            )
            shared = shared if last else image
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(name)
            if column == 0:
                axes.set_ylabel(style.wrapped(label(data, row) or "probe point", ROOM, MOST_LINES))
            if last:
                figure.colorbar(image, cax=figure.add_subplot(cells[row, 3]))
    if shared is not None:
        axes = figure.add_subplot(cells[rows, :2])
        figure.colorbar(shared, cax=axes, orientation="horizontal")
    return figure


def _caption(data: xr.Dataset) -> str:
    noise = [
        f"{plain(float((one['difference'] ** 2).mean() ** 0.5), 2)} against "
        f"{plain(float((one['deviation'] ** 2).mean() ** 0.5), 2)}"
        + (f" at {label(data, cell)}" if label(data, cell) else "")
        for cell, one in ((cell, data.isel(cell=cell)) for cell in range(data.sizes["cell"]))
    ]
    theory = style.theory_title(str(data.attrs["theory"]))
    points = data.sizes["probe"]
    shown = f"{MOST_POINTS} of {points}" if points > MOST_POINTS else f"the {points}"
    return (
        f"σ²·φφ'/N on {shown} probe points of the first dataset, sorted by label and then along "
        f"the leading mode; measured, predicted by {theory}, and the difference on its own scale. "
        "Root mean square of the difference against that of the fluctuations of a single draw: "
        f"{'; '.join(noise)}."
    )
