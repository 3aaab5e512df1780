"""Activations: one record for each, of φ and of what is known of it.

Specs know an activation by `storage.campaign.activations`, under the same name.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from theory.activations import closed_forms as closed
from theory.activations.large_variance import Elementwise
from theory.numerics.precision import ANY_SCALE, LARGEST_NUMBER, ONE_SCALE
from theory.words import check_word

Activation = str | Elementwise
Formula = Callable[[Tensor, Tensor, Tensor], Tensor]  # of k11, k12 and k22
Curvature = Callable[[Tensor, Tensor, Callable[[], Tensor], Tensor], Tensor]
OfVariance = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Known:
    """φ, and what is known of it in closed form; the rest goes by quadrature."""

    phi: Elementwise
    odd: bool = False
    value: Formula | None = None  # E[φφ]
    slope: Formula | None = None  # E[φ'φ']
    curvature: Curvature | None = None  # ½ E[φ''φ]
    mean: OfVariance | None = None  # E[φ]
    mean_slope: OfVariance | None = None  # its derivative
    most_in_single: float = ANY_SCALE  # variance up to which covariances in single precision do


def _linear(z: Tensor) -> Tensor:
    return z


def _softplus(z: Tensor) -> Tensor:
    """ln(1 + e^z)."""
    return torch.logaddexp(z, torch.zeros_like(z))


RECORDS = {
    "linear": Known(
        _linear,
        odd=True,
        value=closed.linear_expectation,
        slope=closed.linear_derivative_expectation,
        curvature=closed.linear_curvature,
        most_in_single=LARGEST_NUMBER,
    ),
    "erf": Known(
        torch.erf,
        odd=True,
        value=closed.erf_expectation,
        slope=closed.erf_derivative_expectation,
        curvature=closed.erf_curvature,
        most_in_single=ONE_SCALE,
    ),
    "relu": Known(
        torch.relu,
        value=closed.relu_expectation,
        slope=closed.relu_derivative_expectation,
        curvature=closed.relu_curvature,
        mean=closed.relu_mean,
        mean_slope=closed.relu_mean_slope,
        most_in_single=LARGEST_NUMBER,
    ),
    "sin": Known(
        torch.sin,
        odd=True,
        value=closed.sin_expectation,
        slope=closed.sin_derivative_expectation,
        curvature=closed.sin_curvature,
    ),
    "quadratic": Known(
        torch.square,
        value=closed.quadratic_expectation,
        slope=closed.quadratic_derivative_expectation,
        mean=closed.quadratic_mean,
        mean_slope=torch.ones_like,
        most_in_single=LARGEST_NUMBER,
    ),
    "tanh": Known(torch.tanh, odd=True, most_in_single=ONE_SCALE),
    "gelu": Known(
        torch.nn.functional.gelu,
        mean=closed.gelu_mean,
        mean_slope=closed.gelu_mean_slope,
        most_in_single=ONE_SCALE,
    ),
    "sigmoid": Known(torch.sigmoid),
    "softplus": Known(_softplus),
    "silu": Known(torch.nn.functional.silu),
}
BY_NAME = RECORDS | {"swish": RECORDS["silu"]}  # z sigmoid(z) has two names


def known(activation: Activation) -> Known:
    """The record of a name, or one of a function of tensors: nothing but the function.

    Raises ValueError for an unknown name.
    """
    if callable(activation):
        return Known(activation)
    check_word("activation", activation, BY_NAME, ", or give a function")
    return BY_NAME[activation]


def function_of(activation: Activation) -> Elementwise:
    """φ of a name, or the function itself. Raises ValueError for an unknown name."""
    return known(activation).phi
