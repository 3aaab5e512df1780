"""Reports of shapes that nobody draws: no picture or sentence fails, and no words overprint."""

import itertools
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from xarray import DataTree

from pipelines.analysis.verdict_rows import made_of
from pipelines.report import style
from pipelines.report.columns import columns
from pipelines.report.figures import cells
from pipelines.report.figures.panels import PANELS, panels
from pipelines.report.ranking import ranking_rows
from pipelines.report.sentences.conclusions import sentences
from pipelines.report.words import listed
from storage.backend.reader import open_campaign, open_raw
from support.fake_campaign import finished

ENSEMBLE = """
version: 1
name: shapes
data: {source: single_index, dimension: 4, train: 6, test: 8, teacher: {1: 1.0, 3: 0.3}}
network: {activation: erf, width: 4, weight_variance: [1, 2]}
sampler: {scheme: ula, temperature: 0.5, step_size: 0.1, warmup: 2, draws: 16, segment: 8,
          step_check: false}
ensemble: {datasets: 1, chains: 4, block: 4, start: both}
observe: {points: 4}
theories: [nngp, kernel_scaling]
"""
CROSSED = (
    "sweep={size: {network.width: [4, 8], network.bias_variance: [0.123456, 0.234567]},"
    " heat: {sampler.temperature: [0.000123456, 0.000234567],"
    " network.weight_variance: [[1.23456, 2.34567], [3.45678, 4.56789]]}}",
)
GRID = (
    "sweep={size: {network.width: [4, 8, 16, 32]}, heat: {sampler.temperature: [0.01, 0.1, 1.0]}}",
    "sampler={scheme: prior, temperature: 0.5, warmup: 0, draws: 16, segment: 16}",
    "ensemble={datasets: 2, chains: 16, block: 16}",
)
CURVE = """
version: 1
name: curve
data: {source: linear, dimension: 5, train: 10, test: 10}
network: {activation: erf, width: 4, weight_variance: [1, 2]}
regression: {train: [5, 8, 12, 40], ridges: [0.1, 1.0], repeats: 4, pool: 60,
             sampling: with_replacement, evaluate: [pool, heldout]}
theories: [effective_ridge, rg_gpr, rg_gpr_position, equivalent_kernel]
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("alone"), ENSEMBLE)


@pytest.fixture(scope="module")
def trees(tmp_path_factory, alone):
    """In memory: one cell, crossed axes of joined settings or of many values, and a regression."""
    stores = {
        "alone": alone,
        "crossed": finished(tmp_path_factory.mktemp("crossed"), ENSEMBLE, CROSSED),
        "grid": finished(tmp_path_factory.mktemp("grid"), ENSEMBLE, GRID),
        "curve": finished(tmp_path_factory.mktemp("curve"), CURVE),
    }
    return {name: open_campaign(store.url).load() for name, store in stores.items()}


# -- what becomes of a campaign -------------------------------------------------------------

Change = Callable[[xr.Dataset], xr.Dataset]


def everywhere(tree: DataTree, change: Change) -> DataTree:
    return DataTree.from_dict({path: change(tree[path].to_dataset()) for path in tree.groups})


def only(**kept: list[int]) -> Change:
    return lambda group: group.isel({d: i for d, i in kept.items() if d in group.dims})


def nothing_known(group: xr.Dataset) -> xr.Dataset:
    return group.map(lambda v: v * np.nan if v.dtype.kind == "f" else xr.zeros_like(v))


def beyond_the_bins(group: xr.Dataset) -> xr.Dataset:
    """Targets of a million: all z and all overlaps in the outermost bins."""
    found = group.map(lambda v: v * 1e6 if v.dtype.kind == "f" else v)
    for name, along in (("histogram", "bin"), ("overlap_histogram", "overlap_bin")):
        if name in found:
            ends = found[along].isin([found[along].values[0], found[along].values[-1]])
            found[name] = found[name].where(ends, 0)
    return found


def all_equal(group: xr.Dataset) -> xr.Dataset:
    return group.map(lambda v: v * 0 + 1 if v.dtype.kind == "f" else v)


def diverged(group: xr.Dataset) -> xr.Dataset:
    group = nothing_known(group)
    return group.assign(diverged=group["diverged"] + 4) if "diverged" in group else group


def without_theories(tree: DataTree) -> DataTree:
    kept = [path for path in tree.groups if not path.startswith("/theory")]
    return everywhere(DataTree.from_dict({p: tree[p].to_dataset() for p in kept}), only(theory=[]))


def judged(tree: DataTree) -> DataTree:
    """With the verdicts that its numbers would have."""
    rows = {name: ("verdict", column.astype(object)) for name, column in made_of(tree).items()}
    kept = {path: tree[path].to_dataset() for path in tree.groups if path != "/verdicts"}
    return DataTree.from_dict(kept | {"/verdicts": xr.Dataset(rows)})


SHAPES: dict[str, Callable[[DataTree], DataTree]] = {
    "as it is": lambda tree: tree,
    "nothing known": lambda tree: everywhere(tree, nothing_known),
    "beyond the bins": lambda tree: everywhere(tree, beyond_the_bins),
    "all equal": lambda tree: everywhere(tree, all_equal),
    "diverged": lambda tree: everywhere(tree, diverged),
    "no theories": without_theories,
    "one part": lambda tree: everywhere(tree, only(component=[0], observable=[0], train=[0])),
    "one draw": lambda tree: everywhere(tree, only(draw=[0], segment=[0], chain=[0], repeat=[0])),
}

# Those in which pictures along a sweep are at stake, too.
SWEPT = [(shape, "crossed") for shape in ("beyond the bins", "all equal")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "campaign"),
    [*itertools.product(SHAPES, ["alone", "curve"]), *SWEPT],
)
def test_no_picture_and_no_sentence_fails(trees, shape, campaign):
    left_out: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = judged(SHAPES[shape](trees[campaign]))
        found = panels(tree)
        for panel in found.made:
            with style.look():
                assert panel.draw(panel.data).axes, panel.name
            assert panel.caption.endswith(".")
        said = sentences(tree, left_out)
        fits = cells.group(tree, "fits")
        assert fits is None or isinstance(ranking_rows(fits), list)
    assert found.left_out == left_out == []
    assert len(found.made) + len(found.missing) == len(PANELS)
    assert all("nan" not in line.text.split() for line in said)
    if shape == "diverged" and campaign != "curve":
        assert said[0].text.startswith("All chains diverged")


@pytest.mark.slow
def test_one_cell_has_the_dimensions_that_are_stored(alone):
    raw = open_raw(alone.url)
    for path in raw.groups:
        found = cells.group(open_campaign(alone.url), path)
        if found is not None:
            stored = raw[path].to_dataset()
            assert {n: set(v.dims) for n, v in found.data_vars.items()} == {
                n: set(v.dims) for n, v in stored.data_vars.items()
            }, path


@pytest.mark.slow
def test_every_series_of_every_observable_has_its_axes(trees):
    made = {panel.name: panel for panel in panels(trees["grid"]).made}
    data = made["learnability"].data
    with style.look():
        axes = made["learnability"].draw(data).axes
    titles = [one.get_title(loc="left") for one in axes if one.get_title(loc="left")]
    heats = [f"χT = {heat}" for heat in ("0.01", "0.1", "1")]
    assert titles == [heat for heat in heats for _ in data["observable"]]
    measured = data["measured"].isel(dataset=0)
    drawn = [
        np.sort(line.get_ydata()) for one in axes for line in one.lines if one.get_title(loc="left")
    ]
    for heat in (0.01, 0.1, 1.0):
        for observable in data["observable"]:
            one = measured.sel(observable=observable)[data["sampler_temperature"] == heat]
            assert any(np.array_equal(line, np.sort(one.values)) for line in drawn)


@pytest.mark.slow
def test_a_map_has_the_residuals_of_all_cells_in_standard_errors(trees):
    (panel,) = (panel for panel in panels(trees["grid"]).made if panel.name == "grid")
    with style.look():
        axes = panel.draw(panel.data).axes
    fits = trees["grid"]["fits"].to_dataset()
    first = str(panel.data["map"].values[0])
    for observable, theory in itertools.product(fits["observable"].values, fits["theory"].values):
        one = fits.sel(observable=observable, theory=theory)
        wanted = (one["mean_residual"] / one["mean_error"]).transpose("heat", "size").values
        if np.array_equal(axes[0].collections[0].get_array(), wanted):
            assert str(observable).split("_")[0].split()[0] in first
            break
    else:
        raise AssertionError(first)


@pytest.mark.slow
def test_curves_off_the_axis_are_named(trees):
    (panel,) = (panel for panel in panels(trees["curve"]).made if panel.name == "theories")
    with style.look():
        axes = panel.draw(panel.data).axes
    said = []
    for one in axes:
        low, high = one.get_ylim()
        drawn = {line.get_label(): np.asarray(line.get_ydata()) for line in one.lines}
        theories = {name: line for name, line in drawn.items() if name[0] != "_"}
        above = [name for name, line in theories.items() if line.min() > high]
        below = [name for name, line in theories.items() if line.max() < low]
        for side, names in (("above", above), ("below", below)):
            if names:
                said.append(f"Off the axis, {side}, at {one.get_title('left')}: {listed(names)}.")
    assert said
    assert all(sentence in panel.caption for sentence in said)
    assert panel.caption.count("Off the axis") == len(said)


# -- words ----------------------------------------------------------------------------------


def overprinted(figure, size=style.PAGE) -> list[tuple[str, str]]:
    """Pairs of words that are drawn over each other, and words that leave the figure."""
    drawn: list[Text] = []
    draw = Text.draw

    def remember(self, renderer):
        drawn.append(self)
        draw(self, renderer)

    with pytest.MonkeyPatch.context() as patch, style.look(size):
        patch.setattr(Text, "draw", remember)
        FigureCanvasAgg(figure).draw()
        boxes = [
            (text.get_text(), text.get_window_extent())
            for text in dict.fromkeys(drawn)
            if text.get_visible() and text.get_text().strip()
        ]
    edge = figure.bbox
    pairs = [
        (one, other)
        for (one, box), (other, its) in itertools.combinations(boxes, 2)
        if min(box.x1, its.x1) - max(box.x0, its.x0) > 1
        and min(box.y1, its.y1) - max(box.y0, its.y0) > 1
    ]
    outside = [
        (words, "the edge")
        for words, box in boxes
        if box.x0 < edge.x0 - 1 or box.x1 > edge.x1 + 1 or box.y0 < -1 or box.y1 > edge.y1 + 1
    ]
    assert boxes
    return pairs + outside


def long_words(group: xr.Dataset) -> xr.Dataset:
    """Settings of a plug-in with long names and words for values."""
    for name in ("sampler_temperature", "network_bias_variance"):
        if name in group.coords:
            long_name = f"data.settings.a_rather_long_name_for_{name}_of_a_plug_in"
            group[name] = group[name].assign_attrs(long_name=long_name)
    parts = {f"He{k}": f"a_part_of_the_target_with_{k}_long_words" for k in (1, 3)}
    for name in ("component", "observable", "quantity"):
        if name in group.coords:
            words = [str(word) for word in group[name].values]
            for short, long in parts.items():
                words = [word.replace(short, long) for word in words]
            group = group.assign_coords({name: words})
    return group


WORDS = [
    ("alone", "as they are"),
    ("crossed", "as they are"),
    ("crossed", "long"),
    ("grid", "as they are"),
    ("grid", "long"),
    ("curve", "as they are"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("campaign", "words"), WORDS)
def test_no_words_overprint(trees, campaign, words):
    tree = trees[campaign] if words != "long" else everywhere(trees[campaign], long_words)
    found = panels(tree)
    assert found.made
    assert {panel.name: overprinted(panel.figure) for panel in found.made} == {
        panel.name: [] for panel in found.made
    }


@pytest.mark.slow
@pytest.mark.parametrize(("campaign", "words"), WORDS)
def test_no_words_overprint_in_a_column(trees, campaign, words):
    tree = trees[campaign] if words != "long" else everywhere(trees[campaign], long_words)
    facets = [facet for panel in panels(tree).made for facet in columns(panel)]
    found = {facet.name: overprinted(facet.figure(), style.COLUMN) for facet in facets}
    assert len(found) == len(facets) > 0
    assert {name: pairs for name, pairs in found.items() if pairs} == {}


@pytest.mark.parametrize(
    "values",
    [0.1 * 1.2345678 ** np.arange(30), 1.0001234 + 0.012345 * np.arange(30), [1.5e-7], [3, 4e5]],
    ids=["geometric", "linear", "one", "two"],
)
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_ticks_at_many_values_have_room(values, scale):
    with style.look():
        figure = style.figure(2)
        axes = figure.subplots()
        axes.plot(values, np.ones(len(values)))
        axes.set_xscale(scale)
        style.ticks_at(axes, np.asarray(values, dtype=float))
    assert overprinted(figure) == []


def test_words_are_wrapped_and_never_formulas():
    assert style.wrapped("a b c", 3) == "a b\nc"
    assert style.wrapped("N = 4, T = 0.5", 8) == "N = 4,\nT = 0.5"
    assert style.wrapped("σ_b² = 0.123456", 12) == "σ_b² =\n0.123456"
    assert style.wrapped("x" * 100, 10) == "\n".join(["x" * 10, "x" * 10, "x" * 9 + "…"])
    assert style.wrapped("$5 or $6") == r"\$5 or \$6"
