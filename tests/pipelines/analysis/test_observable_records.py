"""What is said of observables is said once, and all of them are measured."""

import numpy as np

from pipelines.analysis import trajectories
from pipelines.analysis.measured import COLUMNS
from storage.campaign.observables import (
    AT_POINTS,
    CURVES,
    IN_TIME,
    QUARTIC,
    RECORDS,
    by_times,
    is_in_time,
    observed,
    split,
)

LABELS = {
    "component": ["He1", "target"], "part": ["teacher", "orthogonal"], "layer": ["1", "2"],
    "direction": ["top", "point"], "coupling": ["0.1"], "lag": ["1", "4"],
}  # fmt: skip


def test_every_record_is_measured_and_no_two_share_a_name_or_words():
    assert {record.kind for record in RECORDS} == {*COLUMNS, *(r.kind for r in AT_POINTS)}
    everything = [e for record in (*RECORDS, *CURVES, *QUARTIC) for e in observed(record, LABELS)]
    assert len({each.name for each in everything}) == len(everything)
    ensemble = [e.words for e in everything if e.record.of == "ensemble"]
    assert len(set(ensemble)) == len(ensemble)
    assert all(words.startswith("the ") for words in ensemble)


def test_observables_in_time_are_those_of_the_record_at_each_time():
    group = {record.variable: None for record in IN_TIME}
    times = np.array([0.25, 0.5, 3.0])
    found = trajectories.observables(group, LABELS["component"], times, [1, 4])
    assert {e.name for e in found if e.time == "3" and e.kind == "output_covariance"} == {
        "output_covariance 1 at 3", "output_covariance 4 at 3",
    }  # fmt: skip
    assert is_in_time(each.name for each in found)
    assert not is_in_time(each.name for each in observed(RECORDS[-1], LABELS))
    for each in found:
        what, when = split(each.name)
        assert each.words.endswith(f" at t = {when}")
        assert float(when) == [0.25, 0.5, 3.0][each.moment]
    for what, named in by_times([each.name for each in found]).items():
        assert [*named] == [f"{what} at {when}" for when in ("0.25", "0.5", "3")]
