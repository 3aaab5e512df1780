"""Panels: their numbers are those of the store, and they can be read on a phone."""

import math

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from scipy import stats

from pipelines.report import style
from pipelines.report.figures import cells, comparison, kernels, learning, order, statistics, traces
from pipelines.report.figures.histograms import density
from pipelines.report.figures.panels import PANELS, panels
from storage.backend.reader import open_campaign, open_raw
from support.analyzed import EVERY_CURVE, MEAN_FIELD, PRIOR, REGRESSION_ALONE, TWO_AXES, analyzed

pytestmark = pytest.mark.slow

PHONE = 390  # pixels that a picture of the page fills
SMALLEST_TEXT = 7.5  # pixels


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return analyzed(tmp_path_factory.mktemp("prior"), *PRIOR)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return analyzed(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def two_axes(tmp_path_factory):
    return analyzed(tmp_path_factory.mktemp("two"), *TWO_AXES)


@pytest.fixture(scope="module")
def regression_alone(tmp_path_factory):
    return analyzed(tmp_path_factory.mktemp("regression"), *REGRESSION_ALONE)


@pytest.fixture(scope="module")
def theories(tmp_path_factory):
    return analyzed(tmp_path_factory.mktemp("theories"), *EVERY_CURVE)


@pytest.fixture(scope="module")
def one_cell(tmp_path_factory):
    return analyzed(tmp_path_factory.mktemp("one"), "sweep={}", *MEAN_FIELD)


# -- statistics -----------------------------------------------------------------------------


def test_the_jackknife_error_of_a_mean_is_the_usual_one():
    rng = np.random.default_rng(1)
    values = rng.standard_normal(20)
    sums = xr.DataArray(np.stack([np.ones(20), values]), dims=("order", "unit")).assign_coords(
        order=[0, 1]
    )
    mean, error = statistics.jackknife(sums, lambda s: s.sel(order=1) / s.sel(order=0))
    assert mean.item() == pytest.approx(values.mean(), rel=1e-12)
    assert error.item() == pytest.approx(values.std(ddof=1) / math.sqrt(20), rel=1e-9)


def test_a_unit_without_numbers_does_not_count():
    values = xr.DataArray([1.0, 2.0, 4.0, np.nan], dims="unit")
    mean, error = statistics.mean_and_error(values, "unit")
    kept, its_error = statistics.mean_and_error(values[:3], "unit")
    assert (mean.item(), error.item()) == pytest.approx((kept.item(), its_error.item()))
    sums = values.expand_dims(order=[0]).pipe(lambda s: xr.concat([s / s, s], "order"))
    sums = sums.assign_coords(order=[0, 1])
    jackknifed = statistics.jackknife(sums, lambda s: s.sel(order=1) / s.sel(order=0))[1]
    assert jackknifed.item() == pytest.approx(its_error.item(), rel=1e-9)


def test_one_unit_has_no_error():
    values = xr.DataArray([[1.0], [2.0]], dims=("cell", "unit"))
    assert np.isnan(statistics.mean_and_error(values, "unit")[1]).all()


@pytest.mark.parametrize(
    ("sample", "variance", "kurtosis"),
    [
        (stats.norm(loc=0.7, scale=1.5), 2.25, 0.0),
        (stats.uniform(loc=-1, scale=2), 1 / 3, -1.2),
        (stats.laplace(), 2.0, 3.0),
    ],
    ids=["normal", "uniform", "laplace"],
)
def test_variance_and_kurtosis_of_known_laws(sample, variance, kurtosis):
    # Moments by quadrature at equal steps of probability, whose error the tails decide.
    z = sample.ppf((np.arange(2_000_000) + 0.5) / 2_000_000)
    sums = xr.DataArray([(z**k).sum() for k in range(5)], dims="order").assign_coords(
        order=range(5)
    )
    assert statistics.variance(sums).item() == pytest.approx(variance, rel=1e-4)
    assert statistics.kurtosis(sums).item() == pytest.approx(kurtosis, abs=2e-3)


# -- cells ----------------------------------------------------------------------------------


def test_the_labelled_grid_flattens_to_the_stored_cells(two_axes):
    flat = _ensemble(two_axes)
    raw = open_raw(two_axes.url)["ensemble"].to_dataset()
    assert flat.sizes["cell"] == raw.sizes["cell"] == 4
    for cell in range(4):
        width, noise = (flat[name].values[cell] for name in ("network_width", "data_label_noise"))
        same = (raw["network_width"] == width) & (raw["data_label_noise"] == noise)
        stored = raw["loss"].isel(cell=int(same.argmax("cell")))
        np.testing.assert_array_equal(flat["loss"].isel(cell=cell), stored)


def test_a_group_of_one_cell_has_a_cell(one_cell):
    found = _ensemble(one_cell)
    assert found.sizes["cell"] == 1
    assert cells.label(found, 0) == ""
    assert cells.abscissa(found) is None


def test_the_width_is_the_abscissa_and_the_rest_names_series(two_axes):
    found = _ensemble(two_axes)
    along = cells.abscissa(found)
    assert along is not None
    assert along.is_width
    lines = cells.series(found, along, 5)
    assert [line.label for line in lines] == ["s² = 0.1", "s² = 0.2"]
    for line in lines:
        assert found["network_width"].values[line.cells].tolist() == [4, 8]


@pytest.mark.parametrize(("count", "most"), [(1, 5), (3, 5), (17, 5), (100, 2)])
def test_a_choice_of_cells_has_the_first_and_the_last(count, most):
    places = cells.spread(count, most)
    assert places == sorted(set(places))
    assert len(places) == min(count, most)
    assert (places[0], places[-1]) == (0, count - 1)


@pytest.mark.parametrize("wanted", range(9))
def test_a_choice_of_cells_has_the_one_that_is_wanted(wanted):
    heat = [9, 1, 8, 2, 7, 3, 6, 4, 5]
    data = xr.Dataset(coords={"heat": ("cell", heat)}, attrs={"axes": {"heat": {"heat": heat}}})
    found = cells.chosen(data, 3, wanted)
    assert wanted in found
    assert len(found) == 3
    assert [heat[cell] for cell in found] == sorted(heat[cell] for cell in found)


@pytest.mark.parametrize("observables", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_axes_that_have_no_room_are_left_out_by_series(observables):
    heat, width = np.repeat(np.arange(20), 3), np.tile([4, 8, 16], 20)
    named = {
        "network_width": ("cell", width, {"long_name": "network.width"}),
        "heat": ("cell", heat, {"long_name": "sampler.temperature"}),
    }
    axes = {"size": {"network_width": [4, 8, 16]}, "heat": {"heat": heat.tolist()}}
    data = xr.Dataset(coords={**named, "observable": observables}, attrs={"axes": axes})
    along = cells.the_abscissa(data)
    found = comparison.facets(data, along, 12)
    titles = [facet.title for facet in found if facet.observable == "a"]
    assert len(titles) == 12 // len(observables)
    assert (titles[0], titles[-1]) == ("χT = 0", "χT = 19")
    for name in observables:
        assert [facet.title for facet in found if facet.observable == name] == titles
    assert len(comparison.facets(data, along, 1000)) == 20 * len(observables)


# -- numbers of the panels ------------------------------------------------------------------


def test_first_layer_pre_activations_of_the_prior_are_normal_at_every_width(prior):
    # Linear in Gaussian weights: variance 1 and no kurtosis, width by width. Five errors of 31
    # degrees of freedom are exceeded once in 5 10^4 times; there are 18 comparisons.
    shape = order.shape(_ensemble(prior))
    for name, expected in (("variance", 1.0), ("kurtosis", 0.0)):
        deviation = abs(shape[name] - expected) / shape[f"{name}_error"]
        assert deviation.shape == (3, 1, 3)
        assert deviation.max() < 5


def test_the_density_of_the_prior_is_normal_and_integrates_to_one(prior):
    found = density(_ensemble(prior))
    width = float(found["bin"][1] - found["bin"][0])
    np.testing.assert_allclose(found["density"].sum("bin") * width, 1, rtol=1e-12)
    edges = np.append(found["bin"] - width / 2, found["bin"].values[-1] + width / 2)
    expected = xr.DataArray(np.diff(stats.norm.cdf(edges)), dims="bin")
    neurons = xr.DataArray(np.array([4, 8, 16]) * 2 * 16 * 40, dims="cell")
    counts = found["density"] * width * neurons
    # Counts of independent neurons are Poisson; those of more than 5 are compared.
    deviation = ((counts - neurons * expected) / np.sqrt(neurons * expected)).where(
        neurons * expected > 5
    )
    assert deviation.notnull().sum() > 300
    assert abs(deviation).max() < 6


def test_pre_activations_beyond_the_axis_are_counted(prior):
    cells = _ensemble(prior)
    counts = cells["histogram"]
    as_many = counts.sum("bin") * (counts["bin"] == counts["bin"].max())
    found = density(cells.assign(histogram=(counts + as_many).transpose(*counts.dims)))
    width = float(found["bin"][1] - found["bin"][0])
    np.testing.assert_allclose(found["beyond"], 0.5, rtol=1e-12)
    np.testing.assert_allclose(found["density"].sum("bin") * width, 0.5, rtol=1e-12)


def test_the_learning_curve_is_the_mean_over_repeats(small):
    tree = open_campaign(small.url)
    measured = cells.group(tree, "regression")
    theory = cells.group(tree, "theory/effective_ridge")
    assert measured is not None
    found = learning.curves(measured, theory)
    stored = open_raw(small.url)["regression"].to_dataset()
    for name in ("pool_error", "test_error", "train_error", "posterior_variance"):
        values = stored[name].values[0]  # (repeat, train, ridge)
        one = found.sel(quantity=name).isel(cell=0)
        np.testing.assert_allclose(one["measured"], values.mean(0), rtol=1e-12)
        np.testing.assert_allclose(one["error"], values.std(0, ddof=1) / math.sqrt(3), rtol=1e-12)
    compared = found.sel(quantity="pool_error")
    difference = compared["measured"] - compared["predicted"]
    np.testing.assert_allclose(compared["residual"] * compared["error"], difference, rtol=1e-12)
    assert found["residual"].sel(quantity="test_error").isnull().all()  # the theory is of the pool


def test_kernels_are_sorted_by_label_and_subtracted(small):
    tree = open_campaign(small.url)
    measured, predicted = cells.group(tree, "ensemble"), cells.group(tree, "theory/nngp")
    assert measured is not None
    assert predicted is not None
    found = kernels.compare(measured, predicted)
    assert (np.diff(found["label"]) <= 0).all()
    np.testing.assert_array_equal(found["difference"], found["measured"] - found["predicted"])
    for name in ("measured", "predicted"):
        transposed = found[name].transpose("cell", "probe_2", "probe").values
        np.testing.assert_allclose(found[name], transposed, rtol=1e-5)
    before = np.sort(measured["kernel"].mean(("block", "segment")).values[:, 0, 0].reshape(2, -1))
    np.testing.assert_allclose(np.sort(found["measured"].values.reshape(2, -1)), before, rtol=1e-6)


def test_traces_are_of_the_least_mixed_dataset(small):
    tree = open_campaign(small.url)
    progress = cells.group(tree, "progress")
    assert progress is not None
    place = traces.worst(_ensemble(small), progress)
    assert progress["rhat"].isel(place).max() == progress["rhat"].max()


# -- pictures -------------------------------------------------------------------------------

ENSEMBLE = {"histograms", "kernels", "overlaps", "traces"}
SWEPT = {*ENSEMBLE, "learnability", "errors", "order", "weights"}
CAMPAIGNS = {
    "all": ("small", {*SWEPT, "learning", "spectrum", "flow"}),
    "two axes": ("two_axes", SWEPT),
    "regression alone": ("regression_alone", {"learning", "spectrum", "flow"}),
    "theories": (
        "theories",
        {"learning", "theories", "residuals", "distances", "spectrum", "flow"},
    ),
    "one cell": ("one_cell", ENSEMBLE),
}


@pytest.fixture(scope="module", params=CAMPAIGNS.values(), ids=CAMPAIGNS)
def drawn(request):
    store, expected = request.param
    found = panels(open_campaign(request.getfixturevalue(store).url))
    assert found.left_out == []
    return found.made, found.missing, expected


def test_a_campaign_has_the_panels_that_it_has_numbers_for(drawn):
    made, missing, expected = drawn
    assert {panel.name for panel in made} == expected
    assert len(made) + len(missing) == len(PANELS)


def test_text_can_be_read_on_a_phone(drawn):
    scale = PHONE / (style.PAGE.width * 72)  # pixels of a point
    for panel in drawn[0]:
        assert panel.figure.get_figwidth() == style.PAGE.width
        words = [t for t in panel.figure.findobj(Text) if t.get_visible() and t.get_text()]
        assert words
        assert min(t.get_fontsize() for t in words) * scale >= SMALLEST_TEXT, panel.name


def test_every_number_says_what_it_is(drawn):
    for panel in drawn[0]:
        for name, variable in panel.data.data_vars.items():
            assert variable.attrs.get("long_name"), f"{panel.name}: {name}"


def test_every_panel_has_a_title_and_a_caption_of_sentences(drawn):
    for panel in drawn[0]:
        assert panel.title
        assert panel.caption.endswith(".")
        assert "  " not in panel.caption


def test_a_sequence_of_colours_grows_lighter_and_stays_visible_on_white():
    lightness = [
        np.dot(np.array(to_rgb(c)) ** 2.2, [0.2126, 0.7152, 0.0722]) for c in style.sequence(5)
    ]
    assert (np.diff(lightness) > 0).all()
    assert max(lightness) < 0.6


def test_drawing_leaves_the_settings_of_the_user_alone(small):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    for panel in panels(open_campaign(small.url)).made:
        assert panel.figure.axes
    assert dict(mpl.rcParams) == before


def _ensemble(store):
    found = cells.group(open_campaign(store.url), "ensemble")
    assert found is not None
    return found
