"""Campaigns that follow networks in time: their times, and what is refused before any of them."""

import numpy as np
import pytest

from storage.arrays.schema import ensemble_variables
from storage.campaign.times_spec import Times
from storage.errors import CampaignError
from storage.reading.document import parse

TEXT = """
version: 1
name: timed
data: {source: linear, dimension: 4, train: 6, test: 5}
network: {activation: erf, width: 8, weight_variance: [1, 1]}
sampler: {scheme: trajectory, dynamics: langevin, temperature: 0.3, step_size: 0.02,
  times: {first: 0.08, ratio: 1.5}, warmup: 0, draws: 8, segment: 4}
ensemble: {datasets: 1, chains: 8, block: 4}
observe: {histograms: false, lags: [1, 3]}
theories: [volterra, nngp]
"""


def test_times_are_whole_pairs_of_steps_and_do_not_depend_on_how_many_there_are():
    times = Times(first=0.3, ratio=1.7)
    pairs = times.pairs(0.01, 12)
    assert times.pairs(0.01, 5) == pairs[:5]
    found = np.array(times.moments(0.01, 12))
    assert found == pytest.approx(0.02 * np.array(pairs))
    assert np.abs(found - 0.3 * 1.7 ** np.arange(12)).max() <= 0.01 * (1 + 1e-9)


def test_what_is_stored_lies_along_time():
    found = ensemble_variables(parse(TEXT, []))
    assert not any("draw" in variable.dims for variable in found.values())
    assert found["kernel_lag"].dims[2:5] == ("block", "time", "lag")
    assert found["loss"].dims == found["loss_change"].dims == ("cell", "dataset", "chain", "time")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("sampler.times.ratio=1.01", "they do not increase"),
        ("sampler.times.ratio=1", "a number above 1"),
        ("sampler.times.ratio=1e5", "take fewer draws"),
        ("sampler.times=null", "times is missing"),
        ("sampler.warmup=2", "wanted 0"),
        ("sampler.step_size=auto", "needs a number"),
        ("sampler.friction=1", "scheme trajectory has none"),
        (
            "network={architecture: cnn, patches: 2, width: 8, activation: erf, "
            "weight_variance: 1}",
            "trajectory is for fcn",
        ),
        ("observe.histograms=true", "set observe.histograms: false"),
        ("observe.lags=[8]", "needs more draws"),
        ("ensemble.start=teacher", "means nothing to scheme trajectory"),
        ("sweep={step: {sampler.step_size: [0.01, 0.02]}}", "fixes the times"),
        ("theories=[kernel_scaling]", "wanted one that samples a law"),
        ("sampler.dynamics=gradient_flow", "volterra does not hold"),
    ],
)
def test_what_has_no_times_is_refused_in_one_line(change, said):
    with pytest.raises(CampaignError) as refusal:
        parse(TEXT, [change])
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
