"""Theories on the cells that they fit: predicted there, NaN with a reason elsewhere."""

import sys

import numpy as np
import pytest
import torch
import xarray as xr

from pipelines.theories import averaged_theories, ensemble_theories, predict, regression_theories
from pipelines.theories.attempts import each
from pipelines.theories.theory_groups import not_predicted
from storage.backend.reader import open_campaign
from storage.campaign.plugins import allow
from storage.errors import CampaignError
from storage.planning.plan import plan
from storage.reading.document import parse
from storage.reading.theory_rules import coverage, misfit
from storage.store.results import stored_plan
from support.analyzed import NO_REGRESSION, PRIOR, analyzed
from support.curve import REGRESSION
from support.fake_ensemble import TEXT, stored

torch.set_num_threads(1)

DEPTH = (
    "sweep={depth: {network.depth: [1, 2], network.weight_variance: [[1, 2], [1, 1, 2]]},"
    " size: {network.width: [32, 64]}}"
)
ACTIVATION = "sweep={phi: {network.activation: [linear, erf]}}"
TEMPERATURE = (
    "sweep={heat: {sampler.temperature: [0.2, 0.5]}, bias: {network.bias_variance: [0, 1]}}"
)
ONE_AXIS = (
    "sweep={shape: {network.depth: [1, 2, 1], network.weight_variance: [[1, 2], [1, 1, 2], [1, 2]],"
    " network.activation: [linear, linear, erf]}}"
)
PATCHES = (
    "data={source: patches, patches: 2, patch_size: 3, teacher: {1: 1.0}, train: 12, test: 40}",
    "network={architecture: cnn, patches: 2, activation: erf, width: 64, weight_variance: [1, 2]}",
    "sweep={phi: {network.activation: [erf, relu]}}",
)
RANDOM = (
    "sampler={scheme: prior, temperature: 1, warmup: 0, draws: 20, segment: 20}",
    "observe={correlators: true, points: 2}",
    "network.depth=2",
    "network.weight_variance=1.5",
    "sweep={phi: {network.activation: [relu, tanh]}}",
)
# Overrides, theories, and the cells that each holds for in the order of the grid.
FITTING = {
    "depth": ([DEPTH], {"nngp": [1, 1, 1, 1], "vga": [1, 1, 0, 0]}),
    "layers": ([DEPTH], {"equations_of_state": [0, 0, 1, 1], "gfl": [1, 1, 0, 0]}),
    "activation": ([ACTIVATION], {"scale_mixture": [1, 0], "kernel_scaling": [1, 1]}),
    "temperature": ([TEMPERATURE], {"gfl": [1, 0, 1, 0], "nngp": [1, 1, 1, 1]}),
    "one axis": ([ONE_AXIS], {"scale_mixture": [1, 0, 0], "gmfl": [0, 0, 1]}),
    "random": (RANDOM, {"width_corrections": [1, 1], "exact_prior": [1, 0]}),
    "patches": (PATCHES, {"nngp": [1, 1], "gfl": [1, 0]}),
}


def predicted(folder, *overrides, plugins=None):
    """The store of a campaign, nothing of it sampled, and what its theories say."""
    store, planned = stored(folder, TEXT, ["ensemble.datasets=1", *overrides])
    predict.predict(store, *([] if plugins is None else [plugins]))
    return store, planned


def group(store, theory):
    return xr.open_dataset(store.data, group=f"theory/{theory}", engine="zarr").load()


@pytest.mark.parametrize(("overrides", "expected"), FITTING.values(), ids=FITTING.keys())
@pytest.mark.slow
def test_a_theory_predicts_what_it_does_alone_and_nothing_elsewhere(tmp_path, overrides, expected):
    store, planned = predicted(tmp_path / "all", *overrides, f"theories={[*expected]}")
    for theory, holds in expected.items():
        found = group(store, theory)
        assert found["applies"].values.ravel().tolist() == holds
        assert ((found["reason"] == "") == (found["applies"] == 1)).all()
        numbers = [v for v in found.values() if v.dtype.kind == "f" and "cell" in v.dims]
        assert all(v.isel(cell=np.array(holds) == 0).isnull().all() for v in numbers)
        assert found["learnability"].isel(cell=np.array(holds) == 1).notnull().all()
    last = max(cell for cell, flag in enumerate(holds) if flag)
    spec = planned.cells[last].spec
    cell = [f"network={spec.network.model_dump(mode='json', exclude_unset=True)}", "sweep={}"]
    cell += [f"sampler.temperature={spec.sampler.temperature}", f"theories=[{theory}]"]
    alone, _ = predicted(tmp_path / "alone", *overrides, *cell)
    expected_there = group(alone, theory)["learnability"].isel(cell=0)
    here = found["learnability"].isel(cell=last)
    np.testing.assert_allclose(here, expected_there, rtol=1e-9)  # rounding of the same formulas


def test_a_plan_and_a_report_say_where_theories_hold(tmp_path):
    store, planned = predicted(tmp_path, DEPTH, "theories=[nngp, vga, equations_of_state]")
    assert coverage(planned) == [
        "vga holds in 2 of 4 cells; elsewhere: depth 2, wanted 1",
        "equations_of_state holds in 2 of 4 cells; elsewhere: depth 1, wanted 2",
    ]
    stored_tree = xr.open_datatree(store.data, engine="zarr")
    for tree in (stored_tree, open_campaign(str(tmp_path))):
        assert set(not_predicted(tree)) == {
            "theory vga predicts 2 of 4 cells; elsewhere: depth 2, wanted 1.",
            "theory equations_of_state predicts 2 of 4 cells; elsewhere: depth 1, wanted 2.",
        }


def test_reasons_are_text_and_flags_in_every_format(tmp_path):
    store, _ = predicted(tmp_path / "store", ACTIVATION, "theories=[scale_mixture]")
    for engine in ("zarr", "finitewidth"):
        found = xr.open_datatree(store.data, engine=engine)["theory/scale_mixture"].to_dataset()
        file = tmp_path / f"{engine}.nc"
        found[["applies", "reason"]].drop_attrs().to_netcdf(file)
        with xr.open_dataset(file) as back:
            assert back["reason"].values.tolist() == [[""], ["activation erf, wanted linear"]]
            assert back["applies"].values.tolist() == [[1], [0]]
        assert found["applies"].attrs["flag_meanings"] == "not_predicted predicted"


@pytest.mark.parametrize(
    ("theory", "overrides", "said"),
    [
        ("vga", ["sweep={size: {network.width: [4, 8]}}", "data.train=9"], ""),
        (
            "scale_mixture",
            [DEPTH],
            "scale_mixture holds in none of the 4 cells: found activation erf, wanted linear",
        ),
        (
            "equations_of_state",
            ["sweep={size: {network.width: [4, 8]}}"],
            "equations_of_state holds in none of the 2 cells: found depth 1, wanted 2",
        ),
        (  # the nearest cell lacks one thing, the others two
            "scale_mixture",
            [
                "network.activation=linear",
                "network.bias_variance=1",
                "sweep={depth: {network.depth: [2, 1], network.weight_variance: [[1, 1, 2], [1, 2]]"
                "}}",
            ],
            "scale_mixture holds in none of the 2 cells: found bias_variance 1.0, wanted 0",
        ),
        (
            "gfl",
            ["sampler={scheme: prior, temperature: 1, warmup: 0, draws: 2, segment: 2}"],
            "gfl does not hold: found scheme prior, wanted one that learns from data",
        ),
        (
            "gmfl",
            ["data.teacher={2: 1.0}"],
            "gmfl does not hold: found an even part of the target, data.teacher.2, wanted none",
        ),
        ("my.own:theory", [DEPTH], ""),
    ],
)
def test_a_theory_that_fits_no_cell_is_refused_with_what_the_nearest_lacks(theory, overrides, said):
    asked = [*overrides, f"theories=['{theory}']"]
    if not said:
        assert coverage(plan(parse(TEXT, asked))) == []
        return
    with pytest.raises(CampaignError) as refused:
        parse(TEXT, asked)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


# -- equations without a solution -----------------------------------------------------------


class Width(int):
    """A cell that is nothing but a width."""


@pytest.mark.parametrize("late", [True, False], ids=["one by one", "all at once"])
@pytest.mark.parametrize("bad", [set(), {1}, {4}, {1, 3}, {1, 2, 3, 4}])
def test_failures_are_of_the_cells_that_fail(bad, late):
    def evaluate(cells):
        if not late and bad.intersection(cells):
            raise ValueError(f"one of\n{len(cells)} is left")
        for cell in cells:
            if cell in bad:
                raise ArithmeticError(f"{cell} is left")
            yield 10 * cell

    found = list(each(evaluate, [Width(n) for n in (1, 2, 3, 4)]))
    told = "{} is left" if late else "one of 1 is left"
    assert found == [told.format(n) if n in bad else 10 * n for n in (1, 2, 3, 4)]


def test_a_width_without_a_solution_leaves_the_others_what_they_are(tmp_path, monkeypatch):
    sound, _ = predicted(tmp_path / "sound", DEPTH, "theories=[kernel_scaling]")
    solved = ensemble_theories.kernel_scale

    def unsolved(kernel, y, ridge, widths, *, depth):
        found = solved(kernel, y, ridge, widths, depth=depth)
        return found._replace(residual=found.residual + 1e-3 * (widths == 32))

    monkeypatch.setattr(ensemble_theories, "kernel_scale", unsolved)
    store, _ = predicted(tmp_path / "store", DEPTH, "theories=[kernel_scaling]")
    found, expected = group(store, "kernel_scaling"), group(sound, "kernel_scaling")
    assert found["applies"].values.tolist() == [[0], [1], [1], [1]]
    assert "at width 32 the equation for the scale is left with 1.0e-03" in str(
        found["reason"][0, 0].values
    )
    np.testing.assert_allclose(found["output_mean"][1:], expected["output_mean"][1:], rtol=1e-9)
    assert found["output_mean"][0].isnull().all()


def test_a_fault_of_the_program_ends_in_a_line(tmp_path, monkeypatch):
    def faulty(problem, widths, index):
        raise TypeError("no such kernel")

    monkeypatch.setitem(predict.NUMBERS, "nngp", predict.Numbers(faulty))
    with pytest.raises(CampaignError, match=r"nngp failed for dataset 0 .*: no such kernel"):
        predicted(tmp_path, "theories=[nngp]")


def test_a_regression_without_a_solution_leaves_the_others(tmp_path, monkeypatch):
    text = REGRESSION + "sweep: {noise: {data.label_noise: [0.1, 0.3]}}\n"
    store, planned = stored(tmp_path, text)
    for shard in planned.shards():
        if shard.kind == "spectrum":
            values = {"eigenvalue": np.geomspace(1, 1e-3, 60), "coefficient": np.ones(60)}
            store.write(shard, values)
    curve = regression_theories.curve

    def unsolved(theory, newest, spec, *given):
        if spec.data.label_noise == 0.1:
            raise ValueError("the ridge is not found")
        return curve(theory, newest, spec, *given)

    monkeypatch.setattr(regression_theories, "curve", unsolved)
    predict.predict(store)
    found = group(store, "effective_ridge")
    assert found["applies"].values.tolist() == [0, 1]
    assert found["reason"].values.tolist() == ["the ridge is not found", ""]
    assert found["pool_error"].isnull().all(("train", "ridge")).values.tolist() == [True, False]
    assert not_predicted(xr.open_datatree(store.data, engine="zarr")) == [
        "theory effective_ridge predicts 1 of 2 cells; elsewhere: the ridge is not found."
    ]


def test_what_is_not_measured_yet_is_told(tmp_path):
    store, _ = stored(tmp_path, REGRESSION)
    predict.predict(store)
    assert not_predicted(xr.open_datatree(store.data, engine="zarr")) == [
        "theory effective_ridge predicts nothing: the regression is not finished."
    ]


PLUGIN = '''
"""Theories that know narrow networks alone, and that return what nobody can store."""


def narrow(spec, dataset):
    if spec.network.width > 40:
        raise ValueError("known up to width 40")
    return {"mse_mean": 0.5}


def words(spec, dataset):
    return {"mse_mean": "large"}


def ragged(spec, dataset):
    return {"output_mean": [[1.0], [1.0, 2.0]]}
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"fitting_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PLUGIN)
    yield name
    sys.modules.pop(name, None)


def test_a_plug_in_says_where_it_does_not_hold_by_a_value_error(tmp_path, module):
    asked = (DEPTH, f"theories=['{module}:narrow', nngp]")
    allowed = allow(parse(TEXT, asked), [module], tmp_path)
    store, _ = predicted(tmp_path / "store", *asked, plugins=allowed)
    found = group(store, f"{module}_narrow")
    assert found["mse_mean"].isnull().values.tolist() == [[False], [True]] * 2
    assert not_predicted(xr.open_datatree(store.data, engine="zarr")) == [
        f"theory {module}:narrow predicts 2 of 4 cells; elsewhere: known up to width 40."
    ]


@pytest.mark.parametrize("name", ["words", "ragged"])
def test_what_is_no_number_is_refused_in_a_line(tmp_path, module, name):
    asked = (f"theories=['{module}:{name}']",)
    allowed = allow(parse(TEXT, asked), [module], tmp_path)
    with pytest.raises(CampaignError, match=r"real numbers|array of numbers") as refused:
        predicted(tmp_path / "store", *asked, plugins=allowed)
    assert "\n" not in str(refused.value)


# -- theories that average over data --------------------------------------------------------


def test_a_problem_that_cannot_be_posed_is_told_and_the_others_are_solved(monkeypatch):
    cells = plan(parse(TEXT, ["sweep={n: {data.train: [6, 12, 24]}}", "theories=[gfl]"])).cells
    posed = averaged_theories.index_problem

    def unposed(activation, orders, specs):
        if any(spec.data.train == 12 for spec in specs):
            raise ValueError("no problem")
        return posed(activation, orders, specs)

    expected = averaged_theories.evaluate("gfl", cells)
    monkeypatch.setattr(averaged_theories, "index_problem", unposed)
    found, reasons = averaged_theories.attempted("gfl", cells)
    assert reasons.tolist() == ["", "no problem", ""]
    for name, value in expected.items():
        torch.testing.assert_close(found[name][::2], value[::2], rtol=1e-6, atol=1e-9)
        assert found[name][1].isnan().all()


@pytest.mark.parametrize("theory", ["gfl", "order_parameter"])
def test_an_odd_network_learns_nothing_of_an_even_part_of_the_target(theory):
    def learned(teacher):
        spec = parse(TEXT, [f"data.teacher={teacher}", f"theories=[{theory}]"])
        return averaged_theories.evaluate(theory, plan(spec).cells)["learnability"][0]

    odd, even = learned({1: 1.0, 2: 1e-6})
    assert float(even) == pytest.approx(0, abs=1e-12)
    # The even part is noise of variance 2e-12 to the rest.
    assert float(odd) == pytest.approx(float(learned({1: 1.0})[0]), rel=1e-6)
    assert float(learned({1: 1.0, 2: 1.0})[1]) == pytest.approx(0, abs=1e-12)


# -- what is made of predictions ------------------------------------------------------------


@pytest.mark.slow
def test_comparisons_use_the_cells_where_a_theory_holds(tmp_path):
    depths = "sweep={depth: {network.depth: [1, 2], network.weight_variance: [[1, 2], [1, 1, 2]]}}"
    theories = "theories=[nngp, vga, equations_of_state]"
    store = analyzed(tmp_path, *PRIOR, *NO_REGRESSION, depths, theories)
    tree = open_campaign(store.url)
    fits, applies = tree["fits"].to_dataset(), {}
    for theory in fits["theory"].values:
        flags = tree[f"theory/{theory}"]["applies"]
        applies[str(theory)] = flags.min("dataset") > 0
    for theory, where in applies.items():
        one = fits.sel(theory=theory)
        for name in ("residual", "joint_p_value", "tested", "criterion", "p_value"):
            others = [dim for dim in one[name].dims if dim != "depth"]
            known = (one[name].fillna(0) != 0).any(others)
            assert not (known & ~where).any(), (theory, name)
        assert (one["joint_p_value"].notnull() == where).all()
    held = {name: where.values.tolist() for name, where in applies.items()}
    assert held == {
        "nngp": [True, True],
        "vga": [True, False],
        "equations_of_state": [False, True],
    }
    rank = fits["rank"].sel(observable="mse_mean").to_series().to_dict()
    assert sorted(rank.values()) == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("theories", ["[nngp]", "[]"])
def test_one_cell_with_one_theory_or_none(tmp_path, theories):
    store = analyzed(tmp_path, *PRIOR, *NO_REGRESSION, "sweep={}", f"theories={theories}")
    planned = stored_plan(store)
    fits = xr.open_dataset(store.data, group="fits", engine="zarr").load()
    assert fits.sizes["theory"] == len(planned.spec.theories)
    assert fits["measured"].notnull().any()
    for theory in planned.spec.theories:
        one = fits.sel(theory=theory)
        assert one["score"].notnull().any()
        assert set(one["rank"].values[one["rank"].notnull()]) == {1.0}
        assert misfit(theory, planned.cells[0].spec) is None
