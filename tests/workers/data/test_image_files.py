import functools
import gzip
import hashlib
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import CampaignError
from support.idx_files import idx
from workers.data import npz
from workers.data.images import cifar, mnist
from workers.data.sources import files_identity, has_test_points, make, make_pool

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def settings_of(source, **changes):
    common = {"train": 6, "test": 4, "label_noise": 0.0, "normalize": None, "subset": "train"}
    classes = {"positive": (0,), "negative": (1,), "classes": None, "outputs": 1}
    return SimpleNamespace(source=source, **{**common, **classes, **changes})


def pictures(count, size=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size))


def classes(count):
    return np.arange(count) % 10


def write_mnist(folder, train=20, test=10):
    content = {
        IMAGES: idx(pictures(train)),
        LABELS: idx(classes(train)),
        TEST_IMAGES: idx(pictures(test, seed=1)),
        TEST_LABELS: idx(classes(test)),
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def write_cifar(folder, records=10):
    rng = np.random.default_rng(2)
    for name in cifar.SUBSETS["all"]:
        pixels = rng.integers(0, 256, (records, cifar.RECORD - 1))
        data = np.column_stack([classes(records), pixels]).astype(np.uint8)
        (folder / name).write_bytes(data.tobytes())
    return folder


def write_npz(folder, **changes):
    rng = np.random.default_rng(3)
    arrays = {
        "x_train": rng.standard_normal((8, 3)),
        "y_train": rng.standard_normal(8),
        "x_test": rng.standard_normal((5, 3)),
        "y_test": rng.standard_normal((5, 1)),
        **changes,
    }
    np.savez(folder / "own.npz", **{k: v for k, v in arrays.items() if v is not None})
    return folder / "own.npz"


def refuses(call, line):
    with pytest.raises(CampaignError, match=line) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_reads_every_spelling_and_its_identity_ignores_packing(tmp_path, spelling, packed):
    write_mnist(tmp_path)
    plain = files_identity(settings_of("mnist", folder=tmp_path, subset="all"))
    assert plain[IMAGES] == hashlib.sha256((tmp_path / IMAGES).read_bytes()).hexdigest()
    for path in list(tmp_path.iterdir()):
        content = path.read_bytes()
        path.unlink()
        name = path.name.replace("-idx", spelling) + (".gz" if packed else "")
        (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    images = mnist.load(tmp_path, "all")
    expected = np.concatenate([pictures(20), pictures(10, seed=1)]).reshape(30, 16)
    assert np.array_equal(images.pixels, expected)
    assert np.array_equal(images.labels, np.concatenate([classes(20), classes(10)]))
    assert files_identity(settings_of("mnist", folder=tmp_path, subset="all")) == plain


@pytest.mark.parametrize(("subset", "count"), [("train", 4), ("test", 2), ("all", 6)])
def test_mnist_pools_hold_the_classes_of_the_subset(tmp_path, subset, count):
    data = settings_of("mnist", folder=str(write_mnist(tmp_path)), subset=subset)
    pool = make_pool(data, None, 5, 0)
    assert len(pool.x) == count
    assert np.count_nonzero(pool.y == 1) == count / 2
    images = mnist.load(tmp_path, subset)
    for label, sign in ((0, 1.0), (1, -1.0)):
        theirs = images.pixels[images.labels == label] / 255
        assert sorted(map(tuple, pool.x[pool.y == sign])) == sorted(map(tuple, theirs))


def test_cifar_reads_records_in_order(tmp_path):
    write_cifar(tmp_path)
    images = cifar.load(tmp_path, "train")
    first = (tmp_path / "data_batch_1.bin").read_bytes()
    assert images.pixels.shape == (50, 3072)
    assert images.pixels[0].tobytes() == first[1:3073]
    assert images.labels[:10].tolist() == list(range(10))
    data = settings_of("cifar10", folder=tmp_path, subset="test", train=1, test=1)
    assert make(data, 1).x_train.max() <= 1
    digest = hashlib.sha256((tmp_path / "test_batch.bin").read_bytes()).hexdigest()
    assert files_identity(data) == {"test_batch.bin": digest}
    (tmp_path / "above").mkdir()
    inside = tmp_path / "above" / "cifar-10-batches-bin"
    inside.mkdir()
    write_cifar(inside)
    assert np.array_equal(cifar.load(tmp_path / "above", "train").pixels, images.pixels)


def test_npz_draws_from_x_train_and_from_x_test(tmp_path):
    path = write_npz(tmp_path)
    with np.load(path) as arrays:
        x_train, y_train, x_test, y_test = (arrays[name] for name in npz.NAMES)
    data = settings_of("npz", file=path, train=8)
    dataset = make(data, 3)
    rows = [int(np.flatnonzero((x_train == x).all(axis=1))[0]) for x in dataset.x_train]
    assert sorted(rows) == list(range(8))
    assert np.array_equal(dataset.y_train, y_train[rows])
    drawn = [int(np.flatnonzero((x_test == x).all(axis=1))[0]) for x in dataset.x_test]
    assert len(set(drawn)) == 4
    assert np.array_equal(dataset.y_test, y_test[drawn, 0])
    assert [dataset.origins[1].name(i) for i in range(4)] == [f"row {i} of x_test" for i in drawn]
    assert [dataset.origins[0].name(i) for i in range(8)] == [f"row {i} of x_train" for i in rows]
    assert has_test_points(data)
    data.normalize = SimpleNamespace(center=True, squared_norm=None)
    centered = make_pool(data, None, 3, 5)
    assert centered.x_heldout == pytest.approx(x_test - x_train.mean(axis=0), abs=1e-15)
    assert len(centered.x) == 8
    assert files_identity(data) == {"npz": hashlib.sha256(path.read_bytes()).hexdigest()}


def damage(name, change):
    """Write the small MNIST with one file changed."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


DAMAGED_MNIST = {
    "magic of the images": (damage(IMAGES, lambda c: b"\0\0\x0d\x03" + c[4:]), "0x00000d03"),
    "labels for images": (damage(IMAGES, lambda _: idx(classes(20))), "0x00000801"),
    "truncated images": (damage(IMAGES, lambda c: c[:-1]), "is truncated: .*320 bytes, 319 follow"),
    "truncated header": (damage(IMAGES, lambda c: c[:9]), "is truncated: 9 bytes"),
    "truncated labels": (damage(LABELS, lambda c: c[:-5]), "is truncated"),
    "bytes too many": (damage(LABELS, lambda c: c + b"\0"), "is too long"),
    "fewer labels": (damage(LABELS, lambda _: idx(classes(19))), "20 images but .* 19 labels"),
    "label ten": (damage(LABELS, lambda c: c[:-1] + b"\x0a"), "label 10"),
    "empty file": (damage(IMAGES, lambda _: b""), "is empty"),
    "no items": (damage(IMAGES, lambda _: idx(pictures(0))), "holds no items"),
    "torn gzip": (damage(IMAGES, lambda c: gzip.compress(c)[:-9]), "damaged gzip"),
    "bad gzip": (damage(LABELS, lambda _: b"\x1f\x8b\x08" + bytes(40)), "damaged gzip"),
    "missing": (lambda folder: (folder / LABELS).unlink(), f"accepted names are {LABELS}, .*\\.gz"),
    "other size": (damage(TEST_IMAGES, lambda _: idx(pictures(10, 5))), "16 and 25 pixels"),
    "a folder": (lambda f: ((f / LABELS).unlink(), (f / LABELS).mkdir()), "accepted names"),
}


@pytest.mark.parametrize(("change", "line"), DAMAGED_MNIST.values(), ids=DAMAGED_MNIST)
def test_damaged_mnist_is_refused_in_one_line(tmp_path, change, line):
    change(write_mnist(tmp_path))
    refuses(lambda: make(settings_of("mnist", folder=tmp_path, subset="all"), 1), line)


@pytest.mark.parametrize("source", ["mnist", "cifar10"])
def test_a_folder_that_is_not_there_is_refused(tmp_path, source):
    data = settings_of(source, folder=tmp_path / "none")
    refuses(lambda: make(data, 1), "none does not exist")
    refuses(lambda: files_identity(data), "none does not exist")
    (tmp_path / "none").write_bytes(b"x")
    refuses(lambda: make(data, 1), "is not a folder")


def test_an_absent_class_is_refused(tmp_path):
    write_mnist(tmp_path, train=5)
    data = settings_of("mnist", folder=tmp_path, negative=(7,))
    refuses(lambda: make(data, 1), r"class 7 .* \[0, 1, 2, 3, 4\]")


DAMAGED_CIFAR = {
    "truncated": (damage("data_batch_3.bin", lambda c: c[:-1]), "30729 bytes, not a multiple"),
    "empty": (damage("data_batch_3.bin", lambda _: b""), "is empty"),
    "label": (damage("data_batch_1.bin", lambda c: b"\x0a" + c[1:]), "label 10"),
    "missing": (lambda f: (f / "data_batch_5.bin").unlink(), "no data_batch_5.bin"),
}


@pytest.mark.parametrize(("change", "line"), DAMAGED_CIFAR.values(), ids=DAMAGED_CIFAR)
def test_damaged_cifar_is_refused_in_one_line(tmp_path, change, line):
    change(write_cifar(tmp_path))
    refuses(lambda: make(settings_of("cifar10", folder=tmp_path), 1), line)


@pytest.mark.parametrize("name", ["data_batch_1", "cifar-10-batches-py"])
def test_the_pickled_cifar_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps({}))
    data = settings_of("cifar10", folder=tmp_path)
    refuses(lambda: make(data, 1), r"pickled .* cifar-10-binary\.tar\.gz")


WRONG_ARRAYS = {
    "NaN": ({"x_train": np.full((8, 3), np.nan)}, "x_train .* 24 values that are NaN"),
    "infinite": ({"y_test": np.full(5, -np.inf)}, "y_test .* 5 values"),
    "missing": ({"y_test": None}, "no array y_test"),
    "outputs": ({"y_train": np.ones((8, 2))}, "2 columns and data.outputs is 1"),
    "flat inputs": ({"x_train": np.ones(8)}, r"shape \(8,\)"),
    "short targets": ({"y_train": np.ones(7)}, r"shape \(7,\) for 8 inputs"),
    "a number": ({"y_test": np.float64(1)}, r"shape \(\) for 5"),
    "empty": ({"x_test": np.ones((0, 3)), "y_test": np.ones(0)}, r"shape \(0, 3\)"),
    "no columns": ({"x_train": np.ones((8, 0))}, r"shape \(8, 0\)"),
    "widths": ({"x_test": np.ones((5, 4))}, "3 columns and x_test 4"),
    "text": ({"y_train": np.array(["a"] * 8)}, "dtype <U1"),
    "complex": ({"y_train": np.ones(8, complex)}, "dtype complex128"),
    "objects": ({"y_train": np.array([{}] * 8)}, "y_train .* dtype object .Python objects"),
    "structures": ({"y_train": np.ones(8, [("a", float)])}, r"y_train .* dtype \[\('a'"),
    "times": ({"y_train": np.ones(8, "M8[s]")}, "y_train .* dtype datetime64"),
    "three axes": ({"x_train": np.ones((8, 3, 1))}, r"x_train .* shape \(8, 3, 1\)"),
    "two columns of tests": ({"y_test": np.ones((5, 2))}, "y_test .* has 2 columns"),
}


@pytest.mark.parametrize(("changes", "line"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_wrong_arrays_are_refused_in_one_line(tmp_path, changes, line):
    path = write_npz(tmp_path, **changes)
    refuses(lambda: npz.load(path), line)


@pytest.mark.parametrize(("train", "test"), [(9, 4), (8, 6)])
def test_more_points_than_an_archive_has_are_refused(tmp_path, train, test):
    data = settings_of("npz", file=write_npz(tmp_path), train=train, test=test)
    refuses(lambda: make(data, 1), f"but {train if train > 8 else test} are asked")


def test_files_that_are_no_archive_are_refused(tmp_path):
    path = tmp_path / "own.npz"
    refuses(lambda: npz.load(path), "cannot be read")
    refuses(lambda: npz.load(tmp_path), "cannot be read")
    for content, line in [
        (b"", "is empty"),
        (b"PK\x03\x04 no archive", "cannot be read"),
        (pickle.dumps({"x_train": 1}), "is a pickle, not a NumPy archive"),
        (b"<!DOCTYPE html><html>404</html>", r"begins with '<!DOCTYPE'\); download it anew"),
        (b"\x89HDF\r\n\x1a\n rest", r"begins with 89 48 44 46 0d 0a 1a 0a"),
    ]:
        path.write_bytes(content)
        refuses(functools.partial(npz.load, path), line)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    refuses(lambda: npz.load(path), "one bare array")


mutation = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))


@st.composite
def mutated(draw, content):
    data = bytearray(content)
    for place, value in draw(st.lists(mutation, max_size=8)):
        data[int(place * len(data))] = value
    end = draw(st.none() | st.integers(0, len(data)))
    return bytes(data[:end]) + draw(st.binary(max_size=4))


def survives(call):
    try:
        call()
    except CampaignError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either outcome is right)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from([IMAGES, LABELS]), st.booleans())
@pytest.mark.slow
def test_any_idx_file_is_read_or_refused(tmp_path_factory, data, name, packed):
    folder = write_mnist(tmp_path_factory.mktemp("idx"))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(data.draw(mutated(gzip.compress(content) if packed else content)))
    survives(lambda: make(settings_of("mnist", folder=folder, train=2, test=1), 1))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_archive_is_read_or_refused(tmp_path_factory, data):
    path = write_npz(tmp_path_factory.mktemp("npz"))
    path.write_bytes(data.draw(mutated(path.read_bytes())))
    survives(lambda: npz.load(path))


REAL = os.environ.get("FINITEWIDTH_MNIST", "")


@pytest.mark.skipif(not REAL, reason="FINITEWIDTH_MNIST names no folder with the MNIST test files")
def test_the_official_mnist_test_files():
    images = mnist.load(Path(REAL), "test")
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # of the classes 0 to 9
    assert images.pixels.shape == (10_000, 784)
    assert np.bincount(images.labels).tolist() == counts
    data = settings_of("mnist", folder=REAL, subset="test", train=1000, test=500)
    dataset = make(data, 1)
    nearest = ((dataset.x_test[:, None, ::7] - dataset.x_train[None, :, ::7]) ** 2).sum(axis=2)
    guess = dataset.y_train[nearest.argmin(axis=1)]
    assert np.mean(guess == dataset.y_test) > 0.98  # zeros and ones are easily told apart
