"""The packaged campaigns on random networks, reduced, and what they assert."""

import numpy as np
import pytest
import torch

from pipelines.analysis.comparison import compare
from pipelines.commands import packaged
from pipelines.engine import engine, stages
from pipelines.report.figures import functions, layers, phases, widths
from pipelines.theories.ensemble_theories import Problem, correlator_kernels
from storage.backend.reader import open_campaign
from storage.campaign.plugins import Plugins
from storage.reading.document import read
from storage.store.results import stored_plan
from support.driving import simulate
from theory.signal import critical_bias
from theory.statistics import bonferroni, p_value
from workers.data.datasets import dataset

torch.set_num_threads(1)  # as in a worker

LEVEL = 1e-3
pytestmark = pytest.mark.slow


def analyzed(name: str, folder: object, *overrides: str):
    """A packaged campaign, reduced: what was measured and predicted, and its tree."""
    prepared = engine.prepare(read(packaged.find(name), overrides), str(folder))
    simulate(prepared)
    every = ["assess convergence", "predict", "fit"]
    stages.analyze(prepared.store, prepared.plugins, every)
    found = compare(prepared.store, stored_plan(prepared.store), prepared.plugins)
    return found, open_campaign(prepared.store.url)


def p_values(found, theory: str, *kinds: str):
    """Of observables of these kinds, corrected for their number, (cell, observable)."""
    columns = [place for place, name in enumerate(found.observables) if name.startswith(kinds)]
    residual = found.residual[found.theories.index(theory)][:, 0, columns]
    p = p_value(residual, found.error[:, 0, columns], found.chains - 1)
    return bonferroni(p)


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.campaigns) for seed in (2, 3))]
)
def test_exact_priors_agree_and_the_leading_order_fails_where_networks_are_narrow(seed, tmp_path):
    found, tree = analyzed(
        "width-corrections", tmp_path,
        f"ensemble.seed={seed}", "sampler.draws=250", "sampler.segment=250",
        "sweep.width={network.width: [8, 16]}", "observe.histograms=false",
    )  # fmt: skip
    kinds = ("kernel_mean", "kernel_variance")
    exact, leading, wide = (
        p_values(found, name, *kinds) for name in ("exact_prior", "width_corrections", "nngp")
    )
    relu_8, relu_16, _, tanh_16 = range(4)
    assert exact[[relu_8, relu_16]].min() > LEVEL
    assert leading[tanh_16].min() > LEVEL
    assert leading[relu_8].min() < LEVEL
    assert (wide.min(axis=1) < LEVEL).all()
    assert widths.panel(tree) is None  # without histograms there is no kurtosis


def test_random_functions_have_the_kernel_of_uniform_weights_and_not_of_gaussian_ones(tmp_path):
    found, tree = analyzed(
        "random-functions", tmp_path,
        "sampler.draws=60", "sampler.segment=60", "data.test=20",
        "sweep.width={network.width: [1, 5, 100]}",
    )  # fmt: skip
    assert p_values(found, "nngp", "kernel_mean", "correlation").min() > LEVEL
    assert p_values(found, "nngp", "kernel_variance").max() < LEVEL
    assert functions.panel(tree).figure is not None
    changes = ["network.prior=gaussian", "data.test=20"]
    spec = read(packaged.find("random-functions"), changes)
    given = Problem(spec, dataset(spec, 0, Plugins(), {}), Plugins())
    gaussian = float(correlator_kernels(given)[0, 0, 0])
    column = found.observables.index("kernel_mean 1")
    t = (found.measured[-1, 0, column] - gaussian) / found.error[-1, 0, column]
    assert abs(t) > 5  # the same data tell the two laws of the weights apart


def test_signals_follow_the_flow_through_finite_networks(tmp_path):
    found, tree = analyzed(
        "correlator-flow", tmp_path,
        "network.depth=8", "network.width=100", "ensemble.datasets=2",
    )  # fmt: skip
    names = list(found.observables)
    expected = found.predicted[found.theories.index("nngp")]
    off = np.abs(found.measured - expected)
    correlations = [names.index(f"correlation {layer}") for layer in range(1, 9)]
    assert np.nanmax(off[..., correlations]) < 0.1  # five errors, and of order depth/width
    ordered, chaotic = (found.measured[cell][:, correlations] for cell in (0, 1))
    for phase in (ordered, chaotic):  # the two pairs draw together
        apart = np.abs(phase[0] - phase[1])
        assert apart[-1] < apart[0]
    assert layers.panel(tree).figure is not None


def test_order_and_chaos_lie_on_their_sides_of_the_critical_line(tmp_path):
    found, tree = analyzed(
        "criticality-map", tmp_path,
        "sweep.weights={network.weight_variance: [0.5, 1.5, 4]}",
        "sweep.biases={network.bias_variance: [0.02, 0.1, 0.3]}",
        "network.depth=10", "network.width=60",
    )  # fmt: skip
    column = list(found.observables).index("correlation 10")
    correlation = found.measured[:, 0, column].reshape(3, 3)
    assert (correlation[0, 1:] > 0.99).all()  # deep in the ordered phase
    assert np.abs(found.residual[0, :, 0, column]).max() < 0.15  # five errors, and depth/width
    assert (correlation[2] < 0.8).all()  # deep in the chaotic phase
    line = critical_bias("tanh", torch.tensor([0.5, 4.0]))
    assert torch.isnan(line[0])  # order at any bias
    assert float(line[1]) > 0.3
    assert phases.panel(tree).figure is not None
