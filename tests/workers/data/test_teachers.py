"""The teachers of synthetic targets: what they are a function of, their moments, their sections."""

import math
from typing import get_args

import jsonschema
import numpy as np
import pytest
import torch

from storage.campaign.data_spec import (
    SOURCES,
)
from storage.campaign.network_spec import ACTIVATIONS
from storage.errors import CampaignError
from storage.planning.identity import campaign_identity
from storage.planning.sweep import grid, resolve
from storage.reading.document import dump_yaml, json_schema, parse, validate
from support.example_specs import campaign
from workers.data.sources import make
from workers.data.streams import Stream, generator
from workers.data.synthetic import orthonormal
from workers.networks import activations
from workers.networks.convolution import patch_network, three_layer_convolution
from workers.networks.networks import fully_connected

SEED = 2**63 + 11
ROUNDING = 1e-13  # some hundred operations on numbers of order one, float64

MULTI_INDEX = {
    "source": "multi_index",
    "dimension": 5,
    "directions": 2,
    "teacher": {"2": {"3": 0.2}, "1": {"3": 0.1, "1": 1}},
}
ABS_INDEX = {"source": "abs_index", "dimension": 5, "epsilon": 0.3}
PATCHES = {
    "source": "patches",
    "patches": 3,
    "patch_size": 4,
    "teacher": {"3": 0.1, "1": 1},
    "readout": "random",
}
DENSE = {
    "source": "teacher_network",
    "dimension": 6,
    "depth": 2,
    "width": 7,
    "activation": "erf",
    "weight_variance": [1, 2, 3],
}
CONVOLUTION = {**DENSE, "architecture": "cnn", "patches": 3}
TEACHERS = [MULTI_INDEX, ABS_INDEX, PATCHES, DENSE, CONVOLUTION]
NAMES = ["multi_index", "abs_index", "patches", "dense", "convolution"]


def section(data, **changes):
    """The section with these settings, read the way a campaign is."""
    return validate(campaign({"train": 20, "test": 30, **data, **changes})).data


def drawn(data, **changes):
    return make(section(data, **changes), SEED)


def assert_moments(parts, expected):
    """Second moments <g_i g_j> of parts (n, component) are the ones expected."""
    n, count = parts.shape
    for i in range(count):
        for j in range(i + 1):
            product = parts[:, i] * parts[:, j]
            error = product.std() / math.sqrt(n)
            assert abs(product.mean() - expected[i][j]) < 5 * error


# -- several directions -------------------------------------------------------------------------


def test_components_of_several_directions_are_orthogonal():
    teacher = {1: {1: 1.0, 3: 0.1}, 2: {2: -0.5, 3: 0.2}}
    parts = drawn(MULTI_INDEX, teacher=teacher, test=100_000).components
    # <He_k(w_i·x) He_l(w_j·x)> = k! δ_kl δ_ij
    assert_moments(parts, np.diag([1.0, 6 * 0.1**2, 2 * 0.5**2, 6 * 0.2**2]))


def test_the_target_is_a_polynomial_of_the_directions():
    data = drawn(MULTI_INDEX)
    directions = orthonormal(2, 5, generator(SEED, Stream.TEACHER))
    assert np.array_equal(data.teacher, directions[0])
    first, second = directions @ data.x_test.T
    explicit = [first, 0.1 * (first**3 - 3 * first), 0.2 * (second**3 - 3 * second)]
    assert data.components == pytest.approx(np.stack(explicit, axis=1), abs=ROUNDING)


def test_one_direction_is_the_single_index():
    teacher = {"1": 1, "3": -0.05}
    one = drawn(MULTI_INDEX, directions=1, teacher={"1": teacher}, label_noise=0.1)
    single = drawn({"source": "single_index", "dimension": 5}, teacher=teacher, label_noise=0.1)
    for name in ("x_train", "y_train", "components", "teacher"):
        assert np.array_equal(getattr(one, name), getattr(single, name))


@pytest.mark.parametrize(("count", "dimension"), [(1, 1), (3, 40), (40, 40)])
def test_directions_are_orthonormal_and_the_first_do_not_depend_on_how_many(count, dimension):
    vectors = orthonormal(count, dimension, generator(SEED, Stream.TEACHER))
    assert vectors @ vectors.T == pytest.approx(np.eye(count), abs=ROUNDING)
    fewer = orthonormal((count + 1) // 2, dimension, generator(SEED, Stream.TEACHER))
    assert np.array_equal(fewer, vectors[: len(fewer)])


def test_directions_are_isotropic():
    seeds, d = 2000, 4
    second = np.array([orthonormal(2, d, generator(s, Stream.TEACHER))[1] for s in range(seeds)])
    # Coordinates of a uniform unit vector have mean 0 and second moments δ_ij/d.
    assert np.abs(second.mean(axis=0)).max() < 5 / math.sqrt(d * seeds)
    assert_moments(second, np.eye(d) / d)


# -- |z| ----------------------------------------------------------------------------------------


def test_the_even_part_of_abs_index_has_its_norm():
    data = drawn(ABS_INDEX, test=100_000)
    z, even = data.x_test @ data.teacher, data.components[:, 1]
    assert data.components[:, 0] == pytest.approx(z, abs=ROUNDING)
    assert even == pytest.approx(0.3 * (np.abs(z) - math.sqrt(2 / math.pi)), abs=ROUNDING)
    # <z²> = 1, <z |z|> = 0 and <(|z| - √(2/π))²> = 1 - 2/π
    assert_moments(data.components, np.diag([1.0, 0.3**2 * (1 - 2 / math.pi)]))
    assert abs(even.mean()) < 5 * even.std() / math.sqrt(len(even))


# -- patches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", ["equal", "random"])
def test_components_of_patches_are_orthogonal(readout):
    parts = drawn(PATCHES, readout=readout, test=100_000).components
    # <g_k g_l> = k! c_k² |a*|² δ_kl with |a*| = 1
    assert_moments(parts, np.diag([1.0, 6 * 0.1**2]))


@pytest.mark.parametrize("readout", ["equal", "random"])
def test_every_patch_is_read_along_one_direction(readout):
    data = drawn(PATCHES, readout=readout)
    assert data.x_test.shape == (30, 12)
    assert (data.teacher**2).sum() == pytest.approx(1, abs=ROUNDING)
    along = data.x_test.reshape(30, 3, 4) @ data.teacher  # (point, patch)
    a, *_ = np.linalg.lstsq(along, data.components[:, 0], rcond=None)
    assert along @ a == pytest.approx(data.components[:, 0], abs=ROUNDING)
    assert (a**2).sum() == pytest.approx(1, abs=ROUNDING)
    assert data.components[:, 1] == pytest.approx(0.1 * (along**3 - 3 * along) @ a, abs=ROUNDING)
    if readout == "equal":
        assert a == pytest.approx(np.full(3, 1 / math.sqrt(3)), abs=ROUNDING)


def test_the_direction_does_not_depend_on_the_readout():
    equal, random = (drawn(PATCHES, readout=readout) for readout in ("equal", "random"))
    assert np.array_equal(equal.teacher, random.teacher)
    assert np.array_equal(equal.x_train, random.x_train)
    assert not np.array_equal(equal.y_train, random.y_train)


def test_one_patch_is_the_single_index():
    one = drawn(PATCHES, patches=1, patch_size=5, readout="equal")
    single = drawn({"source": "single_index", "dimension": 5}, teacher=PATCHES["teacher"])
    for name in ("x_train", "y_train", "components", "teacher"):
        assert np.array_equal(getattr(one, name), getattr(single, name))


# -- networks -------------------------------------------------------------------------------------

BUILT = {
    "fcn": (
        {"depth": 3, "weight_variance": [1, 2, 3, 4]},
        lambda phi: fully_connected(
            6, [7, 7, 7], phi, weight_variance=[1, 2, 3, 4], bias_variance=0, chi=1
        ),
    ),
    "cnn": (
        {"architecture": "cnn", "patches": 3, "depth": 1, "weight_variance": [1, 2]},
        lambda phi: patch_network(3, 2, 7, phi, weight_variance=[1, 2], chi=1),
    ),
    "three layers": (
        {"architecture": "cnn", "patches": 2, "depth": 2, "weight_variance": [1, 2, 3]},
        lambda phi: three_layer_convolution(2, 3, 7, 7, phi, weight_variance=[1, 2, 3], chi=1),
    ),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("changes", "build"), BUILT.values(), ids=BUILT)
def test_the_teacher_is_a_network_drawn_from_its_prior(changes, build, activation):
    data = drawn(DENSE, **changes, activation=activation)
    network = build(activations.ACTIVATIONS[activation])
    normals = generator(SEED, Stream.TEACHER).standard_normal((1, network.size))
    parameters = torch.as_tensor(normals) * network.standard_deviations
    expected = network.outputs(parameters, torch.as_tensor(data.x_test))[0].numpy()
    assert data.components.shape == (30, 1)
    scale = np.abs(expected).max()
    assert data.components[:, 0] == pytest.approx(expected, rel=1e-12, abs=1e-12 * scale)


PRIORS = {
    "erf": (
        {"depth": 1, "weight_variance": [0.5, 2], "activation": "erf"},
        lambda q: 2 / math.pi * 2 * np.arcsin(2 * 0.5 * q / (1 + 2 * 0.5 * q)),
    ),
    "linear": ({"activation": "linear"}, lambda q: 1 * 2 * 3 * q),
    "cnn": ({**CONVOLUTION, "activation": "linear"}, lambda q: 1 * 2 * 3 * q),
}


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "variance"), PRIORS.values(), ids=PRIORS)
def test_the_target_is_as_large_as_the_prior_makes_it(changes, variance):
    """<y²> over teachers is the prior's <f(x)²>, a function of |x|²/d alone."""
    seeds, source = 400, section(DENSE, **changes, train=1)
    data = [make(source, seed) for seed in range(seeds)]
    ratios = [one.y_test**2 / variance((one.x_test**2).mean(axis=1)) for one in data]
    ratio = np.mean(ratios, axis=1)  # one independent number for each teacher
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(seeds)


@pytest.mark.parametrize("activation", ["gelu", "erf", "relu"])
def test_bits_of_a_teacher_depend_neither_on_the_points_nor_on_the_threads(activation):
    wide = {**DENSE, "width": 3001, "depth": 1, "weight_variance": [1, 1]}
    many = drawn(wide, activation=activation, train=50, test=1)
    before = torch.get_num_threads()
    torch.set_num_threads(3 - min(before, 2))
    try:
        few = drawn(wide, activation=activation, train=17, test=1)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(few.y_train, many.y_train[:17])
    assert np.array_equal(few.y_test, many.y_test)


# -- sections -------------------------------------------------------------------------------------


def test_sections_say_what_they_have():
    found = [
        (data.components, data.has_teacher, data.number_of_inputs)
        for data in map(section, TEACHERS)
    ]
    assert found == [
        (("He1(w1)", "He3(w1)", "He3(w2)"), True, 5),
        (("z", "|z|"), True, 5),
        (("He1", "He3"), True, 12),
        (("target",), False, 6),
        (("target",), False, 6),
    ]


@pytest.mark.parametrize("raw", TEACHERS, ids=NAMES)
def test_what_a_section_says_is_true_of_its_dataset(raw):
    data = section(raw)
    made = make(data, SEED)
    assert made.components.shape == (data.test_points, len(data.components))
    assert made.x_train.shape == (20, data.number_of_inputs)
    assert (made.teacher is not None) == data.has_teacher


@pytest.mark.parametrize("raw", [MULTI_INDEX, ABS_INDEX, DENSE], ids=lambda s: s["source"])
def test_test_points_may_have_a_distribution_of_their_own(raw):
    data = section(raw, test={"points": 8, "inputs": "sphere", "scale": 3})
    assert data.test_points == 8
    made, plain = make(data, SEED), drawn(raw)
    squared = np.full(8, 9.0 * data.dimension)
    assert (made.x_test**2).sum(axis=1) == pytest.approx(squared, rel=ROUNDING)
    assert np.array_equal(made.y_train, plain.y_train)


def test_a_teacher_may_have_the_activations_of_a_network():
    field = SOURCES["teacher_network"].model_fields["activation"]
    assert get_args(field.annotation) == ACTIVATIONS


@pytest.mark.parametrize("data", TEACHERS, ids=NAMES)
def test_a_campaign_reads_back_and_the_schema_accepts_it(data):
    raw = campaign({"train": 20, "test": 30, **data})
    spec = validate(raw)
    assert parse(dump_yaml(spec)) == spec
    jsonschema.Draft202012Validator(json_schema()).validate(raw)


MISTAKES = [
    (MULTI_INDEX, {"directions": 6}, "data: found 6 directions in dimension 5; they are orthonor"),
    (MULTI_INDEX, {"directions": 1}, "data: teacher has direction 2; directions allows 1 to 1"),
    (MULTI_INDEX, {"directions": 3}, "data: teacher lacks direction 3 of 3; add it to teacher"),
    (MULTI_INDEX, {"teacher": {}}, "data: teacher lacks direction 1 of 2; add it to teacher"),
    (MULTI_INDEX, {"teacher": {"0": {"1": 1}}}, "data.teacher.0: found '0', wanted a number not"),
    (MULTI_INDEX, {"teacher": {"a": {"1": 1}}}, "data.teacher.a: found 'a', wanted the number of"),
    (MULTI_INDEX, {"teacher": {"1": {}}}, "data.teacher.1: found 0 values, wanted at least 1"),
    (MULTI_INDEX, {"teacher": {"1": 1}}, "data.teacher.1: found 1, wanted a section of keys and"),
    (MULTI_INDEX, {"teacher": {"1": {"x": 1}}}, "data.teacher.1.x: found 'x', wanted the order of"),
    (MULTI_INDEX, {"teacher": {"1": {"1": "a"}}}, "data.teacher.1.1: found 'a', wanted a number"),
    (
        MULTI_INDEX,
        {"teacher": {"1": {"0": 1}, "2": {"0": 1}}},
        "data: teacher has order 0 in two directions, the same constant; keep one",
    ),
    (ABS_INDEX, {"epsilon": float("inf")}, "data.epsilon: found inf, wanted a finite number"),
    (ABS_INDEX, {"teacher": {"1": 1}}, "data: unknown key teacher; allowed: train, test"),
    (PATCHES, {"patches": 0}, "data.patches: found 0, wanted a number above 0"),
    (PATCHES, {"readout": "rnadom"}, "wanted 'equal' or 'random'; did you mean random?"),
    (PATCHES, {"dimension": 12}, "data: unknown key dimension; allowed: train, test"),
    (PATCHES, {"test": {"points": 3}}, "data.test: found {'points': 3}, wanted a whole number"),
    (DENSE, {"activation": "rleu"}, "data.activation: found 'rleu', wanted 'linear', 'erf',"),
    (DENSE, {"depth": 1}, "data: weight_variance has 3 numbers, wanted 2: one per hidden layer"),
    (DENSE, {"patches": 3}, "data: architecture cnn and patches, their number, go together"),
    (DENSE, {"architecture": "cnn"}, "data: architecture cnn and patches, their number, go"),
    (CONVOLUTION, {"patches": 4}, "data: patches: 6 inputs are no 4 equal parts"),
    (
        CONVOLUTION,
        {"depth": 3, "weight_variance": [1, 1, 1, 1]},
        "data: depth is 3; a cnn on patches has 1 or 2 hidden layers",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "changes", "line"), MISTAKES, ids=[m[2][:50] for m in MISTAKES])
def test_a_mistake_gets_the_line_that_names_it(data, changes, line):
    with pytest.raises(CampaignError) as error:
        section(data, **changes)
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def swept(data, settings):
    return validate(campaign({"train": 20, "test": 30, **data}, sweep={"axis": settings}))


SWEPT = [
    (MULTI_INDEX, "data.teacher.2.3", [-0.2, 0.2], lambda data: data.teacher[2][3]),
    (PATCHES, "data.teacher.3", [-0.2, 0.2], lambda data: data.teacher[3]),
    (PATCHES, "data.readout", ["equal", "random"], lambda data: data.readout),
    (ABS_INDEX, "data.epsilon", [-0.2, 0.2], lambda data: data.epsilon),
    (DENSE, "data.weight_variance.2", [1, 4], lambda data: data.weight_variance[2]),
]


@pytest.mark.parametrize(("data", "path", "values", "found"), SWEPT, ids=[s[1] for s in SWEPT])
def test_a_sweep_reaches_the_teacher(data, path, values, found):
    spec, first = (swept(data, {path: some}) for some in (values, values[:1]))
    cells = [resolve(spec, settings) for settings in grid(spec)]
    assert [found(cell.data) for cell in cells] == values
    assert campaign_identity(first) == campaign_identity(spec)  # values of a sweep may be added


def test_a_sweep_may_not_add_a_part_of_the_target():
    with pytest.raises(CampaignError, match=r"parts of the target change .*'He2\(w2\)'"):
        swept(MULTI_INDEX, {"data.teacher.2.2": [1, 2]})
