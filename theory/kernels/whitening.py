"""First layers in units of their prior, and covariances along directions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from theory.kernels.variances import Variances, layer_variances


def whitened(x: Tensor, weight_variance: float, bias_variance: float) -> Tensor:
    """Inputs x̂ (n, d) of which ŵ·x̂ = w·x + b with ŵ ~ N(0, 1): σ_w x/√d, float64.

    w ~ N(0, σ_w²/d), b ~ N(0, σ_b²). Where there are biases σ_b is a column of its own, the last.
    """
    scaled = x.double() * math.sqrt(weight_variance / x.shape[1])
    if not bias_variance:
        return scaled
    return torch.cat([scaled, scaled.new_full((len(x), 1), math.sqrt(bias_variance))], 1)


def weight_covariance(covariance: Tensor, weight_variance: float, dimension: int) -> Tensor:
    """⟨w wᵀ⟩ (d, d) of the weights from ⟨ŵ ŵᵀ⟩ of the whitened ones, biases left out."""
    return covariance[:dimension, :dimension] * (weight_variance / dimension)


def variance_along(covariance: Tensor, directions: Tensor) -> Tensor:
    """vᵀ C v for each row v of the directions: (k,) from (d, d) and (k, d)."""
    return ((directions @ covariance) * directions).sum(1)


def check_problem(
    x: Tensor,
    y: Tensor,
    ridge: float,
    widths: Sequence[float],
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
) -> Variances:
    """Variances of all layers; raises ValueError for networks or data that do not fit together."""
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(
            f"inputs are {tuple(x.shape)} and targets {tuple(y.shape)}; give (n, d) and (n,), "
            "for a network of one output"
        )
    if not (bool(x.isfinite().all()) and bool(y.isfinite().all())):
        raise ValueError("inputs and targets are not all finite; leave those points out")
    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge is {ridge}; give a positive number")
    if not widths or not all(1 <= width < math.inf for width in widths):
        raise ValueError(f"widths are {tuple(widths)}; give numbers of neurons, at least 1")
    return layer_variances(weight_variance, bias_variance, len(widths))
