"""YAML 1.2, core schema: https://yaml.org/spec/1.2.2/#103-core-schema."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import CampaignError
from storage.reading.yaml12 import load_yaml, write_yaml

SCALARS = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "FALSE": False,
    "on": "on",
    "off": "off",
    "yes": "yes",
    "no": "no",
    "0": 0,
    "010": 10,
    "-19": -19,
    "+3": 3,
    "0o14": 12,
    "0xC": 12,
    "0b11": "0b11",
    "1_000": "1_000",
    "1e-8": 1e-8,
    "12e03": 12000.0,
    "-2E+05": -2e5,
    ".5": 0.5,
    "0.": 0.0,
    "1.5e3": 1500.0,
    ".inf": math.inf,
    "-.Inf": -math.inf,
    "+.INF": math.inf,
    "inf": "inf",
    "nan": "nan",
    "12:30:45": "12:30:45",
    "2026-01-01": "2026-01-01",
    "'1'": "1",
    '"1e-8"': "1e-8",
    "data.train": "data.train",
    "=": "=",
}


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_plain_scalars_mean_what_the_core_schema_says(text, value):
    found = load_yaml(f"key: {text}")["key"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number():
    assert math.isnan(load_yaml(".nan"))


def test_the_version_directive_does_not_bring_back_yaml_1_1():
    assert load_yaml("%YAML 1.1\n---\n[yes, 010, 0o10]") == ["yes", 10, 8]


def test_keys_are_text_as_they_are_written():
    assert load_yaml("{1: a, 1.0: b, 010: c, true: d, on: e, '2': f, : g}") == {
        "1": "a",
        "1.0": "b",
        "010": "c",
        "true": "d",
        "on": "e",
        "2": "f",
        "": "g",
    }


def test_blocks_flows_and_comments_nest():
    text = "a:  # one\n  - b: |\n      two\n      lines\n  - [c, {d: 'e'}]\nf: >-\n  g\n  h\n"
    assert load_yaml(text) == {"a": [{"b": "two\nlines\n"}, ["c", {"d": "e"}]], "f": "g h"}


def test_aliases_are_copies():
    found = load_yaml("a: &x {n: 1, m: [2]}\nb: *x\n&k c: *k\n")
    assert found == {"a": {"n": 1, "m": [2]}, "b": {"n": 1, "m": [2]}, "c": "c"}
    found["a"]["m"].append(3)
    assert found["b"]["m"] == [2]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\n\n"])
def test_an_empty_text_is_nothing(text):
    assert load_yaml(text) is None


def laughs(levels):
    """Each list names the one before nine times: 9^levels values in a few hundred bytes."""
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


REFUSED = {
    "a: 1\nb:\n  c: 1\n  c: 2\n": "line 4: found the key c twice",
    "1: a\n'1': b\n": "line 2: found the key 1 twice",
    "a: 1\n---\nb: 2\n": "line 2: found a second document",
    "--- 1\n--- 2\n--- 3\n": "line 2: found a second document",
    "a: !!python/object:os.system x": "line 1: found the tag !!python/object:os.system",
    "a: !mine 3": "line 1: found the tag !mine",
    "a:\n  !!set {b, c}": "line 2: found the tag !!set",
    "!!str a: 3": "line 1: found the tag !!str",
    "a: &x [1, *x]": "line 1: found the alias x, wanted one whose anchor ends before",
    "a: *nowhere": "line 1: found the alias nowhere",
    "a: &x {b: 1}\nc:\n  <<: *x\n": "line 3: << is not YAML 1.2",
    "? [a, b]\n: 1\n": "line 1: found a list or section as a key, wanted text",
    "a: &x b\n*x : 1\n": "line 2: found an alias as a key, wanted text",
    "a: [1, 2\nb: 3\n": "line 2: not valid YAML",
    "a: b: c": "line 1: not valid YAML: found a ':' that does not fit; check the",
    "a:\n\t- b": "line 2: not valid YAML",
    "a: 'b": "line 1: not valid YAML",
    "a: \x00": r"line 1: found the character '\x00'",
    "a: 1\nb: \x07": r"line 2: found the character '\x07'",
    r'"\UFFFFFFFF"': "an escape names no Unicode character",
    r'"\U00110000"': "an escape names no Unicode character",
    r'a: ["\ud800"]': r"a.0: found '\ud800', wanted whole Unicode characters",
    "n: " + "9" * 20: f"n: found a whole number of 67 bits, wanted at most {2**63 - 1}",
    "n: 1" + "0" * 90: "n: found a whole number of 299 bits",
    "n: 1" + "0" * 400: "line 1: found a whole number of 401 digits",
    "n: 0x" + "f" * 100_000: "line 1: found a whole number of 100002 digits",
    "[" * 100_000: "line 1: nested deeper than 20 levels",
    "- " * 100_000: "line 1: nested deeper than 20 levels",
    '{"a":' * 100_000: "line 1: nested deeper than 20 levels",
    laughs(10): "found more than 500000 values",
    laughs(1_000): "found more than 500000 values",
    "\n".join(["a0: &a0 []", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 3000))]): (
        "a20: nested deeper than 20 levels"
    ),
}


@pytest.mark.parametrize(("text", "line"), REFUSED.items(), ids=[t[:20] for t in REFUSED])
def test_what_is_refused_is_refused_in_one_line(text, line):
    with pytest.raises(CampaignError) as error:
        load_yaml(text)
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        *SCALARS,
        ".5e3",
        "1.",
        "- a",
        "a: b",
        "a #b",
        "#",
        "[",
        "x " * 100,
        "  ",
        "\n",
        "a\n b",
        "!a",
        "<<",
    ]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(value=PLAIN)
def test_what_is_written_reads_back_as_the_same(value):
    found = load_yaml(write_yaml(value))
    assert found == value
    assert repr(found) == repr(value)  # 1, 1.0 and true are different
