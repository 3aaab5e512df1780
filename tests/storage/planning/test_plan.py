import collections
import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.arrays.coordinates import ensemble_axes, ensemble_coordinates, regression_axes
from storage.arrays.schema import ensemble_sizes, has_step_check, regression_sizes
from storage.campaign.resolved import regressed
from storage.planning.identity import campaign_identity, cell_identity, regression_identity
from storage.planning.plan import WARMUP, Round, plan
from storage.planning.sweep import assign
from storage.reading.document import dump_yaml, parse, validate
from support.example_specs import EXAMPLES, LINEAR, campaign


def changed(name, **settings):
    """An example with settings changed; a.b is written a__b."""
    raw = copy.deepcopy(EXAMPLES[name])
    for path, value in settings.items():
        assign(raw, path.replace("__", "."), value)
    return validate(raw)


def widths(*values, **settings):
    return changed("quickstart", sweep={"width": {"network.width": list(values)}}, **settings)


QUICKSTART = validate(EXAMPLES["quickstart"])


def test_words_of_a_cell_have_no_digits_of_a_rounding_error():
    between = (0.1 + 0.2) / 2
    spec = changed("quickstart", sweep={"heat": {"sampler.temperature": [0.1, between, 1.0]}})
    cells = plan(spec).cells
    assert f"{between}" == "0.15000000000000002"
    assert cells[1].settings == {"sampler.temperature": between}
    words = ["sampler.temperature 0.1", "sampler.temperature 0.15", "sampler.temperature 1.0"]
    assert [cell.words for cell in cells] == words


# -- shards and lanes -----------------------------------------------------------------------------


def test_the_shards_of_the_packaged_campaign():
    """4 widths, 2 datasets, 1 block, a warm-up and 2 segments, and one block more at half the step.

    20 repeats and a spectrum.
    """
    planned = plan(QUICKSTART)
    shards = list(planned.shards())
    kinds = collections.Counter(shard.kind for shard in shards)
    sampled = {"ensemble": 4 * 2 * (1 + 2), "check": 4 * (1 + 2)}
    assert kinds == {**sampled, "regression": 20, "spectrum": 1}
    assert len(planned.cells) == 4
    assert len(planned.regressions) == 1
    assert sorted(map(len, planned.lanes())) == [1] * 21 + [3] * 12
    assert planned.directory == f"quickstart-{campaign_identity(QUICKSTART)[:10]}"


def test_the_spectrum_of_the_pool_comes_before_its_repeats():
    kinds = [shard.kind for shard in plan(QUICKSTART).shards()]
    assert kinds[:21] == ["spectrum"] + ["regression"] * 20


@pytest.mark.parametrize("name", EXAMPLES)
def test_names_are_unique_and_every_shard_stands_once(name):
    spec = validate(EXAMPLES[name])
    planned = plan(spec)
    shards = list(planned.shards())
    assert len({shard.name for shard in shards}) == len(shards) == len(set(map(repr, shards)))
    wanted = 0
    if spec.ensemble is not None:
        blocks = spec.ensemble.datasets * spec.ensemble.chains // spec.ensemble.block
        blocks += has_step_check(spec)
        wanted += len(planned.cells) * blocks * (1 + spec.sampler.draws // spec.sampler.segment)
    if spec.regression is not None:
        wanted += len(planned.regressions) * (1 + spec.regression.repeats)
    assert len(shards) == wanted > 0


def test_a_lane_is_a_block_of_chains_from_the_warm_up_to_the_last_segment():
    spec = changed("linear", ensemble__datasets=2, ensemble__chains=6, sampler__draws=9)
    *lanes, check = plan(spec).lanes()
    assert {(lane[0].dataset, lane[0].block) for lane in lanes} == {
        (dataset, block) for dataset in range(2) for block in range(3)
    }
    for lane in lanes:
        assert [shard.segment for shard in lane] == [WARMUP, 0, 1, 2]
        assert len({(shard.cell.key, shard.dataset, shard.block) for shard in lane}) == 1
    assert [(shard.kind, shard.segment) for shard in check] == [
        ("check", segment) for segment in (WARMUP, 0, 1, 2)
    ]


@pytest.mark.parametrize(
    ("sampler", "checked"),
    [
        ({"scheme": "ula", "friction": None}, True),
        ({"scheme": "mala", "friction": None}, False),  # without bias
        ({"step_check": False}, False),
        ({"scheme": "adam", "friction": None}, False),  # without a law
    ],
)
def test_the_step_is_checked_where_it_has_a_bias(sampler, checked):
    raw = copy.deepcopy(EXAMPLES["linear"])
    raw["sampler"] |= sampler
    assert any(shard.kind == "check" for shard in plan(validate(raw)).shards()) == checked


def test_names_say_what_a_shard_is():
    names = [shard.name for shard in plan(QUICKSTART).shards()]
    cell = plan(QUICKSTART).cells[0].key
    regression = plan(QUICKSTART).regressions[0].key
    assert names[:2] == [f"spectrum/{regression}/pool", f"regression/{regression}/r0000"]
    assert names[21:24] == [
        f"ensemble/{cell}/d0000-b0000-{last}" for last in ("warmup", "s00000", "s00001")
    ]


def test_indices_count_the_cells_in_the_order_of_the_grid():
    planned = plan(validate(EXAMPLES["monomial"]))
    assert [cell.index for cell in planned.cells] == list(range(6))
    assert [cell.settings["data.train"] for cell in planned.cells] == [5, 10, 20, 5, 10, 20]
    assert all(cell.identity == cell_identity(cell.spec) for cell in planned.cells)


def test_a_regression_is_planned_once_for_all_cells_that_it_does_not_tell_apart():
    sweep = {"width": {"network.width": [8, 16]}, "bias": {"network.bias_variance": [0, 1]}}
    planned = plan(changed("quickstart", sweep=sweep))
    assert len(planned.cells) == 4
    assert [cell.spec.network.bias_variance for cell in planned.regressions] == [0, 1]
    assert all(cell.identity == regression_identity(cell.spec) for cell in planned.regressions)


def test_a_hundred_thousand_shards():
    sweep = {
        "size": {"data.train": list(range(1, 51))},
        "noise": {"data.label_noise": [i / 10 for i in range(20)]},
    }
    ensemble = {"datasets": 5, "chains": 8, "block": 2}  # 20 lanes of 5 shards
    sampler = {**EXAMPLES["linear"]["sampler"], "draws": 12, "step_check": False}
    spec = validate(campaign(LINEAR, ensemble=ensemble, sampler=sampler, sweep=sweep))
    names = {shard.name for shard in plan(spec).shards()}
    assert len(names) == 1000 * 20 * 5 == 100_000


# -- stores that grow -----------------------------------------------------------------------------


def test_new_cells_come_behind_those_that_are_known():
    first, second = widths(16, 64), widths(8, 64, 32, 16)
    planned = plan(second, [first])
    assert [cell.settings["network.width"] for cell in planned.cells] == [16, 64, 8, 32]
    assert [cell.index for cell in planned.cells] == [0, 1, 2, 3]
    assert planned.identity == plan(first).identity
    assert planned.directory == plan(first).directory


def test_only_what_the_spec_asks_for_is_work():
    first, second = widths(16, 64, 256), widths(64, 8)
    planned = plan(second, [first])
    assert len(planned.cells) == 4
    worked = {shard.cell.index for shard in planned.shards() if shard.kind == "ensemble"}
    assert worked == {1, 3}
    assert {cell.identity for cell in plan(second).cells} < planned.current


def test_more_draws_chains_datasets_and_repeats_add_shards_and_keep_names():
    more = changed(
        "quickstart",
        sampler__draws=105,
        ensemble__chains=16,
        ensemble__datasets=3,
        regression__repeats=22,
    )
    before = [shard.name for shard in plan(QUICKSTART).shards()]
    planned = plan(more, [QUICKSTART])
    after = [shard.name for shard in planned.shards()]
    assert set(before) < set(after)
    assert len(after) == 4 * (3 * 2 + 1) * (1 + 3) + 22 + 1  # one step check for each cell
    sizes = ensemble_sizes(planned)
    assert [sizes[dim] for dim in ("dataset", "chain", "draw", "block", "segment")] == [
        3,
        16,
        105,
        2,
        3,
    ]
    assert regression_sizes(planned)["repeat"] == 22


def test_a_smaller_spec_does_not_make_the_store_smaller():
    less = changed("quickstart", sampler__draws=35, ensemble__datasets=1)
    planned = plan(less, [QUICKSTART])
    sizes = ensemble_sizes(planned)
    assert (sizes["draw"], sizes["dataset"]) == (70, 2)
    assert planned.most("sampler", "draws") == 70
    assert sum(shard.kind == "ensemble" for shard in planned.shards()) == 4 * (1 + 1)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    history=st.lists(
        st.lists(st.sampled_from([8, 16, 32, 64, 128]), min_size=1, unique=True),
        min_size=1,
        max_size=5,
    )
)
def test_an_index_never_changes_once_it_is_given(history):
    specs, seen = [], {}
    for values in history:
        spec = widths(*values)
        planned = plan(spec, specs)
        specs = list(planned.specs)
        found = {cell.settings["network.width"]: cell.index for cell in planned.cells}
        assert found.items() >= seen.items()
        assert sorted(found.values()) == list(range(len(found)))
        asked = {shard.cell.index for shard in planned.shards() if shard.kind == "ensemble"}
        assert asked == {found[width] for width in values}
        seen = found


def test_a_spec_that_is_stored_is_not_stored_twice():
    first, second = widths(16, 64), widths(8)
    again = parse(dump_yaml(first))
    assert plan(again, [first, second]).specs == (first, second)
    widths_found = [c.settings["network.width"] for c in plan(again, [first, second]).cells]
    assert widths_found == [16, 64, 8]
    assert {
        shard.cell.index
        for shard in plan(again, [first, second]).shards()
        if shard.kind == "ensemble"
    } == {0, 1}


@pytest.mark.parametrize(("draws", "paid"), [(70, 5), (105, 3), (3500, 0)])
def test_cells_and_room_are_what_the_budget_pays_for(draws, paid):
    """Two datasets and a step check of a warm-up and draws / 35 segments: 9, 12 and 303 shards."""
    refine = {"axis": "width", "by": "gradient", "observable": "loss", "budget": 47}
    spec = changed("quickstart", sampler__draws=draws, refine=refine)
    points = [{"network.width": width} for width in (32, 128, 512, 24, 48, 96)]
    for added in range(len(points) + 1):
        planned = plan(spec, rounds=[Round(1, tuple(points[:added]))])
        assert len(planned.cells) == 4 + added
        assert planned.room == max(paid - added, 0)


def test_without_refinement_there_is_no_room():
    assert plan(QUICKSTART).room == 0


# -- what coordinates say of a plan ---------------------------------------------------------------


def test_coordinates_follow_the_cells_and_not_the_spec():
    planned = plan(widths(8, 64), [widths(64, 16)])
    coordinates = ensemble_coordinates(planned, ensemble_sizes(planned))
    assert coordinates["network_width"].values.tolist() == [64, 16, 8]
    assert coordinates["width"].values.tolist() == [64, 16, 8]
    assert coordinates["physical_temperature"].values.tolist() == [0.125] * 3
    assert coordinates["physical_readout_variance"].values.tolist() == [0.5] * 3


def test_coordinates_say_nothing_of_room_but_its_number():
    settings = {"network.width": [8, 64], "network.activation": ["erf", "relu"]}
    planned = plan(changed("quickstart", sweep={"size": settings}))
    bare = ensemble_coordinates(planned, ensemble_sizes(planned))
    found = ensemble_coordinates(planned, ensemble_sizes(planned, room=2))
    assert found["cell"].values.tolist() == [0, 1, 2, 3]
    assert found["refined"].values.tolist() == [0, 0, 2, 2]
    assert found["network_width"].values.tolist() == [8, 64, 0, 0]
    assert found["network_activation"].values.tolist() == ["erf", "relu", "", ""]
    np.testing.assert_array_equal(
        found["physical_temperature"].values, [0.125, 0.125] + [np.nan] * 2
    )
    for name, coordinate in bare.items():
        assert found[name].values.dtype == coordinate.values.dtype, name
        np.testing.assert_array_equal(
            found[name].values[: len(coordinate.values)], coordinate.values
        )


def test_axes_of_ensembles_and_regressions():
    sweep = {
        "strength": {"network.chi": [4, 8], "sampler.temperature": [0.5, 1]},
        "width": {"network.width": [8]},
        "noise": {"data.label_noise": [0, 1]},
        "size": {"data.train": [5]},
    }
    spec = changed("quickstart", sweep=sweep)
    assert ensemble_axes(spec) == {axis: list(paths) for axis, paths in sweep.items()}
    assert regression_axes(regressed(spec)) == {
        "strength": ["network.chi"],
        "noise": ["data.label_noise"],
    }
    assert len(plan(spec).regressions) == np.prod(
        [
            len(sweep[a]["network.chi" if a == "strength" else "data.label_noise"])
            for a in ("strength", "noise")
        ]
    )
