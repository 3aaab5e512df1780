"""Equal points are one point: where they meet the kernel is the variance's own recursion.

In the chaotic phase a difference of one rounding grows by χ_⊥ from layer to layer, so that after
200 of them any pair that is computed as a pair has forgotten how near it was.
"""

import math

import pytest
import torch
from torch import Tensor

from theory.activations.expectations import derivative_moment, moment
from theory.kernels.coincidence import first_equal
from theory.kernels.convolution import convolutional_nngp, patch_nngp, patch_pre_activation_kernels
from theory.kernels.fully_connected import nngp_and_ntk, pre_activation_kernels
from theory.kernels.image_layers import central_pre_activation_kernels

torch.set_num_threads(1)

DEEP = 200
CHAOS = {"weight_variance": [3.0] * (DEEP + 1), "bias_variance": 0.05, "depth": DEEP}


def points(count: int, dimension: int = 12, dtype=torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, dimension, generator=generator, dtype=torch.float64).to(dtype)


def recursion(activation, start: float) -> tuple[float, float]:
    """K(x, x) and Θ(x, x) of the last layer, of numbers alone."""
    value, slope = moment(activation), derivative_moment(activation)
    variance = torch.tensor([start], dtype=torch.float64)
    tangent = variance
    for layer in range(DEEP):
        offset = 0.05 if layer < DEEP - 1 else 0.0
        tangent = tangent * slope.diagonal(variance) * 3
        variance = value.diagonal(variance) * 3 + offset
        tangent = tangent + variance
    return float(variance), float(tangent)


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_two_hundred_layers_of_tanh(threads):
    x = points(4)
    x = torch.cat([x, x[:2]])
    try:
        torch.set_num_threads(threads)
        last = pre_activation_kernels(x, activation="tanh", **CHAOS, tile=3)[-1]
    finally:
        torch.set_num_threads(1)
    fixed = torch.full((6,), 1.428008).double()  # of the recursion of the variance
    torch.testing.assert_close(last.diagonal(), fixed, rtol=1e-6, atol=0)
    assert torch.equal(last, last.T)
    assert torch.equal(last[:2], last[4:])
    # Points that differ have lost each other: the diagonal is not what pairs tend to.
    assert float(last[0, 1] / last[0, 0]) < 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_diagonal_is_the_recursion_of_the_variance(dtype):
    x = points(20, dtype=dtype)
    x = torch.cat([x, x[:7]])
    # Each layer rounds the variance by eps, of which the next keep the share χ_∥ < 1/2.
    close = 8 * torch.finfo(dtype).eps
    both = nngp_and_ntk(x, activation="erf", **CHAOS, tile=8)
    for place in (0, 13, 19):
        start = 0.05 + 3 * float(x[place].double().square().mean())
        own = [float(kernel[place, place]) for kernel in both]
        # The tangent multiplies as many slopes as there are layers.
        for found, expected, tolerance in zip(
            own, recursion("erf", start), (close, DEEP * close), strict=True
        ):
            assert found == pytest.approx(expected, rel=tolerance)
    for kernel in both:
        assert torch.equal(kernel, kernel.T)
        assert torch.equal(kernel[:7], kernel[20:])
        root = kernel.diagonal().double().sqrt()
        assert bool((kernel.double().abs() <= torch.outer(root, root) * (1 + close)).all())


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_cross_kernels_know_the_points_that_they_share(activation):
    x, others = points(14)[:10], points(14)[8:]
    others = torch.cat([others, x[2:4], x[2:3]])
    for cross, whole in zip(
        nngp_and_ntk(x, others, activation=activation, **CHAOS, tile=4),
        nngp_and_ntk(x, activation=activation, **CHAOS, tile=4),
        strict=True,
    ):
        for row, column in ((8, 0), (9, 1), (2, 6), (3, 7), (2, 8)):
            assert float(cross[row, column]) == pytest.approx(float(whole[row, row]), rel=1e-12)
        assert torch.equal(cross[:, 6], cross[:, 8])


@pytest.mark.parametrize(("pools", "head"), [((), "flatten"), ((), "average"), ((1,), "flatten")])
def test_images_and_their_positions(pools, head):
    """A constant image without edges would have one pre-activation: positions that see the same."""
    depth = 60
    settings = {"image": (1, 4, 4), "pool_after": pools, "head": head, "activation": "erf"}
    settings["weight_variance"] = [4.0] * (depth + 1)
    x = points(3, 16)
    x[2] = 0.7  # of which four positions see the same in the first layer
    whole = convolutional_nngp(torch.cat([x, x[:1]]), **settings)
    assert torch.equal(whole, whole.T)
    assert torch.equal(whole[0], whole[3])
    root = whole.diagonal().sqrt()
    assert bool((whole <= torch.outer(root, root) * (1 + 1e-12)).all())
    cross = convolutional_nngp(x, x[1:], **settings)
    assert float(cross[1, 0]) == pytest.approx(float(whole[1, 1]), rel=1e-12)
    assert float(cross[2, 1]) == pytest.approx(float(whole[2, 2]), rel=1e-12)


def test_a_mirrored_image_averages_to_the_same():
    """Of a symmetric image each position has a double, after which the kernel is that of halves."""
    depth = 60
    half = points(2, 8).view(2, 1, 4, 2)
    image = torch.cat([half, half.flip(3)], dim=3).flatten(1)
    settings = {"image": (1, 4, 4), "pool_after": (), "activation": "erf"}
    settings["weight_variance"] = [4.0] * (depth + 1)
    for head in ("flatten", "average"):
        found = convolutional_nngp(image, head=head, **settings)
        mirrored = image.view(2, 1, 4, 4).flip(3).flatten(1)
        torch.testing.assert_close(
            convolutional_nngp(image, mirrored, head=head, **settings), found, rtol=1e-10, atol=0
        )


@pytest.mark.slow
def test_layers_of_patches_and_of_images():
    depth = 8
    x = torch.cat([points(3, 16), points(1, 16)])
    settings = {"patches": 4, "depth": depth, "activation": "tanh"}
    settings["weight_variance"] = [4.0] * (depth + 1)
    first, *dense = patch_pre_activation_kernels(x, **settings)
    for kernel in (first, *dense, patch_nngp(x, **settings)):
        assert torch.equal(kernel, kernel.T)
    value, variance = moment("tanh"), dense[0].diagonal()
    for kernel in dense[1:]:
        variance = value.diagonal(variance) * 4
        torch.testing.assert_close(kernel.diagonal(), variance, rtol=1e-12, atol=0)
        assert torch.equal(kernel[0], kernel[3])
    layers = central_pre_activation_kernels(
        x, image=(1, 4, 4), pool_after=(), activation="tanh", weight_variance=[4.0] * (depth + 1)
    )
    own = [
        central_pre_activation_kernels(
            one, image=(1, 4, 4), pool_after=(), activation="tanh", weight_variance=[4.0, 4.0, 1.0]
        )[1]
        for one in x.split(1)
    ]
    torch.testing.assert_close(layers[1].diagonal(), torch.cat(own).flatten(), rtol=1e-12, atol=0)
    for kernel in layers:
        assert torch.equal(kernel, kernel.T)
        assert torch.equal(kernel[0], kernel[3])
        assert float(kernel[0, 3]) == float(kernel[0, 0])


def test_rows_are_equal_by_their_numbers():
    bits = torch.tensor([[m >> k & 1 for k in range(5)] for m in range(32)], dtype=torch.float64)
    rows = torch.cat([bits, -bits, bits.flip(0)])
    rows[32:64] *= -1  # once more, with zeros of the other sign
    found = first_equal(rows)
    assert found.tolist() == [*range(32), *range(32), *range(31, -1, -1)]
    assert first_equal(torch.tensor([[1, 0], [0, 1], [1, 0]])).tolist() == [0, 1, 0]
    assert len(first_equal(torch.zeros(0, 3))) == 0
    assert first_equal(torch.full((2, 1), math.pi, dtype=torch.float32)).tolist() == [0, 0]
