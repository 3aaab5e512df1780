"""Ten classes of digits: regressions against ten of one output each, an ensemble, what is said."""

import numpy as np
import pytest
import torch
import xarray as xr

from pipelines.engine import engine, stages
from pipelines.report.class_balance import planned_balance
from pipelines.theories.ensemble_theories import Problem, nngp
from pipelines.theories.regression_theories import stored_spectrum
from storage.backend.reader import open_campaign
from storage.campaign.plugins import Plugins
from storage.errors import CampaignError
from storage.reading.document import parse
from support.driving import simulate
from workers.data.datasets import dataset, pool
from workers.models import nngp_of
from workers.regression.regression import draws

POOL, RIDGE, SIZES = 200, 0.01, (40, 120)
SPEC = f"""
version: 1
name: ten
data: {{source: digits, classes: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], train: 12, test: 30}}
network: {{width: 12, activation: erf, weight_variance: 1.5, bias_variance: 0.1}}
regression:
  train: {list(SIZES)}
  ridges: [{RIDGE}]
  repeats: 4
  pool: {POOL}
  sampling: without
  evaluate: [pool, heldout]
theories: [effective_ridge, rg_gpr]
"""
SAMPLER = """
sampler: {scheme: baoab, temperature: 0.05, step_size: 0.05, friction: 1, warmup: 40, draws: 8,
  thin: 2, segment: 4}
ensemble: {datasets: 2, chains: 4, block: 4, seed: 1}
"""
PRIOR = """
sampler: {scheme: prior, temperature: 0.05, warmup: 0, draws: 2, segment: 2}
ensemble: {datasets: 1, chains: 2, block: 2, seed: 1}
"""


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    prepared = engine.prepare(parse(SPEC), str(tmp_path_factory.mktemp("ten")))
    simulate(prepared)
    stages.analyze(prepared.store, prepared.plugins, ["predict", "fit"])
    return prepared


def alone(prepared, repeat, size):
    """Ten regressions, each of one class against all others, by numpy: outputs of the pool."""
    (cell,) = prepared.plan.regressions
    points = pool(cell.spec, prepared.plugins, prepared.sources)
    order = draws(cell, repeat, torch.as_tensor(points.y), prepared.sources)[0][:size].numpy()
    kernel = nngp_of(cell.spec.kernel, torch.as_tensor(points.x)).numpy()
    ridged = kernel[np.ix_(order, order)] + RIDGE * np.eye(size)
    label = points.y.argmax(axis=1)
    signs = [np.where(label[order] == each, 1.0, -1.0) for each in range(10)]
    found = [kernel[:, order] @ np.linalg.solve(ridged, sign) for sign in signs]
    named = np.stack(found, axis=1).argmax(axis=1)
    rest = np.setdiff1d(np.arange(POOL), order)
    return (named == label).mean(), (named[rest] == label[rest]).mean()


@pytest.mark.parametrize("repeat", range(2))
def test_ten_outputs_name_the_classes_that_ten_regressions_do(regression, repeat):
    group = regression.store.root.group("regression")
    for place, size in enumerate(SIZES):
        for name, expected in zip(
            ("pool_accuracy", "test_accuracy"), alone(regression, repeat, size), strict=True
        ):
            assert group[name][0, repeat, place, 0] == expected
            assert 0.5 < expected <= 1


def test_theories_of_the_pool_have_the_mean_over_outputs(regression):
    tree = open_campaign(regression.store.url)
    measured = tree["regression"]
    assert measured["coefficient"].dims[-1] == "target"
    assert measured["target"].values.tolist() == list(range(10))
    y = pool(regression.plan.regressions[0].spec, regression.plugins, regression.sources).y
    _, power = stored_spectrum(regression.store, 0)
    assert float(power.sum()) == pytest.approx(np.square(y).mean(), rel=1e-12)  # Parseval
    error = measured["pool_error"].values.reshape(4, 2)[:, 0]
    predicted = float(tree["theory/effective_ridge"]["pool_error"].values.reshape(2)[0])
    standard = error.std(ddof=1) / len(error) ** 0.5
    # Draws without replacement from a pool of five times as many: a tenth is what theory may miss.
    assert abs(error.mean() - predicted) < 5 * standard + 0.1 * predicted


def test_all_modes_give_back_each_repeat_with_the_noise_of_every_output(tmp_path):
    spec = parse(SPEC, [f"cutoff={POOL}", "data.label_noise=0.1", "theories=[rg_gpr]"])
    prepared = engine.prepare(spec, str(tmp_path))
    simulate(prepared)
    stages.analyze(prepared.store, prepared.plugins, ["predict"])
    measured, found = (
        xr.open_dataset(prepared.store.data, group=name, engine="zarr").load()
        for name in ("regression", "theory/rg_gpr")
    )
    for name in ("pool_error", "train_error", "posterior_variance"):
        # K + T has a condition of 1e5 at most: the trace of K over the ridge.
        xr.testing.assert_allclose(found[name], measured[name], rtol=1e-8)
    assert (abs(found["distance_square"]) < 1e-16).all()


def test_the_classes_are_named_in_the_plan(regression):
    (line,) = planned_balance(regression, regression.plan)
    assert line.startswith("classes  points of the pool ")
    assert all(f" of class {each}" in line for each in range(10))


def test_chance_names_one_class_in_ten():
    spec = parse(SPEC.replace("[effective_ridge, rg_gpr]", "[nngp]") + PRIOR)
    data = dataset(spec, 0, Plugins(), {})
    found = nngp(Problem(spec, data, Plugins()))
    assert float(found["accuracy"]) == pytest.approx(0.1, abs=1e-12)


@pytest.mark.slow
def test_an_ensemble_counts_the_largest_outputs_and_is_reported(tmp_path):
    spec = parse(SPEC.replace("[effective_ridge, rg_gpr]", "[nngp, kernel_scaling]") + SAMPLER)
    prepared = engine.prepare(spec, str(tmp_path))
    simulate(prepared)
    stages.analyze(prepared.store, prepared.plugins)
    group = xr.open_dataset(prepared.store.data, group="ensemble", engine="zarr").load()
    assert group.output.dims[-2:] == ("probe", "target")
    named = group.output.isel(cell=0).argmax("target")
    own = group.label.isel(cell=0).argmax("target").rename(test="probe")
    xr.testing.assert_allclose(group.accuracy.isel(cell=0), (named == own).mean("probe"))
    theory = xr.open_dataset(prepared.store.data, group="theory/nngp", engine="zarr").load()
    assert ((theory.accuracy > 0.1) & (theory.accuracy < 1)).all()
    page = (tmp_path / prepared.store.url.rpartition("/")[2] / "report/report.html").read_text()
    assert "an output for each, with target 9/10 for its own class and −1/10 for others" in page
    assert "of class 9" in page


def test_theories_of_one_output_say_so():
    with pytest.raises(CampaignError, match="vga does not hold: found 10 outputs, wanted 1"):
        parse(SPEC.replace("[effective_ridge, rg_gpr]", "[vga]") + SAMPLER)
    quartic = "regression.quartic={couplings: [0.1], chains: 2, warmup: 2, draws: 4}"
    with pytest.raises(CampaignError, match="quartic is of one output, and the data have 10;"):
        parse(SPEC, [quartic])
