"""From data settings to arrays: the one place that knows which source has which settings.

Settings are any object with the attributes that its source needs. A seed is a 64-bit integer
that stands for the campaign's seed, the identity of the data and the index of the dataset: for
one seed smaller training sets are prefixes of larger ones, and neither the teacher nor the test
points depend on how many training points there are.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import CampaignError
from workers.data import npz, synthetic
from workers.data.collection import Collection, binary, split
from workers.data.dataset import Dataset, Points, Pool
from workers.data.files import place, sha256, sha256_of
from workers.data.images import cifar, digits, mnist
from workers.data.normalize import rescale
from workers.data.streams import Stream, generator
from workers.data.synthetic import Law
from workers.machine import memory

SYNTHETIC = (
    "single_index",
    "multi_index",
    "abs_index",
    "linear",
    "patches",
    "teacher_network",
    "power_law",
)
ROWS = 1024  # points of a file that are looked at together


def make(data: Any, seed: int, test_drawn: bool = True) -> Dataset:
    """One draw of the data: y_train has Gaussian noise of variance label_noise, y_test has none.

    A synthetic target is a function of the point before normalize.squared_norm rescales it.
    Pixels are in [0, 1], classes targets +1 and -1. Test points that a file reserves are drawn,
    or the first ones where `test_drawn` is false, as in campaigns that began before they were.
    CampaignError for what cannot be read or met.
    """
    if data.source in SYNTHETIC:
        points, inputs, scale = _test(data)
        _require_memory(data, data.train, points)
        law = _law(data, seed)
        train = _draw(law, data, data.train, _inputs(data), 1.0, seed, Stream.TRAIN_INPUTS)
        test = _draw(law, data, points, inputs, scale, seed, Stream.TEST_INPUTS)
        teacher = law.teacher
    else:
        collection = _collection(data)
        train, test = _split(collection, data, data.train, _count(data), seed, test_drawn)
        teacher = None
    noise = generator(seed, Stream.TRAIN_NOISE).standard_normal(train.y.shape)
    y_train = train.y + math.sqrt(data.label_noise) * noise
    origins = train.origin, test.origin
    return Dataset(train.x, y_train, test.x, test.y, test.components, teacher, train.y, origins)


def make_pool(
    data: Any, size: int | None, seed: int, heldout: int, test_drawn: bool = True
) -> Pool:
    """A pool of `size` points and `heldout` more outside it; `train` and `test` have no say.

    Synthetic: fresh points, and a size must be given. Finite: the first of one random order, and
    without a size all points that are not held out. Held-out points are the last of that order,
    or points of x_test, as in `make`, where the file has such. No target has label noise.
    """
    if data.source in SYNTHETIC:
        if size is None:
            raise CampaignError(f"{data.source} has no end of points; give the size of the pool")
        _require_memory(data, size, heldout)
        law, inputs = _law(data, seed), _inputs(data)
        pool = _draw(law, data, size, inputs, 1.0, seed, Stream.POOL_INPUTS)
        rest = _draw(law, data, heldout, inputs, 1.0, seed, Stream.HELDOUT_INPUTS)
    else:
        collection = _collection(data)
        if size is None:
            size = max(1, collection.pool - (0 if collection.reserved else heldout))
        pool, rest = _split(collection, data, size, heldout, seed, test_drawn)
    return Pool(pool.x, pool.y, rest.x, rest.y, (pool.origin, rest.origin))


def pieces(data: Any, tested: bool) -> Iterator[Points]:
    """All points that draws of a finite source may take, as they make them, some at a time.

    None where no point can be wrong: there are no ends to synthetic sources, and pixels are bytes,
    of which only a length cannot always be made. Without `tested` none that is reserved for tests.
    CampaignError for a point that cannot be normalized, whether it will be drawn or not.
    """
    normalized = data.normalize is not None and data.normalize.squared_norm is not None
    if data.source in SYNTHETIC or not (data.source == "npz" or normalized):
        return
    collection = _collection(data)
    end = len(collection.values) if tested else collection.pool
    for start in range(0, end, ROWS):
        yield _normalized(collection, data, np.arange(start, min(start + ROWS, end)))


def has_test_points(data: Any) -> bool:
    """Whether points are there for testing alone, beside those that training can draw from."""
    return data.source in SYNTHETIC or _collection(data).reserved > 0


def draws_test_points(data: Any) -> bool:
    """Whether a file reserves more points for testing than are asked for: then they are drawn."""
    return data.source == "npz" and _count(data) < npz.test_points(data.file)


def files_identity(data: Any) -> dict[str, str]:
    """sha256 of each file that the source reads, by a name that does not depend on where it lies.

    Compressed IDX files count by what is in them, so that packing them changes nothing.
    """
    match data.source:
        case "mnist":
            paths = mnist.files(data.folder, data.subset)
            return {name: sha256(mnist.content(name, path)) for name, path in paths.items()}
        case "cifar10":
            paths = cifar.files(data.folder, data.subset)
            return {name: sha256(cifar.content(path)) for name, path in paths.items()}
        case "npz":
            return {"npz": sha256_of(place(data.file))}
        case _:
            return {}


def _law(data: Any, seed: int) -> Law:
    source = generator(seed, Stream.TEACHER)
    match data.source:
        case "single_index":
            return synthetic.single_index(data.dimension, data.teacher, data.basis, source)
        case "multi_index":
            return synthetic.multi_index(data.dimension, data.teacher, source)
        case "abs_index":
            return synthetic.abs_index(data.dimension, data.epsilon, source)
        case "linear":
            return synthetic.linear(data.dimension, source)
        case "patches":
            return synthetic.patches(
                data.patches, data.patch_size, data.teacher, data.readout, source
            )
        case "teacher_network":
            from workers.data.teacher_network import teacher_network  # needs torch

            return teacher_network(
                data.dimension,
                data.patches,
                [data.width] * data.depth,
                data.activation,
                data.weight_variance,
                source,
            )
        case _:
            return synthetic.power_law(
                data.modes, data.eigenvalue_exponent, data.target_exponent, source
            )


def _inputs(data: Any) -> str:
    return getattr(data, "inputs", "gaussian")


def _test(data: Any) -> tuple[int, str, float]:
    """Number, inputs and scale of the test points."""
    if isinstance(data.test, int):
        return data.test, _inputs(data), 1.0
    if data.test.scale != 1 and data.normalize and data.normalize.squared_norm is not None:
        raise CampaignError(
            f"test.scale = {data.test.scale:g} would be undone by normalize.squared_norm = "
            f"{data.normalize.squared_norm:g}; leave out one of them"
        )
    return data.test.points, data.test.inputs, data.test.scale


def _count(data: Any) -> int:
    """Number of test points of a finite source."""
    if isinstance(data.test, int):
        return data.test
    raise CampaignError(
        f"test with a distribution of its own needs a synthetic source, not {data.source}; "
        "give the number of test points"
    )


def _require_memory(data: Any, count: int, others: int) -> None:
    """Refuse points, or a teacher, that would not fit, before any of them is drawn.

    The latent points of the larger set are there beside the points of both.
    """
    inputs = _dimension(data)
    points = (count + others + max(count, others)) * inputs
    memory.require(
        8 * (points + _teacher_size(data, inputs)),
        f"{count} + {others} points of {inputs} inputs",
        "ask for fewer points or inputs (data.train, data.test, regression.pool)",
    )


def _dimension(data: Any) -> int:
    match data.source:
        case "patches":
            return data.patches * data.patch_size
        case "power_law":
            return data.modes
        case _:
            return data.dimension


def _teacher_size(data: Any, inputs: int) -> int:
    """How many numbers say what the target is."""
    match data.source:
        case "multi_index":
            return data.directions * inputs
        case "teacher_network":
            seen = inputs // (data.patches or 1)
            return data.width * seen + (data.depth - 1) * data.width**2
        case _:
            return 2 * inputs


_WHAT = {
    Stream.TRAIN_INPUTS: "the training points",
    Stream.TEST_INPUTS: "the test points",
    Stream.POOL_INPUTS: "the pool",
    Stream.HELDOUT_INPUTS: "the held-out points",
}


def _draw(
    law: Law, data: Any, count: int, inputs: str, scale: float, seed: int, stream: Stream
) -> Points:
    if data.normalize and data.normalize.center:
        raise CampaignError(
            f"normalize.center subtracts the mean of a finite pool, but {data.source} has none "
            "(its mean is zero); leave it out"
        )
    points = law.draw(count, inputs, scale, generator(seed, stream), _WHAT[stream])
    return _rescaled(points, data)


def _collection(data: Any) -> Collection:
    match data.source:
        case "npz":
            return npz.load(data.file, getattr(data, "outputs", 1))
        case "digits":
            images = digits.load()
        case "mnist":
            images = mnist.load(data.folder, data.subset)
        case "cifar10":
            images = cifar.load(data.folder, data.subset)
        case _:
            raise CampaignError(f"there is no data source {data.source}; check data.source")
    return binary(images, data.positive, data.negative)


def _split(
    collection: Collection, data: Any, train: int, test: int, seed: int, test_drawn: bool
) -> tuple[Points, Points]:
    reserved = generator(seed, Stream.TEST_ORDER) if test_drawn else None
    first, last = split(collection, train, test, generator(seed, Stream.ORDER), reserved)
    return _normalized(collection, data, first), _normalized(collection, data, last)


def _normalized(collection: Collection, data: Any, places: NDArray[np.intp]) -> Points:
    points = collection.points(places)
    mean = collection.mean if data.normalize and data.normalize.center else np.float64(0)
    return _rescaled(points._replace(x=points.x - mean), data)


def _rescaled(points: Points, data: Any) -> Points:
    if data.normalize is None or data.normalize.squared_norm is None:
        return points
    return points._replace(x=rescale(points.x, data.normalize.squared_norm, points.origin.name))
