"""Kernels of infinitely many channels: identities, limits and networks of finite width."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import unfold

from theory.kernels import convolution
from theory.kernels.convolution import convolutional_nngp, patch_nngp, patch_pre_activation_kernels
from theory.kernels.fully_connected import nngp
from workers.networks.activations import ACTIVATIONS
from workers.networks.convolution import myrtle, patch_network, three_layer_convolution
from workers.philox import Noise

torch.set_num_threads(1)  # as in a worker

IMAGE = (2, 4, 4)
EXACT = {"rtol": 1e-12, "atol": 1e-14}


def points(count: int, dimension: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=generator, dtype=torch.float64)


def pictures(count: int, seed: int = 0) -> Tensor:
    return points(count, math.prod(IMAGE), seed)


def conv(
    x1, x2=None, *, pool_after=(), head="flatten", activation="erf", variances=(1.2, 0.9, 0.7)
):
    return convolutional_nngp(
        x1,
        x2,
        image=IMAGE,
        pool_after=pool_after,
        head=head,
        activation=activation,
        weight_variance=variances,
    )


ARCHITECTURES = [
    ((), "flatten"),
    ((), "average"),
    ((1,), "flatten"),
    ((1,), "average"),
    ((1, 2), "flatten"),
    ((1, 2), "average"),
]


@pytest.mark.parametrize("activation", ["linear", "erf", "relu", "tanh", torch.sigmoid])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_one_patch_is_a_fully_connected_network(depth, activation):
    x1, x2 = points(6, 5), points(4, 5, seed=1)
    variances = [*[1.2, 0.9, 1.1][:depth], 0.7]
    settings = {"depth": depth, "activation": activation, "weight_variance": variances}
    for second in (None, x2):
        found = patch_nngp(x1, second, patches=1, **settings)
        torch.testing.assert_close(found, nngp(x1, second, **settings, bias_variance=0.0), **EXACT)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_filters_meet_patches_at_the_same_place_only(activation):
    x1, x2 = points(6, 12), points(4, 12, seed=1)
    settings = {"depth": 1, "activation": activation, "weight_variance": [1.2, 0.7]}
    blocks = zip(x1.chunk(3, 1), x2.chunk(3, 1), strict=True)
    expected = sum(nngp(*pair, **settings, bias_variance=0.0) for pair in blocks) / 3
    torch.testing.assert_close(patch_nngp(x1, x2, patches=3, **settings), expected, **EXACT)
    first, last = torch.zeros_like(x1), torch.zeros_like(x2)
    first[:, :4], last[:, 8:] = x1[:, :4], x2[:, 8:]
    assert not patch_nngp(first, last, patches=3, **settings).any()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_pre_activation_kernels_of_patches(depth):
    x = points(5, 12)
    settings = {"patches": 3, "activation": "erf"}
    variances = [1.2, 0.9, 1.1, 0.7]
    first, *dense = patch_pre_activation_kernels(
        x, depth=depth, weight_variance=variances[: depth + 1], **settings
    )
    # Filters that are unit vectors make Σ_c h_c hᵀ_c the products of all patches.
    network = patch_network(3, 4, 4, ACTIVATIONS["erf"], weight_variance=[1.2, 0.7], chi=1.0)
    parameters = torch.zeros(1, network.size, dtype=torch.float64)
    network.layers[0].of(parameters).copy_(torch.eye(4))
    (field,) = network.pre_activations(parameters, x)[0]
    torch.testing.assert_close(first, 1.2 / 4 * field.T @ field, **EXACT)
    assert len(dense) == depth - 1
    for level, kernel in enumerate(dense, start=1):
        expected = patch_nngp(x, depth=level, weight_variance=variances[: level + 1], **settings)
        assert torch.equal(kernel, expected)


def windows(x: Tensor) -> list[Tensor]:
    """What a 3 x 3 filter sees at each position, (n, channels · 9)."""
    return list(unfold(x.view(-1, *IMAGE), 3, padding=1).unbind(2))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["erf", "relu", "tanh", torch.sigmoid])
def test_one_convolution_is_a_sum_over_windows(activation):
    x1, x2 = pictures(5), pictures(3, seed=1)
    settings = {
        "depth": 1,
        "activation": activation,
        "weight_variance": [1.2, 0.7],
        "bias_variance": 0.0,
    }
    pairs = {
        (p, q): nngp(first, second, **settings)
        for (p, first), (q, second) in itertools.product(
            enumerate(windows(x1)), enumerate(windows(x2))
        )
    }
    settings = {"activation": activation, "variances": [1.2, 0.7]}
    same = sum(pairs[p, p] for p in range(16)) / 16
    torch.testing.assert_close(conv(x1, x2, **settings), same, **EXACT)
    everywhere = sum(pairs.values()) / 256
    torch.testing.assert_close(conv(x1, x2, head="average", **settings), everywhere, **EXACT)
    near = [(p, q) for p, q in pairs if (p // 8, p % 4 // 2) == (q // 8, q % 4 // 2)]
    pooled = sum(pairs[pair] for pair in near) / (4 * 16)
    torch.testing.assert_close(conv(x1, x2, pool_after=[1], **settings), pooled, **EXACT)


@pytest.mark.parametrize("activation", ["erf", "relu", "tanh", torch.sigmoid])
@pytest.mark.parametrize("head", ["flatten", "average"])
def test_a_single_pixel_is_a_fully_connected_network(head, activation):
    # The filter sees the pixel and eight zeros: its variance is a ninth.
    x1, x2 = points(6, 5), points(4, 5, seed=1)
    settings = {"activation": activation, "image": (5, 1, 1), "pool_after": [], "head": head}
    found = convolutional_nngp(x1, x2, weight_variance=[9.0, 7.2, 1.8, 0.7], **settings)
    expected = nngp(
        x1,
        x2,
        depth=3,
        activation=activation,
        weight_variance=[1.0, 0.8, 0.2, 0.7],
        bias_variance=0.0,
    )
    torch.testing.assert_close(found, expected, **EXACT)


def test_positions_that_coincide_suffice_where_nothing_pools():
    x = pictures(5)
    network = convolution._Network(
        frozenset(), "flatten", convolution.moment("tanh"), (1.2, 0.9, 1.1, 0.7)
    )
    images = x.unflatten(1, IMAGE)
    every, variance = convolution._points(network, images, False, "tanh")
    expected = convolution._all_pairs(network, every, every)
    found = conv(x, activation="tanh", variances=[1.2, 0.9, 1.1, 0.7])
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(found.diagonal(), variance, **EXACT)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_pooling_the_last_layer_changes_no_average(activation):
    x = pictures(5)
    for pools in ((), (1,)):
        plain = conv(x, pool_after=pools, head="average", activation=activation)
        pooled = conv(x, pool_after=[*pools, 2], head="average", activation=activation)
        torch.testing.assert_close(pooled, plain, **EXACT)


@pytest.mark.parametrize("activation", ["erf", "relu", torch.sigmoid])
@pytest.mark.parametrize(("pool_after", "head"), ARCHITECTURES)
@pytest.mark.slow
def test_symmetry_positivity_tiles_and_cross_kernels(pool_after, head, activation, monkeypatch):
    x = pictures(7)
    settings = {"pool_after": pool_after, "head": head, "activation": activation}
    whole = conv(x, **settings)
    assert torch.equal(whole, whole.T)
    eigenvalues = torch.linalg.eigvalsh(whole)
    assert eigenvalues[0] > -1e-13 * eigenvalues[-1]
    torch.testing.assert_close(conv(x[:3], x[3:], **settings), whole[:3, 3:], **EXACT)
    monkeypatch.setattr(convolution, "ALIGNED", 4 * 16)
    monkeypatch.setattr(convolution, "ALL_PAIRS", 4 * 256)
    torch.testing.assert_close(conv(x, **settings), whole, **EXACT)
    torch.testing.assert_close(conv(x[:3], x[3:], **settings), whole[:3, 3:], **EXACT)
    single = conv(x.float(), **settings)
    assert single.dtype == torch.float32
    # Rounding of the input, and of a few dozen sums and functions with slopes of order one.
    tolerance = 100 * 2**-24 * whole.max().item()
    torch.testing.assert_close(single.double(), whole, rtol=0, atol=tolerance)


@pytest.mark.parametrize("head", ["flatten", "average"])
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_points_have_the_kernel_that_they_have_among_many(count, size, head):
    def kernel(x):
        return convolutional_nngp(
            x,
            image=(2, size, size),
            pool_after=(),
            head=head,
            activation="erf",
            weight_variance=(1.2, 0.9, 0.7),
        )

    x = points(30, 2 * size * size)
    torch.testing.assert_close(kernel(x[:count]), kernel(x)[:count, :count], **EXACT)


def test_rows_of_dense_layers_are_taken_in_parts(monkeypatch):
    x = points(7, 12)
    settings = {"patches": 3, "depth": 3, "activation": "tanh", "weight_variance": [1.0] * 4}
    whole = patch_nngp(x, **settings)
    monkeypatch.setattr(convolution, "ROWS", 2)
    torch.testing.assert_close(patch_nngp(x, **settings), whole, **EXACT)
    torch.testing.assert_close(patch_nngp(x[:3], x[3:], **settings), whole[:3, 3:], **EXACT)


def prior(network, networks: int, seed: int = 0) -> Tensor:
    z = Noise(seed, range(networks), 0)(0, (network.size,), torch.float64)
    return z.mul_(network.standard_deviations)


def sampled(kernels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of independent kernels (network, n, n), and its standard error."""
    return kernels.mean(0), kernels.std(0) / math.sqrt(len(kernels))


def products(network, x: Tensor, networks: int) -> tuple[Tensor, Tensor]:
    """E[f f'] over the prior."""
    f = network.outputs(prior(network, networks), x)
    return sampled(f[:, :, None] * f[:, None])


@pytest.mark.parametrize("activation", ["erf", "relu", "quadratic"])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.slow
def test_filters_on_patches_have_the_kernel_at_any_width(channels, activation):
    x, chi = points(3, 6), 2.0
    network = patch_network(
        3, 2, channels, ACTIVATIONS[activation], weight_variance=[1.2, 0.7], chi=chi
    )
    mean, error = products(network, x, 40_000)
    settings = {"depth": 1, "activation": activation}
    kernel = patch_nngp(x, patches=3, weight_variance=[1.2, 0.7 / chi], **settings)
    assert ((mean - kernel).abs() < 5 * error).all()
    dense = nngp(x, **settings, weight_variance=[1.2, 0.7 / chi], bias_variance=0.0)
    assert ((mean - dense).abs() > 10 * error).any()


@pytest.mark.parametrize(("pool_after", "head"), [a for a in ARCHITECTURES if 2 not in a[0]])
def test_one_convolution_has_the_kernel_at_any_width(pool_after, head):
    x = pictures(3)
    network = myrtle(
        IMAGE,
        [2],
        ACTIVATIONS["relu"],
        pool_after=pool_after,
        head=head,
        weight_variance=[1.2, 0.7],
        chi=1.0,
    )
    mean, error = products(network, x, 20_000)
    settings = {"activation": "relu", "variances": [1.2, 0.7]}
    kernel = conv(x, pool_after=pool_after, head=head, **settings)
    assert ((mean - kernel).abs() < 5 * error).all()
    wrong = conv(x, head="average" if head == "flatten" else "flatten", **settings)
    assert ((mean - wrong).abs() > 10 * error).any()


def test_a_linear_three_layer_network_has_the_kernel_at_any_width():
    x, variances = points(3, 6), [1.2, 0.9, 0.7]
    network = three_layer_convolution(
        3, 2, 2, 3, ACTIVATIONS["linear"], weight_variance=variances, chi=1.0
    )
    mean, error = products(network, x, 40_000)
    kernel = patch_nngp(x, patches=3, depth=2, activation="linear", weight_variance=variances)
    assert ((mean - kernel).abs() < 5 * error).all()


@pytest.mark.parametrize(("pool_after", "head"), ARCHITECTURES)
@pytest.mark.slow
def test_linear_convolutions_have_the_kernel_at_any_width(pool_after, head):
    # E[φφ] = K is linear in K, so that the fluctuations of K at finite width leave no bias.
    x, variances = pictures(3), [1.2, 0.9, 0.7]
    network = myrtle(
        IMAGE,
        [3, 2],
        ACTIVATIONS["linear"],
        pool_after=pool_after,
        head=head,
        weight_variance=variances,
        chi=1.0,
    )
    mean, error = products(network, x, 20_000)
    kernel = conv(x, pool_after=pool_after, head=head, activation="linear")
    assert ((mean - kernel).abs() < 5 * error).all()


def three_layer_features(width: int, x: Tensor, networks: int) -> Tensor:
    """What the readout of 3-layer networks reads, (network, number, point)."""
    network = three_layer_convolution(
        3, 2, width, 2 * width, ACTIVATIONS["erf"], weight_variance=[3.0, 4.0, 1.0], chi=1.0
    )
    return torch.erf(network.pre_activations(prior(network, networks, width), x)[-1])


def image_features(head: str):
    def features(width: int, x: Tensor, networks: int) -> Tensor:
        network = myrtle(
            IMAGE,
            [width, width],
            ACTIVATIONS["erf"],
            pool_after=[1],
            head=head,
            weight_variance=[6.0, 6.0, 1.0],
            chi=1.0,
        )
        field = network.pre_activations(prior(network, networks, width), x)[-1]
        signal = torch.erf(field).unflatten(2, (len(x), 4))
        return signal.mean(3) if head == "average" else signal.movedim(3, 2).flatten(1, 2)

    return features


EXTRAPOLATED = {
    "three layers": (three_layer_features, 6),
    "images": (image_features("flatten"), 32),
    "images, average": (image_features("average"), 32),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTRAPOLATED)
def test_networks_approach_the_kernel_like_one_over_their_width(name):
    # Given the hidden weights the covariance of f is the mean of ΦΦᵀ, and its average over them
    # is K + G/N + O(1/N²): twice that of width 2N less that of width N is K + O(1/N²).
    features, dimension = EXTRAPOLATED[name]
    x, found = points(3, dimension), []
    for width in (12, 24):
        signal = features(width, x, 4000)
        found.append(sampled(signal.mT @ signal / signal.shape[1]))
    (narrow, narrow_error), (wide, wide_error) = found
    error = torch.hypot(2 * wide_error, narrow_error)
    if name == "three layers":
        settings = {"depth": 2, "activation": "erf", "weight_variance": [3.0, 4.0, 1.0]}
        kernel = patch_nngp(x, patches=3, **settings)
        wrong = nngp(x, **settings, bias_variance=0.0)
    else:
        head = "average" if "average" in name else "flatten"
        kernel, wrong = (
            conv(x, pool_after=pools, head=head, variances=[6.0, 6.0, 1.0]) for pools in ([1], [])
        )
    extrapolated = 2 * wide - narrow
    assert ((extrapolated - kernel).abs() < 5 * error).all()
    assert ((extrapolated - wrong).abs() > 10 * error).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_variance": [1.0]}, "1 weight variances for 0 hidden layers"),
        ({"weight_variance": [1.0, -1.0]}, "none negative"),
        ({"head": "max"}, "head is 'max'"),
        ({"pool_after": [0]}, r"pool_after is \[0\] for 1 convolutions"),
        ({"image": (2, 3, 4)}, r"inputs are \(3, 32\) for images of 2 x 3 x 4; give \(points, 24"),
        ({"image": (2, 16, 1), "pool_after": [1]}, "1 times pooling halves 16 x 1 positions"),
        ({"x2": torch.ones(3, 31, dtype=torch.float64)}, r"the second inputs are \(3, 31\)"),
    ],
)
def test_kernels_that_cannot_be_are_refused(change, message):
    settings = {
        "x1": pictures(3),
        "image": IMAGE,
        "pool_after": [],
        "head": "flatten",
        "activation": "erf",
        "weight_variance": [1.0, 1.0],
    }
    with pytest.raises(ValueError, match=message):
        convolutional_nngp(**{**settings, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patches": 5}, r"inputs are \(3, 32\), with 5 patches"),
        ({"depth": 2}, "2 weight variances for 2 hidden layers"),
        ({"x2": torch.ones(3, 32)}, "of torch.float32; give"),
    ],
)
def test_patches_that_do_not_fit_are_refused(change, message):
    settings = {
        "x1": pictures(3),
        "patches": 4,
        "depth": 1,
        "activation": "erf",
        "weight_variance": [1.0, 1.0],
    }
    with pytest.raises(ValueError, match=message):
        patch_nngp(**{**settings, **change})
