"""The packaged campaign `langevin-exact`, and the theory that it is held against."""

import numpy as np
import pytest
import torch

from pipelines.analysis.comparison import compare
from pipelines.commands import packaged
from pipelines.engine import engine, stages
from pipelines.theories import ensemble_theories
from pipelines.theories.ensemble_theories import Problem
from storage.campaign.plugins import Plugins
from storage.errors import CampaignError
from storage.reading.document import parse, read
from storage.store.results import stored_plan
from support.driving import simulate
from theory.statistics import bonferroni, p_value
from workers.data.datasets import dataset

torch.set_num_threads(1)  # as in a worker

LEVEL = 1e-3
# What is compared at each width; nothing is said of the hidden weights.
OBSERVABLES = ["learnability target", "mse_mean", "predictive_variance", "weight_norm"]
REDUCED = (
    "ensemble.chains=256",
    "ensemble.block=256",
    "sampler.draws=60",
    "sampler.segment=60",
    "sampler.warmup=400",
    "sampler.step_check=false",
    "observe={histograms: false, kernels: false, points: 8}",
)


def spec_of(*overrides: str):
    return read(packaged.find("langevin-exact"), overrides)


def problem(spec, factor: float = 1.0) -> Problem:
    """The campaign's data and network, at `factor` times its temperature."""
    sampler = spec.sampler.model_copy(update={"temperature": factor * spec.sampler.temperature})
    hot = spec.model_copy(update={"sampler": sampler})
    return Problem(hot, dataset(spec, 0, Plugins(), {}), Plugins())


# -- the campaign ---------------------------------------------------------------------------


MORE = [pytest.param(seed, marks=pytest.mark.campaigns) for seed in (2, 3)]


@pytest.fixture(scope="module", params=[1, *MORE])
def compared(request, tmp_path_factory):
    """The campaign at one of three seeds, fixed beforehand, and what was measured."""
    spec = spec_of(*REDUCED, f"ensemble.seed={request.param}")
    prepared = engine.prepare(spec, str(tmp_path_factory.mktemp("store")))
    simulate(prepared)
    stages.analyze(prepared.store, prepared.plugins, ["assess convergence", "predict"])
    planned = stored_plan(prepared.store)
    return planned, compare(prepared.store, planned, prepared.plugins)


def p_values(compared, predicted):
    """Corrected for the number of comparisons, (cell, observable)."""
    _, found = compared
    measured, error = (values[:, 0, : len(OBSERVABLES)] for values in (found.measured, found.error))
    return bonferroni(p_value(measured - predicted, error, found.chains - 1))


@pytest.mark.slow
def test_the_ensemble_is_the_exact_posterior(compared):
    _, found = compared
    assert found.compared.all()  # every width has converged
    assert list(found.observables[: len(OBSERVABLES)]) == OBSERVABLES
    exact = found.predicted[found.theories.index("scale_mixture")][:, 0]
    exact = exact[:, : len(OBSERVABLES)]
    assert (p_values(compared, exact) > LEVEL).all()
    relative = (found.error / found.measured)[:, 0, : len(OBSERVABLES)]  # standard errors
    assert (relative < [0.002, 0.012, 0.007, 0.006]).all()


@pytest.mark.slow
def test_the_same_data_reject_a_temperature_that_is_five_percent_wrong(compared):
    planned, _ = compared
    wrong = []
    for cell in planned.cells:
        (found,) = ensemble_theories.scale_mixture(
            problem(cell.spec, 1.05), [cell.spec.network.width]
        )
        mean = found["predictive_variance"].mean()
        wrong.append([*found["learnability"], found["mse_mean"], mean, found["weight_norm"]])
    assert (p_values(compared, np.array(wrong)).min(axis=1) < LEVEL).all()  # at every width


@pytest.mark.slow
def test_the_same_data_reject_the_infinitely_wide_network(compared):
    _, found = compared
    wide = found.predicted[found.theories.index("nngp")][:, 0, : len(OBSERVABLES)]
    assert p_values(compared, wide)[:2].min() < LEVEL  # 3 and 10 neurons


# -- the theory -----------------------------------------------------------------------------


def test_an_infinitely_wide_network_is_the_nngp():
    given = problem(spec_of())
    (exact,) = ensemble_theories.scale_mixture(given, [10**7])
    nngp = ensemble_theories.nngp(given)
    for name in ("learnability", "output_mean", "predictive_variance", "mse_mean", "mse_sample"):
        np.testing.assert_allclose(exact[name], nngp[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(exact["kernel"], nngp["kernel"], atol=1e-5)
    assert exact["weight_norm"] == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("chi", [1, 5])
def test_the_kernel_and_the_norm_are_those_of_weighted_prior_networks(chi):
    spec = spec_of(
        "network.scaling=mean_field",
        f"network.chi={chi}",
        f"sampler.temperature={0.5 * chi}",
        "data.train=6",
        "data.dimension=3",
        "observe.points=4",
    )
    given, width = problem(spec), 4
    rng, chains = np.random.default_rng(6), 400_000
    w = rng.normal(size=(chains, width, 3)) / np.sqrt(3)
    a = rng.normal(size=(chains, width)) / np.sqrt(width * chi)
    residual = np.einsum("ci,cid,nd->cn", a, w, given.data.x_train) - given.data.y_train
    loss = np.square(residual).sum(1) / (2 * 0.5)
    weight = np.exp(-(loss - loss.min()))
    weight /= weight.sum()
    field = w @ given.data.x_test[:4].T
    each = {
        "weight_norm": np.square(a).sum(1)[:, None, None],
        "kernel": np.einsum("cip,ciq->cpq", field, field) / width,
    }
    (exact,) = ensemble_theories.scale_mixture(given, [width])
    prior = {"weight_norm": 1 / chi, "kernel": ensemble_theories.nngp(given)["kernel"]}
    for name, values in each.items():
        mean = np.einsum("c,cpq->pq", weight, values)
        error = np.sqrt(np.einsum("c,cpq->pq", weight**2, np.square(values - mean)))
        assert (np.abs(mean - exact[name]) < 5 * error).all()
        assert (np.abs(mean - prior[name]) > 10 * error).any()


def test_a_prior_ensemble_has_learned_nothing():
    spec = spec_of("sampler={scheme: prior, temperature: 1, warmup: 0, draws: 2, segment: 2}")
    given = problem(spec)
    nngp = ensemble_theories.nngp(given)
    (exact,) = ensemble_theories.scale_mixture(given, [3])
    for name in ("output_mean", "predictive_variance", "kernel"):
        np.testing.assert_allclose(exact[name], nngp[name], rtol=1e-12)
    assert exact["weight_norm"] == 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("network.activation=erf", "found activation erf"),
        ("network.bias_variance=0.1", r"found bias_variance 0\.1"),
        ("network={activation: linear, depth: 2, width: 3, weight_variance: [1, 1, 1]}", "depth 2"),
        ("sweep={depth: {network.bias_variance: [1, 2]}}", r"found bias_variance 1\.0"),
    ],
)
def test_what_it_does_not_know_is_refused_in_a_line(change, found):
    with pytest.raises(CampaignError, match=f"scale_mixture holds in none of .*{found}") as refused:
        spec_of(change, "theories=[scale_mixture]")
    assert "\n" not in str(refused.value)


def test_several_outputs_and_regressions_are_refused():
    text = packaged.find("langevin-exact").read_text()
    text = text[: text.index("data:")] + text[text.index("network:") :]
    data = "\ndata: {source: npz, file: some.npz, outputs: 2, train: 3, test: 2}\n"
    with pytest.raises(CampaignError, match=r"scale_mixture holds in none .*found 2 outputs"):
        parse(text + data, ["theories=[scale_mixture]"])
