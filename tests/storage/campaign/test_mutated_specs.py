"""Whatever is done to a campaign, it is read, or refused in one line that a person can use."""

import copy
import datetime
import difflib
import math
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.campaign.data_spec import SOURCES, PluginData
from storage.campaign.network_spec import Kernel, Network
from storage.campaign.sampler_spec import Ensemble, Sampler
from storage.campaign.source_spec import Normalize, OwnTest
from storage.campaign.spec import Campaign, Observe, Regression
from storage.errors import CampaignError
from storage.planning.identity import campaign_identity
from storage.planning.plan import plan
from storage.reading.document import dump_yaml, parse, read, validate
from support.example_specs import EXAMPLES, QUICKSTART

INTERNALS = (
    "type=", "https://", "Traceback", "NoneType", "ctx", "<class", "input_value", "pydantic",
    "Input should", "[key]", "@number", "@section", "@plugin", "Error(", "object at",
    *(f"@{source}" for source in SOURCES),
)  # fmt: skip

NAMES = st.sampled_from(
    [
        "widht",
        "",
        " ",
        "a b",
        "x" * 5000,
        "network.width",
        "line\nline",
        "\x00",
        "{found}",
        "é",
        "<<",
    ]
)
PATHS = st.sampled_from(
    [
        "data", "data.train", "data.source", "data.test.points", "data.normalize.squared_norm",
        "data.teacher.3", "data.teacher.03", "data.teacher.x", "data.teacher", "network.width",
        "network.weight_variance", "network.weight_variance.0", "network.weight_variance.9",
        "network.width.a.b", "network.architecture", "sampler.draws", "sampler.temperature",
        "sampler.step_size", "ensemble.seed", "regression.kernel.depth", "regression.ridges.0",
        "sweep.width.network.width", "sweep.a", "version", "name", ".", "..", "a." * 3000,
        "netwrk.width", "theories", "theories.0", "observe.points",
    ]
)  # fmt: skip
SCALARS = st.sampled_from(
    [
        None, True, False, 0, -1, 1, 2, 1.0, 0.5, -0.0, 1e300, 1e-320, math.nan, math.inf,
        -math.inf, 2**31, 2**63 - 1, 2**63, 10**400, -(10**400), "", " ", "on", "1e-8", "erf",
        "nngp", "mean_field", "two\nlines", "x" * 5000, "\x00", "\u2028", "\ud800", "{found}",
        "my.mod:make", "a²:b", "@other", b"bytes", datetime.date(2026, 1, 1), {1, 2}, 1j, object,
    ]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | PATHS, inner, max_size=3),
    max_leaves=4,
)
KEYS = NAMES | PATHS | st.sampled_from([None, 1, 1.5, True, 10**400, b"a", ("a",), "\ud800"])


def examples(number):
    """The same examples on every machine, however busy it is."""
    return settings(
        derandomize=True,
        max_examples=number,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def outcome(function, *arguments, given=""):
    """A campaign that can be written, read back, identified and planned; or one line."""
    try:
        spec = function(*arguments)
    except CampaignError as error:
        line = str(error)
        assert line.strip()
        assert len(line.splitlines()) == 1
        assert len(line) < 600
        assert not [
            word for word in INTERNALS if word in line and word not in f"{arguments}{given}"
        ]
        line.encode()
        return line
    assert parse(dump_yaml(spec)) == spec
    assert len(campaign_identity(spec)) == 64
    assert next(plan(spec).shards()).name
    return spec


def places(value):
    """Every (container, key) of nested mappings and lists."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def delete(draw, container, key):
    del container[key]


def rename(draw, container, key):
    if isinstance(container, dict):
        container[draw(KEYS)] = container.pop(key)


def replace(draw, container, key):
    container[key] = draw(VALUES)


def add(draw, container, key):
    if isinstance(container, dict):
        container[draw(KEYS)] = draw(VALUES)
    else:
        container.append(draw(VALUES))


def duplicate(draw, container, key):
    if isinstance(container, list):
        container.append(copy.deepcopy(container[key]))


def respell(draw, container, key):
    """The same value as another type."""
    value = container[key]
    container[key] = draw(st.sampled_from([str(value), [value], {"0": value}, (value,)]))


def nest(draw, container, key):
    for _ in range(draw(st.sampled_from([1, 30]))):
        container[key] = draw(st.sampled_from([[container[key]], {"a": container[key]}]))


def transplant(draw, container, key):
    """A value from elsewhere."""
    other = EXAMPLES[draw(st.sampled_from(sorted(EXAMPLES)))]
    where, which = draw(st.sampled_from(list(places(other))))
    container[key] = copy.deepcopy(where[which])


def sweep(draw, container, key):
    container[key] = draw(
        st.dictionaries(
            NAMES | st.sampled_from(["a", "b", "loss", "cell", "@x"]),
            st.dictionaries(PATHS, st.lists(VALUES, max_size=3), max_size=3),
            max_size=3,
        )
    )


MUTATIONS = [delete, rename, replace, add, duplicate, respell, nest, transplant, sweep]


@st.composite
def mutated(draw):
    raw = copy.deepcopy(EXAMPLES[draw(st.sampled_from(sorted(EXAMPLES)))])
    raw.setdefault("sweep", {})
    for _ in range(draw(st.integers(1, 3))):
        if found := list(places(raw)):
            container, key = draw(st.sampled_from(found))
            draw(st.sampled_from(MUTATIONS))(draw, container, key)
    return raw


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_valid(name):
    assert isinstance(outcome(validate, EXAMPLES[name]), Campaign)


@examples(300)
@given(raw=mutated())
def test_a_mutated_campaign_is_read_or_refused_in_one_line(raw):
    outcome(validate, raw)


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_ten_thousand_mutated_campaigns_are_read_or_refused_in_one_line():
    counts: Counter[str] = Counter()

    @examples(10_000)
    @given(raw=mutated())
    def count(raw):
        counts["refused" if isinstance(outcome(validate, raw), str) else "read"] += 1

    count()
    print(f"mutated campaigns: {dict(counts)}")


@examples(50)
@given(raw=VALUES)
def test_anything_else_is_refused_in_one_line(raw):
    assert isinstance(outcome(validate, raw), str)


def test_what_is_too_large_or_too_deep_to_print_is_refused_in_one_line():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in (10**5000, {10**5000: 1}, deep):
        assert isinstance(outcome(validate, {**EXAMPLES["linear"], "network": value}), str)


def models(raw):
    """Every section of a campaign with its place and its model."""
    data = raw["data"]
    found = [
        ((), Campaign),
        (("data",), SOURCES.get(data["source"], PluginData)),
        (("data", "normalize"), Normalize),
        (("data", "test"), OwnTest),
        (("network",), Network),
        (("sampler",), Sampler),
        (("ensemble",), Ensemble),
        (("regression",), Regression),
        (("regression", "kernel"), Kernel),
        (("observe",), Observe),
    ]
    for place, model in found:
        section = raw
        for key in place:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict):
            yield place, model, list(section)


KEYS_WRITTEN = [
    (name, place, key, [*model.model_fields])
    for name, raw in EXAMPLES.items()
    for place, model, keys in models(raw)
    for key in keys
]
LETTERS = "abcdefghijklmnopqrstuvwxyz_"


@st.composite
def typo(draw, word):
    """The word with one letter left out, put in, changed, or two of them exchanged."""
    i = draw(st.integers(0, len(word) - 1))
    letter = draw(st.sampled_from(LETTERS))
    return draw(
        st.sampled_from(
            [
                word[:i] + word[i + 1 :],
                word[:i] + letter + word[i:],
                word[:i] + letter + word[i + 1 :],
                word[:i] + word[i : i + 2][::-1] + word[i + 2 :],
            ]
        )
    )


@examples(300)
@given(data=st.data())
def test_a_key_with_a_typo_is_named_and_the_nearest_one_is_suggested(data):
    name, place, key, allowed = data.draw(st.sampled_from(KEYS_WRITTEN))
    found = data.draw(typo(key).filter(lambda word: word and word not in allowed))
    raw = copy.deepcopy(EXAMPLES[name])
    section = raw
    for step in place:
        section = section[step]
    section[found] = section.pop(key)
    line = outcome(validate, raw)
    assert f"unknown key {found}; " in line
    assert line.startswith(".".join(place))
    if difflib.get_close_matches(found, allowed, n=1) == [key]:
        assert f"did you mean {key}? " in line


PIECES = st.sampled_from(
    [
        *"{}[],:-?&*!|>'\"%@`# \n\t\\~=<_\x00\x85\u2028\ufeff\r", "---\n", "...\n", "- ",
        "? ", ": ", "!!python/object:os.system ", "%YAML 1.1\n", "\\UFFFFFFFF", "\\ud800",
        "|2\n", "<<: ", "\n  ", "&a ", "*a ", "a: ", "network:\n  ", "9" * 5000, "0x" + "f" * 5000,
        "[" * 5000, "- " * 5000,
    ]
)  # fmt: skip


@st.composite
def spliced(draw):
    """The packaged campaign with pieces cut out and put in."""
    text = QUICKSTART.read_text()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = start + draw(st.integers(0, 20))
        text = text[:start] + draw(PIECES | st.text(max_size=3)) + text[stop:]
    return text.encode(errors="surrogatepass")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("campaign") / "campaign.yaml"


@examples(100)
@given(content=spliced())
def test_a_damaged_file_is_read_or_refused_in_one_line(file, content):
    file.write_bytes(content)
    outcome(read, file, given=content)


@examples(200)
@given(
    content=st.binary(max_size=40)
    | st.text(max_size=40).map(str.encode)
    | st.lists(PIECES, max_size=12).map("".join).map(lambda text: text.encode(errors="replace"))
)
def test_a_file_that_is_no_campaign_is_refused_in_one_line(file, content):
    file.write_bytes(content)
    line = outcome(read, file, given=content)
    assert isinstance(line, str)
    assert line.startswith(str(file))


@examples(120)
@given(
    name=st.sampled_from(sorted(EXAMPLES)),
    path=PATHS | st.text(max_size=10),
    value=st.sampled_from(
        ["", "1", "0.5", "-3", "[]", "[1, 2]", "{a: 1}", "null", ".nan", "on", "x"]
    )
    | PIECES
    | st.text(max_size=10),
    equals=st.sampled_from(["=", "=", "=", "==", ":"]),
)
def test_any_override_is_taken_or_refused_in_one_line(name, path, value, equals):
    outcome(parse, dump_yaml(Campaign.model_validate(EXAMPLES[name])), [f"{path}{equals}{value}"])
