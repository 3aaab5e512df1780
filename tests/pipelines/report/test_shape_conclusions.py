"""What is said of pre-activations: of two lobes at ±a, whose variance is a² and kurtosis -2."""

import numpy as np
import pytest
import xarray as xr

from pipelines.report.sentences.shape_conclusions import shape_lines

NEURONS = 1000
DIRECTIONS = ["random", "target"]


def tree(*lobes: float, directions=DIRECTIONS) -> xr.DataTree:
    """Cells with standard normals along a random direction, and lobes at ±a along the target.

    Of four chains two have slightly more, two slightly less of all; the first layer is lobes at 9.
    """
    orders = np.arange(7)
    scale = np.sqrt([0.98, 1.02, 0.98, 1.02])[:, None] ** orders
    normal = scale * [1, 0, 1, 0, 3, 0, 15]
    even = orders % 2 == 0
    cells = [np.stack([normal, scale * even * float(a) ** orders]) for a in lobes]
    first = [np.stack([normal, scale * even * 9.0**orders])] * len(lobes)
    moment = NEURONS * np.stack([first, cells], axis=1)  # cell, layer, direction, chain, order
    dims = ("cell", "layer", "direction", "chain", "order")
    data = xr.DataArray(moment, dims=dims).expand_dims(dataset=1, segment=1)
    temperature = {"sampler.temperature": [8.0, 4.0, 2.0][: len(lobes)]}
    ((name, values),) = temperature.items()
    coordinates = {
        "layer": [1, 2],
        "direction": DIRECTIONS,
        "order": orders,
        "sampler_temperature": ("cell", values, {"long_name": name}),
    }
    found = data.to_dataset(name="moment").assign_coords(coordinates)
    found = found.sel(direction=directions)
    found.attrs["axes"] = {"temperature": {"sampler_temperature": values}}
    return xr.DataTree.from_dict({"/ensemble": found})


def test_the_cell_that_has_moved_most_is_told():
    (line,) = shape_lines(tree(1, 2, 0.8))
    assert line == (
        "pre-activations of hidden layer 2 have left their prior most at χT = 4: 4.00(5) times its "
        "variance along the target direction, 1.000(12) times along a random one (excess kurtosis "
        "−1.999600(8) and 0.00120(2))."  # E s⁴ over chains is 1.0004
    )


def test_a_variance_that_shrinks_counts_as_much():
    (line,) = shape_lines(tree(1.5, 0.5))
    assert "most at χT = 4: 0.250(3) times" in line


@pytest.mark.parametrize("found", [tree(1, 1), tree(2, directions=["random"]), xr.DataTree()])
def test_nothing_is_said_of_what_has_not_moved_or_is_not_there(found):
    assert list(shape_lines(found)) == []
