"""What is said of theories is said once, and their numbers are there."""

import re
from pathlib import Path

from pipelines.theories import trajectory_theories
from pipelines.theories.averaged_theories import variables
from pipelines.theories.predict import NUMBERS
from pipelines.theories.regression_theories import _THEORIES
from storage.campaign.regression_spec import DECIMATED_THEORIES, QUARTIC_THEORY, SPECTRAL_THEORIES
from storage.campaign.theories import RECORDS
from storage.campaign.theory_spec import (
    AVERAGED_THEORIES,
    GIVEN_THEORIES,
    THEORIES,
    TRAJECTORY_THEORIES,
)

BIB = Path(__file__).parents[3] / "theory" / "references.bib"


def test_every_record_has_numbers_and_all_numbers_have_a_record():

    in_time = {record.name for record in RECORDS if record.times}
    assert set(trajectory_theories.NUMBERS) == in_time
    assert set(NUMBERS) == set(GIVEN_THEORIES) - set(TRAJECTORY_THEORIES)
    assert set(_THEORIES) == set(SPECTRAL_THEORIES)
    assert all(variables(theory) for theory in AVERAGED_THEORIES)
    others = {*GIVEN_THEORIES, *AVERAGED_THEORIES, *SPECTRAL_THEORIES, *DECIMATED_THEORIES}
    assert others | {QUARTIC_THEORY} == set(THEORIES)


def test_theories_are_told_apart_and_their_papers_can_be_looked_up():
    keys = set(re.findall(r"^@\w+\{(.*),$", BIB.read_text(), re.M))
    for field in ("name", "title", "words", "meaning"):
        said = [getattr(record, field) for record in RECORDS]
        assert all(said)
        assert len(set(said)) == len(said)
    for record in RECORDS:
        assert record.papers
        assert keys.issuperset(record.papers), record.name
        assert record.colour
