"""What a spec knows of a source, and its numbers, are two records under one name."""

import pytest

from storage.campaign.data_spec import SOURCES
from storage.campaign.synthetic_spec import Directed, Patches
from workers.data.source_records import SOURCES as NUMBERS
from workers.data.source_records import Finite, Synthetic


def test_each_source_has_both_records():
    assert {*NUMBERS} == {*SOURCES}


@pytest.mark.parametrize("name", SOURCES)
def test_targets_with_directions_are_of_sources_without_end(name):
    if issubclass(SOURCES[name], Directed | Patches):
        assert isinstance(NUMBERS[name], Synthetic)


@pytest.mark.parametrize("name", SOURCES)
def test_classes_are_of_sources_that_end(name):
    assert SOURCES[name].may_have_classes == isinstance(NUMBERS[name], Finite)
