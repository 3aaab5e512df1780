import copy

import jsonschema
import pytest

from pipelines.commands.packaged import FOLDER, names
from storage.campaign.network_spec import Kernel
from storage.errors import CampaignError
from storage.reading.document import dump_yaml, json_schema, parse, read, validate
from storage.reading.yaml12 import load_yaml
from support.example_specs import EXAMPLES, LINEAR, NETWORK, QUICKSTART, SINGLE_INDEX, campaign

MISSING = object()


def changed(name, path, value):
    """An example with one setting changed, or taken out."""
    raw = copy.deepcopy(EXAMPLES[name])
    *parents, last = path.split(".")
    section = raw
    for key in parents:
        section = section[int(key) if isinstance(section, list) else key]
    if value is MISSING:
        del section[last]
    else:
        section[int(last) if isinstance(section, list) else last] = value
    return raw


def refusal(function, *arguments):
    with pytest.raises(CampaignError) as error:
        function(*arguments)
    return str(error.value)


# Example, key, what is put there, and a part of the line; ": " at its beginning follows the key.
MISTAKES = [
    # the campaign
    ("linear", "version", 2, ": found 2, wanted 1"),
    ("linear", "version", True, ": found true, wanted a whole number"),
    ("linear", "version", 1.0, ": found 1.0, wanted a whole number"),
    ("linear", "version", MISSING, ": missing; add it"),
    ("linear", "name", "Erf", ": found 'Erf', wanted at most 63 lower-case letters"),
    ("linear", "name", "a\n", ": found 'a\\n', wanted at most 63 lower-case letters"),
    ("linear", "name", "a" * 64, "wanted at most 63 lower-case letters, digits and -"),
    ("linear", "title", None, ": found nothing, wanted text"),
    ("linear", "netwrok", {}, "unknown key netwrok; did you mean network? allowed: version"),
    ("linear", "data", MISSING, ": missing; add it"),
    ("linear", "network", [], ": found [], wanted a section of keys and values"),
    ("linear", "network", MISSING, "ensemble needs a section network; none was found"),
    ("linear", "sampler", MISSING, "ensemble needs a section sampler; none was found"),
    ("digits", "ensemble", MISSING, "sampler is given without an ensemble; add ensemble"),
    ("power_law", "regression", MISSING, "nothing to do: give an ensemble, a regression, or"),
    ("power_law", "regression.kernel", MISSING, "regression needs a kernel: give"),
    ("power_law", "regression.kernel.activation", "my.mod:phi", "no NNGP kernel is known for"),
    # data
    ("linear", "data", 3, ": found 3, wanted a section that begins with source"),
    ("linear", "data.source", MISSING, "data: source is missing; add it (allowed: single_index"),
    ("linear", "data.source", "lineer", "data: unknown source 'lineer'; did you mean linear?"),
    ("linear", "data.source", None, "data: unknown source nothing; allowed: single_index"),
    ("linear", "data.source", "my mod:make", "data: unknown source 'my mod:make'; "),
    ("linear", "data.dimensoin", 3, "data: unknown key dimensoin; did you mean dimension?"),
    ("linear", "data.teacher", {}, "data: unknown key teacher; allowed: train, test"),
    ("linear", "data.dimension", 0, ": found 0, wanted a number above 0"),
    ("linear", "data.dimension", 2.0, ": found 2.0, wanted a whole number"),
    ("linear", "data.train", "1e3", ": found '1e3', wanted a whole number"),
    ("linear", "data.train", 2**64, ": found a whole number of 65 bits, wanted at most"),
    ("linear", "data.label_noise", -1, ": found -1, wanted a number not below 0"),
    ("linear", "data.label_noise", float("nan"), ": found nan, wanted a finite number"),
    ("linear", "data.inputs", "spehre", "wanted 'gaussian' or 'sphere'; did you mean sphere?"),
    ("linear", "data.test", None, ": found nothing, wanted a whole number"),
    ("linear", "data.test", {"points": 0}, "data.test.points: found 0, wanted a number above 0"),
    ("linear", "data.test", {"point": 3}, ": unknown key point; did you mean points?"),
    ("digits", "data.test", {"points": 3}, ": found {'points': 3}, wanted a whole number"),
    ("cifar10", "data.normalize.center", "on", ": found 'on', wanted true or false"),
    ("cifar10", "data.normalize.norm", 1, "data.normalize: unknown key norm; "),
    ("single_index", "data.teacher", {}, ": found 0 values, wanted at least 1"),
    ("single_index", "data.teacher", [1], ": found [1], wanted a section of keys and values"),
    ("single_index", "data.teacher", {"x": 1}, "data.teacher.x: found 'x', wanted the order of"),
    ("single_index", "data.teacher", {"01": 1}, "data.teacher.01: found '01', wanted the order"),
    ("single_index", "data.teacher", {"-1": 1}, "data.teacher.-1: found '-1', wanted the order"),
    ("single_index", "data.teacher", {"101": 1}, "data.teacher.101: found '101', wanted a"),
    ("single_index", "data.teacher.1", "a", ": found 'a', wanted a number"),
    ("single_index", "data.basis", "he", ": found 'he', wanted 'hermite' or 'monomial'"),
    ("digits", "data.positive", [], ": found 0 values, wanted at least 1"),
    ("digits", "data.positive", 3, ": found 3, wanted a list"),
    ("digits", "data.positive", [10], "data.positive.0: found 10, wanted a number not above 9"),
    ("digits", "data.positive", [1], "data: positive and negative name class 1 twice"),
    ("digits", "data.negative", [3, 3], "data: positive and negative name class 3 twice"),
    ("digits", "data.negative", MISSING, "data: negative is missing; give positive and negative,"),
    ("digits", "data.classes", [1, 2], "data: found classes and positive; leave one of them out"),
    ("classes", "data.negative", [1], "data: found classes and negative; leave one of them out"),
    ("classes", "data.classes", MISSING, "data: positive is missing; give positive and"),
    ("classes", "data.classes", [3], "data.classes: found 1 values, wanted at least 2"),
    ("classes", "data.classes", [3, 1, 3], "data: classes names class 3 twice"),
    ("classes", "data.classes", [3, 10], "data.classes.1: found 10, wanted a number not above 9"),
    ("mnist", "data.subset", "testing", ": found 'testing', wanted 'train', 'test' or 'all'"),
    ("mnist", "data.folder", "", ": found '', wanted a path"),
    ("mnist", "data.folder", MISSING, ": missing; add it"),
    ("npz", "data.file", "a\x00b", ": found 'a\\x00b', wanted a path"),
    ("plug-ins", "data.settings", {"a": [1]}, "data.settings.a: found [1], wanted a finite"),
    ("plug-ins", "data.settings", {"a": float("inf")}, "data.settings.a: found inf, wanted a"),
    ("plug-ins", "data.normalize", {}, ": found {}, wanted nothing; leave it out"),
    ("plug-ins", "data.source", "my.mod:", "data: unknown source 'my.mod:'; "),
    # network and kernel
    ("linear", "network.activation", "rleu", ": found 'rleu', did you mean relu? allowed:"),
    ("linear", "network.activation", 3, ": found 3, allowed: linear, erf, relu"),
    ("linear", "network.architecture", "can", ": found 'can', did you mean fcn?"),
    ("linear", "network.architecture", "cnn", "network: architecture cnn needs either patches"),
    ("linear", "network.patches", 5, "network: patches belongs to architecture cnn; leave it out"),
    ("linear", "network.weight_variance", "a", ": found 'a', wanted a number, or a list of them"),
    ("linear", "network.weight_variance", ["1", 2], "network.weight_variance.0: found '1'"),
    ("linear", "network.weight_variance", [1, 0], "network.weight_variance.1: found 0, wanted a"),
    ("linear", "network.weight_variance", [1], "network: weight_variance has 1 numbers, wanted 2:"),
    ("linear", "network.bias_variance", -1, ": found -1, wanted a number not below 0"),
    ("linear", "network.bias_variance", "0.1", "network.bias_variance: found '0.1', wanted a num"),
    ("linear", "network.bias_variance", [-1], "network.bias_variance.0: found -1, wanted a number"),
    ("linear", "network.bias_variance", [1, 2], "network: bias_variance has 2 numbers, wanted 1:"),
    ("linear", "network.depth", 2, "network: weight_variance has 2 numbers, wanted 3"),
    ("linear", "network.depth", True, ": found true, wanted a whole number"),
    ("linear", "network.chi", 2, "network: chi is 2.0 with scaling standard; set scaling"),
    ("power_law", "regression.kernel.width", 3, "regression.kernel: unknown key width; "),
    # sampler
    ("linear", "sampler.scheme", "baobab", "or 'trajectory'; did you mean baoab?"),
    ("linear", "sampler.temprature", 1, "unknown key temprature; did you mean temperature?"),
    ("linear", "sampler.temperature", 0, ": found 0, wanted a number above 0"),
    ("linear", "sampler.temperature", float("inf"), ": found inf, wanted a finite number"),
    ("linear", "sampler.step_size", MISSING, "sampler: step_size is missing; scheme baoab"),
    ("linear", "sampler.scheme", "auto", "sampler: step_size is for baoab, ula, mala, collapsed"),
    ("mnist", "sampler.friction", 1, "sampler: friction is for baoab, collapsed, gibbs, exchange"),
    ("prior", "sampler.step_size", 0.1, "scheme prior has none: leave it out"),
    ("prior", "sampler.friction", 0.1, "scheme prior has none: leave it out"),
    ("linear", "sampler.segment", 4, "sampler: draws is 6, not a multiple of segment 4; choose"),
    ("linear", "sampler.warmup", -1, ": found -1, wanted a number not below 0"),
    ("linear", "sampler.precision", "float16", ": found 'float16', wanted 'float32' or 'float64'"),
    # ensemble
    ("linear", "ensemble.chains", 1, ": found 1, wanted a number not below 2"),
    ("linear", "ensemble.block", 3, "ensemble: chains is 4, not a multiple of block 3; choose a"),
    ("linear", "ensemble.start", "taecher", ": found 'taecher', wanted 'prior', 'teacher', 'both'"),
    ("mnist", "ensemble.start", "teacher", "ensemble.start: teacher needs data with one direction"),
    ("linear", "ensemble.start", "anneal", "anneal and a section sampler.anneal go together"),
    ("linear", "ensemble.seed", -1, ": found -1, wanted a number not below 0"),
    # regression
    ("digits", "regression.train", [], ": found 0 values, wanted at least 1"),
    ("digits", "regression.train", [10, 10], "regression: train names a value twice"),
    ("digits", "regression.ridges", [1, 1.0], "regression: ridges names a value twice"),
    ("digits", "regression.evaluate", ["pool", "pool"], "regression: evaluate names a value"),
    ("digits", "regression.evaluate", ["pol"], "regression.evaluate.0: found 'pol', wanted 'pool'"),
    ("digits", "regression.train", [41], "regression: train asks for 41 points of a pool of 40"),
    ("digits", "regression.sampling", "with", "found 'with', wanted 'with_replacement' or"),
    # observables and theories
    ("linear", "observe", {"points": 513}, "observe.points: found 513, wanted a number not"),
    ("linear", "observe", {"kernels": 1}, "observe.kernels: found 1, wanted true or false"),
    ("plug-ins", "observe.measure", ["measure"], "observe.measure.0: found 'measure', wanted"),
    ("plug-ins", "observe", {"kernels": False}, "observe.histograms needs an architecture whose"),
    ("plug-ins", "observe", {"histograms": False}, "observe.kernels needs an architecture whose"),
    ("linear", "theories", "nngp", ": found 'nngp', wanted a list"),
    ("linear", "theories", ["kernel_scalng"], "theories.0: found 'kernel_scalng', did you"),
    ("linear", "theories", ["nngp", "nngp"], ": nngp is named twice; leave one out"),
    ("linear", "theories", ["effective_ridge"], "effective_ridge predicts a regression; add"),
    ("power_law", "theories", ["nngp"], ": nngp predicts an ensemble; add ensemble"),
    ("plug-ins", "theories", ["nngp"], "found architecture my.mod:Net, wanted fcn or cnn"),
    # sweeps, whose errors test_sweep.py has
    ("linear", "sweep", [], ": found [], wanted a section of keys and values"),
    ("linear", "sweep", {"a": ["data.train"]}, "sweep.a: found ['data.train'], wanted a section"),
    ("linear", "sweep", {"a": {"data.train": 3}}, "sweep.a.data.train: found 3, wanted a list"),
    ("linear", "sweep", {"a": {"data.train": []}}, "sweep.a.data.train: found 0 values, wanted"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "value", "line"), MISTAKES, ids=[f"{m[1]}-{m[3][-24:]}" for m in MISTAKES]
)
def test_a_mistake_gets_the_line_that_names_it(name, path, value, line):
    wanted = f"{path}{line}" if line.startswith(": ") else line
    assert wanted in refusal(validate, changed(name, path, value))


CONVOLUTION = {"architecture": "cnn", "patches": 2}
NEURONS = {"scheme": "neurons", "temperature": 1, "warmup": 20, "draws": 6, "segment": 3}
TWO_MISTAKES = [
    (
        campaign(
            LINEAR,
            network={**NETWORK, "depth": 2, "weight_variance": [1, 1, 1]},
            sampler={**NEURONS, "step_size": "auto"},
        ),
        "sampler.scheme: neurons is for fcn with one hidden layer; take baoab",
    ),
    (
        campaign(LINEAR, sampler={**NEURONS, "step_size": 2}),
        "step_size is 2; scheme neurons turns by an angle of at most 1.5708 (pi/2); give auto",
    ),
    (
        campaign(
            LINEAR,
            network={**NETWORK, "depth": 2, "weight_variance": [1, 1, 1]},
            theories=["adaptive"],
        ),
        "theories: adaptive does not hold: found depth 2, wanted 1; leave it out",
    ),
    (
        campaign(LINEAR, network={**NETWORK, "architecture": "my.mod:Net"}, observe={"points": 3}),
        "observe.histograms needs an architecture whose layers are known; found my.mod:Net",
    ),
    (
        campaign({**SINGLE_INDEX, "test": {"points": 3, "inputs": "cube"}}),
        "data.test.inputs: found 'cube', wanted 'gaussian' or 'sphere'",
    ),
    (
        campaign(LINEAR, network={**NETWORK, **CONVOLUTION, "bias_variance": [0.1]}),
        "network: bias_variance is (0.1,); architecture cnn has no biases",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "line"),
    TWO_MISTAKES,
    ids=["neurons, depth", "neurons, angle", "depth", "architecture", "test", "cnn"],
)
def test_what_sections_need_of_each_other(raw, line):
    assert line in refusal(validate, raw)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_written_reads_back_as_the_same_campaign(name):
    spec = validate(EXAMPLES[name])
    again = parse(dump_yaml(spec))
    assert again == spec
    assert dump_yaml(again) == dump_yaml(spec)


def test_a_campaign_cannot_be_changed():
    spec = validate(EXAMPLES["linear"])
    with pytest.raises(ValueError, match="frozen"):
        spec.network.width = 3


def test_validation_leaves_its_argument_alone():
    raw = copy.deepcopy(EXAMPLES["monomial"])
    spec = validate(raw)
    assert raw == EXAMPLES["monomial"]
    raw["sweep"]["size"]["data.train"].append(7)
    assert spec.sweep["size"]["data.train"] == [5, 10, 20]


def test_python_may_use_tuples_and_numbers_as_keys():
    data = {**SINGLE_INDEX, "teacher": {1: 1, 3: -0.05}}
    network = {**NETWORK, "weight_variance": (1, 2)}
    assert validate(campaign(data, network=network)) == validate(campaign(SINGLE_INDEX))


# -- overrides ----------------------------------------------------------------------------------

OVERRIDES = [
    ("sampler.draws=9", lambda spec: spec.sampler.draws, 9),
    ("network.weight_variance=[1, 3]", lambda spec: spec.network.weight_variance, (1.0, 3.0)),
    ("network.weight_variance.0=1e-2", lambda spec: spec.network.weight_variance, (0.01, 2.0)),
    ("network.bias_variance=[0.1]", lambda spec: spec.network.biases, (0.1,)),
    ("network.bias_variance=2", lambda spec: spec.network.biases, (2.0,)),
    ("data.teacher.2=0.5", lambda spec: spec.data.teacher, {1: 1.0, 2: 0.5, 3: -0.05}),
    ("data.normalize.center=true", lambda spec: spec.data.normalize.center, True),
    ("title=a=b", lambda spec: spec.title, "a=b"),
    ("sweep.size.data.train=[7]", lambda spec: spec.sweep["size"], {"data.train": [7]}),
    ("sweep={}", lambda spec: spec.sweep, {}),
]


@pytest.mark.parametrize(
    ("override", "read_back", "value"), OVERRIDES, ids=[o[0] for o in OVERRIDES]
)
def test_an_override_sets_one_key(override, read_back, value):
    assert read_back(parse(dump_yaml(validate(EXAMPLES["monomial"])), [override])) == value


def test_the_last_override_wins():
    text = dump_yaml(validate(EXAMPLES["linear"]))
    assert parse(text, ["data.train=3", "data.train=4"]).data.train == 4


BAD_OVERRIDES = {
    "sampler.draws": "--set sampler.draws: wanted key=value, such as sampler.draws=50",
    "=3": "--set =3: wanted key=value",
    "sampler.drawz=3": "sampler: unknown key drawz; did you mean draws?",
    "sampler.draws=": "sampler.draws: found nothing, wanted a whole number",
    "sampler.draws=1e2": "sampler.draws: found 100.0, wanted a whole number",
    "sampler.draws=[": "--set sampler.draws=[: line 1: not valid YAML",
    "network.width.x=3": "--set network.width.x=3: network.width.x: found a value where a section",
    "network.weight_variance.2=3": "2 is no position in a list of 2, counted from 0",
    "network.weight_variance.-1=3": "-1 is no position in a list of 2, counted from 0",
    "network.weight_variance.00=3": "00 is no position in a list of 2, counted from 0",
    "a." * 100 + "a=3": "deeper than any key of a campaign",
}


@pytest.mark.parametrize(
    ("override", "line"), BAD_OVERRIDES.items(), ids=[o[:30] for o in BAD_OVERRIDES]
)
def test_a_wrong_override_gets_one_line(override, line):
    assert line in refusal(parse, dump_yaml(validate(EXAMPLES["linear"])), [override])


# -- files --------------------------------------------------------------------------------------


def test_the_packaged_campaign_is_read():
    spec = read(QUICKSTART, ["sampler.draws=35"])
    assert (spec.name, spec.sampler.draws, spec.data.source) == ("quickstart", 35, "digits")


def test_a_line_about_a_file_begins_with_the_file(tmp_path):
    file = tmp_path / "a.yaml"
    assert refusal(read, file) == f"{file}: No such file or directory; give a campaign file"
    assert refusal(read, tmp_path) == f"{tmp_path}: Is a directory; give a campaign file"
    file.write_bytes(b"\xff\xfe")
    assert refusal(read, file) == f"{file}: not text in UTF-8; give a YAML file"
    file.write_bytes(b"#" * 1_000_001)
    assert refusal(read, file) == f"{file}: found more than 1000000 bytes, wanted a campaign"
    file.write_text("- 1")
    assert refusal(read, file) == f"{file}: found a list, wanted the sections of a campaign"
    file.write_text("")
    assert refusal(read, file) == f"{file}: found nothing, wanted the sections of a campaign"


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + QUICKSTART.read_bytes())
    assert read(file) == read(QUICKSTART)


# -- the JSON schema for editors ------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_schema_accepts_what_is_valid(schema, name):
    assert [error.message for error in schema.iter_errors(EXAMPLES[name])] == []


@pytest.mark.parametrize("name", names())
def test_the_schema_accepts_the_packaged_campaigns(schema, name):
    assert schema.is_valid(load_yaml((FOLDER / f"{name}.yaml").read_text()))


def test_the_schema_accepts_axes_that_are_given_by_their_ends(schema):
    assert schema.is_valid(changed("linear", "sweep", {"a": {"data.train": SPACED}}))
    for wrong in ([1, 10], [0, 10, 3], [1, 10, 1], "x"):
        bad = {"a": {"data.train": {"geometric": wrong}}}
        assert not schema.is_valid(changed("linear", "sweep", bad))


SPACED = {"geometric": [1, 1000, 7]}
SEEN_BY_THE_SCHEMA = [
    ("linear", "sweep", {"a": {"data.train": {"geometrc": [1, 1000, 7]}}}),
    ("linear", "sweep", {"a": {"data.train": {**SPACED, "linear": [1, 2, 3]}}}),
    ("excluded", "exclude", [{}]),
    ("excluded", "exclude", {"width": 4}),
    ("linear", "netwrok", {}),
    ("linear", "name", "Erf"),
    ("linear", "data", MISSING),
    ("linear", "data.source", "lineer"),
    ("linear", "data.dimensoin", 3),
    ("linear", "data.dimension", 0),
    ("single_index", "data.teacher", {}),
    ("digits", "data.positive", [10]),
    ("linear", "network.activation", "rleu"),
    ("linear", "network.weight_variance", [1, 0]),
    ("linear", "sampler.temprature", 1),
    ("linear", "sampler.scheme", "baobab"),
    ("linear", "sampler.warmup", MISSING),
    ("linear", "observe", {"kernels": 1}),
    ("linear", "theories", ["kernel_scalng"]),
    ("linear", "sweep", {"a": {"data.train": 3}}),
    ("plug-ins", "data.source", "my.mod:"),
]


@pytest.mark.parametrize(("name", "path", "value"), SEEN_BY_THE_SCHEMA)
def test_the_schema_refuses_what_one_key_shows(schema, name, path, value):
    assert not schema.is_valid(changed(name, path, value))


# -- what a section says of itself ----------------------------------------------------------------


def test_the_readout_variance_is_divided_by_chi():
    kernel = Kernel(
        activation="erf", depth=2, weight_variance=(1.0, 2.0, 3.0), scaling="mean_field", chi=4.0
    )
    assert kernel.physical_weight_variance == (1.0, 2.0, 0.75)


def test_parts_of_the_target():
    parts = {name: validate(EXAMPLES[name]).data.components for name in EXAMPLES}
    assert parts["single_index"] == ("He1", "He3")
    assert parts["monomial"] == ("z^1", "z^3")
    assert parts["digits"] == ("target",)
    teachers = {name for name in EXAMPLES if validate(EXAMPLES[name]).data.has_teacher}
    assert {"single_index", "linear"} <= teachers
    assert not teachers & {"digits", "npz", "plug-ins", "power_law"}
    assert validate(EXAMPLES["single_index"]).data.test_points == 10
    assert validate(EXAMPLES["linear"]).data.test_points == 10
