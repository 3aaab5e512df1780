"""The draws of data that a campaign asks for, from its spec and nothing else."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from storage.data_spec import Data, PluginData, number_of_test_points
from storage.errors import CampaignError
from storage.identity import Sources, data_identity, digest, seed_of
from storage.plugins import Plugins, named
from storage.spec import Campaign
from workers.data import sources as builtin
from workers.data.dataset import Array, Dataset, Pool

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def dataset(spec: Campaign, index: int, plugins: Plugins, sources: Sources) -> Dataset:
    """Dataset `index` of a resolved cell; smaller training sets are prefixes of larger ones."""
    assert spec.ensemble is not None
    seed = seed_of(spec.ensemble.seed, "data", data_identity(spec, sources), index)
    return _dataset(_Key(spec.data), seed, plugins)


def pool(spec: Campaign, plugins: Plugins, sources: Sources) -> Pool:
    """The pool of a resolved regression, and points outside it.

    Held-out points are fresh ones of the law, or the file's own for testing. Other sources have
    none: there a regression is tested on points of the pool that it did not draw.
    """
    assert spec.regression is not None
    seed = seed_of(spec.regression.seed, "pool", data_identity(spec, sources))
    heldout = "heldout" in spec.regression.evaluate
    return _pool(_Key(spec.data), spec.regression.pool, heldout, seed, plugins)


def content_digests(spec: Campaign, plugins: Plugins) -> dict[str, str]:
    """Content hashes of what the user brings: the files of the data, and plug-in modules.

    Those of theories are left out: a theory may be changed, and predicted anew.
    """
    measured = {name.partition(":")[0] for name in named(spec, theories=False)}
    modules = {
        f"plug-in {module}": value for module, value in plugins.digests if module in measured
    }
    return {**builtin.files_identity(spec.data), **modules}


def absolute(spec: Campaign) -> Campaign:
    """The spec with its folder or file made absolute, since workers may run somewhere else."""
    for key in ("folder", "file"):
        if (place := getattr(spec.data, key, None)) is not None:
            data = spec.data.model_copy(update={key: str(Path(place).expanduser().resolve())})
            return spec.model_copy(update={"data": data})
    return spec


class _Key:
    """A data section as a key of a cache: equal where its canonical content is."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self._digest = digest(data.model_dump(mode="json"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)


@lru_cache(maxsize=4)
def _dataset(key: _Key, seed: int, plugins: Plugins) -> Dataset:
    data = key.data
    if not isinstance(data, PluginData):
        return builtin.make(data, seed)
    x_train, y_train, x_test, y_test = _plugin_arrays(data, plugins, data.train, seed)
    noise = np.random.Generator(np.random.Philox(key=seed)).standard_normal(y_train.shape)
    y_train = y_train + np.sqrt(data.label_noise) * noise
    return Dataset(x_train, y_train, x_test, y_test, y_test[..., None], None)


@lru_cache(maxsize=2)
def _pool(key: _Key, size: int, heldout: bool, seed: int, plugins: Plugins) -> Pool:
    data = key.data
    if isinstance(data, PluginData):
        return Pool(*_plugin_arrays(data, plugins, size, seed))
    outside = number_of_test_points(data) if heldout and builtin.has_test_points(data) else 0
    return builtin.make_pool(data, size, seed, outside)


def _plugin_arrays(data: PluginData, plugins: Plugins, train: int, seed: int) -> list[Array]:
    """make(train, test, seed, **settings) -> x_train, y_train, x_test, y_test, checked."""
    make: Any = plugins.get(data.source)
    try:
        made = make(train, number_of_test_points(data), seed, **data.settings)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CampaignError(f"{data.source} failed: {reason}") from error
    if not isinstance(made, tuple | list) or len(made) != len(ARRAYS):
        raise CampaignError(f"{data.source} must return the four arrays {', '.join(ARRAYS)}")
    arrays = [np.asarray(array, dtype=np.float64) for array in made]
    rows = (train, train, number_of_test_points(data), number_of_test_points(data))
    for name, array, count in zip(ARRAYS, arrays, rows, strict=True):
        is_x = name.startswith("x")
        columns = array.shape[1:] if is_x else (data.outputs,) * (data.outputs > 1)
        if (
            array.shape != (count, *columns)
            or array.ndim > 2
            or (is_x and array.ndim != 2)
            or not np.isfinite(array).all()
        ):
            kind = "(points, inputs)" if is_x else (count, *columns)
            raise CampaignError(
                f"{data.source}: {name} has shape {array.shape}; wanted {count} rows, shape "
                f"{kind}, and finite numbers"
            )
    return arrays
