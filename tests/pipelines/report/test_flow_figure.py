"""The panel of the flow names the curves that are off its axis."""

import numpy as np
import pytest
import torch
import xarray as xr

from pipelines.report import style
from pipelines.report.figures import flow
from theory.renormalization import rg, wilson

SPECTRUM = 1 / torch.arange(1, 9, dtype=torch.float64).square()
TRAIN = 1000.0  # beyond the modes, where a small ridge stays as small with posterior variances
DIMENSIONS = ("train", "ridge", "flow_cutoff")


def tree(ridges: list[float]) -> xr.DataTree:
    train = torch.tensor([[TRAIN]], dtype=torch.float64)
    ridge = torch.tensor([ridges], dtype=torch.float64)
    found = wilson.running_couplings(SPECTRUM, SPECTRUM, train, ridge)
    soft = rg.soft_flow(SPECTRUM, train, ridge)[..., 1:]
    group = xr.Dataset(
        {
            "hard_ridge": (DIMENSIONS[1:], found.ridge[0].numpy()),
            "soft_ridge": (DIMENSIONS, soft.numpy()),
            "mass": (DIMENSIONS, found.mass.numpy()),
            "last_learned": (DIMENSIONS[:2], wilson.last_learned(found.mass).numpy()),
        },
        {"train": [TRAIN], "ridge": ridges, "flow_cutoff": np.arange(1, 9)},
    )
    return xr.DataTree.from_dict({"flow": group})


@pytest.mark.parametrize(
    ("ridges", "off"),
    [
        ([1e-3, 1.0], ""),
        ([1e-15, 1.0], "T = 10⁻¹⁵ (dashed)"),
        ([1.0, 1e14], "T = 1"),
        ([1e-14, 1e-15, 1.0], "T = 10⁻¹⁴ (dashed) and T = 10⁻¹⁵ (dashed)"),
    ],
)
def test_curves_off_the_axis_are_named(ridges, off):
    panel = flow.panel(tree(ridges))
    assert panel is not None
    with style.look():
        axes = panel.draw(panel.data).axes[0]
    low, high = axes.get_ylim()
    curves = [np.asarray(line.get_ydata()) for line in axes.lines]
    below = [curve.max() < low for curve in curves]
    assert any(below) == bool(off)
    assert all(curve.min() < high for curve in curves)
    assert (f" Off the axis, below: {off}." in panel.caption) == bool(off)
    assert ("Off the axis" in panel.caption) == bool(off)
