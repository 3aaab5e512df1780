"""The panel of pre-activations shows the lobes that sentences speak of, and their predictions."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

from pipelines.report import style
from pipelines.report.figures import histograms, order
from storage.arrays.coordinates import bin_edges

TEMPERATURES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
LOBES, AT, WIDTH = 4, 4.0, 0.6  # of the cell with lobes at ±4, whose place no even spread hits
NEURONS = 10**5
DIRECTIONS = ["random", "target"]


def shares(at: float, width: float) -> np.ndarray:
    """Of two lobes of equal weight in each bin, the outermost open to infinity."""
    edges = np.concatenate([[-np.inf], bin_edges()[1:-1], [np.inf]])
    left, right = (np.diff(norm.cdf(edges, place, width)) for place in (-at, at))
    return (left + right) / 2


def moments(at: float, width: float) -> np.ndarray:
    return np.array([norm.moment(k, at, width) if k % 2 == 0 else 0.0 for k in range(7)])


@pytest.fixture
def tree():
    laws = [[(0, 1.0), (AT, WIDTH) if cell == LOBES else (0, 1.0)] for cell in range(8)]
    scale = np.array([0.98, 1.02, 0.98, 1.02])[:, None]  # of four chains
    made = {
        name: NEURONS * np.array([[scale * law(*one) for one in cell] for cell in laws])
        for name, law in (("histogram", shares), ("moment", moments))
    }
    scatter = np.where(np.arange(7) == 0, 1, scale)  # what is summed is known to some percent
    temperature = ("cell", TEMPERATURES, {"long_name": "sampler.temperature"})
    measured = xr.Dataset(
        {
            "histogram": (("cell", "direction", "chain", "bin"), made["histogram"]),
            "moment": (("cell", "direction", "chain", "order"), made["moment"] * scatter),
        },
        {
            "bin": (bin_edges()[1:] + bin_edges()[:-1]) / 2,
            "direction": DIRECTIONS,
            "order": range(7),
        },
    ).expand_dims(dataset=1, segment=1, layer=[1])
    predicted = xr.Dataset(
        {"density": (("cell", "direction", "bin"), [[shares(*one) for one in c] for c in laws])},
        {"bin": measured["bin"], "direction": DIRECTIONS},
    ).expand_dims(dataset=1, layer=[1])
    axes = {"axes": {"heat": {"sampler_temperature": TEMPERATURES.tolist()}}}
    groups = {"ensemble": measured, "theory/exact": predicted, "theory/nngp": predicted}
    return xr.DataTree.from_dict(
        {
            name: group.assign_coords(sampler_temperature=temperature).assign_attrs(axes)
            for name, group in groups.items()
        }
    )


def test_lobes_that_are_spoken_of_are_drawn_with_their_prediction(tree):
    assert order.farthest(order.shape(tree["ensemble"].to_dataset())) == LOBES
    panel = histograms.panel(tree)
    assert panel is not None
    assert panel.data.sizes["cell"] == histograms.MOST_CELLS
    told = histograms._told(panel.data)
    assert panel.data["sampler_temperature"].values[told] == TEMPERATURES[LOBES]
    assert panel.data["theory"].values.tolist() == ["exact"]  # the NNGP has the prior
    with style.look():
        linear, logarithmic = panel.draw(panel.data).axes[1::2]
    low, high = linear.get_xlim()
    assert low < -AT - 2 * WIDTH
    assert high > AT + 2 * WIDTH
    measured, theory = linear.lines[told], linear.lines[histograms.MOST_CELLS]
    assert theory.get_label() == "exact"
    for line in (measured, theory):
        z, density = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        inner = slice(1, -1)
        peaks = (density[inner] > density[:-2]) & (density[inner] > density[2:])
        step = z[1] - z[0]
        np.testing.assert_allclose(z[inner][peaks], [-AT, AT], atol=step)
        top = norm.pdf(0, 0, WIDTH) / 2
        # Half a bin aside of its top a Gaussian has lost (step/WIDTH)²/8, its mean a third more.
        assert density.max() == pytest.approx(top, rel=(step / WIDTH) ** 2 / 6)
    for axes in (linear, logarithmic):
        assert axes.get_ylim()[1] > norm.pdf(0)  # of the prior


def test_what_lies_in_the_end_bins_is_told_of_what_was_measured_and_of_theories(tree):
    """Half of what one direction has is put into its last bin, which is not drawn."""
    before = histograms.panel(tree)
    assert before is not None
    assert "%" not in before.caption
    far = 0.5 * (np.arange(len(tree["ensemble"]["bin"])) == len(tree["ensemble"]["bin"]) - 1)
    said = {
        "ensemble": "50 % of the z are beyond ±6, which is not drawn (target direction of layer 1)",
        "theory/exact": "50 % of the z that exact has are beyond ±6, which is not drawn (random",
    }
    for group, (name, place) in {
        "ensemble": ("histogram", 1), "theory/exact": ("density", 0),
    }.items():  # fmt: skip
        values = tree[group][name]
        moved = values / 2 + values.sum("bin") * xr.DataArray(far, dims="bin")
        here = xr.DataArray(np.arange(2) == place, dims="direction")
        changed = moved.where(here, values).transpose(*values.dims)
        tree[group] = tree[group].to_dataset().assign({name: changed})
    panel = histograms.panel(tree)
    assert panel is not None
    for sentence in said.values():
        assert f" Up to {sentence}" in panel.caption
    told = panel.data["predicted_beyond"].isel(cell=histograms._told(panel.data), theory=0, layer=0)
    np.testing.assert_allclose(told, [0.5, 0.0], atol=1e-3)
