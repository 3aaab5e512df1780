"""How much longer a run takes: from what was expected, and from how it has gone."""

import json

import pytest

from pipelines.progress.pace import ENDED, Pace, kept
from pipelines.text.durations import duration
from storage.files.objects import Objects

# 100 s of work in a narrow cell and 900 s in a wide one, of ten shards each.
WORK = {"ensemble/narrow": (100.0, 10), "ensemble/wide": (900.0, 10)}
STAGES = {"predict": 20.0, "report": 30.0}


def pace(**changes):
    return Pace(**{
        "began": 1000.0, "cores": 2, "simulation": 500.0, "work": WORK, "before": {},
        "stages": STAGES, **changes,
    })  # fmt: skip


def test_before_anything_is_finished_it_is_what_was_expected():
    assert pace().left({}, 1000.0) == 500 + 50
    assert pace().left({}, 1100.0) == 400 + 50


@pytest.mark.parametrize("slowness", [0.5, 1.0, 3.0])
def test_shards_count_by_what_they_take_and_time_by_what_has_passed(slowness):
    """All narrow shards and nine wide ones are 91 % of the work, and took 91 % of the time."""
    now = 1000 + slowness * 455
    finished = {"ensemble/narrow": 10, "ensemble/wide": 9}
    assert pace().left(finished, now) == pytest.approx(slowness * 45 + 50, rel=0.05)


def test_what_is_begun_once_is_not_taken_for_the_pace():
    """A minute for workers and a compiler, in which three hundredths of the work were done."""
    few = {"ensemble/narrow": 3}
    assert 500 < pace().left(few, 1060.0) < 750  # not 32 times a minute


def test_what_an_earlier_run_finished_is_not_part_of_the_pace():
    again = pace(before={"ensemble/narrow": 10})
    finished = {"ensemble/narrow": 10, "ensemble/wide": 5}
    assert again.left(finished, 1250.0) == pytest.approx(250 + 50)


def test_a_stage_that_says_how_far_it_is_decides_for_itself():
    running = pace().at("predict", 2000.0)
    assert running.left({}, 2005.0) == 15 + 30
    assert running.left({}, 2050.0) == 0 + 30
    assert running.left({}, 2050.0, part=0.5) == pytest.approx(50 + 30)
    assert running.at("report", 2100.0).left({}, 2110.0) == 20
    assert running.at(ENDED, 2200.0).left({}, 2200.0) == 0


def test_with_no_work_there_are_the_stages():
    assert pace(work={}, simulation=0.0).left({}, 1000.0) == 50


def test_what_is_kept_reads_back(tmp_path):
    objects = Objects(str(tmp_path))
    assert kept(objects) is None
    pace().keep(objects)
    found = kept(objects)
    assert found is not None
    finished = {"ensemble/narrow": 10}
    assert found.left(finished, 1100.0) == pace().left(finished, 1100.0)
    for data in (b"{", b"[]", json.dumps({"began": 1}).encode()):
        objects.put("ledger/pace.json", data)
        assert kept(objects) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "under a second"), (12, "12 s"), (100, "1.7 min"), (5400, "1.5 h"), (1e6, "12 d")],
)
def test_times_are_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_the_part_that_is_done_counts_the_stages_by_what_they_take():
    """1000 core-seconds on two cores and 50 s of stages: 500 of 550 s are sampling."""
    assert pace().done({}, 1000.0) == 0
    half = {"ensemble/narrow": 10, "ensemble/wide": 5}
    assert pace().done(half, 1300.0) == pytest.approx(275 / 550)
    everything = {"ensemble/narrow": 10, "ensemble/wide": 10}
    assert pace(before=everything).done(everything, 1000.0) == pytest.approx(500 / 550)
    predicting = pace().at("predict", 2000.0)
    assert predicting.done(everything, 2010.0) == pytest.approx(510 / 550)
    assert predicting.done(everything, 2100.0) == pytest.approx(520 / 550)  # it takes longer
    assert predicting.done(everything, 2010.0, part=0.25) == pytest.approx(505 / 550)
    assert predicting.at("report", 2100.0).done(everything, 2100.0) == pytest.approx(520 / 550)
    assert predicting.at(ENDED, 2200.0).done(everything, 2200.0) == 1
