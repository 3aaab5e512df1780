"""What a driven campaign stores is complete, exact where it can be, and says what went wrong."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from pipelines.engine.engine import Choice, Inline, Prepared, drive, prepare, run
from pipelines.engine.waves import MOST_WAVES, Wave, merged
from storage.arrays.schema import STATUS
from storage.errors import CampaignError, IncompleteError
from storage.files.checkpoint import load
from storage.planning.plan import WARMUP, Shard, plan
from storage.store.store import Store, checkpoint_name
from support.driving import HERE, prepared, simulate, small
from theory.finite_width.scale_mixture import linear_posterior
from theory.kernels.fully_connected import nngp
from workers import numerics
from workers.data.datasets import dataset
from workers.ensemble import ensemble
from workers.faults import Fault
from workers.shard import failure


@pytest.fixture(autouse=True)
def _beside_the_plugin(monkeypatch):
    monkeypatch.chdir(HERE)


def arrays(store: Store, group: str = "ensemble") -> dict[str, np.ndarray]:
    """Every array of a group, as anybody with zarr reads it."""
    return {name: array[...] for name, array in zarr.open_group(store.data)[group].arrays()}


def first_block(*overrides: str) -> Shard:
    """The warm-up of the first block of the first cell."""
    return Shard("ensemble", plan(small(*overrides)).cells[0], segment=WARMUP)


@pytest.mark.slow
def test_every_neuron_is_counted_once_a_draw(tmp_path):
    campaign = prepared(tmp_path)
    simulate(campaign)
    found = arrays(campaign.store)
    counts = found["histogram"].sum(-1)  # (cell, dataset, chain, segment, layer, direction)
    widths = found["width"].reshape(-1, 1, 1, 1, 1, 1)
    assert counts.shape == (2, 2, 4, 3, 1, 3)
    assert np.array_equal(counts, np.broadcast_to(2 * widths, counts.shape))  # 2 draws a segment
    assert np.array_equal(found["moment"][..., 0], counts)
    assert (found["status"] == STATUS["ok"]).all()
    assert (found["finished"] == 1).all()
    assert (arrays(campaign.store, "regression")["finished"] == 1).all()


def test_a_chain_that_diverges_leaves_those_beside_it_alone():
    def run(state):
        segment = Shard(first.kind, first.cell, segment=0)
        return ensemble.run(segment, campaign.plugins, campaign.sources, state)

    campaign = prepared("nowhere")
    first = first_block()
    _, state = ensemble.run(first, campaign.plugins, campaign.sources, None)
    position = state["position"].copy()
    position[1, 0] = np.nan
    sound, _ = run(state)
    values, after = run({**state, "position": position})

    assert values["status"].tolist() == [STATUS["ok"], STATUS["diverged"]]
    assert after["sound"].tolist() == [True, False]
    per_chain = set(values) - {"kernel", "kernel_square"}
    for name in per_chain:
        assert np.array_equal(values[name][0], sound[name][0], equal_nan=True)
    counted = {"histogram", "moment", "overlap_histogram"}
    assert not any(values[name][1].any() for name in counted)
    for name in per_chain - counted - {"status"}:
        assert np.isnan(values[name][1]).all()
    assert np.isfinite(values["kernel"]).all()


def test_a_warm_up_leaves_a_checkpoint_and_a_receipt_and_no_draws(tmp_path):
    campaign, shard = prepared(tmp_path), first_block()
    with drive(campaign, Inline()) as driven:
        (outcome,) = driven.run(Wave("warm-up", ((shard,),)))
    store = campaign.store
    receipt = store.ledger.receipt(shard.name)
    assert receipt is not None
    assert receipt == outcome.receipt
    state = load(store.objects, checkpoint_name(shard), receipt["checkpoint"])
    assert state["step"] == small().sampler.warmup
    assert np.isfinite(state["position"]).all()
    empty = arrays(store)
    assert not empty["finished"].any()
    assert not empty["histogram"].any()
    assert all(np.isnan(empty[name]).all() for name in ("loss", "learnability", "output_mean"))


@pytest.mark.slow
def test_a_step_far_too_long_is_stored_as_divergence(tmp_path):
    ula = ("sampler.scheme=ula", "sampler.friction=null", "sampler.step_size=50")
    campaign = prepared(tmp_path, *ula, "sampler.warmup=40")
    outcomes = [o for o in simulate(campaign) if o.shard.kind == "ensemble"]
    drawn = [o.receipt["diverged"] for o in outcomes if o.shard.segment != WARMUP]
    assert drawn == [2] * len(drawn)
    found = arrays(campaign.store)
    assert (found["status"] == STATUS["diverged"]).all()
    assert np.isnan(found["loss"]).all()
    assert np.isnan(found["kernel"]).all()
    assert not found["histogram"].any()
    assert (found["finished"] == 1).all()


@pytest.mark.slow
def test_a_cell_that_fails_leaves_the_others_to_be_analyzed_and_is_told_at_the_end(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PICKY_WIDTH", "4")
    failing = small("observe.measure=[plugin:picky]", "theories=[nngp]", "regression=null")
    with pytest.raises(IncompleteError, match=r"^4 shards failed, first .*no width like 4"):
        run(failing, str(tmp_path), ["plugin"])
    store = prepare(failing, str(tmp_path), ["plugin"]).store
    assert Path(store.url, "report/report.html").is_file()
    narrow, wide = arrays(store, "progress")["rhat"]
    assert np.isnan(narrow).all()
    assert np.isfinite(wide).all()


@pytest.mark.slow
def test_a_shard_that_fails_is_written_down_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PICKY_WIDTH", "4")
    campaign = prepared(tmp_path, "observe.measure=[plugin:picky]")
    with drive(campaign, Inline()) as driven:
        for wave in driven.left:
            assert all(outcome.shard.name for outcome in driven.run(wave))
        with pytest.raises(CampaignError) as caught:
            driven.check()
    narrow, wide = driven.plan.cells
    failed = campaign.store.ledger.failures()
    assert [failure.shard for failure in failed] == [
        f"ensemble/{narrow.key}/d{d:04d}-b{b:04d}-s00000" for d in range(2) for b in range(2)
    ]
    assert all(any("in picky" in line for line in each.record["traceback"]) for each in failed)
    finished = campaign.store.ledger.finished()
    assert sum(wide.key in name for name in finished) == 20
    assert sum(f"ensemble/{narrow.key}" in name for name in finished) == 4  # warm-ups
    assert f"4 shards failed, first {failed[0].shard}: ZeroDivisionError: no width like 4;" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)

    monkeypatch.delenv("PICKY_WIDTH")
    with drive(campaign, Inline()) as driven:
        assert driven.left == []  # what would fail again is not tried again by itself
        with pytest.raises(CampaignError, match=r"failed in an earlier run.*--retry-failed"):
            driven.check()
    with drive(campaign, Inline(), Choice(retry=True)) as driven:
        again = [outcome for wave in driven.left for outcome in driven.run(wave)]
        driven.check()
    assert len(again) == driven.total - len(finished)
    assert len(campaign.store.ledger.finished()) == driven.total


def test_what_failed_is_written_down_for_people(tmp_path, monkeypatch):
    monkeypatch.setenv("PICKY_WIDTH", "4")
    campaign = prepared(tmp_path, "observe.measure=[plugin:picky]")
    cell = plan(campaign.spec).cells[0]
    lane = tuple(Shard("ensemble", cell, 1, 1, segment) for segment in (WARMUP, 0))
    with drive(campaign, Inline()) as driven:
        _, outcome = driven.run(Wave("a lane", (lane,)))
    assert outcome.fault is Fault.BUG
    (file,) = Path(campaign.store.url, "ledger/failures").rglob("*.json")
    lines = file.read_text().splitlines()
    assert lines[1] == ' "error": "ZeroDivisionError: no width like 4",'
    assert lines[2].startswith(' "advice": "put right what the error names')
    record = json.loads(file.read_text())
    assert record["computing"] == {
        "what": "chains",
        "cell": {"network.width": 4},
        "dataset": 1,
        "block": 1,
        "segment": 0,
    }
    assert all("\n" not in line for line in record["traceback"])


@pytest.mark.parametrize(
    ("error", "certain"),
    [
        (ZeroDivisionError("no"), True),
        (OSError(28, "No space left on device"), False),
        (MemoryError(), False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), False),
    ],
)
def test_only_what_is_the_machine_s_fault_is_tried_again_by_the_same_command(error, certain):
    record = failure(first_block(), error)
    assert record["certain"] == certain
    assert ("same command" in record["advice"]) != certain


def test_a_worker_with_other_versions_is_refused(tmp_path, monkeypatch):
    campaign = prepared(tmp_path)
    with drive(campaign, Inline()) as driven:
        found = {**numerics.describe(), "torch": "0.4.1"}
        monkeypatch.setattr(numerics, "describe", lambda *_, **__: found)
        with pytest.raises(
            CampaignError, match=r"torch is 0\.4\.1, the campaign runs with 2\."
        ) as e:
            list(driven.run(driven.left[0]))
    assert "\n" not in str(e.value)
    assert campaign.store.ledger.finished() == set()


REFUSED = {
    "a file that is not there": ["data={source: npz, file: none.npz, train: 5, test: 5}"],
    "more points than there are": [
        "data={source: digits, positive: [3], negative: [8], train: 5000, test: 5}"
    ],
    "a pool larger than the data": [
        "data={source: digits, positive: [3], negative: [8], train: 9, test: 9}",
        "regression.pool=5000",
    ],
    "code that is not allowed": ["network.activation=math:tanh", "regression=null"],
    "code that is not there": ["observe.measure=[plugin_of_nobody:f]"],
}


@pytest.mark.parametrize("overrides", REFUSED.values(), ids=REFUSED)
def test_what_cannot_run_writes_nothing(overrides, tmp_path):
    root = tmp_path / "stores"
    theories = "theories=[nngp]"
    with pytest.raises(CampaignError) as caught:
        prepare(small(theories, *overrides), str(root), ["plugin", "plugin_of_nobody"])
    assert "\n" not in str(caught.value)
    assert not root.exists()


def test_preparing_writes_nothing(tmp_path):
    root = tmp_path / "stores"
    assert prepared(root).store.url.startswith(str(root))
    assert not root.exists()


def test_a_run_of_some_cells_leaves_the_others(tmp_path):
    campaign = prepared(tmp_path)
    only = Choice(only=("size=8",))
    with drive(campaign, Inline(), only) as driven:
        computed = {o.shard.name for wave in driven.left for o in driven.run(wave)}
        driven.check()
    narrow, _ = driven.plan.cells
    shards = list(driven.plan.shards())
    assert computed == {s.name for s in shards if s.cell.key != narrow.key}
    assert driven.others == sum(s.cell.key == narrow.key for s in shards)
    assert {outcome.shard.cell.key for outcome in simulate(campaign)} == {narrow.key}


UNKNOWN = {
    "width=5": "network.width has no value 5; it has 4, 8",
    "widht=4": "did you mean",
    "width": "wanted AXIS=VALUE",
}


@pytest.mark.parametrize("only", UNKNOWN)
def test_cells_that_are_not_there_cannot_be_run(only, tmp_path):
    with pytest.raises(CampaignError, match=UNKNOWN[only]) as caught:
        drive(prepared(tmp_path / "stores"), Inline(), Choice(only=(only,))).__enter__()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_that_is_stopped_ends_after_the_shard_and_goes_on_later(tmp_path):
    campaign = prepared(tmp_path)
    with drive(campaign, Inline()) as driven:
        outcomes = driven.run(driven.left[0])
        first = next(outcomes)
        driven.executor.stop.set()
        assert list(outcomes) == []
    assert campaign.store.ledger.finished() == {first.shard.name}
    assert first.shard.name not in {outcome.shard.name for outcome in simulate(campaign)}


@pytest.mark.parametrize("count", [1, MOST_WAVES, MOST_WAVES + 1, 7 * MOST_WAVES - 1])
def test_many_waves_become_few_and_keep_their_lanes(count):
    shard = first_block()
    waves = [Wave(f"wave {i}", ((shard,) * (i % 3 + 1),)) for i in range(count)]
    fewer = merged(waves)
    assert len(fewer) <= MOST_WAVES
    assert [lane for wave in fewer for lane in wave.lanes] == [w.lanes[0] for w in waves]


@pytest.mark.slow
def test_packing_of_chains_into_blocks_does_not_change_their_noise(tmp_path):
    stores = []
    for block in (1, 2, 4):
        campaign = prepared(tmp_path, f"ensemble.block={block}", "sampler.precision=float64")
        simulate(campaign)
        stores.append(arrays(campaign.store))
    for other in stores[1:]:
        # Sums of a matrix product may be taken in another order: rounding of float64, grown over
        # 17 steps of dynamics whose positions are of order 1.
        assert np.allclose(stores[0]["loss"], other["loss"], rtol=1e-11, atol=0)
        assert np.array_equal(stores[0]["histogram"], other["histogram"])


LINEAR = (
    "data.teacher={1: 1.0}",
    "data.dimension=4",
    "data.train=6",
    "network.activation=linear",
    "sampler.step_size=0.1",
    "sampler.warmup=200",
    "sampler.draws=400",
    "sampler.segment=100",
    "sampler.thin=5",
    "ensemble={datasets: 1, chains: 64, block: 64}",
    "regression=null",
    "theories=[nngp]",
    "sweep={size: {network.width: [3]}}",
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_linear_network_follows_its_exact_posterior(seed, tmp_path):
    campaign = prepared(tmp_path, *LINEAR, f"ensemble.seed={seed}")
    simulate(campaign)
    found = arrays(campaign.store)
    per_chain = {  # chains are independent: their spread gives the error of their mean
        "output": found["output_mean"][0, 0].mean(1),
        "square": found["output_square"][0, 0].mean(1),
        "scale": found["weight_norm"][0, 0].mean(1)[:, None] / 2,  # |a|²/σ_a²
    }
    mean = {name: values.mean(0) for name, values in per_chain.items()}
    error = {name: values.std(0, ddof=1) / 8 for name, values in per_chain.items()}

    exact, infinite = (linear(campaign, width) for width in (3, 10**6))
    for name, wanted in exact.items():
        assert (np.abs(mean[name] - wanted) < 5 * error[name]).all(), name
        assert error[name].max() < 0.02 * np.abs(wanted).max(), name
    assert (np.abs(mean["scale"] - infinite["scale"]) > 5 * error["scale"]).all()


def linear(campaign: Prepared, width: int) -> dict[str, np.ndarray]:
    """Exact E[f], E[f²] at the test points and E[|a|²]/σ_a², given the data of the campaign."""
    (cell,) = plan(campaign.spec).cells
    data = dataset(cell.spec, 0, campaign.plugins, campaign.sources)
    x, x_test, y = (torch.as_tensor(a) for a in (data.x_train, data.x_test, data.y_train))
    kernel = partial(
        nngp, depth=1, activation="linear", weight_variance=(1.0, 2.0), bias_variance=0.0
    )
    diagonal = kernel(x_test).diagonal()
    exact = linear_posterior(kernel(x), kernel(x_test, x), diagonal, y, ridge=0.5, width=width)
    square = exact.mean.square() + exact.variance
    return {"output": exact.mean.numpy(), "square": square.numpy(), "scale": exact.scale.numpy()}
