"""Sets of a file are drawn, whatever its order, and say how many points of each class they have."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.engine import engine
from pipelines.estimates.estimate import estimate
from pipelines.report.class_balance import planned_balance, stored_balance
from storage.campaign.plugins import Plugins
from storage.planning.identity import campaign_identity, cell_identity, data_identity
from storage.planning.sweep import resolve
from storage.reading.document import validate
from support.driving import simulate
from workers.data.balance import class_counts, stored_counts
from workers.data.datasets import content_digests, dataset
from workers.data.sources import draws_test_points, make, make_pool

REGRESSION = {
    "kernel": {"activation": "erf", "weight_variance": [1, 2]},
    "train": [20],
    "ridges": [0.1],
    "repeats": 1,
    "pool": 100,
    "sampling": "without",
    "evaluate": ["pool", "heldout"],
}
ENSEMBLE = {
    "network": {"width": 4, "activation": "erf", "weight_variance": [1, 1]},
    "sampler": {
        "scheme": "prior",
        "temperature": 0.5,
        "step_size": None,
        "warmup": 1,
        "draws": 2,
        "segment": 2,
    },
    "ensemble": {"datasets": 2, "chains": 2, "block": 2},
}
POINTS, MINUS = 100, 54  # of x_test, sorted by class: 54 of -1, then 46 of +1


@pytest.fixture
def sorted_file(tmp_path):
    rng = np.random.default_rng(0)
    y_test = np.where(np.arange(POINTS) < MINUS, -1.0, 1.0)
    y_train = np.where(rng.permutation(POINTS) < 60, -1.0, 1.0)
    x_train, x_test = rng.standard_normal((2, POINTS, 4))
    path = tmp_path / "sorted.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def section(path, **changes):
    found = {"source": "npz", "file": str(path), "train": 20, "test": 40}
    return found | changes


def settings_of(path, **changes):
    common = {"label_noise": 0.0, "normalize": None, "outputs": 1}
    return SimpleNamespace(**common, **section(path, **changes))


def campaign(path, **sections):
    return validate({"version": 1, "name": "balance", "data": section(path), **sections})


def test_every_part_of_a_sorted_file_is_as_likely_in_a_test_set(sorted_file):
    """Of 40 drawn of 100, each row is there with probability 0.4, independently of its class."""
    draws = 400
    seen = np.zeros(POINTS)
    for seed in range(draws):
        found = make(settings_of(sorted_file), seed)
        rows = found.origins[1].rows - POINTS
        assert len(set(rows.tolist())) == 40
        seen[rows] += 1
    # Counts are binomial with deviation sqrt(draws 0.4 0.6); the largest of 100 is below 5 of them.
    assert np.abs(seen - 0.4 * draws).max() < 5 * np.sqrt(draws * 0.4 * 0.6)


def test_test_points_do_not_depend_on_the_training_points_and_are_those_of_the_pool(sorted_file):
    one, other = (make(settings_of(sorted_file, train=n, test=30), 7) for n in (5, 90))
    assert np.array_equal(one.x_test, other.x_test)
    pool = make_pool(settings_of(sorted_file, test=30), 50, 7, 30)
    assert np.array_equal(pool.x_heldout, one.x_test)
    more = make(settings_of(sorted_file, test=60), 7)
    assert np.array_equal(more.x_test[:30], one.x_test)


def test_all_points_come_in_the_order_of_the_file(sorted_file):
    found = make(settings_of(sorted_file, test=POINTS), 3)
    with np.load(sorted_file) as arrays:
        assert np.array_equal(found.x_test, arrays["x_test"])


def test_a_draw_is_part_of_the_identity_and_older_campaigns_keep_their_points(sorted_file):
    """Numbers change where the first points are no longer taken, and nowhere else."""
    spec = resolve(campaign(sorted_file, **ENSEMBLE), {})
    plugins = Plugins()
    sources = content_digests(spec, plugins)
    file_alone = {"npz": sources["npz"]}
    assert sources == {**file_alone, "test points": "drawn"}
    for identity in (campaign_identity, cell_identity, data_identity):
        assert identity(spec, sources) != identity(spec, file_alone)
    everything = spec.model_copy(update={"data": spec.data.model_copy(update={"test": POINTS})})
    assert content_digests(everything, plugins) == file_alone
    assert not draws_test_points(everything.data)
    untested = campaign(sorted_file, regression=REGRESSION | {"evaluate": ["pool"]})
    assert content_digests(untested, plugins) == file_alone
    with np.load(sorted_file) as arrays:
        kept = dataset(spec, 0, plugins, file_alone)
        assert np.array_equal(kept.x_test, arrays["x_test"][:40])


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=10),
    split=st.integers(1, 200),
    seed=st.integers(0, 99),
)
def test_counts_are_those_of_the_points(counts, split, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)) / 3, counts))
    found = class_counts({"train": y[:split], "test": y[split:]})
    if 2 * len(counts) > len(y):
        assert found is None
        return
    targets, by = found
    assert np.array_equal(targets, np.arange(len(counts)) / 3)
    assert np.array_equal(by["train"] + by["test"], counts)
    assert by["train"].sum() == min(split, len(y))


def test_rows_of_several_outputs_are_classes_and_numbers_at_random_are_none():
    y = np.eye(3)[[0, 1, 1, 2, 2, 2, 0, 1]]
    stored = stored_counts({"train": y[:6], "test": y[6:]})
    assert stored["class_target"].shape == (10, 3)
    assert np.array_equal(stored["class_target"][:3], [[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    assert stored["train_class_count"].tolist() == [3, 2, 1] + [0] * 7
    assert stored["test_class_count"].tolist() == [0, 1, 1] + [0] * 7
    y = np.random.default_rng(0).standard_normal(40)
    assert class_counts({"train": y[:20], "test": y[20:]}) is None
    assert class_counts({"train": y[:4], "test": y[4:8]}) is None


def test_balance_is_stored_planned_and_reported(sorted_file, tmp_path):
    spec = campaign(sorted_file, **ENSEMBLE, regression=REGRESSION)
    spec = validate(
        {**spec.model_dump(mode="json", exclude_unset=True)}
        | {"data": section(sorted_file, label_noise=0.5), "observe": {"points": 10}}
    )
    prepared = engine.prepare(spec, str(tmp_path))
    lines = [
        line for line in planned_balance(prepared, prepared.plan) if line.startswith("classes  ")
    ]
    assert len(lines) == 2
    assert lines[1].startswith("classes  points of the pool 60 with target −1, 40 with target 1; h")
    assert all(line in estimate(prepared) for line in lines)
    simulate(prepared)
    tree = xr.open_datatree(prepared.store.data, engine="zarr", consolidated=False)
    ensemble, regression = tree["ensemble"], tree["regression"]
    assert ensemble.train_class_count.dims == ("cell", "dataset", "class_index")
    for index in range(2):
        cell = prepared.plan.cells[0].spec
        data = dataset(cell, index, prepared.plugins, prepared.sources)
        for name, y in (("train", data.y_clean), ("test", data.y_test)):
            found = ensemble[f"{name}_class_count"][0, index].values
            wanted = [np.count_nonzero(y == -1), np.count_nonzero(y == 1)]
            assert found.tolist() == wanted + [0] * 8
    assert regression.pool_class_count.values[0, :2].tolist() == [60, 40]
    assert regression.class_target.values[0, :3] == pytest.approx([-1, 1, np.nan], nan_ok=True)
    sentence = stored_balance(prepared.store)
    assert sentence.startswith("Classes: training points ")
    assert "points of the pool 60 with target −1, 40 with target 1" in sentence


def test_a_set_that_lacks_a_class_is_said(sorted_file, tmp_path):
    """Points that are all asked for come as they lie, and the first of them are of one class."""
    spec = campaign(sorted_file, **ENSEMBLE, observe={"points": 10})
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"test": POINTS})})
    prepared = engine.prepare(spec, str(tmp_path))
    lines = planned_balance(prepared, prepared.plan)
    assert "probe points 10 with target −1, none with target 1" in lines[0]
    assert lines[1].startswith("warning  none with target 1 is among the probe points, though")
