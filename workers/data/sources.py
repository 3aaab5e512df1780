"""From data settings to arrays.

Settings are a section, or an object with its attributes. A seed is a 64-bit integer
that stands for the campaign's seed, the identity of the data and the index of the dataset: for
one seed smaller training sets are prefixes of larger ones, and neither the teacher nor the test
points depend on how many training points there are.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from storage.campaign.source_spec import Data
from storage.errors import CampaignError
from workers.data.collection import Collection, split
from workers.data.dataset import Dataset, Points, Pool
from workers.data.normalize import rescale
from workers.data.source_records import SOURCES, Finite, Synthetic
from workers.data.streams import Stream, generator
from workers.data.synthetic import Law
from workers.machine import memory

ROWS = 1024  # points of a file that are looked at together


def make(data: Data, seed: int, test_drawn: bool = True) -> Dataset:
    """One draw of the data: y_train has Gaussian noise of variance label_noise, y_test has none.

    A synthetic target is a function of the point before normalize.squared_norm rescales it.
    Pixels are in [0, 1]. Test points that a file reserves are drawn,
    or the first ones where `test_drawn` is false, as in campaigns that began before they were.
    CampaignError for what cannot be read or met.
    """
    source = _known(data)
    if isinstance(source, Synthetic):
        points, inputs, scale = _test(data)
        _require_memory(source, data, data.train, points)
        law = source.law(data, generator(seed, Stream.TEACHER))
        train = _draw(law, data, data.train, _inputs(data), 1.0, seed, Stream.TRAIN_INPUTS)
        test = _draw(law, data, points, inputs, scale, seed, Stream.TEST_INPUTS)
        teacher = law.teacher
    else:
        collection = source.load(data)
        train, test = _split(collection, data, data.train, _count(data), seed, test_drawn)
        teacher = None
    noise = generator(seed, Stream.TRAIN_NOISE).standard_normal(train.y.shape)
    y_train = train.y + math.sqrt(data.label_noise) * noise
    origins = train.origin, test.origin
    return Dataset(train.x, y_train, test.x, test.y, test.components, teacher, train.y, origins)


def make_pool(
    data: Data, size: int | None, seed: int, heldout: int, test_drawn: bool = True
) -> Pool:
    """A pool of `size` points and `heldout` more outside it; `train` and `test` have no say.

    Synthetic: fresh points, and a size must be given. Finite: the first of one random order, and
    without a size all points that are not held out. Held-out points are the last of that order,
    or points of x_test, as in `make`, where the file has such. No target has label noise.
    """
    source = _known(data)
    if isinstance(source, Synthetic):
        if size is None:
            raise CampaignError(f"{data.source} has no end of points; give the size of the pool")
        _require_memory(source, data, size, heldout)
        law, inputs = source.law(data, generator(seed, Stream.TEACHER)), _inputs(data)
        pool = _draw(law, data, size, inputs, 1.0, seed, Stream.POOL_INPUTS)
        rest = _draw(law, data, heldout, inputs, 1.0, seed, Stream.HELDOUT_INPUTS)
    else:
        collection = source.load(data)
        if size is None:
            size = max(1, collection.pool - (0 if collection.reserved else heldout))
        pool, rest = _split(collection, data, size, heldout, seed, test_drawn)
    return Pool(pool.x, pool.y, rest.x, rest.y, (pool.origin, rest.origin))


def pieces(data: Data, tested: bool) -> Iterator[Points]:
    """All points that draws of a finite source may take, as they make them, some at a time.

    None where no point can be wrong: there are no ends to synthetic sources, and pixels are bytes,
    of which only a length cannot always be made. Without `tested` none that is reserved for tests.
    CampaignError for a point that cannot be normalized, whether it will be drawn or not.
    """
    source = _known(data)
    normalized = data.normalize is not None and data.normalize.squared_norm is not None
    if isinstance(source, Synthetic) or (source.bytes and not normalized):
        return
    collection = source.load(data)
    end = len(collection.values) if tested else collection.pool
    for start in range(0, end, ROWS):
        yield _normalized(collection, data, np.arange(start, min(start + ROWS, end)))


def has_test_points(data: Data) -> bool:
    """Whether points are there for testing alone, beside those that training can draw from."""
    source = _known(data)
    return isinstance(source, Synthetic) or source.load(data).reserved > 0


def draws_test_points(data: Data) -> bool:
    """Whether a file reserves more points for testing than are asked for: then they are drawn."""
    source = SOURCES.get(data.source)
    if not isinstance(source, Finite) or source.reserved is None:
        return False
    return _count(data) < source.reserved(data)


def files_identity(data: Data) -> dict[str, str]:
    """sha256 of each file that the source reads, by names that do not depend on where they lie."""
    source = SOURCES.get(data.source)
    return source.files(data) if isinstance(source, Finite) else {}


def _known(data: Data) -> Synthetic | Finite:
    """The record of the source."""
    if data.source not in SOURCES:
        raise CampaignError(f"there is no data source {data.source}; check data.source")
    return SOURCES[data.source]


def _inputs(data: Data) -> str:
    return getattr(data, "inputs", "gaussian")


def _test(data: Data) -> tuple[int, str, float]:
    """Number, inputs and scale of the test points."""
    if isinstance(data.test, int):
        return data.test, _inputs(data), 1.0
    if data.test.scale != 1 and data.normalize and data.normalize.squared_norm is not None:
        raise CampaignError(
            f"test.scale = {data.test.scale:g} would be undone by normalize.squared_norm = "
            f"{data.normalize.squared_norm:g}; leave out one of them"
        )
    return data.test.points, data.test.inputs, data.test.scale


def _count(data: Data) -> int:
    """Number of test points of a finite source."""
    if isinstance(data.test, int):
        return data.test
    raise CampaignError(
        f"test with a distribution of its own needs a synthetic source, not {data.source}; "
        "give the number of test points"
    )


def _require_memory(source: Synthetic, data: Data, count: int, others: int) -> None:
    """Refuse points, or a teacher, that would not fit, before any of them is drawn.

    The latent points of the larger set are there beside the points of both.
    """
    inputs = source.inputs(data)
    points = (count + others + max(count, others)) * inputs
    memory.require(
        8 * (points + source.teacher(data)),
        f"{count} + {others} points of {inputs} inputs",
        "ask for fewer points or inputs (data.train, data.test, regression.pool)",
    )


_WHAT = {
    Stream.TRAIN_INPUTS: "the training points",
    Stream.TEST_INPUTS: "the test points",
    Stream.POOL_INPUTS: "the pool",
    Stream.HELDOUT_INPUTS: "the held-out points",
}


def _draw(
    law: Law, data: Data, count: int, inputs: str, scale: float, seed: int, stream: Stream
) -> Points:
    if data.normalize and data.normalize.center:
        raise CampaignError(
            f"normalize.center subtracts the mean of a finite pool, but {data.source} has none "
            "(its mean is zero); leave it out"
        )
    points = law.draw(count, inputs, scale, generator(seed, stream), _WHAT[stream])
    return _rescaled(points, data)


def _split(
    collection: Collection, data: Data, train: int, test: int, seed: int, test_drawn: bool
) -> tuple[Points, Points]:
    reserved = generator(seed, Stream.TEST_ORDER) if test_drawn else None
    first, last = split(collection, train, test, generator(seed, Stream.ORDER), reserved)
    return _normalized(collection, data, first), _normalized(collection, data, last)


def _normalized(collection: Collection, data: Data, places: NDArray[np.intp]) -> Points:
    points = collection.points(places)
    mean = collection.mean if data.normalize and data.normalize.center else np.float64(0)
    return _rescaled(points._replace(x=points.x - mean), data)


def _rescaled(points: Points, data: Data) -> Points:
    if data.normalize is None or data.normalize.squared_norm is None:
        return points
    return points._replace(x=rescale(points.x, data.normalize.squared_norm, points.origin.name))
