"""What convolutional kernels are given: refused in one line where it does not fit together."""

import math
from collections.abc import Collection, Sequence
from typing import Literal, get_args

from torch import Tensor

from theory.words import check_word

Head = Literal["flatten", "average"]


def checked_weights(weight_variance: Sequence[float], depth: int) -> tuple[float, ...]:
    """Variances of the weights of each layer; ValueError for another number of them."""
    weights = tuple(float(variance) for variance in weight_variance)
    if depth < 1 or len(weights) != depth + 1:
        raise ValueError(
            f"{len(weights)} weight variances for {depth} hidden layers; give one for each of at "
            "least 1 layer, and one for the readout"
        )
    if not all(0 <= variance < math.inf for variance in weights):
        raise ValueError(f"variances are {weights}; give finite numbers, none negative")
    return weights


def check_patches(x1: Tensor, x2: Tensor | None, patches: int) -> None:
    """Raise ValueError for points that are not so many equal parts."""
    if x1.ndim != 2 or patches < 1 or x1.shape[1] % patches:
        raise ValueError(
            f"inputs are {tuple(x1.shape)}, with {patches} patches; give (points, dimension) and "
            "a number of patches that divides the dimension"
        )
    _check_second(x1, x2)


def check_images(
    head: str,
    depth: int,
    pools: Collection[int],
    x1: Tensor,
    x2: Tensor | None,
    image: tuple[int, int, int],
) -> None:
    """Raise ValueError for points that are no such images, and for layers that do not fit them."""
    channels, height, width = image
    if x1.ndim != 2 or x1.shape[1] != math.prod(image):
        raise ValueError(
            f"inputs are {tuple(x1.shape)} for images of {channels} x {height} x {width}; give "
            f"(points, {math.prod(image)})"
        )
    _check_second(x1, x2)
    check_word("head", head, get_args(Head))
    if not set(pools) <= set(range(1, depth + 1)):
        raise ValueError(
            f"pool_after is {sorted(pools)} for {depth} convolutions; count them from 1 to {depth}"
        )
    if height % 2 ** len(pools) or width % 2 ** len(pools):
        raise ValueError(
            f"{len(pools)} times pooling halves {height} x {width} positions to no whole number; "
            "pool after fewer layers"
        )


def _check_second(x1: Tensor, x2: Tensor | None) -> None:
    if x2 is not None and (x2.shape[1:] != x1.shape[1:] or x2.dtype != x1.dtype):
        raise ValueError(
            f"the second inputs are {tuple(x2.shape)} of {x2.dtype}; give "
            f"(points, {x1.shape[1]}) of {x1.dtype} like the first"
        )
