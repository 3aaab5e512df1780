"""Lanes on a GPU: as many as raise its rate, as fit its memory, and half where they did not."""

import pytest

from workers.cluster.packing import MOST_LANES, RISE, SHARE, Packing, Ran

GIB = 1 << 30


def packed(packing: Packing, rate, lane: int = GIB) -> list[int]:
    """Lanes after each round of a GPU that does `rate(lanes)` a second."""
    seen, most = [packing.lanes], 1
    for _ in range(10):
        lanes = packing.lanes
        most = max(most, lanes)
        for _ in range(lanes):
            packing.ran(Ran(lanes / rate(lanes), lanes, most, most * lane), work=1.0)
        seen.append(packing.lanes)
    return seen


@pytest.mark.parametrize("full", [1, 3, 8, 100])
def test_lanes_are_doubled_while_the_rate_rises_and_then_stay(full):
    packing = Packing(1000 * GIB)
    seen = packed(packing, lambda lanes: min(lanes, full))
    assert seen[-1] == seen[-2] == seen[-3]
    best = min(seen[-1], full)
    assert min(MOST_LANES, full) <= best * RISE * 2  # no more than one doubling is left out
    assert max(seen) <= 2 * min(MOST_LANES, 2 * full)  # and at most one tried in vain


@pytest.mark.parametrize("free", [0.5, 3.0, 7.9])
def test_lanes_fit_the_memory_that_the_first_segment_was_seen_to_take(free):
    seen = packed(Packing(int(free * GIB)), float)
    assert max(seen) == max(int(SHARE * free), 1)


def test_a_lane_that_lacks_memory_beside_others_halves_them_once_and_for_good():
    packing = Packing(1000 * GIB)
    packed(packing, float)
    assert packing.lanes == MOST_LANES
    assert packing.short(13)
    assert all(packing.short(beside) for beside in (MOST_LANES, 14, 15))  # that ran beside it
    assert packing.lanes == MOST_LANES // 2
    packed(packing, float)
    assert packing.lanes == MOST_LANES // 2
    again = Packing(1000 * GIB, packing.kept)  # in another run
    assert packed(again, float)[-1] == MOST_LANES // 2


def test_lanes_halve_down_to_one_which_then_has_all_memory():
    packing = Packing(1000 * GIB, {"lanes": 5, "most": 16, "bytes": 0})
    while packing.lanes > 1:
        before = packing.lanes
        assert packing.short(packing.lanes)
        assert packing.lanes == before // 2
    assert not packing.short(1)


def test_attempts_that_had_the_gpu_to_themselves_for_a_while_say_nothing_of_many():
    packing = Packing(1000 * GIB)
    packing.ran(Ran(1.0, 1.0, 1, GIB), 1.0)
    for _ in range(5):
        packing.ran(Ran(1.0, 1.2, 2, 2 * GIB), 1.0)
    assert packing.lanes == 2
