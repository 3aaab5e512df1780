"""Files that are not what they should be: `plan` and `run` refuse each in one line, at once."""

import gzip
import io
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from storage.errors import CampaignError
from storage.reading.document import dump_yaml, validate
from support.driving import contents
from workers.data import npz
from workers.data.dataset import drawn
from workers.data.images import mnist
from workers.data.limits import check_sizes
from workers.machine import memory

REGRESSION = {
    "kernel": {"activation": "erf", "weight_variance": [1, 1]},
    "train": [4],
    "ridges": [0.1],
    "repeats": 1,
    "pool": 8,
    "sampling": "without",
    "evaluate": ["pool", "heldout"],
}
NPZ = {"source": "npz", "file": "own.npz", "train": 8, "test": 5}
MNIST = {"source": "mnist", "folder": ".", "train": 4, "test": 2, "positive": [0], "negative": [1]}
NETWORK = {"network": {"width": 4, "activation": "erf", "weight_variance": [1, 1]}}
ENSEMBLE = {
    **NETWORK,
    "sampler": {
        "scheme": "ula",
        "temperature": 0.5,
        "step_size": 0.01,
        "warmup": 2,
        "draws": 2,
        "segment": 2,
    },
    "ensemble": {"datasets": 1, "chains": 2, "block": 2},
}
IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def arrays(**changes):
    draw = np.random.default_rng(3).standard_normal
    found = {"x_train": draw((8, 3)), "y_train": draw(8), "x_test": draw((6, 3)), "y_test": draw(6)}
    return {**found, **changes}


def saved(**changes):
    np.savez("own.npz", **arrays(**changes))


def with_row(name, row, value):
    array = arrays()[name]
    array[row] = value
    return {name: array}


def announced(*shape):
    """An archive in which the header of x_train is all that there is of it."""
    with zipfile.ZipFile("own.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays().items():
            content = io.BytesIO()
            if name == "x_train":
                header = {"descr": "<f8", "fortran_order": False, "shape": shape}
                npy.write_array_header_1_0(content, header)
            else:
                np.save(content, array)
            archive.writestr(f"{name}.npy", content.getvalue())


def written(content):
    with open("own.npz", "wb") as file:
        file.write(content)


def bare():
    content = io.BytesIO()
    np.save(content, np.ones(3))
    return content.getvalue()


def linked(target):
    os.symlink(target, "own.npz")


def unreadable():
    saved()
    os.chmod("own.npz", 0)


def idx(magic, *shape):
    return np.array([magic, *shape], ">u4").tobytes()


def packed(images, labels):
    for name, content in ((IMAGES, images), (LABELS, labels)):
        with open(name, "wb") as file:
            file.write(content)


def zeros_without_end(head=b""):
    """A GiB of zeros behind a head, packed into a MiB."""
    return gzip.compress(head) + 64 * gzip.compress(bytes(1 << 24))


PICTURES, LABELLED = idx(0x803, 20, 4, 4), idx(0x801, 20)

HOSTILE = {
    "a web page": (lambda: written(b"<!DOCTYPE html><html>404</html>"), {},
        "own.npz is not a NumPy archive (begins with '<!DOCTYPE'); download it anew"),
    "a pickle": (lambda: written(pickle.dumps({"x_train": 1})), {},
        "own.npz is a pickle, not a NumPy archive; pickles are not read"),
    "a bare array": (lambda: written(bare()), {}, "holds one bare array"),
    "nothing": (lambda: written(b""), {}, "own.npz is empty"),
    "no file": (lambda: None, {}, "own.npz cannot be read (No such file or directory)"),
    "half a file": (lambda: (saved(), os.truncate("own.npz", 900)), {}, "own.npz cannot be read"),
    "a folder": (lambda: os.mkdir("own.npz"), {}, "own.npz cannot be read (it is a folder)"),
    "a pipe": (lambda: os.mkfifo("own.npz"), {}, "own.npz cannot be read (it is a pipe)"),
    "zeros without end": (lambda: linked("/dev/zero"), {}, "/dev/zero cannot be read (it is a dev"),
    "links in a circle": (lambda: linked("own.npz"), {}, "own.npz"),
    "no such user": (saved, {"data.file": "~no-such-user/own.npz"}, "~no-such-user/own.npz leads"),
    "objects": (lambda: saved(y_train=np.array([{}] * 8)), {}, "has dtype object (Python obj"),
    "a header alone": (lambda: announced(10**9, 10**3), {}, "announces 8000000000000 bytes, 0 f"),
    "complex": (lambda: saved(y_train=np.ones(8, complex)), {}, "has dtype complex128"),
    "text": (lambda: saved(x_train=np.full((8, 3), "a")), {}, "has dtype <U1"),
    "no x_test": (lambda: np.savez("own.npz", x_train=np.ones((8, 3)), y_train=np.ones(8)), {},
        "own.npz has no array x_test, only x_train, y_train"),
    "flat points": (lambda: saved(x_train=np.ones(8)), {}, "x_train in"),
    "no points": (lambda: saved(x_test=np.ones((0, 3)), y_test=np.ones(0)), {}, "shape (0, 3)"),
    "fewer targets": (lambda: saved(y_train=np.ones(7)), {}, "shape (7,) for 8 inputs"),
    "NaN": (lambda: saved(**with_row("x_test", 4, np.nan)), {}, "the first in row 4"),
    "infinity": (lambda: saved(**with_row("y_train", 2, np.inf)), {}, "the first in row 2"),
    "a zero row": (lambda: saved(**with_row("x_train", 3, 0)),
        {"data.normalize": {"squared_norm": 1}}, "row 3 of x_train has |x|² = 0"),
    "a zero row of tests": (lambda: saved(**with_row("x_test", 5, 0)),
        {"data.normalize": {"squared_norm": 1}}, "row 5 of x_test has |x|² = 0"),
    "inputs of 1e150": (lambda: saved(**with_row("x_train", 6, 1e150)), {},
        "row 6 of x_train has |x|² = 3e+300 (inputs up to 1e+150)"),
    "inputs of 1e200": (lambda: saved(**with_row("x_train", 1, 1e200)), {},
        "row 1 of x_train has |x|² = inf (inputs up to 1e+200)"),
    "inputs of 1e15 in single precision": (lambda: saved(**with_row("x_test", 0, 1e15)),
        {"regression.precision": "float32"}, "row 0 of x_test has |x|² = 3e+30"),
    "targets of 1e300": (lambda: saved(**with_row("y_test", 5, 1e300)), {},
        "row 5 of x_test has a target of size 1e+300"),
    "targets of zero": (lambda: saved(y_train=np.zeros(8)), {}, "all targets of the pool are 0"),
    "points of zero": (lambda: saved(x_train=np.zeros((8, 3))), {}, "the kernel is 0"),
}  # fmt: skip


@pytest.fixture
def refused(finitewidth):
    """Plan and run a campaign: the line in which both refuse it, having written nothing."""

    def command(raw, changes):
        with open("campaign.yaml", "w") as file:
            file.write(dump_yaml(validate({"version": 1, "name": "hostile", **raw})))
        before = contents(".")
        settings = [f"--set={key}={value}" for key, value in changes.items()]
        lines = set()
        for words in (["plan"], ["run", "--executor", "inline"]):
            status, out, err = finitewidth(*words, "campaign.yaml", *settings)
            assert (status, out) == (2, ""), err
            assert err.startswith("finitewidth: ")
            assert err.index("\n") == len(err) - 1
            lines.add(err)
        assert contents(".") == before
        assert len(lines) == 1
        return lines.pop()

    return command


@pytest.mark.parametrize(("write", "changes", "line"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive(refused, write, changes, line):
    write()
    found = refused({"data": NPZ, "regression": REGRESSION}, changes)
    assert line in found
    assert "allow_pickle" not in found


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(refused):
    unreadable()
    assert "Permission denied" in refused({"data": NPZ, "regression": REGRESSION}, {})


BOMBS = {
    "of nothing": (zeros_without_end(), "begins with 0x00000000, not with 0x00000803"),
    "of images": (zeros_without_end(PICTURES), "unpacks to more than 336 bytes"),
    "of memory": (gzip.compress(idx(0x803, 2**31, 2**10, 2**10)), "GB of memory"),
}


@pytest.mark.parametrize(("images", "line"), BOMBS.values(), ids=BOMBS)
def test_a_packed_file_is_unpacked_no_further_than_it_says(refused, images, line):
    packed(images, gzip.compress(LABELLED + bytes([0, 1] * 10)))
    found = refused({"data": {**MNIST, "subset": "train"}, "regression": REGRESSION}, {})
    assert line in found
    tracemalloc.start()
    with pytest.raises(CampaignError):
        mnist.load(".", "train")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22


def test_an_archive_larger_than_memory_is_refused_before_it_is_read(refused, monkeypatch):
    saved(x_train=np.zeros((8, 2000)), x_test=np.zeros((6, 2000)))
    monkeypatch.setattr(memory, "available", lambda: 200_000)
    found = refused({"data": NPZ, "regression": REGRESSION}, {})
    assert "own.npz needs 0.0 GB of memory" in found


LARGE = {
    "training points": {"dimension": 10_000_000, "train": 100_000, "test": 10},
    "test points": {"dimension": 1_000_000, "train": 10, "test": 10_000_000},
}


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
def test_points_larger_than_memory_are_refused_before_one_is_drawn(refused, data):
    line = refused({"data": {"source": "linear", **data}, **ENSEMBLE}, {})
    assert f"{data['train']} + {data['test']} points of {data['dimension']} inputs needs" in line


def test_a_pool_larger_than_memory_is_refused_before_it_is_drawn(refused):
    data = {"source": "linear", "dimension": 1_000_000, "train": 4, "test": 5}
    found = refused({"data": data, "regression": {**REGRESSION, "pool": 10_000_000}}, {})
    assert "10000000 + 5 points of 1000000 inputs needs" in found


def test_a_teacher_larger_than_memory_is_refused_before_it_is_drawn(refused):
    data = {"source": "teacher_network", "dimension": 10, "train": 4, "test": 5, "depth": 2}
    data |= {"width": 10_000_000, "activation": "erf", "weight_variance": [1, 1, 1]}
    assert "GB of memory" in refused({"data": data, **ENSEMBLE}, {})


LATE = {  # what only some cells of a sweep have
    "a length": (
        {"data.normalize": [None, {"squared_norm": 1.0}]},
        "row 3 of x_train has |x|² = 0",
    ),
    "a number of points": ({"data.train": [4, 9]}, "the data hold 8 points to learn from, but 9"),
}


@pytest.mark.parametrize(("swept", "line"), LATE.values(), ids=LATE)
def test_what_one_cell_alone_cannot_have_is_refused_before_the_first(refused, swept, line):
    saved(**with_row("x_train", 3, 0))
    data = {**NPZ, "train": 4}
    assert line in refused({"data": data, **ENSEMBLE, "sweep": {"setting": swept}}, {})


def test_targets_of_zero_are_refused_for_ensembles_too(refused):
    saved(y_train=np.zeros(8))
    assert "all training targets are 0" in refused({"data": NPZ, **ENSEMBLE}, {})


def test_a_sparse_pool_is_as_good_as_any(finitewidth):
    """Most rows are zero, the first ones among them, and so is their kernel; others are not."""
    x = np.zeros((8, 3))
    x[6:] = np.eye(3)[:2]
    saved(x_train=x)
    with open("campaign.yaml", "w") as file:
        raw = {"version": 1, "name": "sparse", "data": NPZ, "regression": REGRESSION}
        file.write(dump_yaml(validate(raw)))
    status, _, err = finitewidth("plan", "campaign.yaml")
    assert status == 0, err


@pytest.mark.parametrize("dtype", [">f8", "<f4", "f2", "u1", ">i4", "?", "g"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_every_kind_and_order_are_read_as_they_are(tmp_path, dtype, order):
    x = np.arange(24).reshape(8, 3).astype(dtype)
    path = tmp_path / "own.npz"
    np.savez(path, **arrays(x_train=np.asarray(x, order=order)))
    found = npz.load(path).values[:8]
    assert found.dtype == np.float64
    assert np.array_equal(found, x)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1.0])
def test_sizes_up_to_the_square_root_of_the_largest_number_are_taken(precision, value):
    """|x|⁴ of what is taken is a number of the precision, and of what is refused it is not."""
    limit = float(np.finfo(precision).max) ** 0.25
    y = np.ones(2)
    check_sizes(np.array([[0.0], [limit * (1 - 1e-6)]]), y, precision, drawn("the points"))
    wrong = value * limit * (1 + 1e-6)
    with pytest.raises(CampaignError, match=f"row 1 of the points has .* for {precision}"):
        check_sizes(np.array([[0.0], [wrong]]), y, precision, drawn("the points"))
