"""What is said of observables is said once, and all of them are measured."""

from pipelines.analysis.measured import COLUMNS
from storage.campaign.observables import AT_POINTS, CURVES, QUARTIC, RECORDS, observed

LABELS = {
    "component": ["He1", "target"], "part": ["teacher", "orthogonal"], "layer": ["1", "2"],
    "direction": ["top", "point"], "coupling": ["0.1"],
}  # fmt: skip


def test_every_record_is_measured_and_no_two_share_a_name_or_words():
    assert {record.kind for record in RECORDS} == {*COLUMNS, *(r.kind for r in AT_POINTS)}
    everything = [e for record in (*RECORDS, *CURVES, *QUARTIC) for e in observed(record, LABELS)]
    assert len({each.name for each in everything}) == len(everything)
    ensemble = [e.words for e in everything if e.record.of == "ensemble"]
    assert len(set(ensemble)) == len(ensemble)
    assert all(words.startswith("the ") for words in ensemble)
