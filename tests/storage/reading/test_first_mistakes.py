"""What people get wrong in their first campaigns is answered by a line that helps."""

import json
import re

import pytest

from storage.errors import CampaignError
from storage.reading.document import parse, read

CAMPAIGN = """\
version: 1
name: first
data:
  source: single_index
  dimension: 5
  teacher: {1: 1.0, 3: 0.1}
  train: 20
  test: 10
network:
  width: 16
  activation: erf
  weight_variance: [1, 2]
sampler:
  scheme: baoab
  temperature: 0.5
  step_size: 0.05
  friction: 1
  warmup: 10
  draws: 6
  segment: 3
ensemble: {datasets: 2, chains: 4, block: 2}
sweep:
  size: {network.width: [16, 64]}
theories: [nngp]
"""
SWEEP = "  size: {network.width: [16, 64]}"
CURVES = (
    "regression: {train: [5], ridges: [0.1], repeats: 2, pool: 9, sampling: without, "
    "evaluate: [pool]}"
)
DATA = CAMPAIGN[CAMPAIGN.index("data:") : CAMPAIGN.index("network:")]
DOES_NOT_FIT = (
    "line 11: not valid YAML: found a ':' that does not fit; check the indentation and the"
)

# What is written, what is put in its place, and a part of the line.
MISTAKES = [
    # YAML
    ("  width: 16", "\twidth: 16", "line 10: not valid YAML: found a tab; indent with blanks"),
    ("  width: 16", "  width:16", DOES_NOT_FIT),
    ("  width: 16", " width: 16", DOES_NOT_FIT),
    ("  width: 16", "\u00a0\u00a0width: 16", "line 10: found a no-break space; use plain blanks"),
    ("  width: 16", "  width: 16\n  width: 32", "line 11: found the key width twice; keep one"),
    ("  width: 16", "  <<: *base\n  width: 16", "line 10: << is not YAML 1.2; write the keys out"),
    ("theories:", "network: {}\ntheories:", "line 24: found the key network twice; keep one"),
    ("test: 10", "test: *n", "line 8: found the alias n, wanted one whose anchor ends before"),
    ("name: first", "name: 'first", "line 2: not valid YAML: found a quote that does not end"),
    ("name: first", "title: Nets: wide", "line 2: not valid YAML: found a ':' that does not fit"),
    ("name: first", "title: %d", "line 2: not valid YAML: found text that begins with a sign; put"),
    ("name: first", "name\uff1a first", "line 3: not valid YAML: found no ':' after a key; check"),
    ("[16, 64]}", "[16, 64}", "line 23: not valid YAML: expected ',' or ']', but got '}'"),
    ("train: 20", "train: !!int 20", "line 7: found the tag !!int; tags are not read, leave it"),
    ("theories:", "---\ntheories:", "line 24: found a second document, wanted one"),
    # the whole
    (CAMPAIGN, "", "found nothing, wanted the sections of a campaign"),
    (CAMPAIGN, "# to do\n", "found nothing, wanted the sections of a campaign"),
    (CAMPAIGN, "- version: 1\n", "found a list, wanted the sections of a campaign"),
    (CAMPAIGN, "hello\n", "found text, wanted the sections of a campaign"),
    (CAMPAIGN, json.dumps({"version": 1, "name": "a"}), "data: missing; add it"),
    ("network:", "netwrok:", "unknown key netwrok; did you mean network?"),
    ("theories:", "plot: true\ntheories:", "unknown key plot; allowed: version, name, title,"),
    ("version: 1\n", "", "version: missing; add it"),
    ("version: 1", "version: '1'", "version: found '1', wanted a whole number: 1"),
    ("name: first", "name: First", "name: found 'First', wanted at most 63 lower-case letters,"),
    # numbers
    ("width: 16", "width: '16'", "network.width: found '16', wanted a whole number; write 16"),
    ("width: 16", "width: 16.0", "network.width: found 16.0, wanted a whole number; write 16"),
    ("width: 16", "width: 16.5", "network.width: found 16.5, wanted a whole number"),
    ("train: 20", "train: 1e3", "data.train: found 1000.0, wanted a whole number; write 1000"),
    ("train: 20", "train: 1_000", "data.train: found '1_000', wanted a whole number; write 1000"),
    ("train: 20", "train: 1,000", "data.train: found '1,000', wanted a whole number; write 1000"),
    ("width: 16", "width: [16, 64]", "wanted a whole number; several values go into sweep"),
    ("ture: 0.5", "ture: 0,5", "sampler.temperature: found '0,5', wanted a number; write 0.5"),
    ("ture: 0.5", "ture: 0", "sampler.temperature: found 0, wanted a number above 0"),
    ("ture: 0.5", "ture: 1/2", "sampler.temperature: found '1/2', wanted a number"),
    ("size: 0.05", "size: 10**-2", "sampler.step_size: found '10**-2', wanted a number, or auto"),
    # lists and sections
    ("[1, 2]", "1, 2", "found '1, 2', wanted a number, or a list of them; write [1, 2]"),
    ("[1, 2]", "[1, 2, 3]", "network: weight_variance has 3 numbers, wanted 2: one per hidden"),
    ("[nngp]", "nngp", "theories: found 'nngp', wanted a list; write [nngp]"),
    ("[nngp]", "{nngp: true}", "theories: found {'nngp': True}, wanted a list"),
    ("{1: 1.0, 3: 0.1}", "{He1: 1}", "data.teacher.He1: found 'He1', wanted the order of a poly"),
    ("ensemble: {datasets: 2, chains: 4, block: 2}", "ensemble:", "nothing to do: give an"),
    ("theories:", "observe: {kernels: yes}\ntheories:", "observe.kernels: found 'yes', wanted"),
    # names
    ("[nngp]", "[NNGP]", "theories.0: found 'NNGP', did you mean nngp?"),
    ("[nngp]", "[kernel scaling]", "theories.0: found 'kernel scaling', did you mean kernel_scal"),
    ("erf", "ReLU", "network.activation: found 'ReLU', did you mean relu?"),
    ("baoab", "BAOAB", "did you mean baoab?"),
    (DATA, "data: digits\n", "data: found 'digits', wanted a section that begins with source,"),
    ("single_index", "MNIST", "data: unknown source 'MNIST'; did you mean mnist?"),
    ("single_index", "mnist", "data: unknown key dimension; allowed: train, test,"),
    ("  source: single_index\n", "", "data: source is missing; add it (allowed: single_index,"),
    # sweeps
    (SWEEP, "  network.width: [16, 64]", "sweep: network.width is a path without an axis; write w"),
    (SWEEP, "  size: {width: [16]}", "sweep.size: width is no path of a setting; did you mean net"),
    (SWEEP, "  size: {seed: [16]}", "sweep.size: seed cannot be swept; allowed: data, network,"),
    (SWEEP, "  size: {network.width: 16}", "network.width: found 16, wanted a list; write [16]"),
    (SWEEP, "  size: {network.width: range(3)}", "network.width: found 'range(3)', wanted a list"),
    (SWEEP, "  size:", "sweep.size: found nothing, wanted a section of keys and values"),
    (SWEEP, "  draw: {network.width: [16]}", "sweep: draw is a dimension of the store; give the"),
    (SWEEP, f"  x: {{regression.train: [9]}}\n{CURVES}", "regression.train cannot be swept; allow"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "instead", "line"), MISTAKES)
def test_the_line_says_where_what_and_how_to_mend_it(written, instead, line):
    assert CAMPAIGN.count(written) == 1
    with pytest.raises(CampaignError) as error:
        parse(CAMPAIGN.replace(written, instead))
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 400


def test_all_that_is_missing_is_told_at_once():
    short = "".join(
        line
        for line in CAMPAIGN.splitlines(keepends=True)
        if not line.strip().startswith(("train:", "segment:", "width:"))
    )
    with pytest.raises(
        CampaignError, match=r"^data\.train: missing; add it; also missing: "
    ) as told:
        parse(short)
    assert {"network.width", "sampler.segment"} <= {*re.split("[,:; ]+", str(told.value))}


def test_what_is_no_mistake(tmp_path):
    file = tmp_path / "campaign.yaml"
    for text in (
        CAMPAIGN.replace("\n", "\r\n"),
        CAMPAIGN.replace("train: 20", "train: &n 20").replace("test: 10", "test: *n"),
        CAMPAIGN.replace("name: first", "name: 'first'"),
        json.dumps(parse(CAMPAIGN).model_dump(mode="json", exclude_unset=True)),
    ):
        file.write_bytes(text.encode())
        assert read(file).network == parse(CAMPAIGN).network
