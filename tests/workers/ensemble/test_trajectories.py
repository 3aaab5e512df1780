"""Networks in time, run as the engine runs them: their bits, and the theory of wide ones."""

import math

import numpy as np
import pytest
import torch

from pipelines.theories import trajectory_theories
from pipelines.theories.ensemble_theories import Problem
from storage.campaign.plugins import Plugins
from support.blocks import campaign, data_of, shard_of, step

torch.set_num_threads(1)

TEXT = """
version: 1
name: timed
data: {source: linear, dimension: 3, train: 6, test: 5, label_noise: 0.1}
network: {activation: erf, width: 24, weight_variance: [1, 1]}
sampler: {scheme: trajectory, dynamics: langevin, temperature: 0.4, step_size: 0.01,
  times: {first: 0.06, ratio: 2}, warmup: 0, draws: 6, segment: 6, precision: float64}
ensemble: {datasets: 1, chains: 6, block: 6}
observe: {histograms: false, points: 3, lags: [1, 3]}
"""
KERNELS = ("kernel", "kernel_lag")


def followed(spec, segments: int):
    """All segments of the first block, (chain, time, ...); kernels (time, ...)."""
    _, state = step(shard_of(spec))
    parts = []
    for segment in range(segments):
        values, state = step(shard_of(spec, segment), state)
        parts.append({name: each for name, each in values.items() if name != "status"})
    return {
        name: np.concatenate([part[name] for part in parts], 0 if name in KERNELS else 1)
        for name in parts[0]
    }


def test_segments_do_not_move_a_bit():
    whole = followed(campaign(TEXT), 1)
    parts = followed(campaign(TEXT, "sampler.segment=2"), 3)
    for name, values in whole.items():
        assert np.array_equal(values, parts[name], equal_nan=True), name
    assert np.isnan(whole["kernel_lag"][:3, 1]).all()  # there is no time so much earlier
    assert np.isfinite(whole["kernel_lag"][3:]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("dynamics", "depth"), [("langevin", 2), ("gradient_flow", 1)])
def test_wide_networks_follow_the_lazy_theory(dynamics, depth):
    chains, width = 48, 100
    spec = campaign(
        TEXT,
        f"sampler.dynamics={dynamics}", f"network.width={width}", f"network.depth={depth}",
        "network.weight_variance=1", "sampler.step_size=0.01", "sampler.draws=5",
        "sampler.segment=5", f"ensemble.chains={chains}", f"ensemble.block={chains}",
    )  # fmt: skip
    found = followed(spec, 1)
    assert spec.sampler is not None
    times = tuple(spec.sampler.moments(5))
    problem = Problem(spec, data_of(spec), Plugins(), times)
    theory = "volterra" if dynamics == "langevin" else "gradient_flow"
    (expected,) = trajectory_theories.evaluate(theory, problem, [width])
    bound = 5 / math.sqrt(chains)
    for name in ("output_mean", "loss"):
        spread = found[name].std(0, ddof=1)
        off = np.abs(found[name].mean(0) - expected[name])
        allowed = bound * spread + 4 / width + np.abs(found[f"{name}_change"].mean(0)) / 5
        assert (off < allowed * 2).all(), name
    square = found["output_square"].mean(0)
    second = expected["predictive_variance"] + expected["output_mean"] ** 2
    error = bound * found["output_square"].std(0, ddof=1)
    assert (np.abs(square - second) < error + 10 / width).all()
    for name in KERNELS:
        assert np.nanmax(np.abs(found[name] - expected[name])) < 10 / math.sqrt(width * chains)
