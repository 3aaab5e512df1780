"""The panel of overlaps holds each cell against the prediction for that cell."""

import numpy as np
import pytest
import xarray as xr

from pipelines.report.figures import overlaps

EDGES = np.linspace(-6, 6, 61)
BINS, WIDTHS, NEURONS = (EDGES[1:] + EDGES[:-1]) / 2, np.array([8, 16, 32, 64, 128]), 10**6


def laws() -> xr.DataArray:
    """The share of q in each bin, Gaussian and narrower from cell to cell."""
    deviations = np.linspace(1.5, 1.1, len(WIDTHS))
    share = np.exp(-np.square(BINS / deviations[:, None]) / 2)
    share /= share.sum(1, keepdims=True)
    return xr.DataArray(share, dims=("cell", "overlap_bin"), coords={"overlap_bin": BINS})


@pytest.fixture
def tree():
    width = ("cell", WIDTHS, {"long_name": "network.width"})
    counts = (NEURONS * laws()).round().astype(int).expand_dims(readout_bin=1)
    counts = counts.expand_dims(dataset=2, chain=3, segment=1)
    measured = xr.Dataset({"overlap_histogram": counts.transpose("cell", ...)})
    measured = measured.assign_coords(width=width)
    measured.attrs["axes"] = {"width": {"width": WIDTHS.tolist()}}
    predicted = xr.Dataset({"overlap_density": laws().expand_dims(readout_bin=1)})
    found = {"ensemble": measured, "theory/exact": predicted.assign_coords(width=width)}
    return xr.DataTree.from_dict(found)


def test_every_cell_is_held_against_its_own_prediction(tree):
    panel = overlaps.panel(tree)
    assert panel is not None
    data = panel.data
    assert data.sizes["cell"] == overlaps.MOST_CELLS
    assert data["width"].values.tolist() == [8, 32, 128]  # not the first three
    expected = laws().isel(cell=[0, 2, 4]) / (EDGES[1] - EDGES[0])
    np.testing.assert_allclose(data["predicted"].sel(theory="exact"), expected, rtol=1e-12)
    # Counts are whole numbers of a million neurons.
    np.testing.assert_allclose(data["density"], expected, atol=1 / NEURONS / (EDGES[1] - EDGES[0]))
