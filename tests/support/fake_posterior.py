"""Chains that sample what the NNGP predicts, but for a law in 1/N that the test puts in."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from pipelines.analysis.convergence import assess
from pipelines.analysis.fits import fit
from pipelines.theories.predict import predict
from storage.campaign.plugins import Plugins
from storage.planning.plan import Plan, Shard
from storage.store.store import Store
from support.fake_ensemble import Values, fill, noise
from workers.data.datasets import dataset

CHAINS, DRAWS, SEGMENTS = 4, 100, 2
NEURONS = 20_000  # per segment, independent ones
SPREAD = 2e-3  # of a chain's mean learnability

Change = Callable[[Shard, Values], None]


def sampled(
    store: Store,
    planned: Plan,
    difference: Callable[[int], float],
    change: Change = lambda shard, values: None,
    segments: int | None = None,
) -> None:
    """An ensemble off the NNGP by difference(N) in learnability and pre-activation variance."""
    predict(store)
    nngp = xr.open_dataset(store.data, group="theory/nngp", engine="zarr").load()

    def make(shard: Shard) -> Values:
        rng, theory = noise(shard), nngp.isel(cell=shard.cell.index, dataset=shard.dataset)
        assert shard.cell.spec.network is not None
        off = difference(shard.cell.spec.network.width)
        f = theory["output_mean"].values + np.sqrt(theory["predictive_variance"].values) * (
            rng.normal(size=(CHAINS, DRAWS, theory.sizes["test"]))
        )
        each = f.reshape(CHAINS, SEGMENTS, DRAWS // SEGMENTS, -1)
        scatter = SPREAD * np.sqrt(DRAWS) * rng.normal(size=(CHAINS, DRAWS, 2))
        values = {
            "label": dataset(shard.cell.spec, shard.dataset, Plugins(), {}).y_test,
            "loss": rng.exponential(size=(CHAINS, DRAWS)),
            "weight_norm": float(theory["weight_norm"]) + rng.normal(size=(CHAINS, DRAWS)),
            "learnability": theory["learnability"].values + off + scatter,
            "output": f[:, :, :12],
            "output_mean": each.mean(2),
            "output_square": np.square(each).mean(2),
            "max_overlap": rng.normal(size=(CHAINS, DRAWS)),
            "moment": _moments(rng, 1 + off),
            "status": np.zeros((CHAINS, SEGMENTS), dtype=np.uint8),
        }
        change(shard, values)
        return values

    fill(store, planned, make, segments)
    assess(store)
    fit(store)


def _moments(rng: np.random.Generator, variance: float) -> np.ndarray:
    """Sums of z⁰, z¹ and z² of Gaussian pre-activations."""
    shape = (CHAINS, SEGMENTS, 1, 3)
    moments = np.zeros((*shape, 7))
    moments[..., 0] = NEURONS
    moments[..., 1] = np.sqrt(NEURONS * variance) * rng.normal(size=shape)
    moments[..., 2] = variance * rng.chisquare(NEURONS, shape)
    return moments
