"""Axes that are given by their ends are the axes that are written out."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import CampaignError
from storage.planning.identity import campaign_identity, cell_identity
from storage.planning.plan import plan
from storage.reading.document import dump_yaml, parse, validate
from support.example_specs import EXAMPLES, LINEAR, SINGLE_INDEX, campaign

TEMPERATURE, WIDTH = "sampler.temperature", "network.width"


def values(path, given, data=LINEAR, **more):
    """The values that a geometric axis stands for."""
    return validate(campaign(data, sweep={"a": {path: {"geometric": given}, **more}})).sweep["a"]


def refusal(path, given, **more):
    with pytest.raises(CampaignError) as error:
        values(path, given, **more)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


WRITTEN_OUT = [
    (TEMPERATURE, [0.1, 10, 5], [0.1, 0.316227766017, 1, 3.16227766017, 10]),
    (TEMPERATURE, [10, 0.1, 3], [10, 1, 0.1]),
    (TEMPERATURE, [0.3, 0.7, 2], [0.3, 0.7]),
    (TEMPERATURE, [1e-300, 1e300, 5], [1e-300, 1e-150, 1, 1e150, 1e300]),
    (WIDTH, [1, 1000, 7], [1, 3, 10, 32, 100, 316, 1000]),
    (WIDTH, [1e1, 1e3, 3], [10, 100, 1000]),
    ("data.train", [8, 1024, 8], [2**power for power in range(3, 11)]),
    ("sampler.thin", [1, 100, 3], [1, 10, 100]),
    ("data.label_noise", [1, 100, 3], [1, 10, 100]),
    ("network.bias_variance", [1, 4, 3], [1, 2, 4]),
    ("network.weight_variance.1", [1, 4, 3], [1, 2, 4]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "given", "wanted"), WRITTEN_OUT)
def test_values_are_those_of_the_list_and_whole_where_the_setting_is(path, given, wanted):
    found = values(path, given)
    assert found == {path: wanted}
    if path in (WIDTH, "data.train", "sampler.thin"):
        assert {type(value) for value in found[path]} == {int}


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    exponents=st.tuples(st.integers(-8, 8), st.integers(-8, 8)).filter(lambda e: e[0] != e[1]),
    number=st.integers(2, 40),
)
def test_ratios_are_equal_to_the_digits_that_are_kept_and_ends_exact(exponents, number):
    start, stop = (10.0**exponent for exponent in exponents)
    found = values(TEMPERATURE, [start, stop, number])[TEMPERATURE]
    assert (found[0], found[-1], len(found)) == (start, stop, number)
    step = math.log(stop / start) / (number - 1)
    for low, high in itertools.pairwise(found):
        assert math.log(high / low) == pytest.approx(step, abs=2e-11)
    assert all(value == float(f"{value:.12g}") for value in found)


def test_the_campaign_is_that_of_the_list():
    spaced = campaign(LINEAR, sweep={"a": {TEMPERATURE: {"geometric": [0.1, 10, 3]}}})
    listed = campaign(LINEAR, sweep={"a": {TEMPERATURE: [0.1, 1, 10]}})
    one, other = validate(spaced), validate(listed)
    assert one == other
    assert campaign_identity(one) == campaign_identity(other)
    cells = [[cell_identity(cell.spec) for cell in plan(spec).cells] for spec in (one, other)]
    assert cells[0] == cells[1]
    assert parse(dump_yaml(one)) == one
    assert spaced["sweep"]["a"][TEMPERATURE] == {"geometric": [0.1, 10, 3]}  # left as it was


def test_settings_that_move_together_may_be_lists_or_not():
    found = values(WIDTH, [10, 1000, 3], **{"data.train": [5, 10, 20]})
    assert found == {WIDTH: [10, 100, 1000], "data.train": [5, 10, 20]}
    line = refusal(WIDTH, [10, 1000, 3], **{"data.train": [5, 10]})
    assert "need as many values (network.width: 3, data.train: 2)" in line


def test_whole_numbers_of_a_teacher_are_whole_and_its_coefficients_are_not():
    data = EXAMPLES["teacher_network"]["data"]
    assert values("data.width", [1, 4, 3], data) == {"data.width": [1, 2, 4]}
    assert values("data.teacher.3", [0.1, 0.4, 3], SINGLE_INDEX) == {
        "data.teacher.3": [0.1, 0.2, 0.4]
    }


def test_an_override_may_give_the_ends():
    text = dump_yaml(validate(campaign(LINEAR)))
    spec = parse(text, ["sweep.size.network.width={geometric: [4, 64, 3]}"])
    assert spec.sweep == {"size": {WIDTH: [4, 16, 64]}}


MISTAKES = [
    ([1, 10], "geometric: [1, 10], wanted geometric: [start, stop, number], such as geometric:"),
    (10, "found geometric: 10, wanted geometric: [start, stop, number]"),
    ([0, 10, 3], "found the end 0, wanted a number above 0"),
    ([-1, 10, 3], "found the end -1, wanted a number above 0"),
    (["1", 10, 3], "found the end '1', wanted a number above 0"),
    ([True, 10, 3], "found the end true, wanted a number above 0"),
    ([1, math.inf, 3], "found the end inf, wanted a number above 0"),
    ([1, math.nan, 3], "found the end nan, wanted a number above 0"),
    ([1, 10, 1], "found the number 1 of values, wanted a whole number from 2 to 100000"),
    ([1, 10, 3.0], "found the number 3.0 of values, wanted a whole number from 2 to 100000"),
    ([1, 10, 10**9], "found the number 1000000000 of values, wanted a whole number from 2"),
    ([2, 2, 3], "3 values from 2 to 2 have 2 twice; ask for fewer"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "line"), MISTAKES)
def test_a_mistake_in_the_ends_gets_one_line(given, line):
    assert refusal(TEMPERATURE, given).startswith(f"sweep.a.{TEMPERATURE}: ")
    assert line in refusal(TEMPERATURE, given)


def test_whole_numbers_that_would_meet_are_refused():
    assert "5 values from 1 to 3 have 1 twice; ask for fewer" in refusal(WIDTH, [1, 3, 5])
    assert "found the end 1.5, wanted a whole number" in refusal(WIDTH, [1.5, 8, 3])


def test_what_is_no_such_section_is_refused():
    for sweep, line in [
        ({"a": {"geometric": [1, 2, 3]}}, "sweep.a: geometric belongs to a setting; write path:"),
        ({"a": {WIDTH: {"geometrc": [1, 9, 3]}}}, "sweep.a.network.width: found geometrc, wanted"),
        ({"a": {WIDTH: {}}}, "sweep.a.network.width: found an empty section, wanted a list of"),
        ({"a": {WIDTH: {"geometric": [1, 9, 3], "x": 1}}}, "sweep.a.network.width: found x, "),
    ]:
        with pytest.raises(CampaignError) as error:
            validate(campaign(LINEAR, sweep=sweep))
        assert line in str(error.value)
