"""Lanes in flight: no slot idles before the tail, and what fails is answered by its kind."""

import itertools
import math
import random
import threading

import pytest

from storage.planning.plan import Shard
from support.fake_cluster import JOB, FakeCluster, lanes
from workers.cluster import pool
from workers.cluster.pool import Pool
from workers.faults import Fault

SLOTS = 64
MORE = 1 + SLOTS // pool.AHEAD  # that wait before the doors


def run(cluster: FakeCluster, work, seconds=pool.alike):
    return list(Pool(cluster, JOB, work, seconds).run(threading.Event()))


def unequal(seed: int):
    """A campaign of 60 cells of 3 lanes of 2 to 40 shards; what a shard takes hangs on its cell."""
    draw = random.Random(seed)
    length = {index: draw.randint(2, 40) for index in range(60)}
    pace = {index: draw.uniform(20, 200) for index in range(60)}
    work = lanes([length[i % 60] for i in range(180)], cells=60)
    return work, lambda shard: pace[shard.cell.index]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_slots_are_busy_until_the_tail(seed):
    work, seconds = unequal(seed)
    cluster = FakeCluster(SLOTS, seconds)
    driven = Pool(cluster, JOB, work, seconds)
    left = sum(len(lane) for lane in work)
    for _ in driven.run(threading.Event()):
        left -= 1
        if left == SLOTS:
            break
    assert cluster.busy >= 0.95 * SLOTS * cluster.clock
    assert cluster.most <= SLOTS + MORE


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_takes_little_more_than_its_work_shared_evenly_or_its_longest_lane(seed):
    work, seconds = unequal(seed)
    cluster = FakeCluster(SLOTS, seconds)
    run(cluster, work, seconds)
    each = [sum(map(seconds, lane)) for lane in work]
    # At the end a slot may wait for the shards of the others, which are cut nowhere.
    bound = max(sum(each) / SLOTS, max(each)) + 3 * max(map(seconds, sum(work, ())))
    assert cluster.clock <= bound


def test_three_equal_lanes_on_two_slots_take_one_and_a_half_of_one():
    work = lanes([20, 20, 20])
    cluster = FakeCluster(2)
    run(cluster, work)
    assert cluster.clock <= 30 + 2


def test_a_lane_goes_on_so_that_cells_end_one_after_another():
    work = lanes([10] * 40, cells=40)
    cluster = FakeCluster(4)
    ended = [o.shard.cell.index for o in run(cluster, work) if o.shard.segment == 9]
    half = [o for o in cluster.log if o[0] <= cluster.clock / 2]
    begun = {shard.cell.index for _, _, shard, _ in half}
    assert len(begun) <= 20 + 4 + 2
    assert sorted(ended) == list(range(40))


def test_the_longest_lane_begins_first():
    work = lanes([3, 9, 1, 9, 5], cells=5)
    cluster = FakeCluster(1)
    run(cluster, work)
    begun = [shard.cell.index for _, _, shard, _ in cluster.log if shard.segment == 0]
    assert begun == [1, 3, 4, 0, 2]


def test_shards_of_a_lane_run_one_after_another_and_each_once():
    work, seconds = unequal(4)
    cluster = FakeCluster(SLOTS, seconds)
    run(cluster, work, seconds)
    assert set(cluster.finished.values()) == {1}
    assert len(cluster.finished) == sum(len(lane) for lane in work)
    order: dict[int, int] = {}
    for _, _, shard, _ in cluster.log:
        assert shard.segment == order.get(shard.block, 0)
        order[shard.block] = shard.segment + 1


def test_nodes_that_join_are_used_and_those_that_leave_are_not_missed():
    work = lanes([30] * 200, cells=10)
    cluster = FakeCluster(8)
    cluster.change(20.5, 64)
    cluster.change(60.5, 4)
    outcomes = run(cluster, work)
    assert all(outcome.receipt is not None for outcome in outcomes)
    assert len(cluster.finished) == 6000
    used = 8 * 20 + 64 * 40 + 4 * (cluster.clock - 60)
    # Joined slots wait for the next look, of `RENEW`; so do those that queue when others leave.
    assert cluster.busy >= used - 64 * (pool.RENEW + 2)


def test_without_a_node_one_shard_waits_for_the_first_that_comes():
    cluster = FakeCluster(0)
    cluster.change(100.0, 16)
    assert len(run(cluster, lanes([2] * 32))) == 64
    assert cluster.log[1][0] >= 100


def one_fault(fault: Fault, times: float):
    """Every attempt at the first shard of the first lane fails, so many times."""
    left = [times]

    def fails(shard: Shard, _) -> Fault | None:
        if (shard.block, shard.segment) == (0, 0) and left[0] > 0:
            left[0] -= 1
            return fault
        return None

    return fails


def attempts(cluster: FakeCluster) -> list:
    return [each for each in cluster.log if (each[2].block, each[2].segment) == (0, 0)]


def test_what_a_machine_fails_at_is_tried_elsewhere_after_longer_and_longer_pauses():
    cluster = FakeCluster(4, fails=one_fault(Fault.MACHINE, 3))
    outcomes = run(cluster, lanes([5] * 8))
    assert all(outcome.receipt is not None for outcome in outcomes)
    tried = attempts(cluster)
    assert [each[3].avoiding for each in tried] == ["", "here", "here", "here"]
    pauses = [b[0] - a[0] - 1.0 for a, b in itertools.pairwise(tried)]
    assert all(pause >= pool.BACKOFF * 2**i for i, pause in enumerate(pauses))


def test_what_every_machine_fails_at_is_given_up_and_the_other_lanes_go_on():
    cluster = FakeCluster(4, fails=one_fault(Fault.MACHINE, math.inf))
    outcomes = run(cluster, lanes([5] * 8))
    (failed,) = (outcome for outcome in outcomes if outcome.receipt is None)
    assert failed.reason == f"a machine, {pool.ATTEMPTS} times"
    assert len(attempts(cluster)) == pool.ATTEMPTS
    assert len(cluster.finished) == 7 * 5


def test_what_lacks_memory_gets_more_of_its_node_and_so_do_its_neighbours_of_the_cell():
    def fails(shard: Shard, request) -> Fault | None:
        return Fault.MEMORY if shard.cell.index == 0 and request.cores < 4 else None

    cluster = FakeCluster(8, fails=fails, node=4)
    outcomes = run(cluster, lanes([6, 6], cells=2))
    assert all(outcome.receipt is not None for outcome in outcomes)
    assert [each[3].cores for each in attempts(cluster)] == [1, 2, 4]
    later = [each[3].cores for each in cluster.log if each[2].segment > 0 and not each[2].block]
    assert later == [4] * 5
    assert {each[3].cores for each in cluster.log if each[2].block} == {1}


def test_what_lacks_memory_alone_on_its_node_is_told():
    cluster = FakeCluster(8, fails=one_fault(Fault.MEMORY, math.inf), node=4)
    (failed,) = (o for o in run(cluster, lanes([5, 5])) if o.receipt is None)
    assert failed.fault is Fault.MEMORY
    assert [each[3].cores for each in attempts(cluster)] == [1, 2, 4]


def test_a_bug_is_not_tried_again():
    cluster = FakeCluster(4, fails=one_fault(Fault.BUG, math.inf))
    outcomes = run(cluster, lanes([5] * 8))
    assert len(attempts(cluster)) == 1
    assert [o.reason for o in outcomes if o.receipt is None] == ["a bug"]
    assert len(cluster.finished) == 7 * 5


@pytest.mark.parametrize(("seconds", "ends"), [(3.0, True), (1000.0, False)])
def test_a_stop_begins_nothing_more_and_what_runs_has_its_grace(seconds, ends):
    cluster, stop = FakeCluster(4, lambda _: seconds), threading.Event()
    if not ends:  # a first shard that ends, so that there is a moment to stop at
        cluster = FakeCluster(4, lambda shard: seconds if shard.block else 1.0)
    outcomes = Pool(cluster, JOB, lanes([9] * 8)).run(stop)
    next(outcomes)
    stop.set()
    submitted, began = len(cluster.log), cluster.clock
    found = list(outcomes)
    assert len(cluster.log) == submitted
    assert cluster.clock - began <= (seconds if ends else pool.GRACE + pool.POLL)
    assert bool(found) == ends
    assert cluster.ended(0.0) == []  # nothing runs any more


def test_a_shard_is_told_once_when_it_is_handed_out():
    began = []
    cluster = FakeCluster(1, fails=one_fault(Fault.MACHINE, 1))
    list(Pool(cluster, JOB, lanes([2, 2]), began=began.append).run(threading.Event()))
    assert len(cluster.log) == 5
    assert len(began) == len({shard.name for shard in began}) == 4
