"""The step check: what half the step says of the bias at the whole one."""

import math
import sys

import numpy as np
import pytest
import torch
import xarray as xr

from pipelines.analysis.verdict_rows import BIASED, verdicts
from pipelines.engine import engine, stages
from pipelines.report.sentences.conclusions import conclusions
from pipelines.text.rounding import plain
from storage.backend.reader import open_campaign
from support.blocks import block_of, campaign, data_of
from support.driving import simulate
from support.learning import LEARNS, normals, problem_of
from workers.ensemble.adaptation import curvature

torch.set_num_threads(1)  # as in a worker


def assessed(folder, spec, plugins=(), stage_names=("assess convergence",)):
    """The groups `progress` and `ensemble` of a campaign that has run, and where it is stored."""
    prepared = engine.prepare(spec, str(folder), plugins)
    simulate(prepared)
    stages.analyze(prepared.store, prepared.plugins, stage_names)
    progress, ensemble = (
        xr.open_dataset(prepared.store.data, group=group, engine="zarr").load()
        for group in ("progress", "ensemble")
    )
    return progress, ensemble, prepared.store.url


# -- a quadratic, where the bias is known ----------------------------------------------------

PLUGIN = '''
"""The simplest network: a linear function of its parameters, whose posterior is Gaussian."""
import torch


def net(inputs, network):
    return torch.full((inputs,), 0.8), lambda vector, x: x @ vector
'''
QUADRATIC = """
version: 1
name: quadratic
data: {source: linear, dimension: 4, train: 12, test: 30, label_noise: 0.1}
network: {architecture: NAME:net, activation: linear, width: 1, weight_variance: [1, 1]}
sampler: {scheme: ula, step_size: 0.02, temperature: 0.5, warmup: 200, draws: 40, thin: 5,
  segment: 40}
ensemble: {datasets: 1, chains: 300, block: 300}
observe: {points: 4, histograms: false, kernels: false}
"""


@pytest.fixture
def quadratic(tmp_path, monkeypatch):
    """The text of a campaign whose posterior is a Gaussian, and the module that it needs."""
    name = f"simplest_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PLUGIN)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield QUADRATIC.replace("NAME", name), [name]
    sys.modules.pop(name, None)


def stationary(spec, step_size):
    """Mean loss and predictive variance under ULA: on a mode λ, variance 1/(λ (1 - ε λ/2))."""
    data, temperature = data_of(spec), spec.sampler.temperature
    features, points = 0.8 * data.x_train, 0.8 * data.x_test
    stiffness, modes = np.linalg.eigh(np.eye(4) + features.T @ features / temperature)
    covariance = modes @ np.diag(1 / (stiffness * (1 - step_size * stiffness / 2))) @ modes.T
    mean = modes @ ((modes.T @ (features.T @ data.y_train / temperature)) / stiffness)
    loss = np.square(features @ mean - data.y_train).sum()
    loss += np.trace(features @ covariance @ features.T)
    variance = np.einsum("pi,ij,pj->p", points, covariance, points).mean()
    return {"loss": loss / 2, "predictive_variance": variance}


@pytest.mark.slow
def test_the_bias_of_ula_on_a_quadratic_is_found(tmp_path, quadratic):
    text, plugins = quadratic
    spec = campaign(text)
    progress, *_ = assessed(tmp_path, spec, plugins)
    cell = progress.isel(cell=0)
    whole, half, none = (stationary(spec, factor * 0.02) for factor in (1.0, 0.5, 0.0))
    for name in ("loss", "predictive_variance"):
        bias, error = (
            float(cell[key].sel(observable=name)) for key in ("step_bias", "step_bias_error")
        )
        expected = 2 * (whole[name] - half[name])
        true = whole[name] - none[name]
        assert abs(bias - expected) < 5 * error
        assert abs(expected - true) < 0.3 * true  # what is of second order in the step
        assert bias > 7 * error
    assert int(cell["biased"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "chains"),
    [
        ("scheme: baoab, friction: 1, step_size: 0.15, warmup: 50, thin: 2", 40),
        ("scheme: ula, step_size: 0.02, warmup: 150", 6),
    ],
    ids=["without bias on a quadratic", "small beside the errors"],
)
def test_a_cell_that_is_right_is_not_marked(tmp_path, quadratic, scheme, chains):
    text, plugins = quadratic
    spec = campaign(
        text,
        f"sampler={{{scheme}, temperature: 0.5, draws: 20, segment: 20}}",
        f"ensemble={{datasets: 1, chains: {chains}, block: {chains}}}",
    )
    progress, *_ = assessed(tmp_path, spec, plugins)
    found = progress.isel(cell=0)
    assert np.isfinite(found["step_bias"]).all()
    assert (np.abs(found["step_bias"]) < 5 * found["step_bias_error"]).all()
    assert int(found["biased"]) == 0


def test_a_scheme_without_a_bias_has_no_check(tmp_path, quadratic):
    text, plugins = quadratic
    lengths = "temperature: 0.5, warmup: 20, draws: 20, segment: 20"
    spec = campaign(
        text,
        f"sampler={{scheme: mala, step_size: 0.1, {lengths}}}",
        "ensemble={datasets: 1, chains: 8, block: 4}",
    )
    progress, *_ = assessed(tmp_path, spec, plugins)
    assert np.isnan(progress["step_bias"]).all()
    assert not progress["biased"].any()


# -- a step tuned at the prior ---------------------------------------------------------------


def largest_at_the_prior(spec):
    """95 % of the step 2/√λ at which BAOAB becomes unstable, with λ where chains begin."""
    problem = problem_of(spec)
    size = problem.network.size
    found = curvature(problem.gradient, normals(size, 1, 16), normals(size, 2, 16), 60)
    return 0.95 * 2 / math.sqrt(found.values.max())


@pytest.mark.slow
def test_a_step_tuned_at_the_prior_fails_silently(tmp_path):
    lengths = "temperature: 0.4, warmup: 1000, draws: 100, thin: 20, segment: 100"
    base = ("ensemble={datasets: 1, chains: 16, block: 16}",)
    double = campaign(LEARNS, *base, "sampler.precision=float64")
    tuned = {"at the prior": largest_at_the_prior(double), "in the warm-up": "auto"}
    found = {}
    for name, step_size in tuned.items():
        sampler = f"sampler={{scheme: baoab, friction: 1, step_size: {step_size}, {lengths}}}"
        spec = campaign(LEARNS, *base, sampler, "theories=[nngp]")
        found[name] = assessed(tmp_path / name.split()[-1], spec, (), stages.COMPARING)
    reference = variance_of(
        block_of(campaign(LEARNS, *base, f"sampler={{{COLLAPSED}, segment: 100}}")).values
    )
    for name, (progress, ensemble, url) in found.items():
        cell = progress.isel(cell=0, dataset=0)
        assert (cell["rhat"] < 1.05).all(), name
        assert int(cell["converged"]) == 1
        assert int(cell["diverged"]) == 0
        values = {key: ensemble[key].values[0, 0] for key in ("output_mean", "output_square")}
        ratio = variance_of(values) / reference
        tree = open_campaign(url)
        said = [line for line in conclusions(tree) if "since the step is too long" in line]
        compared = int(tree["fits"]["compared"].sum())
        if name == "at the prior":
            assert ratio > 1.8
            assert (int(cell["biased"]), compared) == (1, 0)
            (line,) = said  # which is of use to those, too, who have auto already
            half = float(ensemble["step_size"].mean()) / 2
            assert f"give step_size: {plain(half, 2)}, half of what was taken" in line
            assert {row.reason for row in verdicts(tree) if row.test == "cell"} == {BIASED}
        else:
            assert ratio == pytest.approx(1, abs=0.1)
            assert (int(cell["biased"]), compared) == (0, 1)
            assert not said


COLLAPSED = (
    "scheme: collapsed, step_size: auto, friction: 1, temperature: 0.4, warmup: 300, draws: 200, "
    "thin: 2"
)


def variance_of(values):
    """Predictive variance averaged over the test points, from all chains together."""
    mean, square = (values[name].mean((0, 1)) for name in ("output_mean", "output_square"))
    return float((square - mean**2).mean())
