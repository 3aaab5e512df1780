"""Regressions as a campaign: what is stored, what is shared on a machine, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.engine import engine, needs
from pipelines.report.sentences.refusals import refusal_lines
from storage.arrays.schema import REFUSED
from storage.backend.reader import open_campaign
from storage.reading.document import dump_yaml, validate
from support.driving import contents, small, unlike
from workers.cluster.remote import cluster
from workers.machine import memory, node_cache

CAMPAIGN = {
    "version": 1,
    "name": "regressions",
    "data": {"source": "linear", "dimension": 4, "train": 5, "test": 6},
    "regression": {
        "kernel": {"activation": "erf", "weight_variance": [1, 1]},
        "train": [5, 10, 20],
        "ridges": [0.5, 0.001],
        "repeats": 3,
        "pool": 30,
        "sampling": "with_replacement",
        "evaluate": ["pool", "heldout"],
    },
}
LINEAR = {"kernel": {"activation": "linear", "weight_variance": [1, 1]}}  # of rank 4


def campaign(**regression):
    return validate({**CAMPAIGN, "regression": {**CAMPAIGN["regression"], **regression}})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "finitewidth" / "shared"


def simulate(spec, root, executor=None):
    """Run all shards and open the group; the files that were shared meanwhile."""
    prepared = engine.prepare(spec, str(root))
    seen: set[str] = set()
    with engine.drive(prepared, executor or engine.Inline()) as driven:
        for wave in driven.left:
            for outcome in driven.run(wave):
                assert outcome.receipt, outcome.reason
                seen |= {path.name for path in node_cache.folder().iterdir()}
    return prepared.store, seen


def test_residuals_are_stored_and_nothing_is_refused(tmp_path):
    store, _ = simulate(campaign(), tmp_path)
    group = store.root.group("regression")
    assert group["residual"].shape == (1, 3, 3, 2)
    assert 0 < np.asarray(group["residual"][...]).max() < 1e-13
    assert not np.asarray(group["refused"][...]).any()
    np.testing.assert_allclose(group["pool_fraction"][...], [5 / 30, 10 / 30, 20 / 30])


@pytest.fixture
def _unchecked(monkeypatch):
    """Kernels that only the whole computation shows to be singular."""
    monkeypatch.setattr(needs, "check_kernel", lambda *_: None)


@pytest.mark.usefixtures("_unchecked")
def test_a_regression_that_fails_says_so_and_leaves_the_others(tmp_path):
    """Beyond its rank a kernel is nothing but its rounding and the ridge."""
    store, _ = simulate(campaign(**LINEAR, ridges=[0.5, 1e-17]), tmp_path)
    group = store.root.group("regression")
    refused = np.asarray(group["refused"][...])
    assert set(group["refused"].attrs["flag_meanings"].split()) == set(REFUSED)
    assert not refused[..., 0].any()
    assert refused[..., 1].all()
    for name in ("pool_error", "test_error", "log_evidence", "posterior_variance"):
        np.testing.assert_array_equal(np.isnan(group[name][...]), refused > 0)
    (line,) = refusal_lines(open_campaign(store.url))
    assert line.startswith("regressions without a result: 9 of 9 at T = 10⁻¹⁷ (K + T is not")


def test_points_that_a_file_has_for_testing_are_the_ones_held_out(tmp_path):
    rng = np.random.default_rng(1)
    x, far = rng.standard_normal((30, 3)), 1e6 * rng.standard_normal((5, 3))
    y, value = x[:, 0], np.full(5, 1000.0)
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=far, y_test=value)
    data = {"source": "npz", "file": str(tmp_path / "own.npz"), "train": 5, "test": 5}
    store, _ = simulate(validate({**CAMPAIGN, "data": data}), tmp_path)
    error = np.asarray(store.root.group("regression")["test_error"][...])
    np.testing.assert_allclose(error, 1000.0**2, rtol=0.05)  # erf has saturated: |f| is of order 1


def test_the_kernel_is_a_file_for_the_length_of_a_run(tmp_path, cache):
    _, seen = simulate(campaign(), tmp_path)
    assert sorted(name.rpartition("-")[2] for name in seen) == sorted(
        part + ending
        for part in ("kernel", "modes")
        for ending in ("", ".used", ".making", ".sha256")
    )
    assert list(cache.iterdir()) == []


def test_what_a_killed_run_left_is_swept(tmp_path, cache):
    cache.mkdir(parents=True)
    for name in ("old-kernel", "old-kernel.used", "old-kernel.making", "old-kernel.7.partial"):
        (cache / name).write_bytes(b"x")
    simulate(campaign(), tmp_path)
    assert list(cache.iterdir()) == []


@pytest.mark.ray
@pytest.mark.slow
def test_workers_that_share_a_kernel_write_what_one_process_writes(tmp_path, short):
    specs = [campaign(precision=precision, repeats=8) for precision in ("float32", "float64")]
    here = [simulate(spec, tmp_path / "inline")[0] for spec in specs]
    with cluster(cpus=2) as executor:
        there = [simulate(spec, tmp_path / "ray", executor)[0] for spec in specs]
        executor.everywhere(node_cache.sweep)
    for one, other in zip(here, there, strict=True):
        assert unlike(contents(f"{one.url}/data.zarr"), contents(f"{other.url}/data.zarr")) == []


@pytest.fixture
def finitewidth(finitewidth, monkeypatch, tmp_path):
    """Commands in a folder with nothing but a campaign, and pools of zeros."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    test = {"x_test": np.ones((5, 3)), "y_test": np.arange(5.0)}
    np.savez("zeros.npz", x_train=np.zeros((40, 3)), y_train=np.arange(40.0), **test)
    np.savez("no_targets.npz", x_train=np.eye(40, 3), y_train=np.zeros(40), **test)
    Path("campaign.yaml").write_text(dump_yaml(campaign()))
    return finitewidth


DIGITS = {"source": "digits", "positive": [1], "negative": [2], "train": 5, "test": 6}
WRONG = {
    "negative ridge": (
        {"regression.ridges": [-0.1]},
        "regression.ridges.0: found -0.1, wanted a number above 0",
    ),
    "ridge of zero": ({"regression.ridges": [0]}, "regression.ridges.0: found 0, wanted"),
    "nan for a ridge": (
        {"regression.ridges": ".nan"},
        "regression.ridges: found nan",
    ),
    "nan among ridges": (
        {"regression.ridges": "[1, .nan]"},
        "regression.ridges.1: found nan, wanted a finite number",
    ),
    "no ridge": ({"regression.ridges": []}, "found 0 values, wanted at least 1"),
    "more points than the pool": (
        {"regression.sampling": "without", "regression.train": [10, 31]},
        "train asks for 31 points of a pool of 30; draw with_replacement or fewer",
    ),
    "no points": ({"regression.train": [0]}, "regression.train.0: found 0, wanted"),
    "a pool of more than there is": (
        {"data": DIGITS, "regression.pool": 1000},
        "the data hold 359 points to learn from",
    ),
    "an empty class": ({"data": {**DIGITS, "positive": []}}, "data.positive: found 0 values"),
    "a class twice": ({"data": {**DIGITS, "negative": [1]}}, "name class 1 twice"),
    "no images": (
        {"data": {**DIGITS, "source": "mnist", "folder": "nowhere"}},
        "nowhere does not exist; name the folder that holds the IDX files of MNIST",
    ),
    "no file": (
        {"data": {"source": "npz", "file": "nowhere.npz", "train": 5, "test": 5}},
        "nowhere.npz cannot be read",
    ),
    "a kernel of zero": (
        {"data": {"source": "npz", "file": "zeros.npz", "train": 5, "test": 5}},
        "regression: the kernel is 0 at the largest point of the pool",
    ),
    "a variance below zero": (
        {"regression.kernel.weight_variance": [1, -1]},
        "regression.kernel.weight_variance.1: found -1, wanted a number above 0",
    ),
    "a ridge below rounding": (
        {"regression.ridges": [1e-18]},
        "regression.ridges: 1e-18 is lost in the float64 rounding of a kernel of size",
    ),
    "a ridge below the rounding of single precision": (
        {"regression.ridges": [1e-8], "regression.precision": "float32"},
        "points; give more than 7e-07, or precision: float64",
    ),
    "sizes out of order": (
        {"regression.train": [5, 20, 10]},
        "train is [5, 20, 10]; give sizes from small to large",
    ),
    "targets of zero": (
        {"data": {"source": "npz", "file": "no_targets.npz", "train": 5, "test": 5}},
        "regression: all targets of the pool are 0; look at the data",
    ),
    "more held-out points than the file has": (
        {"data": {"source": "npz", "file": "no_targets.npz", "train": 5, "test": 6}},
        "the data hold 5 points to test on, but 6 are asked for",
    ),
}


@pytest.mark.parametrize(
    "command", [("plan",), ("run", "--executor", "inline")], ids=lambda c: c[0]
)
@pytest.mark.parametrize(("changes", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_line_before_anything_is_computed(
    command, changes, expected, finitewidth, cache
):
    before = contents(".")
    settings = [f"--set={key}={value}" for key, value in changes.items()]
    status, out, err = finitewidth(*command, "campaign.yaml", *settings)
    assert (status, out) == (2, "")
    assert err.startswith("finitewidth: ")
    assert expected in err
    assert err.index("\n") == len(err) - 1
    assert contents(".") == before
    assert not cache.exists()


def test_memory_that_is_not_there_is_refused_before_anything_is_computed(finitewidth, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10_000)
    before = contents(".")
    status, out, err = finitewidth("run", "campaign.yaml", "--executor", "inline")
    assert (status, out) == (2, "")
    assert err.startswith(
        "finitewidth: regression of a pool of 30 points with 1 worker needs 0.0 GB"
    )
    assert err.endswith("take a smaller pool\n")
    assert contents(".") == before
    status, out, err = finitewidth("plan", "campaign.yaml")
    assert (status, out) == (2, "")
    assert err.startswith("finitewidth: regression of a pool of 30 points with ")


def test_points_held_out_take_memory_too(finitewidth, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 30 * 8 * 1_000_000)
    many = "--set=data.test=2000000"
    status, _, err = finitewidth("run", "campaign.yaml", "--executor=inline", many)
    assert status == 2
    assert err.endswith("take a smaller pool or fewer held-out points (data.test)\n")
    assert "\nwarning  regression of a pool" not in finitewidth("plan", "campaign.yaml")[1]


def test_a_disk_that_is_full_is_refused_before_anything_is_computed(finitewidth, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    before = contents(".")
    status, out, err = finitewidth("run", "campaign.yaml", "--executor", "inline")
    assert (status, out) == (2, "")
    assert "the kernel of a pool of 30 points takes 0.0 GB of " in err
    assert err.endswith("make room, or name another folder in XDG_CACHE_HOME\n")
    assert contents(".") == before


def test_a_plan_says_how_ridges_are_done_and_what_that_takes(finitewidth):
    status, out, _ = finitewidth("plan", "campaign.yaml", "--set", "regression.ridges=[0.1,1e-8]")
    assert status == 0
    assert "up to 20 of 30 points; above 0.3 of the pool" in out
    assert "ridges by one Cholesky factor of all sizes for 0.1, 1e-08\n" in out
    swept = "sweep={noise: {data.label_noise: [0, 1, 2]}}"
    _, out, _ = finitewidth("plan", "campaign.yaml", "--set", swept)
    assert "3 of the regression" in out
    assert out.count("of 30 points") == 1  # and no words thrice
    large = {
        "regression.pool": 10_000,
        "regression.train": [5000, 10_000],
        "regression.ridges": [0.1, 0.01, 1e-3, 1e-8],
    }
    status, out, _ = finitewidth(
        "plan", "campaign.yaml", *(f"--set={key}={value}" for key, value in large.items())
    )
    assert status == 0
    assert "in single precision, refined in double for 0.1, 0.01, 0.001, one Cholesky" in out
    assert "800 MB the kernel of a machine" in out
    assert "decimated kernel" not in out
    more = {
        "theories": "[rg_gpr]",
        "regression.quartic": "{couplings: [0.1], chains: 4, warmup: 500, draws: 4000}",
    }
    status, out, _ = finitewidth(
        "plan", "campaign.yaml", *(f"--set={key}={value}" for key, value in more.items())
    )
    assert status == 0
    assert " s an order with a quartic loss\n" in out
    assert "at most for theories with a decimated kernel" in out


@pytest.mark.usefixtures("_unchecked")
def test_status_marks_sizes_beyond_the_pool_and_what_was_refused(finitewidth, tmp_path):
    spec = campaign(**LINEAR, ridges=[0.5, 1e-17])
    store, _ = simulate(spec, tmp_path / "results")
    status, out, _ = finitewidth("status", store.url)
    assert status == 0
    assert "regression: 10, 20 training points are more than 0.3 of the pool of 30" in out
    assert "regression: ridge 1e-17: 9 refused as indefinite" in out


@pytest.mark.slow
def test_the_smallest_campaign_keeps_its_files_in_the_cache_and_takes_them_away(tmp_path, cache):
    simulate(small("sweep={size: {network.width: [4]}}"), tmp_path)
    assert list(cache.iterdir()) == []
