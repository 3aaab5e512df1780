"""Thermodynamic integration of the loss, against the evidence of a Gaussian process."""

import numpy as np
import pytest
import xarray as xr

from pipelines.analysis.free_energy import integrated
from pipelines.engine import stages
from support.driving import prepared, simulate

RNG = np.random.default_rng(1)
KERNEL = np.cov(RNG.normal(size=(12, 30)))
Y = RNG.normal(size=12)


def free_energy(temperature: float) -> float:
    """-ln N(y; 0, K + T), but for a constant."""
    whole = KERNEL + temperature * np.eye(12)
    return 0.5 * (Y @ np.linalg.solve(whole, Y) + np.linalg.slogdet(whole)[1])


def loss(temperature: float) -> float:
    """<|y - f|²/2> of the posterior: of its mean T(K + T)⁻¹y, and of its variance."""
    inverse = np.linalg.inv(KERNEL + temperature * np.eye(12))
    variance = np.trace(KERNEL - KERNEL @ inverse @ KERNEL)
    return 0.5 * (np.square(temperature * inverse @ Y).sum() + variance)


def test_the_loss_integrates_to_the_evidence():
    temperatures = np.geomspace(100, 0.01, 33)
    losses = [np.full(4, loss(t)) for t in temperatures]
    found = integrated(temperatures, losses, 12)
    wanted = [free_energy(t) - free_energy(100) for t in temperatures]
    np.testing.assert_allclose(found["evidence"], wanted, atol=1e-3)
    assert not found["evidence_error"].any()
    # The spline is of a higher order than what it is checked with.
    assert np.abs(found["quadrature_error"]).max() > np.abs(found["evidence"] - wanted).max()


def test_errors_of_the_losses_add_in_squares():
    temperatures = np.geomspace(10, 0.1, 7)
    rng = np.random.default_rng(2)
    mean = np.array([loss(t) for t in temperatures])
    samples = [mean[:, None] * (1 + 0.1 * rng.normal(size=(7, 50))) for _ in range(400)]
    found = [integrated(temperatures, list(sample), 12) for sample in samples]
    scatter = np.std([each["evidence"][-1] for each in found], ddof=1)
    said = np.mean([each["evidence_error"][-1] for each in found])
    assert said == pytest.approx(scatter, rel=0.2)  # five standard errors of 400 draws


@pytest.mark.slow
def test_an_ensemble_measures_the_evidence_of_a_wide_network(tmp_path):
    """At N = 400 a linear network is within a few 1/N of its Gaussian process."""
    campaign = prepared(
        tmp_path,
        "data.dimension=6",
        "network={activation: linear, width: 400, weight_variance: [1, 1]}",
        "sampler={scheme: gibbs, temperature: 0.5, warmup: 20, draws: 100, thin: 1, segment: 50}",
        "ensemble={datasets: 2, chains: 16, block: 16}",
        "sweep={heat: {sampler.temperature: [20, 8, 3, 1.2, 0.5, 0.2, 0.1]}}",
        "observe={histograms: false, kernels: false, points: 4}",
        "regression=null",
        "theories=[nngp]",
    )
    simulate(campaign)
    before = [name for name in stages.STAGES if name != "report"]
    stages.analyze(campaign.store, campaign.plugins, before)
    found = xr.open_dataset(campaign.store.data, group="free_energy", engine="zarr").load()
    assert found["evidence"].dims == ("cell", "dataset", "sampler_temperature")
    residual = (found["evidence"] - found["evidence_predicted"].sel(theory="nngp")).isel(cell=0)
    error = found["evidence_error"].isel(cell=0)
    assert np.isfinite(residual).all()
    # Statistics, the rule of integration, and 1/N of as many degrees of freedom as inputs.
    allowed = 5 * error + np.abs(found["quadrature_error"].isel(cell=0)) / 3 + 6**2 / 400
    assert (np.abs(residual) < allowed).all()
    assert (error < 0.3).all()
