"""Pre-activations of convolutional networks on images, at the centre of each layer's grid."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.commands import packaged
from storage.arrays.coordinates import physical_temperature
from storage.errors import CampaignError
from storage.planning.plan import plan
from storage.reading.document import read
from support.blocks import block_of, campaign
from theory.activations.expectations import moment
from theory.kernels.convolution import convolutional_nngp
from theory.kernels.image_layers import central_pre_activation_kernels
from workers.networks.activations import ACTIVATIONS
from workers.networks.convolution import myrtle

torch.set_num_threads(1)  # as in a worker

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # rounding of float64 over a few hundred sums
IMAGE = (2, 8, 8)
VARIANCES = [1.2, 1.5, 1.3, 1.1, 0.7]


def pictures(count: int, image: tuple[int, int, int] = IMAGE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, math.prod(image), generator=generator, dtype=torch.float64)


# -- the kernels -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "activation", ["linear", "erf", "relu", "quadratic", torch.tanh, torch.cos]
)
@pytest.mark.parametrize("pools", [(1, 2, 3), (1, 3, 4), (2, 3, 4)], ids=str)
@pytest.mark.slow
def test_the_last_of_one_position_gives_the_kernel_of_the_outputs(activation, pools):
    """Where three layers pool 8 x 8 positions and the last grid or its average is one position."""
    x, variances = pictures(5), [*VARIANCES[:-1], 1.4, VARIANCES[-1]]
    settings = {"image": IMAGE, "pool_after": pools, "weight_variance": variances}
    *_, last = central_pre_activation_kernels(x, activation=activation, **settings)
    value = moment(activation)
    features = value.features(last.diagonal())
    found = value.pairs(features, last, features) * variances[-1]
    expected = convolutional_nngp(x, head="flatten", activation=activation, **settings)
    torch.testing.assert_close(found, expected, **EXACT)


def test_points_taken_in_parts_are_the_same(monkeypatch):
    settings = {"image": IMAGE, "pool_after": [1, 2], "activation": "relu"}
    settings["weight_variance"] = VARIANCES
    x = pictures(7)
    expected = central_pre_activation_kernels(x, **settings)
    monkeypatch.setattr("theory.kernels.image_layers.ROOM", 4 * 64 * 49)  # two points at a time
    for found, kernel in zip(central_pre_activation_kernels(x, **settings), expected, strict=True):
        torch.testing.assert_close(found, kernel, **EXACT)
        torch.testing.assert_close(found, found.T, **EXACT)


@pytest.mark.parametrize("image", [(2, 8, 8), (1, 8, 4)], ids=str)
def test_linear_networks_of_any_width_have_the_kernels(image):
    """E[h h'] of a linear network is that of infinite width: nothing but sampling is left."""
    x, chains = pictures(3, image), 20_000
    pools, variances = [1, 2], VARIANCES
    network = myrtle(
        image,
        [2, 2, 2, 2],
        ACTIVATIONS["linear"],
        pool_after=pools,
        head="average",
        weight_variance=variances,
        chi=1.0,
    )
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(chains, network.size, generator=generator, dtype=torch.float64)
    fields = network.pre_activations(draws * network.standard_deviations, x)
    kernels = central_pre_activation_kernels(
        x, image=image, pool_after=pools, activation="linear", weight_variance=variances
    )
    for field, place, kernel in zip(fields, network.centres, kernels, strict=True):
        seen = field[..., place]
        products = torch.einsum("kcm,kcn->kmn", seen, seen) / seen.shape[1]
        error = products.std(0) / math.sqrt(chains)
        assert ((products.mean(0) - kernel).abs() < 5 * error).all()


def test_inputs_that_are_no_such_images_are_refused():
    settings = {"pool_after": [], "activation": "erf", "weight_variance": VARIANCES}
    with pytest.raises(ValueError, match=r"\(5, 128\) for images of 3 x 8 x 8; give \(points, 192"):
        central_pre_activation_kernels(pictures(5), image=(3, 8, 8), **settings)


# -- ensembles -------------------------------------------------------------------------------

WIDTH = 16
DIGITS = f"""
version: 1
name: digits
data:
  source: digits
  positive: [3]
  negative: [8]
  normalize: {{center: true, squared_norm: 64}}
  train: 60
  test: 60
network:
  architecture: cnn
  image: [1, 8, 8]
  depth: 4
  pool_after: [2, 3]
  head: average
  width: {WIDTH}
  activation: erf
  weight_variance: [2, 2, 2, 2, 4]
  scaling: mean_field
  chi: {WIDTH}
sampler: {{scheme: prior, temperature: 1, warmup: 0, draws: 12, segment: 12}}
ensemble: {{datasets: 1, chains: 20, block: 20}}
observe: {{histograms: true, kernels: false, points: 30}}
"""
LEARNING = (
    "sampler={scheme: baoab, temperature: 0.2, step_size: 0.1, friction: 1, warmup: 150, "
    "draws: 8, thin: 4, segment: 8}",
    "ensemble={datasets: 1, chains: 24, block: 24}",
)
DIRECTIONS = ["random", "top", "target"]


def moments(*overrides: str):
    """Variance and excess kurtosis of z, (chain, layer, direction)."""
    sums = block_of(campaign(DIGITS, *overrides)).values["moment"].sum(1)
    count, _, second, _, fourth = np.moveaxis(sums[..., :5], -1, 0)
    return second / count, fourth * count / second**2 - 3


def mean_and_error(values) -> tuple[float, float]:
    """Over independent chains."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def test_under_the_prior_pre_activations_are_standard_normals_up_to_the_width():
    variance, kurtosis = moments("data.train=4", "data.test=20")
    assert variance.shape == (20, 4, 3)
    for layer in range(4):
        for direction in range(3):
            mean, error = mean_and_error(variance[:, layer, direction])
            assert abs(mean - 1) < 5 * error
            # The first layer is Gaussian at any width; each one below adds a term of order 1/width.
            mean, error = mean_and_error(kurtosis[:, layer, direction])
            assert abs(mean) < 5 * error + layer * 3 / WIDTH


@pytest.mark.slow
def test_after_learning_pre_activations_lie_along_the_target():
    variance, _ = moments(*LEARNING)
    random, target = (variance[..., DIRECTIONS.index(name)] for name in DIRECTIONS[::2])
    for layer in (2, 3):
        mean, error = mean_and_error(target[:, layer] - random[:, layer])
        assert mean > 5 * error
        mean, error = mean_and_error(target[:, layer])
        assert mean - 5 * error > 1.5


def test_kernels_of_images_are_observed_beside_histograms():
    short = "sampler={scheme: prior, temperature: 1, warmup: 0, draws: 2, segment: 2}"
    few = "ensemble={datasets: 1, chains: 2, block: 2}"
    values = block_of(campaign(DIGITS, short, few, "observe.kernels=true")).values
    assert values["kernel"].shape[-3:] == (4, 30, 30)
    # Two draws of 16 channels, all of them counted.
    assert (values["histogram"].sum(-1) == 2 * WIDTH).all()


@pytest.mark.parametrize("key", ["histograms", "kernels"])
def test_the_inner_life_of_a_users_own_network_stays_refused(key):
    others = {"histograms": "kernels", "kernels": "histograms"}
    observed = f"observe={{{key}: true, {others[key]}: false}}"
    own = "network={architecture: 'my.mod:Net', width: 4, activation: erf, weight_variance: [1, 1]}"
    with pytest.raises(CampaignError, match=f"observe.{key} needs an architecture whose layers"):
        campaign(DIGITS, own, observed)


# -- the packaged campaign -------------------------------------------------------------------


def test_five_layers_with_two_pools_observed_before_and_after():
    spec = read(packaged.find("gfl-cifar"))
    assert spec.network.depth + 1 == 5
    assert spec.network.pool_after == (1, 2)
    assert spec.observe.histograms
    before, after = (physical_temperature(cell.spec) for cell in plan(spec).cells)
    assert before == pytest.approx(1000)
    assert after == pytest.approx(0.2)
