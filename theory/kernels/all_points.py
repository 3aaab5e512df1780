"""Points of training and others, checked and put together."""

import torch
from torch import Tensor


def all_points(x: Tensor, x_test: Tensor | None) -> Tensor:
    """Points of training and others after them, (n + m, d) in float64.

    ValueError unless x is (n, d), x_test (m, d) or None, and both are finite.
    """
    some = [x] if x_test is None else [x, x_test]
    shapes = " and ".join(str(tuple(points.shape)) for points in some)
    if any(points.ndim != 2 or points.shape[1] != x.shape[1] for points in some):
        raise ValueError(f"inputs are {shapes}; give (points, dimension), of one dimension")
    if not all(bool(points.isfinite().all()) for points in some):
        raise ValueError("inputs are not all finite; leave those points out")
    return torch.cat(some).double()
