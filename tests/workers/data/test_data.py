import hashlib
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import CampaignError
from workers.data.normalize import rescale
from workers.data.sources import files_identity, has_test_points, make, make_pool
from workers.data.streams import Stream, generator

SEED = 2**63 + 11
ROUNDING = 1e-14  # a few operations on numbers of order one, float64


def settings_of(source, **changes):
    common = {"train": 40, "test": 30, "label_noise": 0.0, "normalize": None}
    own = {
        "single_index": {
            "inputs": "gaussian",
            "dimension": 7,
            "teacher": {3: -0.5, 1: 1.0},
            "basis": "hermite",
        },
        "multi_index": {
            "inputs": "gaussian",
            "dimension": 7,
            "directions": 2,
            "teacher": {2: {3: -0.5}, 1: {2: 0.3, 1: 1.0}},
        },
        "abs_index": {"inputs": "sphere", "dimension": 7, "epsilon": 0.3},
        "linear": {"inputs": "sphere", "dimension": 7},
        "patches": {
            "patches": 3,
            "patch_size": 2,
            "teacher": {3: -0.5, 1: 1.0},
            "readout": "random",
        },
        "teacher_network": {
            "inputs": "gaussian",
            "dimension": 6,
            "patches": 3,
            "depth": 2,
            "width": 5,
            "activation": "gelu",
            "weight_variance": (1.0, 2.0, 1.0),
        },
        "power_law": {"modes": 9, "eigenvalue_exponent": 0.7, "target_exponent": 0.4},
        "digits": {"positive": (3, 5), "negative": (8, 9), "classes": None},
    }[source]
    return SimpleNamespace(source=source, **{**common, **own, **changes})


def normalize(center=False, squared_norm=None):
    return SimpleNamespace(center=center, squared_norm=squared_norm)


def own_test(points=30, inputs="gaussian", scale=1.0):
    return SimpleNamespace(points=points, inputs=inputs, scale=scale)


DIRECTED = ["single_index", "multi_index", "abs_index", "linear", "patches"]
SYNTHETIC = [*DIRECTED, "teacher_network", "power_law"]
SOURCES = [*SYNTHETIC, "digits"]


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=25, deadline=None)
@given(small=st.integers(1, 60), more=st.integers(0, 300), seed=st.integers(0, 2**64 - 1))
@pytest.mark.slow
def test_smaller_training_sets_are_prefixes_bit_by_bit(source, small, more, seed):
    first = make(settings_of(source, train=small, label_noise=0.3), seed)
    second = make(settings_of(source, train=small + more, label_noise=0.3), seed)
    assert np.array_equal(first.x_train, second.x_train[:small])
    assert np.array_equal(first.y_train, second.y_train[:small])
    for name in ("x_test", "y_test", "components"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    if source in DIRECTED:
        assert np.array_equal(first.teacher, second.teacher)
    else:
        assert first.teacher is None


@pytest.mark.parametrize("source", SOURCES)
def test_a_dataset_is_float64_and_a_function_of_its_seed(source):
    first, again, other = (make(settings_of(source), seed) for seed in (SEED, SEED, SEED + 1))
    for name in ("x_train", "y_train", "x_test", "y_test", "components"):
        array = getattr(first, name)
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        assert np.array_equal(array, getattr(again, name))
    assert first.x_train.shape[0] == first.y_train.shape[0] == 40
    assert first.x_test.shape[0] == first.y_test.shape[0] == 30
    assert np.array_equal(first.components.sum(axis=1), first.y_test)
    assert not np.array_equal(first.x_train, other.x_train)


def philox(counter, key):
    """Philox4x64-10 in whole numbers, as in Salmon et al. (2011)."""
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * counter[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * counter[2], 2**64)
        counter = (high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0)
        key = ((key[0] + 0x9E3779B97F4A7C15) % 2**64, (key[1] + 0xBB67AE8584CAA73B) % 2**64)
    return counter


@pytest.mark.parametrize("stream", Stream)
def test_words_of_a_stream_are_those_of_philox(stream):
    words = generator(SEED, stream).bit_generator.random_raw(8).tolist()
    blocks = [philox((block, 0, 0, int(stream)), (SEED, 0)) for block in (1, 2)]
    assert words == [*blocks[0], *blocks[1]]


def test_streams_are_independent():
    n = 20_000
    draws = np.array([generator(SEED, stream).standard_normal(n) for stream in Stream])
    off = np.corrcoef(draws) - np.eye(len(Stream))
    assert np.abs(off).max() < 5 / math.sqrt(n)


@pytest.mark.parametrize("source", DIRECTED)
@pytest.mark.slow
def test_teacher_is_a_unit_vector_and_isotropic(source):
    seeds = 2000
    teachers = np.array(
        [make(settings_of(source, train=1, test=1), s).teacher for s in range(seeds)]
    )
    assert np.abs((teachers**2).sum(axis=1) - 1).max() < ROUNDING
    d = teachers.shape[1]
    # A coordinate of a uniform unit vector has variance 1/d.
    assert np.abs(teachers.mean(axis=0)).max() < 5 / math.sqrt(d * seeds)


@pytest.mark.slow
def test_hermite_components_are_those_of_the_teacher_and_orthogonal():
    n = 100_000
    teacher = {0: 0.3, 2: -1.0, 3: 0.5, 1: 2.0}
    data = make(settings_of("single_index", teacher=teacher, test=n, dimension=3), SEED)
    z = data.x_test @ data.teacher
    explicit = np.stack([0.3 + 0 * z, 2 * z, -(z**2 - 1), 0.5 * (z**3 - 3 * z)], axis=1)
    assert data.components == pytest.approx(explicit, rel=1e-12, abs=1e-12)
    scaled = data.components / [0.3, 2.0, -1.0, 0.5]
    expected = np.diag([1.0, 1.0, 2.0, 6.0])  # <He_k He_l> = k! δ_kl
    for k in range(4):
        for m in range(k + 1):
            product = scaled[:, k] * scaled[:, m]
            error = product.std() / math.sqrt(n)
            assert abs(product.mean() - expected[k, m]) <= 5 * error


def test_monomial_components():
    teacher = {2: 0.5, 0: 3.0, 5: -1.0}
    data = make(settings_of("single_index", teacher=teacher, basis="monomial"), SEED)
    z = data.x_test @ data.teacher
    explicit = np.stack([3 + 0 * z, z**2 / 2, -(z**5)], axis=1)
    assert data.components == pytest.approx(explicit, rel=1e-12, abs=1e-12)


def test_linear_is_the_projection_on_the_teacher():
    data = make(settings_of("linear"), SEED)
    assert data.y_train == pytest.approx(data.x_train @ data.teacher, abs=ROUNDING)
    assert data.components.shape == (30, 1)


@pytest.mark.parametrize("inputs", ["gaussian", "sphere"])
def test_inputs_are_white(inputs):
    n, d = 40_000, 5
    x = make(settings_of("linear", inputs=inputs, dimension=d, train=n), SEED).x_train
    if inputs == "sphere":
        assert (x**2).sum(axis=1) == pytest.approx(np.full(n, d), rel=ROUNDING)
    assert np.abs(x.mean(axis=0)).max() < 5 / math.sqrt(n)
    for i in range(d):
        for j in range(i + 1):
            product = x[:, i] * x[:, j]
            assert abs(product.mean() - (i == j)) < 5 * product.std() / math.sqrt(n)


def test_power_law_has_the_spectrum_and_the_target_it_names():
    n, modes, alpha, beta = 50_000, 6, 0.7, 0.4
    data = make(settings_of("power_law", modes=modes, train=n), SEED)
    k = np.arange(1, modes + 1)
    eigenvalue, weight = k ** -(1 + alpha), k ** (-(1 + beta) / 2)
    # A variance of n normals has standard error √(2/n) of itself.
    assert (data.x_train**2).mean(axis=0) / modes == pytest.approx(
        eigenvalue, rel=5 * math.sqrt(2 / n)
    )
    z = data.x_train / np.sqrt(modes * eigenvalue)
    fitted = np.linalg.lstsq(z, data.y_train, rcond=None)[0]  # the target is linear, so exactly
    assert np.abs(fitted) == pytest.approx(weight, rel=1e-10)
    assert data.teacher is None


def test_signs_of_the_power_law_are_drawn_for_each_dataset():
    seeds = 400
    small = settings_of("power_law", modes=1, train=1, test=1)
    data = [make(small, seed) for seed in range(seeds)]
    signs = [np.sign(one.x_test[0, 0] * one.y_test[0]) for one in data]
    assert abs(np.mean(signs)) < 5 / math.sqrt(seeds)


@pytest.mark.parametrize("source", SOURCES)
def test_label_noise_is_on_training_targets_only(source):
    n, variance = (20_000, 0.25) if source != "digits" else (600, 0.25)
    clean, noisy = (make(settings_of(source, train=n, label_noise=v), SEED) for v in (0, variance))
    kick = noisy.y_train - clean.y_train
    assert kick.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / n))
    assert abs(kick.mean()) < 5 * math.sqrt(variance / n)
    assert np.array_equal(noisy.x_train, clean.x_train)
    assert np.array_equal(noisy.y_test, clean.y_test)


def test_test_points_with_a_distribution_of_their_own():
    own = settings_of("single_index", test=own_test(50, "sphere", 3.0))
    data, plain = make(own, SEED), make(settings_of("single_index"), SEED)
    assert (data.x_test**2).sum(axis=1) == pytest.approx(np.full(50, 9 * 7.0), rel=1e-13)
    z = data.x_test @ data.teacher
    assert data.y_test == pytest.approx(z - 0.5 * (z**3 - 3 * z), rel=1e-10, abs=1e-10)
    assert np.array_equal(data.x_train, plain.x_train)
    assert np.array_equal(data.teacher, plain.teacher)


def test_digits_are_the_images_of_the_classes_named():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    data = make(settings_of("digits", train=500, test=219), SEED)
    drawn = np.concatenate([data.x_train, data.x_test]) * 16
    targets = np.concatenate([data.y_train, data.y_test])
    for classes, sign in (((3, 5), 1.0), ((8, 9), -1.0)):
        ours, theirs = drawn[targets == sign], pixels[np.isin(labels, classes)]
        assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))


def test_center_subtracts_the_mean_of_the_whole_pool():
    data = make(settings_of("digits", train=419, test=300, normalize=normalize(True)), SEED)
    everything = np.concatenate([data.x_train, data.x_test])
    assert np.abs(everything.mean(axis=0)).max() < 719 * np.finfo(float).eps
    part = make(settings_of("digits", train=10, test=300, normalize=normalize(True)), SEED)
    assert np.array_equal(part.x_train, data.x_train[:10])


@pytest.mark.parametrize("source", SOURCES)
def test_squared_norm_sets_the_length_and_keeps_direction_and_target(source):
    center = source == "digits"
    plain = make(settings_of(source, normalize=normalize(center)), SEED)
    data = make(settings_of(source, normalize=normalize(center, 2.5)), SEED)
    for scaled, x in ((data.x_train, plain.x_train), (data.x_test, plain.x_test)):
        assert (scaled**2).sum(axis=1) == pytest.approx(np.full(len(x), 2.5), rel=ROUNDING)
        cosine = (scaled * x).sum(axis=1) / np.sqrt(2.5 * (x**2).sum(axis=1))
        assert cosine == pytest.approx(np.ones(len(x)), abs=ROUNDING)
    assert np.array_equal(data.y_train, plain.y_train)


@pytest.mark.parametrize("length", [0.0, 1e-200, 1e200], ids=["zero", "underflow", "overflow"])
def test_a_vector_without_length_is_refused(length):
    x = np.array([[1.0, 2.0], [length, 0.0]])
    with pytest.raises(CampaignError, match=r"1 of 2 points .* point 1 has") as caught:
        rescale(x, 1.0)
    assert "\n" not in str(caught.value)


def test_pools_of_synthetic_sources_are_fresh_points_of_the_same_problem():
    data = settings_of("single_index", label_noise=1.0)
    pool, dataset = make_pool(data, 50, SEED, 20), make(data, SEED)
    assert pool.x.shape == (50, 7)
    assert pool.x_heldout.shape == (20, 7)
    for x, y in ((pool.x, pool.y), (pool.x_heldout, pool.y_heldout)):
        z = x @ dataset.teacher
        assert y == pytest.approx(z - 0.5 * (z**3 - 3 * z), rel=1e-12, abs=1e-12)
    every = np.concatenate([pool.x, pool.x_heldout, dataset.x_train, dataset.x_test])
    assert len(np.unique(every, axis=0)) == 50 + 20 + 40 + 30
    assert np.array_equal(make_pool(data, 10, SEED, 20).x, pool.x[:10])
    assert has_test_points(data)


def test_pools_of_finite_sources_are_parts_of_one_order():
    data = settings_of("digits", train=700, test=700)  # no part in a pool
    assert not has_test_points(data)
    whole = make_pool(data, None, SEED, 0)
    assert whole.x.shape == (719, 64)
    assert whole.x_heldout.shape == (0, 64)
    part = make_pool(data, 100, SEED, 30)
    assert np.array_equal(part.x, whole.x[:100])
    assert np.array_equal(part.x_heldout, whole.x[-30:])
    assert np.array_equal(part.y_heldout, whole.y[-30:])
    assert np.array_equal(make_pool(data, None, SEED, 30).x, whole.x[:689])
    one = make(settings_of("digits", train=100), SEED)
    assert np.array_equal(one.x_train, whole.x[:100])


def test_the_order_of_a_finite_pool_depends_on_the_seed():
    first, second = (make_pool(settings_of("digits"), None, seed, 0) for seed in (1, 2))
    digest = [hashlib.sha256(x.tobytes()).digest() for x in (first.x, second.x)]
    assert digest[0] != digest[1]
    assert np.array_equal(np.sort(first.x, axis=0), np.sort(second.x, axis=0))


REFUSED = {
    "too many": ({"train": 600, "test": 200}, "719 points .* 600 \\+ 200 = 800"),
    "both signs": ({"negative": (5, 9)}, "class 5 is in both"),
    "absent": ({"negative": (12,)}, "class 12"),
    "no class": ({"positive": ()}, "at least one class"),
    "test law": ({"test": own_test()}, "synthetic source, not digits"),
}


@pytest.mark.parametrize(("changes", "line"), REFUSED.values(), ids=REFUSED)
def test_digits_refuse_in_one_line(changes, line):
    with pytest.raises(CampaignError, match=line) as caught:
        make(settings_of("digits", **changes), SEED)
    assert "\n" not in str(caught.value)


def test_a_pool_that_is_too_large_is_refused():
    with pytest.raises(CampaignError, match=r"719 points .* 700 \+ 20 = 720"):
        make_pool(settings_of("digits"), 700, SEED, 20)
    with pytest.raises(CampaignError, match=r"719 points .* 800"):
        make_pool(settings_of("digits"), None, SEED, 799)
    with pytest.raises(CampaignError, match="size of the pool"):
        make_pool(settings_of("linear"), None, SEED, 20)


@pytest.mark.parametrize("source", SYNTHETIC)
def test_synthetic_sources_have_no_mean_to_subtract(source):
    with pytest.raises(CampaignError, match=f"{source} has none"):
        make(settings_of(source, normalize=normalize(True)), SEED)


def test_a_scale_that_would_be_undone_is_refused():
    data = settings_of("linear", test=own_test(scale=2.0), normalize=normalize(False, 1.0))
    with pytest.raises(CampaignError, match=r"test\.scale = 2 would be undone"):
        make(data, SEED)


def test_a_source_that_does_not_exist_is_refused():
    with pytest.raises(CampaignError, match="no data source svhn"):
        make(SimpleNamespace(source="svhn"), SEED)


def test_digits_without_scikit_learn_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(CampaignError, match="scikit-learn, which is missing"):
        make(settings_of("digits"), SEED)


@pytest.mark.parametrize("source", SOURCES)
def test_sources_without_files_have_no_files_identity(source):
    assert files_identity(settings_of(source)) == {}
