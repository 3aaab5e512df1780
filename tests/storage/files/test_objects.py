"""Objects are whole, whoever is killed; the same on a local disk and on S3."""

import hashlib
import json
import pickle
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import CampaignError
from storage.files import checkpoint, segments
from storage.files.compaction import contradiction
from storage.files.lease import acquire, is_current
from storage.files.ledger import Ledger
from storage.files.objects import Objects

NAMES = ("a", "b/c.json", "b/d.json", "b-e/f")
UNDERSTOOD = [
    ("/tmp/x/", "/tmp/x"),
    ("/tmp/x/../y", "/tmp/y"),
    ("file:///tmp/a%20b", "/tmp/a b"),
    ("file://localhost/tmp/a#1", "/tmp/a#1"),
    ("s3://bucket", "s3://bucket"),
    ("s3://bucket/some/prefix/", "s3://bucket/some/prefix"),
]
REFUSED = ["", "gs://bucket/x", "s3:/bucket", "s3://bucket/../x", "file://elsewhere/x", "s3://b/ c"]
ESCAPES = ["", ".", "..", "../x", "a/../../x", "/etc/x", "a//b", "a/", "a\\b", ".x", "x#1", "x\n"]


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Python on some code, after its first line."""
    process = start(code, *arguments)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


# A place and its names


@pytest.mark.parametrize(("url", "expected"), UNDERSTOOD)
def test_a_place_is_a_folder_or_a_bucket(url: str, expected: str):
    assert Objects(url).url == expected


def test_a_relative_folder_is_fixed_where_it_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Objects("results").url == str(tmp_path / "results")


@pytest.mark.parametrize("url", REFUSED)
def test_any_other_place_is_refused_in_one_line(url: str):
    with pytest.raises(CampaignError, match=r"^found .*, wanted [^\n]*$"):
        Objects(url)


@pytest.mark.parametrize("url", ["s3://key:SECRET@bucket/x", "s3://bucket?token=SECRET"])
def test_a_key_in_the_url_is_refused_and_not_repeated(url: str):
    with pytest.raises(CampaignError, match="AWS_") as caught:
        Objects(url)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("name", [*ESCAPES, "zarr.partial"])
def test_no_name_leaves_its_place(tmp_path, name: str):
    place = Objects(str(tmp_path / "place"))
    for act in (place.get, place.exists, place.delete, place.child):
        with pytest.raises(ValueError, match="found the name"):
            act(name)
    for write in (place.put, place.create):
        with pytest.raises(ValueError, match="found the name"):
            write(name, b"x")
    assert files(tmp_path) == []


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("./#%\\")))
def test_every_name_is_refused_or_lies_below_its_place(tmp_path_factory, name: str):
    root = tmp_path_factory.mktemp("names")
    try:
        Objects(str(root / "place")).put(name, b"x")
    except ValueError:
        assert files(root) == []
    else:
        assert files(root) == [f"place/{name}"]


def test_a_place_travels_as_its_url_alone(tmp_path):
    place = Objects(str(tmp_path))
    place.put("x", b"1")
    sent = pickle.dumps(place)
    assert b"obstore" not in sent
    assert pickle.loads(sent) == place
    assert pickle.loads(sent).get("x") == b"1"


# What is written


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "create", "delete"]), st.sampled_from(NAMES), st.binary()
        ),
        max_size=12,
    )
)
def test_a_place_is_a_dictionary(tmp_path_factory, acts):
    place = Objects(str(tmp_path_factory.mktemp("place") / "new"))
    model: dict[str, bytes] = {}
    for act, name, data in acts:
        if act == "put":
            place.put(name, data)
            model[name] = data
        elif act == "create":
            assert place.create(name, data) == (name not in model)
            model.setdefault(name, data)
        else:
            place.delete(name)
            model.pop(name, None)
    assert place.names() == sorted(model)
    assert place.names("b") == sorted(name for name in model if name.startswith("b/"))
    for name in NAMES:
        assert place.get(name) == model.get(name)
        assert place.exists(name) == (name in model)


def test_reading_makes_no_folder(tmp_path):
    place = Objects(str(tmp_path / "nothing"))
    place.delete("x")
    assert (place.get("x"), place.exists("x"), place.names(), place.sweep()) == (None, False, [], 0)
    with pytest.raises(CampaignError, match="found no folder"):
        place.zarr()
    assert list(tmp_path.iterdir()) == []


def test_a_child_is_the_place_below(tmp_path):
    place = Objects(str(tmp_path))
    place.child("a/b").put("c", b"1")
    assert place.get("a/b/c") == b"1"
    assert place.child("a").names() == ["b/c"]


def test_a_place_that_cannot_be_written_says_so_in_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (Objects(str(tmp_path / "file")), Objects(str(tmp_path / "file" / "below"))):
        with pytest.raises(CampaignError, match=r"^cannot write .*; check the permissions[^\n]*$"):
            place.put("x", b"1")
    with pytest.raises(CampaignError, match=r"^cannot write [^\n]*$"):
        Objects(str(tmp_path)).create("file/x", b"1")


def test_a_forked_process_is_told_to_start_afresh(tmp_path):
    code = """
import os, sys
from storage.files.objects import Objects
place = Objects(sys.argv[1])
place.put("x", b"1")
if os.fork() == 0:
    try:
        place.put("x", b"2")
    except Exception as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""
    said, _ = start(code, tmp_path).communicate(timeout=60)
    assert "spawn" in said


def test_objects_need_no_zarr_and_no_torch():
    code = """
import sys
import storage.files.objects
print([name for name in ("zarr", "numpy", "torch", "ray", "xarray") if name in sys.modules])
"""
    said, _ = start(code).communicate()
    assert said.strip() == "[]"


FULL = """
import resource, signal, sys
from storage.errors import CampaignError
from storage.files.objects import Objects

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
place = Objects(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for write in (place.put, place.create):
    try:
        write("large", bytes(80_000))
    except CampaignError as error:
        print(str(error))
place.put("small", b"1")
print(place.names())
"""


def test_a_place_without_room_is_one_line(tmp_path):
    said, err = start(FULL, tmp_path / "place").communicate(timeout=60)
    first, second, names = said.splitlines()
    assert err == ""
    for line in (first, second):
        assert line.startswith(f"cannot write {tmp_path}/place/")
        assert line.endswith("File too large; raise the limit of a file's size (ulimit -f)")
    assert eval(names) == ["small"]


@pytest.mark.parametrize("name", ["caf\udce9", "a\nb", "a\x00b"])
def test_a_name_that_is_no_text_is_refused_in_one_line(name):
    with pytest.raises(
        CampaignError, match=r"^found a store at [^\n]*, wanted a name in UTF-8"
    ) as said:
        Objects(name)
    str(said.value).encode()


def test_a_file_in_the_place_of_a_folder_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CampaignError, match="a file is in the place of a folder"):
        Objects(str(tmp_path / "file")).names("specs")


# Killed writers

WRITER = """
import hashlib, itertools, sys
from storage.files.objects import Objects
place = Objects(sys.argv[1])
print("ready", flush=True)
for turn in itertools.count():
    body = bytes([turn % 251]) * int(sys.argv[2])
    place.put(f"kept/{turn % 3}", hashlib.sha256(body).digest() + body)
"""


def whole(data: bytes) -> bool:
    return hashlib.sha256(data[32:]).digest() == data[:32]


@pytest.mark.slow
def test_no_reader_ever_sees_a_torn_object(tmp_path):
    place = Objects(str(tmp_path))
    rng = random.Random(1)
    done = threading.Event()
    seen: list[bool] = []

    def read() -> None:
        while not done.is_set():
            seen.extend(whole(data) for turn in range(3) if (data := place.get(f"kept/{turn}")))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5):  # two writers of the same names at a time, killed in the middle
        writers = [started(WRITER, tmp_path, size) for size in (1_000, 2_000_000)]
        time.sleep(rng.uniform(0.02, 0.2))
        for writer in writers:
            writer.kill()
            writer.wait()
    done.set()
    reader.join()
    assert len(seen) > 100
    assert all(seen)
    assert all(whole((tmp_path / name).read_bytes()) for name in place.names())
    place.sweep()
    assert files(tmp_path) == place.names() == [f"kept/{turn}" for turn in range(3)]


def test_what_a_killed_writer_leaves_is_swept_and_nothing_else(tmp_path):
    place = Objects(str(tmp_path))
    place.put("keep/x", b"1")
    writer = start(WRITER, tmp_path / "torn", 50_000_000)
    while not list(tmp_path.glob("torn/kept/*#1")):
        time.sleep(0.001)
    writer.kill()
    writer.wait()
    zarrs_own = tmp_path / "torn" / f"zarr.{'0' * 32}.partial"
    zarrs_own.write_bytes(b"{")
    debris = [name for name in files(tmp_path) if "#" in name or name.endswith(".partial")]
    assert len(debris) == 2
    assert not set(debris) & set(place.names())
    kept = sorted(set(files(tmp_path)) - set(debris))
    assert place.sweep("keep") == 0
    assert place.sweep("torn") == 2
    assert files(tmp_path) == kept


def test_of_eight_creators_one_wins(tmp_path):
    code = """
import pathlib, sys, time
from storage.files.objects import Objects
place = Objects(sys.argv[1])
print("ready", flush=True)
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.001)
me = sys.argv[3]
print(*[name for name in map(str, range(100)) if place.create(name, me.encode() * 9)])
"""
    go = tmp_path / "go"
    racers = [started(code, tmp_path / "race", go, racer) for racer in range(8)]
    go.touch()
    won = {
        name: str(racer).encode() * 9
        for racer, process in enumerate(racers)
        for name in process.communicate(timeout=60)[0].split()
    }
    place = Objects(str(tmp_path / "race"))
    assert sorted(won) == sorted(map(str, range(100)))
    assert {name: place.get(name) for name in won} == won
    place.sweep()
    assert files(tmp_path / "race") == sorted(won)


# S3, by a server on the loopback


@pytest.fixture
def bucket(endpoint, request) -> Objects:
    return Objects(f"s3://campaigns/some/a+b=c/{request.node.name}")


def test_s3_holds_objects(bucket):
    assert bucket.names() == []
    assert bucket.get("b/c") is None
    assert bucket.create("b/c", b"1")
    assert not bucket.create("b/c", b"2")
    bucket.put("b/d", b"3")
    bucket.put("b/d", b"4")
    assert bucket.names() == bucket.names("b") == ["b/c", "b/d"]
    assert [bucket.get(name) for name in bucket.names()] == [b"1", b"4"]
    bucket.delete("b/c")
    bucket.delete("b/c")
    assert not bucket.exists("b/c")
    assert bucket.child("b").names() == ["d"]
    assert bucket.sweep() == 0
    assert b"SECRET" not in pickle.dumps(bucket)
    assert pickle.loads(pickle.dumps(bucket)).get("b/d") == b"4"


def test_s3_holds_a_ledger(bucket):
    ledger = Ledger(bucket)
    assert ledger.commit("ensemble/x/d0", {"steps": 3})
    assert not ledger.commit("ensemble/x/d0", {"steps": 4})
    assert dict(ledger.receipts()) == {"ensemble/x/d0": {"steps": 3}}
    segments.write(bucket, {"ensemble/x/d0": {"steps": 3}})
    ((_, lines),) = segments.each(bucket)
    assert lines == {"ensemble/x/d0": b'{"steps": 3}'}
    assert contradiction(bucket, lines) == ""
    assert [ledger.fail("ensemble/x/d1", {"error": "x"}) for _ in range(2)] == [1, 2]
    ledger.clear("ensemble/x/d0")
    assert ledger.finished() == set()


def test_s3_holds_a_lease(bucket):
    with acquire(bucket) as lease:
        with pytest.raises(CampaignError, match="driven by process"):
            acquire(bucket)
        assert is_current(bucket, lease.epoch)
    with acquire(bucket) as successor:
        assert successor.epoch == lease.epoch + 1
        assert not is_current(bucket, lease.epoch)


def test_s3_holds_checkpoints(bucket):
    digest = checkpoint.save(bucket, "checkpoints/x", {"position": np.arange(3.0)})
    loaded = checkpoint.load(bucket, "checkpoints/x", digest)
    assert loaded is not None
    np.testing.assert_array_equal(loaded["position"], np.arange(3.0))
    bucket.put("checkpoints/x", b"torn")
    with pytest.raises(checkpoint.CorruptCheckpoint):
        checkpoint.load(bucket, "checkpoints/x", digest)


def test_a_bucket_that_is_not_there_says_so_in_one_line(endpoint):
    place = Objects("s3://no-such-bucket/x")
    for act in (lambda: place.put("x", b""), lambda: place.get("x"), place.names):
        with pytest.raises(CampaignError, match=r"^cannot \w+ s3://no-such-bucket/x[^\n]*AWS_"):
            act()


def test_the_lease_on_s3_survives_a_lost_answer(bucket, monkeypatch):
    """A put that arrived, was answered into the void and sent again finds itself there."""
    create = Objects.create
    monkeypatch.setattr(Objects, "create", lambda *args: create(*args) and False)
    with acquire(bucket) as lease:
        assert lease.epoch == 1
    assert json.loads(bucket.get("ledger/lease/000001.json"))["released"]
