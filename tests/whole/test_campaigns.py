"""What is accepted runs to its end: campaigns that cover every pair of choices."""

from contextlib import chdir

import pytest

from storage.campaign.data_spec import SOURCES
from storage.campaign.schemes import names
from support.campaign_files import write_files
from support.campaign_space import FACTORS
from support.campaign_trial import trial
from support.covering_array import all_pairs, pairs_of, possible, prepared, read_array, written

ROWS = read_array()
OF_ALL_TESTS = (70, 75, 129)  # rows that differ in nearly everything, and take little time


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with what the sources of the space read."""
    folder = tmp_path_factory.mktemp("space")
    write_files(folder)
    with chdir(folder):
        yield folder


@pytest.mark.slow
def test_every_row_is_accepted(files):
    assert [written(row) for row in ROWS if not prepared(row)] == []


def test_every_scheme_and_source_of_a_campaign_is_a_level():
    assert set(names()) <= set(FACTORS["scheme"])
    assert set(SOURCES) - set(FACTORS["source"]) == {"cifar10"}  # its files are large


def test_every_level_stands_in_a_row():
    found = set().union(*(row.items() for row in ROWS))
    assert {(factor, level) for factor, levels in FACTORS.items() for level in levels} == found


@pytest.mark.campaigns
def test_every_pair_that_can_be_had_stands_in_a_row(files):
    found = set().union(*(pairs_of(row) for row in ROWS))
    absent = [pair for pair in all_pairs() if pair not in found]
    assert [pair for pair in absent if possible(pair) is not None] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", OF_ALL_TESTS)
def test_a_campaign_runs_to_its_end(number, tmp_path):
    trial(ROWS[number], tmp_path)


@pytest.mark.campaigns
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(len(ROWS)))
def test_every_campaign_runs_to_its_end(number, tmp_path):
    trial(ROWS[number], tmp_path)
