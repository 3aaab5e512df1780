import copy
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.campaign.spec import ADAPTED_NUMERICS, NUMERICS, QUARTIC_NUMERICS
from storage.planning.identity import (
    campaign_identity,
    cell_identity,
    data_identity,
    digest,
    numerics_of,
    regression_identity,
    seed_of,
)
from storage.planning.sweep import assign, grid, resolve
from storage.reading.document import dump_yaml, parse, read, validate
from support.example_specs import EXAMPLES, LINEAR, NETWORK, QUICKSTART, SINGLE_INDEX, campaign

# These are on users' disks: they name directories and receipts and key the noise. A change that
# makes this file fail strands every store that exists. If the numbers really change, raise
# storage.campaign.spec.NUMERICS and put the new values here; if not, keep the old canonical form
# (leave a setting out of it while it has its default).
QUICKSTART_IDENTITY = "5f45d5fde4"
QUICKSTART_CELLS = ["73931d1496", "9d23a29c9b", "fbc0a5c3c7", "44195232cc"]
QUICKSTART_REGRESSION = "d646b91a87"
QUICKSTART_DATA = "e27129635d"


def test_identities_of_the_packaged_campaign_stay_what_they_were():
    spec = read(QUICKSTART)
    cells = [resolve(spec, point) for point in grid(spec)]
    assert campaign_identity(spec)[:10] == QUICKSTART_IDENTITY
    assert [cell_identity(cell)[:10] for cell in cells] == QUICKSTART_CELLS
    assert {regression_identity(cell)[:10] for cell in cells} == {QUICKSTART_REGRESSION}
    assert {data_identity(cell)[:10] for cell in cells} == {QUICKSTART_DATA}


def test_an_identity_is_the_sha256_of_canonical_json():
    content = {"b": [1, 2.5, "é"], "a": None}
    text = '{"a":null,"b":[1,2.5,"\\u00e9"]}'
    assert digest(content) == hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


def test_seeds_are_64_bits_of_the_seed_and_the_key():
    content = json.dumps([3, "data", 7], separators=(",", ":")).encode()
    assert seed_of(3, "data", 7) == int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    assert len({seed_of(s, name, i) for s in (1, 2) for name in "ab" for i in range(9)}) == 36


def test_a_quartic_loss_has_a_number_of_its_own():
    spec = validate(EXAMPLES["digits"])
    quartic = {"couplings": [1], "chains": 2, "warmup": 1, "draws": 4}
    raw = copy.deepcopy(EXAMPLES["digits"])
    raw["regression"]["quartic"] = quartic
    assert numerics_of(spec) == NUMERICS
    assert numerics_of(validate(raw)) == QUARTIC_NUMERICS
    assert cell_identity(validate(raw)) == cell_identity(spec)  # of the ensemble beside it


@pytest.mark.parametrize(
    ("sampler", "number"),
    [
        ({"step_size": "auto"}, ADAPTED_NUMERICS),
        ({"step_size": 0.05}, NUMERICS),
        ({"scheme": "mala", "step_size": "auto", "friction": None}, NUMERICS),
        ({"scheme": "auto", "step_size": None, "friction": None}, ADAPTED_NUMERICS),
    ],
)
def test_a_step_with_momenta_that_is_found_has_a_number_of_its_own(sampler, number):
    raw = copy.deepcopy(EXAMPLES["digits"])
    raw["sampler"] |= {**sampler, "warmup": 20}
    assert numerics_of(validate(raw)) == number


def test_one_step_of_a_sweep_that_is_found_is_enough():
    raw = copy.deepcopy(EXAMPLES["digits"])
    raw["sampler"]["warmup"] = 20
    raw["sweep"] = {"step": {"sampler.step_size": [0.1, "auto"]}}
    assert numerics_of(validate(raw)) == ADAPTED_NUMERICS


# -- what does not matter --------------------------------------------------------------------------


def identities(spec, sources=None):
    """The campaign's identity, and those of its first cell."""
    cell = resolve(spec, next(iter(grid(spec))))
    sources = sources or {}
    found = {
        "campaign": campaign_identity(spec, sources),
        "cell": cell_identity(cell, sources),
        "data": data_identity(cell, sources),
    }
    if spec.regression is not None:
        found["regression"] = regression_identity(cell, sources)
    return found


def shuffled(value, rng):
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: shuffled(value[key], rng) for key in keys}
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


@settings(derandomize=True, max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(EXAMPLES)), rng=st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(name, rng):
    raw = {**EXAMPLES[name], "sweep": {}, "exclude": []}
    assert identities(validate(shuffled(raw, rng))) == identities(validate(raw))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_order_of_axes_does_not_matter_to_the_campaign(name):
    raw = EXAMPLES[name]
    turned = {**raw, "sweep": dict(reversed(raw.get("sweep", {}).items()))}
    assert campaign_identity(validate(turned)) == campaign_identity(validate(raw))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_campaign_that_was_written_down_is_the_same_campaign(name):
    spec = validate(EXAMPLES[name])
    assert identities(parse(dump_yaml(spec))) == identities(spec)


def as_floats(value):
    """Whole numbers written with a point, where a number of any kind may stand."""
    if isinstance(value, dict):
        return {key: as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_floats(item) for item in value]
    return float(value) if type(value) is int else value


WHOLE = [
    ("network", "weight_variance"),
    ("network", "bias_variance"),
    ("network", "chi"),
    ("sampler", "friction"),
    ("sampler", "temperature"),
    ("sampler", "step_size"),
    ("regression", "ridges"),
    ("data", "normalize"),
    ("data", "teacher"),
    ("data", "target_exponent"),
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_1_and_1_point_0_are_the_same_number(name):
    raw = copy.deepcopy(EXAMPLES[name])
    for section, key in WHOLE:
        if key in (raw.get(section) or {}):
            raw[section][key] = as_floats(raw[section][key])
    assert identities(validate(raw)) == identities(validate(EXAMPLES[name]))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_default_that_is_written_out_is_still_the_default(name):
    spec = validate(EXAMPLES[name])
    full = spec.model_dump(mode="json")
    assert len(str(full)) > len(str(spec.model_dump(mode="json", exclude_unset=True)))
    assert identities(validate(full)) == identities(spec)


EXTENSIONS = [
    ("name", "other"),
    ("title", "Another title"),
    ("ensemble.datasets", 9),
    ("ensemble.chains", 16),
    ("sampler.draws", 1050),
    ("sampler.step_check", False),
    ("cutoff", 0.02),
    ("refine", {"axis": "width", "by": "disagreement", "budget": 9}),
    ("regression.repeats", 99),
    ("theories", []),
    ("sweep.width.network.width", [16, 32]),
    ("exclude", [{"width": 1024}]),
    ("network.width", 12345),  # the sweep sets it
]


@pytest.mark.parametrize(("path", "value"), EXTENSIONS, ids=[path for path, _ in EXTENSIONS])
def test_what_may_grow_does_not_change_any_identity(path, value):
    raw = copy.deepcopy(EXAMPLES["quickstart"])
    assign(raw, path, value)
    assert validate(raw) != validate(EXAMPLES["quickstart"])
    assert identities(validate(raw)) == identities(validate(EXAMPLES["quickstart"]))


def test_the_value_that_a_sweep_replaces_does_not_matter_in_a_list_either():
    raw = copy.deepcopy(EXAMPLES["mean_field"])
    raw["network"]["weight_variance"] = [7, 2]  # the sweep sets the first
    assert identities(validate(raw)) == identities(validate(EXAMPLES["mean_field"]))
    raw["network"]["weight_variance"] = [1, 7]
    assert campaign_identity(validate(raw)) != campaign_identity(validate(EXAMPLES["mean_field"]))


@pytest.mark.parametrize(
    ("name", "key"), [("mnist", "folder"), ("cifar10", "folder"), ("npz", "file")]
)
def test_files_count_by_their_content_and_not_by_their_place(name, key):
    raw = copy.deepcopy(EXAMPLES[name])
    raw["data"][key] = "/somewhere/else"
    spec, moved = validate(EXAMPLES[name]), validate(raw)
    assert identities(moved, {"file": "ab"}) == identities(spec, {"file": "ab"})
    differ = identities(moved, {"file": "cd"})
    assert all(differ[kind] != identities(spec, {"file": "ab"})[kind] for kind in differ)


# -- what matters ----------------------------------------------------------------------------------

DATA = {"campaign", "cell", "data", "regression"}
KERNEL = {"campaign", "cell", "regression"}
ENSEMBLE = {"campaign", "cell"}
REGRESSION = {"campaign", "regression"}
LAYOUT = {"campaign"}

IMAGE = {
    "network.architecture": "cnn",
    "network.image": [1, 8, 8],
    "network.head": "average",
    "observe.histograms": False,
}
QUARTIC = {"couplings": [0.2], "chains": 2, "warmup": 5, "draws": 5}
SGLD = {
    "sampler.scheme": "sgld",
    "sampler.step_size": 0.01,
    "sampler.friction": None,
    "sampler.batch": 9,
}
ANNEALED = {
    "ensemble.start": "anneal",
    "sampler.step_size": 0.1,
    "sampler.anneal": {"temperature": 4, "steps": 9},
}
IN_TIME = {
    "sampler.scheme": "trajectory",
    "sampler.dynamics": "langevin",
    "sampler.times": {"first": 1, "ratio": 2},
    "sampler.step_size": 0.1,
    "sampler.friction": None,
    "sampler.warmup": 0,
    "sampler.thin": 1,
    "sampler.draws": 4,
    "sampler.segment": 2,
    "observe.histograms": False,
}
WHOLE_SECTIONS = ("data", "sampler")
UNIFORM = {
    "data": {"source": "linear", "dimension": 2, "train": 100, "test": 600},
    "network.prior": "uniform",
    "sampler": {"scheme": "prior", "temperature": 1, "warmup": 0, "draws": 70, "segment": 35},
}
CHANGES = [
    ({"data.train": 50}, ENSEMBLE),
    ({"data.test": 500}, DATA),
    ({"data.positive": [1, 2]}, DATA),
    ({"data.negative": [1, 2]}, DATA),
    ({"data.positive": None, "data.negative": None, "data.classes": [3, 5, 8, 9]}, DATA),
    ({"data.label_noise": 0.5}, DATA),
    ({"data.normalize": None}, DATA),
    ({"data.normalize.squared_norm": 10}, DATA),
    ({"data.normalize.center": False}, DATA),
    ({"network.depth": 2, "network.weight_variance": [1, 2, 2]}, KERNEL),
    ({"network.activation": "linear"}, KERNEL),
    ({"network.weight_variance": [1, 3]}, KERNEL),
    ({"network.bias_variance": 0.5}, KERNEL),
    ({"network.scaling": "standard", "network.chi": 1}, KERNEL),
    ({"network.chi": 5}, KERNEL),
    ({"network.architecture": "cnn", "network.patches": 4}, KERNEL),
    ({**IMAGE, "network.pool_after": [1]}, KERNEL),
    ({"sampler.scheme": "ula", "sampler.friction": None}, ENSEMBLE),
    ({"sampler.scheme": "neurons", "sampler.friction": None}, ENSEMBLE),
    ({"sampler.scheme": "gibbs", "sampler.moves": 3}, ENSEMBLE),
    ({"sampler.scheme": "exchange", "sampler.ladder": [1, 2]}, ENSEMBLE),
    (SGLD, ENSEMBLE),
    (ANNEALED, ENSEMBLE),
    (IN_TIME, ENSEMBLE),
    ({"sampler.temperature": 0.6}, ENSEMBLE),
    ({"sampler.step_size": 0.05}, ENSEMBLE),
    ({"sampler.friction": 2}, ENSEMBLE),
    ({"sampler.warmup": 301}, ENSEMBLE),
    ({"sampler.thin": 11}, ENSEMBLE),
    ({"sampler.precision": "float64"}, ENSEMBLE),
    ({"sampler.segment": 14}, LAYOUT),
    ({"ensemble.seed": 2}, ENSEMBLE),
    ({"ensemble.block": 4}, LAYOUT),
    ({"regression.kernel": {"activation": "relu", "weight_variance": [1, 1]}}, REGRESSION),
    ({"regression.seed": 2}, REGRESSION),
    ({"regression.train": [25]}, REGRESSION),
    ({"regression.ridges": [0.25]}, REGRESSION),
    ({"regression.pool": 700}, REGRESSION),
    ({"regression.sampling": "without"}, REGRESSION),
    ({"regression.evaluate": ["pool"]}, REGRESSION),
    ({"regression.precision": "float32"}, REGRESSION),
    ({"regression.quartic": QUARTIC}, REGRESSION),
    (UNIFORM, DATA),
    ({"observe.points": 64}, LAYOUT),
    ({"observe.correlators": True}, LAYOUT),
    ({"observe.histograms": False}, LAYOUT),
    ({"observe.kernels": False}, LAYOUT),
    ({"observe.overlaps": False}, LAYOUT),
    ({"observe.lags": [1, 4]}, LAYOUT),
    ({"observe.measure": ["my.mod:f"]}, LAYOUT),
    ({"sweep.bias.network.bias_variance": [0]}, LAYOUT),
    ({"sweep.width.sampler.thin": [10, 10, 10, 10]}, LAYOUT),
]


@pytest.mark.parametrize(("change", "kinds"), CHANGES, ids=[" ".join(c) for c, _ in CHANGES])
def test_what_matters_changes_the_identities_that_it_matters_to(change, kinds):
    raw = {**copy.deepcopy(EXAMPLES["quickstart"]), "theories": []}
    for path, value in change.items():
        assign(raw, path, value)
    before, after = identities(validate(EXAMPLES["quickstart"])), identities(validate(raw))
    assert {kind for kind in before if after[kind] != before[kind]} == kinds


def test_every_setting_is_known_to_matter_or_not():
    spec = validate(EXAMPLES["quickstart"])
    known = {path for change, _ in CHANGES for path in change} | {path for path, _ in EXTENSIONS}
    one_value = {"version"}
    elsewhere = {"data.source"}  # see the next test
    settings = set()
    for key in type(spec).model_fields:
        section = getattr(spec, key)
        fields = getattr(type(section), "model_fields", None)
        settings |= {f"{key}.{field}" for field in fields} if fields else {key}
    assert settings - {"sweep"} == {
        path
        for path in known | one_value | elsewhere
        if path.count(".") < 2 and path not in WHOLE_SECTIONS
    }


def test_the_source_and_the_architecture_matter():
    observe = {"histograms": False, "kernels": False}
    specs = [
        campaign(LINEAR),
        campaign({**SINGLE_INDEX, "test": 10}),
        campaign(LINEAR, network={**NETWORK, "architecture": "a:Net"}, observe=observe),
        campaign(LINEAR, network={**NETWORK, "architecture": "b:Net"}, observe=observe),
    ]
    found = [identities(validate(raw)) for raw in specs]
    assert len({of["campaign"] for of in found}) == len({of["cell"] for of in found}) == 4
    assert len({of["data"] for of in found}) == 2


NUMBERS = [
    ("network.chi", st.floats(1e-3, 1e3)),
    ("network.bias_variance", st.floats(0, 10)),
    ("network.weight_variance.1", st.floats(1e-3, 1e3)),
    ("sampler.temperature", st.floats(1e-9, 1e9)),
    ("data.label_noise", st.floats(0, 1)),
    ("data.train", st.integers(1, 10**6)),
    ("ensemble.seed", st.integers(0, 2**63 - 1)),
    ("regression.seed", st.integers(0, 2**63 - 1)),
]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(data=st.data())
def test_identities_are_equal_just_where_the_numbers_are(data):
    path, numbers = data.draw(st.sampled_from(NUMBERS))
    pair = data.draw(st.tuples(numbers, numbers))
    found = []
    for value in pair:
        raw = copy.deepcopy(EXAMPLES["quickstart"])
        assign(raw, path, value)
        found.append(campaign_identity(validate(raw)))
    assert (found[0] == found[1]) == (pair[0] == pair[1])


# -- cells -----------------------------------------------------------------------------------------


def cells(spec):
    return [resolve(spec, point) for point in grid(spec)]


def test_a_cell_is_the_same_in_every_sweep():
    """Wider sweeps, other axes, another order, or no sweep at all: one point, one identity."""
    width = {"width": {"network.width": [16, 64]}}
    noise = {"noise": {"data.label_noise": [0.1, 0]}}
    raw = EXAMPLES["quickstart"]
    sweeps = [{}, width, {**width, **noise}, {**noise, **width}, {"w": {"network.width": [64]}}]
    found = [{cell_identity(cell) for cell in cells(validate({**raw, "sweep": s}))} for s in sweeps]
    alone = found[0]
    assert [len(identities) for identities in found] == [1, 2, 4, 4, 1]
    assert all(alone <= identities for identities in found)
    assert found[2] == found[3]


def test_cells_that_differ_in_network_or_sampler_have_the_same_data():
    spec = validate(EXAMPLES["mean_field"])
    assert len({cell_identity(cell) for cell in cells(spec)}) == 4
    assert len({data_identity(cell) for cell in cells(spec)}) == 1


def test_smaller_training_sets_are_parts_of_larger_ones():
    spec = validate(EXAMPLES["monomial"])
    assert len({cell_identity(cell) for cell in cells(spec)}) == 6
    assert len({data_identity(cell) for cell in cells(spec)}) == 2  # two teachers


def test_a_regression_does_not_see_width_training_set_or_sampler():
    sweep = {
        "width": {"network.width": [16, 64]},
        "size": {"data.train": [50, 100]},
        "u": {"sampler.temperature": [0.5, 1]},
        "bias": {"network.bias_variance": [0, 1]},
    }
    spec = validate({**EXAMPLES["quickstart"], "sweep": sweep})
    assert len({cell_identity(cell) for cell in cells(spec)}) == 16
    assert len({regression_identity(cell) for cell in cells(spec)}) == 2


def test_a_kernel_that_is_written_out_is_the_kernel_of_the_network():
    raw = copy.deepcopy(EXAMPLES["quickstart"])
    raw["regression"]["kernel"] = {
        key: value for key, value in raw["network"].items() if key != "width"
    }
    found, before = identities(validate(raw)), identities(validate(EXAMPLES["quickstart"]))
    assert found["regression"] == before["regression"]


def test_the_deepest_cell_is_part_of_a_campaign():
    """The length of `layer` is fixed when a store is made."""
    raw = copy.deepcopy(EXAMPLES["prior"])
    shallow = validate({**raw, "sweep": {"shape": raw["sweep"]["shape"]}})
    shape = {"network.depth": [1, 3], "network.weight_variance": [[1, 2], [1, 1, 1, 2]]}
    deep = validate({**raw, "sweep": {"shape": shape}})
    one = {"network.depth": [2], "network.weight_variance": [[1, 1, 2]]}
    assert campaign_identity(deep) != campaign_identity(shallow)
    assert campaign_identity(validate({**raw, "sweep": {"shape": one}})) == campaign_identity(
        shallow
    )
