"""The gate: what passes it, what does not, and that ArviZ reads the store as it is."""

import warnings

import numpy as np
import pytest
import xarray as xr

from pipelines.analysis.convergence import LARGEST_R_HAT, SMALLEST_ESS, assess, diagnostics
from storage.planning.plan import Shard
from support.fake_ensemble import TEXT, fill, noise, stored

CHAINS, DRAWS, POINTS = 4, 100, 40  # of a block


def independent(shard: Shard) -> dict[str, np.ndarray]:
    """Draws that are independent and of one law."""
    rng = noise(shard)
    return {
        "label": np.zeros(POINTS),
        "loss": rng.exponential(size=(CHAINS, DRAWS)),
        "weight_norm": rng.normal(size=(CHAINS, DRAWS)),
        "learnability": rng.normal(size=(CHAINS, DRAWS, 2)),
        "output": rng.normal(size=(CHAINS, DRAWS, 12)),
        "max_overlap": rng.normal(size=(CHAINS, DRAWS)),
        "status": np.zeros((CHAINS, 2), dtype=np.uint8),
    }


def progress(store) -> xr.Dataset:
    assess(store)
    return xr.open_dataset(store.data, group="progress", engine="zarr")


def arviz():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def test_independent_draws_pass_and_arviz_agrees_on_the_stored_scalars(tmp_path):
    store, planned = stored(tmp_path)
    fill(store, planned, independent)
    found = progress(store)
    assert found["converged"].values.tolist() == [[1, 1]]
    assert found["finished_fraction"].values.tolist() == [1.0]
    assert found["chains"].values.tolist() == [[8, 8]]
    ensemble = xr.open_dataset(store.data, group="ensemble", engine="zarr")
    for dataset in range(2):
        one = ensemble[["loss"]].isel(cell=0, dataset=dataset)
        stored_r_hat = found["rhat"].sel(quantity="loss").isel(cell=0, dataset=dataset)
        assert float(stored_r_hat) == pytest.approx(float(arviz().rhat(one)["loss"]), rel=1e-12)
        tail = found["ess_tail"].sel(quantity="loss").isel(cell=0, dataset=dataset)
        assert float(tail) == pytest.approx(
            float(arviz().ess(one, method="tail")["loss"]), rel=1e-12
        )


def test_every_scalar_of_a_draw_is_assessed(tmp_path):
    store, planned = stored(tmp_path)
    fill(store, planned, independent)
    names = {str(name) for name in progress(store)["quantity"].values}
    assert names == {
        "loss",
        "weight_norm",
        "max_overlap",
        "learnability He1",
        "learnability He3",
        *(f"output {probe}" for probe in range(12)),
    }


def shifted(values: dict[str, np.ndarray]) -> None:
    values["weight_norm"][0] += 3.0  # one chain sits elsewhere


def stuck(values: dict[str, np.ndarray]) -> None:
    values["loss"][...] = np.arange(CHAINS)[:, None]  # each chain at a value of its own


def wide(values: dict[str, np.ndarray]) -> None:
    values["output"][0, :, 5] *= 6.0  # equal means, unequal widths: only the folded R-hat sees it


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [shifted, stuck, wide], ids=["shifted", "stuck", "wide"])
def test_chains_of_different_laws_do_not_pass(tmp_path, spoil):
    def make(shard: Shard) -> dict[str, np.ndarray]:
        values = independent(shard)
        if (shard.dataset, shard.block) == (1, 1):
            spoil(values)
        return values

    store, planned = stored(tmp_path)
    fill(store, planned, make)
    assert progress(store)["converged"].values.tolist() == [[1, 0]]


def test_slow_chains_do_not_pass():
    # AR(1) with correlation 0.95: 8 × 40 draws are worth 8 × 40 × 0.05/1.95 = 8 independent ones,
    # a tenth of the 80 that the gate wants.
    rng = np.random.default_rng(3)
    steps = rng.normal(size=(8, 40, 1))
    values = np.zeros_like(steps)
    values[:, 0] = steps[:, 0]
    for draw in range(1, 40):
        values[:, draw] = 0.95 * values[:, draw - 1] + np.sqrt(1 - 0.95**2) * steps[:, draw]
    found = diagnostics(values)
    assert found.ess_bulk[0] < SMALLEST_ESS * 8
    assert found.rhat[0] > LARGEST_R_HAT
    assert not found.passes(8)


def test_a_quantity_that_never_varies_is_not_held_against_the_chains(tmp_path):
    def make(shard: Shard) -> dict[str, np.ndarray]:
        return independent(shard) | {"max_overlap": np.full((CHAINS, DRAWS), 0.25)}

    store, planned = stored(tmp_path)
    fill(store, planned, make)
    found = progress(store)
    assert found["converged"].values.all()
    assert np.isnan(found["rhat"].sel(quantity="max_overlap")).all()
    assert not diagnostics(np.ones((4, 20, 2))).passes(4)  # nothing varies: nothing is known


def test_diverged_chains_are_counted_and_left_out(tmp_path):
    def make(shard: Shard) -> dict[str, np.ndarray]:
        values = independent(shard)
        lost = 1 if shard.dataset == 0 else 4 - (shard.block == 0)
        values["status"][:lost, 1] = 1  # in the second segment, whose draws are NaN
        for name in ("loss", "weight_norm", "learnability", "output", "max_overlap"):
            values[name][:lost, DRAWS // 2 :] = np.nan
        return values

    store, planned = stored(tmp_path)
    fill(store, planned, make)
    found = progress(store)
    assert found["diverged"].values.tolist() == [[2, 7]]
    assert found["chains"].values.tolist() == [[6, 1]]
    assert found["converged"].values.tolist() == [[1, 0]]  # one chain has nothing to agree with
    assert np.isfinite(found["rhat"].isel(dataset=0)).all()
    assert np.isnan(found["rhat"].isel(dataset=1)).all()


def test_unfinished_segments_are_not_looked_at(tmp_path):
    store, planned = stored(tmp_path)
    assert not progress(store)["converged"].values.any()
    fill(store, planned, independent, segments=1)
    found = progress(store)
    assert found["finished_fraction"].values.tolist() == [0.5]
    ensemble = xr.open_dataset(store.data, group="ensemble", engine="zarr")
    half = ensemble[["loss"]].isel(cell=0, dataset=0, draw=slice(0, DRAWS // 2))
    r_hat = found["rhat"].sel(quantity="loss").isel(cell=0, dataset=0)
    assert float(r_hat) == pytest.approx(float(arviz().rhat(half)["loss"]), rel=1e-12)


@pytest.mark.slow
def test_more_chains_than_the_first_run_had_do_not_shorten_what_is_used(tmp_path):
    store, planned = stored(tmp_path)
    fill(store, planned, independent)
    _, grown = stored(tmp_path, TEXT, ["ensemble.chains=12"])
    found = progress(store)
    assert found["chains"].values.tolist() == [[8, 8]]
    assert found["finished_fraction"].values.tolist() == [pytest.approx(2 / 3)]
    fill(store, grown, independent)
    assert progress(store)["chains"].values.tolist() == [[12, 12]]


@pytest.mark.slow
def test_assessing_twice_leaves_one_whole_group(tmp_path):
    store, planned = stored(tmp_path)
    fill(store, planned, independent)
    first, second = progress(store).load(), progress(store).load()
    assert first.identical(second)
