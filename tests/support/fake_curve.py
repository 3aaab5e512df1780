"""A regression whose repeats scatter about a multiple of what the effective ridge predicts."""

from pathlib import Path

import numpy as np
import xarray as xr

from pipelines.analysis.fits import fit
from pipelines.theories.predict import predict
from storage.store.store import Store
from support.fake_ensemble import stored

REGRESSION = """
version: 1
name: curve
data: {source: linear, dimension: 5, train: 10, test: 10}
network: {activation: erf, width: 4, weight_variance: [1, 2]}
regression:
  train: [5, 8, 12, 16, 40]
  ridges: [0.1]
  repeats: 20
  pool: 60
  sampling: with_replacement
  evaluate: [pool]
theories: [effective_ridge]
"""


def learning_curve(folder: Path, factor: float, repeats: int | None = None) -> xr.Dataset:
    """What is stored of the curve and the effective ridge, at its one cell and ridge."""
    store = regression(folder, factor, repeats)
    found = xr.open_dataset(store.data, group="learning_curve", engine="zarr").load()
    return found.isel(cell=0, ridge=0).sel(theory="effective_ridge")


def regression(folder: Path, factor: float, repeats: int | None = None) -> Store:
    """Repeats that scatter by 3 % about `factor` times the prediction, compared with it."""
    store, planned = stored(folder, REGRESSION)
    shards = list(planned.shards())
    spectrum = np.geomspace(1, 1e-3, 60)
    store.write(shards[0], {"eigenvalue": spectrum, "coefficient": np.sqrt(spectrum)})
    predict(store)
    theory = xr.open_dataset(store.data, group="theory/effective_ridge", engine="zarr").load()
    for shard in shards[1:][:repeats]:
        rng = np.random.default_rng([shard.repeat])
        common = 0.02 * rng.normal()  # nested sizes share their points
        digests: dict[str, str] = {}
        for name in ("pool_error", "train_error", "posterior_variance"):
            scatter = common + np.sqrt(0.03**2 - 0.02**2) * rng.normal(size=(5, 1))
            digests |= store.write(shard, {name: theory[name].values[0] * (factor + scatter)})
        store.write(shard, {"finished": np.uint8(1)})
        store.ledger.commit(shard.name, {"shard": shard.name, "digests": digests})
    fit(store)
    return store
