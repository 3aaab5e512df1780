"""One shard of a regression: the spectrum of its kernel, or one order with all sizes and ridges."""

import numpy as np
import torch
from torch import Tensor

from storage.errors import CampaignError
from storage.identity import Sources, regression_identity, regression_kernel, seed_of
from storage.plan import Shard
from storage.plugins import Plugins
from storage.spec import Campaign, Kernel
from theory.kernels import nngp
from theory.regression import Heldout, learning_curve
from theory.spectrum import pool_spectrum
from workers.data.dataset import Pool
from workers.datasets import pool
from workers.philox import Noise, integers, permutation

Arrays = dict[str, np.ndarray]

ORDER, LABELS = 0, 1  # streams of a repeat's randomness
MODES = 128  # leading kernel modes whose learnability is measured; NaN beyond


def spectrum(shard: Shard, plugins: Plugins, sources: Sources) -> Arrays:
    """Eigenvalues of K/M over the pool of M points, and the target's coefficients."""
    points, kernel, _ = _problem(shard, plugins, sources)
    found = pool_spectrum(kernel, torch.as_tensor(points.y))
    return {"eigenvalue": found.eigenvalues.numpy(), "coefficient": found.coefficients.numpy()}


def run(shard: Shard, plugins: Plugins, sources: Sources) -> Arrays:
    """Regression on one random order of the pool, for every size and ridge.

    Raises CampaignError where a kernel matrix is not positive definite.
    """
    spec = shard.cell.spec
    assert spec.regression is not None
    points, kernel, leading = _problem(shard, plugins, sources)
    sizes = spec.regression.train
    try:
        curve = learning_curve(
            kernel,
            torch.as_tensor(points.y),
            _order(shard, sources),
            sizes,
            spec.regression.ridges,
            label_noise=_label_noise(shard, sources),
            heldout=_heldout(points, spec),
            modes=leading,
        )
    except ValueError as error:
        raise CampaignError(f"{shard.name}: {error}") from None
    learnability = np.full((*curve.pool_error.shape, len(kernel)), np.nan)
    learnability[..., : leading.shape[1]] = curve.learnability.numpy()
    values = {
        "train_error": curve.train_error,
        "posterior_variance": curve.posterior_variance,
        "log_evidence": curve.log_evidence,
        "pool_error": curve.pool_error,
        "test_error": curve.heldout_error,
    }
    unwanted = {"pool": "pool_error", "heldout": "test_error"}
    for part, name in unwanted.items():
        if part not in spec.regression.evaluate:
            del values[name]
    return {name: value.numpy() for name, value in values.items()} | {"learnability": learnability}


def _problem(shard: Shard, plugins: Plugins, sources: Sources) -> tuple[Pool, Tensor, Tensor]:
    """The pool, its kernel, and the leading eigenvectors; kept from one repeat to the next."""
    key = (shard.cell.identity, plugins)
    if key not in _problems:
        _problems.clear()
        spec = shard.cell.spec
        assert spec.regression is not None
        points = pool(spec, plugins, sources)
        dtype = getattr(torch, spec.regression.precision)
        kernel = _nngp(spec, torch.as_tensor(points.x, dtype=dtype)).double()
        leading = torch.linalg.eigh(kernel).eigenvectors.flip(1)[:, :MODES].clone()
        _problems[key] = (points, kernel, leading)
    return _problems[key]


_problems: dict[tuple[str, Plugins], tuple[Pool, Tensor, Tensor]] = {}  # at most one


def _nngp(spec: Campaign, x1: Tensor, x2: Tensor | None = None) -> Tensor:
    chosen = regression_kernel(spec)
    assert isinstance(chosen, Kernel)
    return nngp(
        x1,
        x2,
        depth=chosen.depth,
        activation=chosen.activation,
        weight_variance=chosen.physical_weight_variance,
        bias_variance=chosen.bias_variance,
    )


def _heldout(points: Pool, spec: Campaign) -> Heldout | None:
    """Points outside the pool, where the source gives them; otherwise those that are not drawn."""
    if not len(points.x_heldout):
        return None
    kernel = _nngp(spec, torch.as_tensor(points.x_heldout), torch.as_tensor(points.x))
    return Heldout(kernel, torch.as_tensor(points.y_heldout))


def _order(shard: Shard, sources: Sources) -> Tensor:
    """The random order of this repeat: smaller training sets are prefixes of larger ones."""
    regression = shard.cell.spec.regression
    assert regression is not None
    seed = _seed(shard, sources)
    if regression.sampling == "without":
        return permutation(seed, ORDER, regression.pool)
    return integers(seed, ORDER, max(regression.train), regression.pool)


def _label_noise(shard: Shard, sources: Sources) -> Tensor | None:
    spec = shard.cell.spec
    assert spec.regression is not None
    if not spec.data.label_noise:
        return None
    noise = Noise(_seed(shard, sources), [0], LABELS).at(0)
    return noise((max(spec.regression.train),), torch.float64)[0] * spec.data.label_noise**0.5


def _seed(shard: Shard, sources: Sources) -> int:
    spec = shard.cell.spec
    assert spec.regression is not None
    return seed_of(spec.regression.seed, "repeat", regression_identity(spec, sources), shard.repeat)
