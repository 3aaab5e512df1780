"""What has no value is said: which observable, where and why; the rest is compared without it."""

import numpy as np
import pytest
import torch

from pipelines.report.sentences.undefined import undefined
from storage.backend.reader import open_campaign, open_raw
from support.fake_ensemble import TEXT, stored
from support.fake_posterior import sampled
from workers.measurement.observables import learnability

SWEEP = "\nsweep: {cubic: {data.teacher.3: [0.0, 0.3]}}\n"


def test_a_component_that_is_zero_has_no_learnability():
    parts = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    found = learnability(0.3 * parts.sum(1)[None], parts)
    assert found[0, 0] == pytest.approx(0.3)
    assert found[0, 1].isnan()


def test_fewer_test_points_than_parts_tell_none_from_another():
    parts = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    assert learnability(torch.ones(1, 1, dtype=torch.float64), parts).isnan().all()


@pytest.mark.slow
def test_a_part_of_the_target_that_is_zero_is_said_and_left_out(tmp_path):
    store, planned = stored(tmp_path, TEXT + SWEEP)

    def zero(shard, values):
        if shard.cell.index == 0:
            values["learnability"][..., 1] = np.nan

    sampled(store, planned, lambda width: 0.0, zero)
    for tree in (open_campaign(store.url), open_raw(store.url)):
        (line,) = undefined(tree)
        assert line.startswith("the learnability of He3 is undefined")
        assert "at c₃ = 0: that part of the target is zero" in line
    fits = open_raw(store.url)["fits"].to_dataset().sel(theory="nngp")
    he3 = fits["observable"].values.tolist().index("learnability He3")
    assert fits["tested"].values[:, he3].tolist() == [0, 1]
    assert np.isfinite(fits["joint_p_value"]).all()
    assert (fits["joint_p_value"] > 1e-4).all()  # the chains sample what the theory says


@pytest.mark.slow
def test_where_everything_is_known_nothing_is_said(tmp_path):
    store, planned = stored(tmp_path, TEXT)
    sampled(store, planned, lambda width: 0.0)
    assert undefined(open_campaign(store.url)) == []
