import importlib
import itertools
import math
import pkgutil

import pytest

from pipelines import analysis, theories
from pipelines.report.words import sweep_sentence
from storage.arrays.coordinates import axes, ensemble_axes
from storage.arrays.schema import Variable, ensemble_variables, regression_variables
from storage.campaign.spec import Campaign
from storage.errors import CampaignError
from storage.planning.plan import plan
from storage.planning.sweep import (
    DIMENSIONS,
    VARIABLES,
    Resolver,
    assign,
    axis_lengths,
    excluded_points,
    grid,
    resolve,
)
from storage.reading.document import validate
from support.example_specs import EXAMPLES, LINEAR, SAMPLER, SINGLE_INDEX, campaign


def swept(data=LINEAR, sweep=None, **sections):
    return validate(campaign(data, sweep=sweep, **sections))


def refusal(**arguments):
    with pytest.raises(CampaignError) as error:
        swept(**arguments)
    return str(error.value)


# -- the grid -------------------------------------------------------------------------------------


def test_without_a_sweep_there_is_one_cell():
    spec = swept(sweep={})
    assert list(grid(spec)) == [{}]
    assert resolve(spec, {}) == spec


def test_cells_are_the_product_of_the_axes_with_the_last_running_fastest():
    values = {"b": ("network.width", [8, 4]), "a": ("data.train", [3, 1, 2])}
    spec = swept(sweep={axis: {path: numbers} for axis, (path, numbers) in values.items()})
    assert axis_lengths(spec) == {"b": 2, "a": 3}
    found = [(cell["network.width"], cell["data.train"]) for cell in grid(spec)]
    assert found == [(8, 3), (8, 1), (8, 2), (4, 3), (4, 1), (4, 2)]
    assert found == list(itertools.product([8, 4], [3, 1, 2]))


def test_settings_on_one_axis_move_together():
    spec = validate(EXAMPLES["prior"])
    assert axis_lengths(spec) == {"shape": 2, "bias": 2}
    assert [
        (resolve(spec, cell).network.depth, resolve(spec, cell).network.weight_variance)
        for cell in grid(spec)
    ] == [(1, (1, 2)), (1, (1, 2)), (2, (1, 1, 2)), (2, (1, 1, 2))]


def test_a_resolved_cell_has_the_settings_and_no_sweep():
    spec = validate(EXAMPLES["quickstart"])
    cell = resolve(spec, {"network.width": 1024})
    assert cell.network.width == 1024
    assert cell.sweep == {}
    unchanged = set(Campaign.model_fields) - {"network", "sweep"}
    assert all(getattr(cell, key) == getattr(spec, key) for key in unchanged)
    assert spec.network.width == 64


def test_cells_that_share_sections_are_as_if_each_was_checked_by_itself():
    spec = swept(
        SINGLE_INDEX,
        sweep={
            "size": {"data.train": [10, 20], "network.width": [4, 8]},
            "hidden": {"network.depth": [1, 2], "network.weight_variance": [[1, 2], [1, 3, 2]]},
            "heat": {"sampler.temperature": [0.1, 1.0]},
        },
    )
    resolver = Resolver(spec)
    for settings in grid(spec):
        together, alone = resolver.at(settings), resolve(spec, settings)
        assert together == alone
        assert together.model_dump_json(exclude_unset=True) == alone.model_dump_json(
            exclude_unset=True
        )


def test_what_sections_need_of_each_other_is_checked_at_every_point():
    one, two = [0.1, 0.1], [0.1, 0.1, 0.1]  # a step for each layer
    spec = swept(
        sweep={
            "hidden": {"network.depth": [1, 2], "network.weight_variance": [[1, 2], [1, 3, 2]]},
            "step": {"sampler.step_size": [one, two]},
        },
        sampler={k: v for k, v in SAMPLER.items() if k != "friction"} | {"scheme": "ula"},
        exclude=[
            {"network.depth": 1, "sampler.step_size": two},
            {"network.depth": 2, "sampler.step_size": one},
        ],
    )
    resolver = Resolver(spec)
    shallow, deep = [resolver.at(settings) and settings for settings in grid(spec)]
    with pytest.raises(CampaignError, match="found 3 steps; wanted one number, or one for each of"):
        resolver.at(shallow | {"sampler.step_size": deep["sampler.step_size"]})


# -- points that are left out ----------------------------------------------------------------------

CROSSED = {
    "width": {"network.width": [4, 16]},
    "strength": {"sampler.temperature": [0.1, 1], "sampler.thin": [4, 2]},
}


def points(exclude, sweep=CROSSED):
    """Width and temperature of every cell."""
    spec = swept(sweep=sweep, exclude=exclude)
    return [(point["network.width"], point["sampler.temperature"]) for point in grid(spec)]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ([], [(4, 0.1), (4, 1), (16, 0.1), (16, 1)]),
        ([{"width": 4, "strength": 1}], [(4, 0.1), (16, 0.1), (16, 1)]),
        ([{"network.width": 4, "sampler.thin": 2.0}], [(4, 0.1), (16, 0.1), (16, 1)]),
        ([{"sampler.temperature": 1, "sampler.thin": 2}], [(4, 0.1), (16, 0.1)]),
        ([{"strength": 1}, {"width": 4, "strength": 1}], [(4, 0.1), (16, 0.1)]),
        ([{"width": 4}, {"strength": 0.1}], [(16, 1)]),
    ],
)
def test_an_entry_leaves_out_all_points_that_have_its_values(exclude, left):
    assert points(exclude) == left
    assert excluded_points(swept(sweep=CROSSED, exclude=exclude)) == 4 - len(left)


def test_the_report_says_how_many_are_left_out():
    for exclude, words in [
        ([], ", in all combinations."),
        ([{"width": 4, "strength": 1}], ", in all combinations but one that was left out."),
        ([{"strength": 1}], ", in all combinations but two that were left out."),
    ]:
        assert sweep_sentence(swept(sweep=CROSSED, exclude=exclude)).endswith(words)


def test_the_report_lists_a_few_values_and_the_ends_of_many():
    few, many = list(range(1, 11)), list(range(11, 0, -1))
    assert "took the values 1, 2, 3" in sweep_sentence(swept(sweep={"n": {"network.width": few}}))
    said = sweep_sentence(swept(sweep={"n": {"network.width": many}}))
    assert said == "The width N took 11 values from 1 to 11."


def test_values_of_any_kind_can_be_left_out():
    sweep = {
        "prior": {"network.weight_variance": [[1, 2], [2, 1]]},
        "normalize": {"data.normalize": [None, {"center": True}]},
    }
    exclude = [{"prior": [1.0, 2], "normalize": None}, {"normalize": {"center": True}}]
    spec = swept(sweep=sweep, exclude=exclude)
    assert list(grid(spec)) == [{"network.weight_variance": [2, 1], "data.normalize": None}]


def test_a_point_that_is_left_out_need_not_make_sense():
    sweep = {
        "scaling": {"network.scaling": ["standard", "mean_field"]},
        "chi": {"network.chi": [1, 8]},
    }
    assert "chi is 8.0 with scaling standard" in refusal(sweep=sweep)
    spec = swept(sweep=sweep, exclude=[{"scaling": "standard", "chi": 8}])
    assert len(plan(spec).cells) == 3
    assert axes(spec, {"chi": ["network.chi"]}) == {"chi": {"network_chi": [1, 8]}}


def test_a_value_that_no_point_has_left_has_no_place_on_its_axis():
    spec = swept(sweep=CROSSED, exclude=[{"width": 4}])
    assert axes(spec, ensemble_axes(spec)) == {
        "width": {"network_width": [16]},
        "strength": {"sampler_temperature": [0.1, 1], "sampler_thin": [4, 2]},
    }


def test_places_on_an_axis_keep_its_order_whatever_is_left_out_first():
    spec = swept(sweep=CROSSED, exclude=[{"width": 4, "strength": 0.1}])
    assert axes(spec, ensemble_axes(spec))["strength"]["sampler_temperature"] == [0.1, 1]


def test_cells_know_nothing_of_what_is_left_out():
    whole, part = swept(sweep=CROSSED), swept(sweep=CROSSED, exclude=[{"width": 4, "strength": 1}])
    names = [{cell.identity for cell in plan(spec).cells} for spec in (whole, part)]
    assert names[1] < names[0]
    grown = plan(whole, [part])
    assert [cell.index for cell in grown.cells] == [0, 1, 2, 3]
    assert [cell.identity for cell in grown.cells[:3]] == [c.identity for c in plan(part).cells]


EXCLUDED_WRONG = [
    ([{"widht": 4}], "exclude.0: widht is no axis of the sweep; did you mean width? allowed: "),
    ([{"data.train": 5}], "exclude.0: data.train is no axis of the sweep; allowed: width, "),
    ([{"width": 4}, {"width": 5}], "exclude.1.width: found 5, wanted one of the values 4, 16"),
    ([{"width": "4"}], "exclude.0.width: found '4', wanted one of the values 4, 16"),
    ([{"width": [4]}], "exclude.0.width: found [4], wanted one of the values 4, 16"),
    ([{"width": 4, "network.width": 4}], "exclude.0: names an axis and its setting; keep one"),
    (
        [{"sampler.temperature": 1, "sampler.thin": 4}],
        "exclude.0: no point of the sweep has sampler.temperature = 1, sampler.thin = 4 together",
    ),
    ([{"width": 4}, {"width": 16}], "exclude leaves no point of the sweep; keep at least one"),
    ([{}], "exclude.0: found 0 values, wanted at least 1"),
    (["width"], "exclude.0: found 'width', wanted a section of keys and values"),
    ({"width": 4}, "exclude: found {'width': 4}, wanted a list"),
]


@pytest.mark.parametrize(("exclude", "line"), EXCLUDED_WRONG)
def test_a_mistake_in_what_is_left_out_gets_one_line(exclude, line):
    assert line in refusal(sweep=CROSSED, exclude=exclude)


def test_without_a_sweep_nothing_can_be_left_out():
    assert "width is no axis of the sweep; nothing is swept" in refusal(exclude=[{"width": 4}])


PATHS = [
    ("data.teacher.3", [-0.05, 0.05], lambda cell: cell.data.teacher[3]),
    ("network.weight_variance.1", [2, 8], lambda cell: cell.network.weight_variance[1]),
    ("data.normalize.squared_norm", [1, 5], lambda cell: cell.data.normalize.squared_norm),
    ("data.normalize", [None, {"center": True}], lambda cell: cell.data.normalize),
    ("sampler.step_size", [1e-3, 1e-2], lambda cell: cell.sampler.step_size),
    ("network.activation", ["erf", "my.mod:phi"], lambda cell: cell.network.activation),
    ("data.inputs", ["gaussian", "sphere"], lambda cell: cell.data.inputs),
]


@pytest.mark.parametrize(("path", "values", "found"), PATHS, ids=[p[0] for p in PATHS])
def test_a_path_reaches_what_it_names(path, values, found):
    spec = swept(SINGLE_INDEX, {"axis": {path: values}})
    cells = [found(resolve(spec, cell)) for cell in grid(spec)]
    assert cells[0] != cells[1]
    if isinstance(values[0], int | float | str):
        assert cells == values


def test_assign_makes_sections_that_are_missing_and_knows_positions():
    raw = {"a": None, "b": [1, [2, 3]]}
    assign(raw, "a.c.d", 4)
    assign(raw, "b.1.0", 5)
    assign(raw, "e", 6)
    assign(raw, "sweep.axis.data.train", [7])
    assert raw == {
        "a": {"c": {"d": 4}},
        "b": [1, [5, 3]],
        "e": 6,
        "sweep": {"axis": {"data.train": [7]}},
    }


# -- mistakes -------------------------------------------------------------------------------------

TOO_MANY = {
    "x": {"data.train": list(range(1, 402))},
    "y": {"network.width": list(range(1, 252))},
}
MISTAKES = [
    ({"Size": {"data.train": [1]}}, "sweep: found the axis 'Size', wanted at most 40 lower-case"),
    ({"size\n": {"data.train": [1]}}, "sweep: found the axis 'size\\n', wanted"),
    ({"x" * 41: {"data.train": [1]}}, "wanted at most 40 lower-case letters, digits and _, a"),
    ({"draw": {"data.train": [1]}}, "sweep: draw is a dimension of the store; give the axis"),
    ({"loss": {"data.train": [1]}}, "sweep: loss is a variable of the store; give the axis"),
    ({"size": {}}, "sweep.size: found no setting; wanted at least one path with values"),
    (
        {"size": {"data.train": [1, 2], "network.width": [1]}},
        "settings that move together need as many values (data.train: 2, network.width: 1)",
    ),
    ({"size": {"data.train": [1, 2, 1]}}, "sweep.size: data.train = 1 appears twice; every cell"),
    ({"noise": {"data.label_noise": [1, 1.0]}}, "sweep.noise: data.label_noise = 1.0 appears"),
    ({"noise": {"data.label_noise": [0.0, -0.0]}}, "sweep.noise: data.label_noise = -0.0"),
    ({"s": {"network.weight_variance": [[1, 2], [1.0, 2]]}}, "network.weight_variance = [1.0, 2]"),
    ({"size": {"dat.train": [1]}}, "sweep.size: dat.train cannot be swept; did you mean data?"),
    ({"size": {"ensemble.chains": [2]}}, "sweep.size: ensemble.chains cannot be swept; allowed"),
    ({"size": {"data": [1]}}, "sweep.size: data is a section; wanted a setting of it, such as"),
    ({"size": {"data.": [1]}}, "sweep.size: data. is a section; wanted a setting of it"),
    ({"u": {"sampler.temprature": [1]}}, "temprature cannot be swept; did you mean temperature?"),
    ({"u": {"sampler.draws": [6]}}, "sweep.u: sampler.draws cannot be swept; allowed"),
    ({"u": {"data.test": [6]}}, "sweep.u: data.test fixes the shape of the store: make it a"),
    ({"u": {"data.outputs": [1, 2]}}, "sweep.u: data.outputs fixes the shape of the store: make"),
    ({"u": {"data.classes": [[1, 2]]}}, "sweep.u: data.classes fixes the shape of the store: make"),
    ({"u": {"data.source": ["digits"]}}, "sweep.u: data.source fixes the shape of the store"),
    ({"u": {"network.architecture": ["fcn"]}}, "sweep.u: network.architecture fixes what is"),
    (
        {"a": {"data.train": [1]}, "b": {"data.train": [2]}},
        "sweep.b: data.train is swept by axis a already",
    ),
    (
        {"a": {"network.weight_variance.0": [1]}, "b": {"network.weight_variance": [[1, 2]]}},
        "network.weight_variance.0 is part of network.weight_variance, which axis b sweeps",
    ),
    (TOO_MANY, "sweep: found 100651 cells, at most 100000 are allowed"),
    ({"w": {"network.widht": [1]}}, "sweep at network.widht = 1: network: unknown key widht"),
    ({"w": {"network.width": [1, 0]}}, "sweep at network.width = 0: network.width: found 0"),
    ({"w": {"network.width": ["1"]}}, "sweep at network.width = '1': network.width: found '1'"),
    ({"w": {"network.depth": [2]}}, "sweep at network.depth = 2: network: weight_variance has 2"),
    ({"w": {"network.weight_variance.2": [2]}}, "2 is no position in a list of 2, counted from"),
    ({"w": {"network.weight_variance.00": [2]}}, "00 is no position in a list of 2, counted"),
    ({"w": {"network.width.x": [2]}}, "network.width.x: found a value where a section was wanted;"),
    ({"w": {"network." + "a." * 99 + "a": [2]}}, "deeper than any key of a campaign; check the"),
    ({"w": {"sampler.temperature": [math.inf]}}, "sampler.temperature: found inf, wanted a"),
]  # fmt: skip


@pytest.mark.parametrize(("sweep", "line"), MISTAKES, ids=[line[:48] for _, line in MISTAKES])
def test_a_mistake_in_a_sweep_gets_one_line(sweep, line):
    assert line in refusal(sweep=sweep)


def test_a_setting_of_a_section_that_is_not_there():
    sections = {"network": None, "sampler": None, "ensemble": None}
    regression = EXAMPLES["power_law"]["regression"]
    line = refusal(sweep={"w": {"network.width": [1]}}, regression=regression, **sections)
    assert "sweep.w: network.width cannot be swept: there is no section network; add it" in line


def test_the_parts_of_the_target_are_those_of_every_cell():
    line = refusal(data=SINGLE_INDEX, sweep={"e": {"data.teacher.2": [1, 2]}})
    assert "the parts of the target change from ('He1', 'He3') to ('He1', 'He2', 'He3')" in line
    assert "name every order in data.teacher" in line


def test_every_mistake_of_a_cell_names_the_cell():
    sweep = {"a": {"network.width": [1, 2]}, "b": {"network.chi": [1, 2]}}
    assert refusal(sweep=sweep).startswith(
        "sweep at network.width = 1, network.chi = 2: network: chi"
    )


def test_axes_may_take_no_name_that_is_stored():
    spec = swept(SINGLE_INDEX, regression=EXAMPLES["digits"]["regression"])
    both = spec.model_copy(
        update={"regression": spec.regression.model_copy(update={"evaluate": ("pool", "heldout")})}
    )
    variables = ensemble_variables(both) | regression_variables(both)
    assert set(variables) <= {*VARIABLES, *DIMENSIONS}
    assert {dim for variable in variables.values() for dim in variable.dims} <= set(DIMENSIONS)


def test_nor_a_name_that_an_analysis_stores():
    found = {}
    modules = [
        *pkgutil.walk_packages(analysis.__path__, f"{analysis.__name__}."),
        *pkgutil.walk_packages(theories.__path__, f"{theories.__name__}."),
    ]
    for module in modules:
        constants = vars(importlib.import_module(module.name))
        for constant in constants.values():
            if isinstance(constant, dict):
                found |= {k: v for k, v in constant.items() if isinstance(v, Variable)}
    assert {"p_value", "learnability", "scale", "rank"} <= set(found)
    assert set(found) <= {*VARIABLES, *DIMENSIONS}
    sizes = {"size", "sampler_temperature"}  # settings along an axis: `scaling`, `free_energy`
    dims = {dim for variable in found.values() for dim in variable.dims}
    assert dims <= {*DIMENSIONS, *sizes}
