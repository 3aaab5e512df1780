"""A receipt is written once, is whole, and outlives whoever wrote it."""

import random
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import CampaignError
from storage.files.ledger import Failure, Ledger
from storage.files.objects import Objects

SHARD = "ensemble/3fa9c1d2e4b5a697/d0000-b0000-s0003"
SHARDS = [SHARD, "ensemble/3fa9c1d2e4b5a697/d0000-b0000-warmup", "regression/3fa9/r0003"]
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
NOT_JSON = [
    float("nan"),
    float("-inf"),
    np.float32("nan"),
    np.datetime64("2020-01-01"),
    np.zeros(2),
    {1, 2},
    b"bytes",
]
NOT_WHOLE = [b"", b'{"steps": 3', b"[]", b"NaN", b'{"loss": NaN}', b"\xff\xfe", b"{}{}"]


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(Objects(str(tmp_path / "campaign")))


def test_a_receipt_is_written_once(ledger):
    assert ledger.receipt(SHARD) is None
    assert ledger.commit(SHARD, {"steps": 3})
    assert not ledger.commit(SHARD, {"steps": 4})
    assert ledger.receipt(SHARD) == {"steps": 3}
    assert ledger.objects.names() == [f"ledger/receipts/{SHARD}.json"]


def test_finished_shards_are_those_with_a_receipt(ledger):
    assert ledger.finished() == set()
    for shard in SHARDS:
        ledger.commit(shard, {"shard": shard})
    ledger.fail("ensemble/x/d0000", {"error": "numerical"})
    assert ledger.finished() == set(SHARDS)
    assert list(ledger.receipts()) == [(shard, {"shard": shard}) for shard in sorted(SHARDS)]


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_a_receipt_comes_back_as_it_was(tmp_path_factory, receipt):
    ledger = Ledger(Objects(str(tmp_path_factory.mktemp("ledger"))))
    ledger.commit(SHARD, receipt)
    assert ledger.receipt(SHARD) == receipt


def test_equal_receipts_are_equal_bytes(ledger):
    ledger.commit("a", {"x": 1, "y": {"u": 2, "v": 3}})
    ledger.commit("b", {"y": {"v": 3, "u": 2}, "x": 1})
    first, second = (ledger.objects.get(f"ledger/receipts/{shard}.json") for shard in "ab")
    assert first == second


def test_numpy_scalars_are_stored_as_numbers(ledger):
    ledger.commit(
        SHARD, {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": np.float64(0.1)}
    )
    assert ledger.receipt(SHARD) == {"a": 0.5, "b": 3, "c": True, "d": 0.1}


@pytest.mark.parametrize("value", NOT_JSON, ids=repr)
def test_what_is_no_json_is_refused_and_leaves_nothing(ledger, value):
    with pytest.raises(ValueError, match=f"record of {SHARD} is no strict JSON"):
        ledger.commit(SHARD, {"deep": [{"value": value}]})
    with pytest.raises(ValueError, match="no strict JSON"):
        ledger.fail(SHARD, {"value": value})
    assert ledger.objects.names() == []


@pytest.mark.parametrize("data", NOT_WHOLE, ids=repr)
def test_a_receipt_that_is_not_whole_names_its_file_and_the_remedy(ledger, data):
    name = f"ledger/receipts/{SHARD}.json"
    ledger.objects.put(name, data)
    with pytest.raises(CampaignError, match=rf"{name} .*`finitewidth verify --repair [^\n]*$"):
        ledger.receipt(SHARD)
    with pytest.raises(CampaignError, match="verify --repair"):
        list(ledger.receipts())
    ledger.clear(SHARD)
    assert ledger.receipt(SHARD) is None
    assert ledger.commit(SHARD, {})


def test_failed_attempts_are_counted_by_shard(ledger):
    shards = [SHARD, "x", "x-1", SHARD]
    assert [ledger.fail(shard, {"turn": turn}) for turn, shard in enumerate(shards)] == [1, 1, 1, 2]
    assert ledger.failures() == [
        Failure(SHARD, 1, {"turn": 0}),
        Failure(SHARD, 2, {"turn": 3}),
        Failure("x", 1, {"turn": 1}),
        Failure("x-1", 1, {"turn": 2}),
    ]


def test_attempts_are_in_the_order_of_their_numbers(ledger):
    assert [ledger.fail(SHARD, {}) for _ in range(11)] == list(range(1, 12))
    assert [failure.attempt for failure in ledger.failures()] == list(range(1, 12))


def test_a_failure_that_is_not_whole_still_counts(ledger):
    ledger.objects.put(f"ledger/failures/{SHARD}-1.json", b'{"err')
    assert ledger.fail(SHARD, {}) == 2
    assert "not whole" in ledger.failures()[0].record["error"]


def test_a_cleared_shard_starts_afresh_and_alone(ledger):
    for shard in (*SHARDS, f"{SHARD}-1"):
        ledger.commit(shard, {})
        ledger.fail(shard, {})
    ledger.clear(SHARD)
    ledger.clear(SHARD)
    rest = {*SHARDS, f"{SHARD}-1"} - {SHARD}
    assert ledger.finished() == {failure.shard for failure in ledger.failures()} == rest
    assert ledger.fail(SHARD, {}) == 1


COMMITTER = """
import itertools, os, sys
from storage.files.ledger import Ledger
from storage.files.objects import Objects
ledger = Ledger(Objects(sys.argv[1]))
for turn in itertools.count():
    shard = f"ensemble/cell/d{turn:05d}"
    if ledger.commit(shard, {"by": int(sys.argv[2]), "filler": "x" * 1000}):
        print(shard, flush=True)
"""


@pytest.mark.slow
def test_what_was_acknowledged_before_a_kill_is_finished_after_it(ledger, tmp_path):
    rng = random.Random(1)
    acknowledged: dict[str, int] = {}
    for by in range(4):
        committer = subprocess.Popen(
            [sys.executable, "-c", COMMITTER, ledger.objects.url, str(by)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert committer.stdout
        lines = [committer.stdout.readline()]
        time.sleep(rng.uniform(0.02, 0.1))
        committer.kill()
        lines += committer.communicate()[0].splitlines(keepends=True)
        mine = {line.strip(): by for line in lines if line.endswith("\n")}
        assert mine
        assert not mine.keys() & acknowledged.keys()
        acknowledged |= mine
    receipts = dict(ledger.receipts())
    assert {shard: receipts[shard]["by"] for shard in acknowledged} == acknowledged
    # The last act of a killed process may have succeeded without a word of it, once per process.
    assert len(receipts) - len(acknowledged) <= 4
    assert all(len(receipt["filler"]) == 1000 for receipt in receipts.values())
    ledger.objects.sweep()
    assert sum(file.is_file() for file in tmp_path.rglob("*")) == len(receipts)
