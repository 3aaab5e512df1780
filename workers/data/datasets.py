"""The draws of data that a campaign asks for, from its spec and nothing else."""

from functools import lru_cache

import numpy as np

from storage.campaign.data_spec import Data, PluginData
from storage.campaign.plugins import Plugins, named
from storage.campaign.resolved import Regressed, Sampled
from storage.campaign.spec import Campaign
from storage.errors import CampaignError, in_one_line
from storage.planning.identity import Sources, data_identity, digest, seed_of
from workers.data import sources as builtin
from workers.data.dataset import Array, Dataset, Origin, Pool
from workers.data.files import place
from workers.data.limits import check_sizes
from workers.data.numbers import finite_numbers

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
TEST_POINTS = "test points"  # a source: where it is "drawn", they come in a random order


def dataset(spec: Sampled, index: int, plugins: Plugins, sources: Sources) -> Dataset:
    """Dataset `index` of a resolved cell; smaller training sets are prefixes of larger ones."""
    seed = seed_of(spec.ensemble.seed, "data", data_identity(spec, sources), index)
    return _dataset(_Key(spec.data), seed, plugins, TEST_POINTS in sources)


def pool(spec: Regressed, plugins: Plugins, sources: Sources) -> Pool:
    """The pool of a resolved regression, and points outside it.

    Held-out points are fresh ones of the law, or the file's own for testing. Other sources have
    none: there a regression is tested on points of the pool that it did not draw.
    """
    seed = seed_of(spec.regression.seed, "pool", data_identity(spec, sources))
    key, drawn = _Key(spec.data), TEST_POINTS in sources
    return _pool(key, spec.regression.pool, _heldout(spec), seed, plugins, drawn)


def check_dataset(spec: Sampled, plugins: Plugins, sources: Sources) -> Dataset:
    """Dataset 0 of a resolved cell; CampaignError where it, or one to come, cannot be learned."""
    precision = spec.sampler.precision
    _check_points(spec.data, precision, True)
    found = dataset(spec, 0, plugins, sources)
    check_sizes(found.x_train, found.y_train, precision, found.origins[0])
    check_sizes(found.x_test, found.y_test, precision, found.origins[1])
    if not found.y_train.any():
        raise CampaignError("ensemble: all training targets are 0; look at the data")
    return found


def check_pool(spec: Regressed, plugins: Plugins, sources: Sources) -> Pool:
    """The pool of a resolved regression; CampaignError where a point of it cannot be learned."""
    precision = spec.regression.precision
    _check_points(spec.data, precision, _heldout(spec))
    found = pool(spec, plugins, sources)
    check_sizes(found.x, found.y, precision, found.origins[0])
    if len(found.x_heldout):
        check_sizes(found.x_heldout, found.y_heldout, precision, found.origins[1])
    if not found.y.any():
        raise CampaignError("regression: all targets of the pool are 0; look at the data")
    return found


def _check_points(data: Data, precision: str, tested: bool) -> None:
    """Look at all points that any dataset may draw from a file."""
    if isinstance(data, PluginData):
        return
    for points in builtin.pieces(data, tested):
        check_sizes(points.x, points.y, precision, points.origin)


def content_digests(spec: Campaign, plugins: Plugins) -> dict[str, str]:
    """Content hashes of what the user brings: the files of the data, and plug-in modules.

    Those of theories are left out: a theory may be changed, and predicted anew. Where test points
    are drawn from more of a file, that stands beside them: older campaigns, which took the first
    of the file, are others, and stay what they are.
    """
    measured = {name.partition(":")[0] for name in named(spec, theories=False)}
    modules = {
        f"plug-in {module}": value for module, value in plugins.digests if module in measured
    }
    tested = spec.ensemble is not None or _heldout(spec)
    drawn = {TEST_POINTS: "drawn"} if tested and builtin.draws_test_points(spec.data) else {}
    return {**builtin.files_identity(spec.data), **drawn, **modules}


def absolute(spec: Campaign) -> Campaign:
    """The spec with its folder or file made absolute, since workers may run somewhere else."""
    for key in ("folder", "file"):
        if (name := getattr(spec.data, key, None)) is not None:
            data = spec.data.model_copy(update={key: str(place(name))})
            return spec.model_copy(update={"data": data})
    return spec


def _heldout(spec: Campaign) -> bool:
    """Whether a regression is tested on points outside its pool."""
    return spec.regression is not None and "heldout" in spec.regression.evaluate


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
def _dataset(key: _Key, seed: int, plugins: Plugins, test_drawn: bool) -> Dataset:
    data = key.data
    if not isinstance(data, PluginData):
        return builtin.make(data, seed, test_drawn)
    x_train, y_train, x_test, y_test = _plugin_arrays(data, plugins, data.train, seed)
    noise = np.random.Generator(np.random.Philox(key=seed)).standard_normal(y_train.shape)
    noisy = y_train + np.sqrt(data.label_noise) * noise
    origins = _origins(data)
    return Dataset(x_train, noisy, x_test, y_test, y_test[..., None], None, y_train, origins)


@lru_cache(maxsize=2)
def _pool(
    key: _Key, size: int, heldout: bool, seed: int, plugins: Plugins, test_drawn: bool
) -> Pool:
    data = key.data
    if isinstance(data, PluginData):
        x, y, x_heldout, y_heldout = _plugin_arrays(data, plugins, size, seed)
        return Pool(x, y, x_heldout, y_heldout, _origins(data))
    outside = data.test_points if heldout and builtin.has_test_points(data) else 0
    return builtin.make_pool(data, size, seed, outside, test_drawn)


def _origins(data: PluginData) -> tuple[Origin, Origin]:
    first, last = (Origin(((f"{name} of {data.source}", 0),)) for name in ARRAYS[::2])
    return first, last


def _plugin_arrays(data: PluginData, plugins: Plugins, train: int, seed: int) -> list[Array]:
    """make(train, test, seed, **settings) -> x_train, y_train, x_test, y_test, checked."""
    make = plugins.get(data.source)
    try:
        made = make(train, data.test_points, seed, **data.settings)
    except Exception as error:
        reason = in_one_line(error)
        raise CampaignError(f"{data.source} failed: {reason}") from error
    if not isinstance(made, tuple | list) or len(made) != len(ARRAYS):
        raise CampaignError(
            f"{data.source} must return the four arrays {', '.join(ARRAYS)}; found "
            f"{f'{len(made)} values' if isinstance(made, tuple | list) else type(made).__name__}"
        )
    named = dict(zip(ARRAYS, made, strict=True))
    arrays = {
        name: finite_numbers(value, f"{data.source}: {name}") for name, value in named.items()
    }
    inputs = arrays["x_train"].shape[1:]
    for name, array in arrays.items():
        count = train if name.endswith("train") else data.test_points
        columns = inputs if name.startswith("x") else (data.outputs,) * (data.outputs > 1)
        if array.shape != (count, *columns) or 0 in array.shape or len(inputs) != 1:
            wanted = f"({count}, inputs)" if name.startswith("x") else str((count, *columns))
            raise CampaignError(
                f"{data.source}: {name} has shape {array.shape}; wanted {count} rows, shape "
                f"{wanted}" + ", with the inputs of x_train" * (name == "x_test")
            )
    return [*arrays.values()]
