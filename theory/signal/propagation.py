"""How variance and correlation of pre-activations go through the layers of an infinite network."""

from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from theory.activations.records import Activation
from theory.signal.arguments import (
    Number,
    broadcast,
    check_depth,
    check_not_negative,
    check_positive,
)
from theory.signal.elementwise import Shape
from theory.signal.gaussian import Moments, moments
from theory.signal.rays import RayChords
from theory.signal.tables import ChordTable, MomentTable


class Flow(NamedTuple):
    """Layer by layer, (depth + 1, ...); layer 0 is the inputs'."""

    variance: Tensor
    correlation: Tensor


def flow(
    activation: Activation,
    *,
    weight_variance: Number,
    bias_variance: Number,
    variance: Number,
    correlation: Number,
    depth: int,
) -> Flow:
    """Variance K_l and correlation c_l of two inputs of equal variance, in layers 0 to depth.

    K_{l+1} = σ_b² + σ_w² E[φ(u)²] and K_{l+1} c_{l+1} = σ_b² + σ_w² E[φ(u)φ(v)], with (u, v)
    Gaussian of variance K_l and correlation c_l. Arguments after the first are numbers or tensors
    that broadcast; K_0 is the variance of the pre-activations of the first layer. Poole et al.
    (2016), arXiv:1606.05340; Schoenholz et al. (2017), arXiv:1611.01232.

    Exact to 1e-8 of each step for smooth φ and for two rays (relu, linear), to 1e-6 for others with
    kinks. Raises ValueError where a variance is not positive or leaves what float64 holds, |c| > 1,
    depth < 1, and where the expectations of φ are not known.
    """
    check_depth(depth)
    weights, biases, variance, correlation = broadcast(
        weight_variance=weight_variance,
        bias_variance=bias_variance,
        variance=variance,
        correlation=correlation,
    )
    check_positive(weight_variance=weights, variance=variance)
    check_not_negative(bias_variance=biases)
    if bool((correlation.abs() > 1).any()):
        raise ValueError(f"correlation is {float(correlation.abs().max()):.6g}; give -1 to 1")
    shape = variance.shape
    weights, biases, k, c = (x.flatten() for x in (weights, biases, variance, correlation))
    expectations = expectations_of(activation)
    variances, distances = [k], [1 - c]
    for layer in range(depth):
        k, distance = variances[-1], distances[-1]
        following = biases + weights * expectations.moments(k).second
        if not bool(((following > 0) & following.isfinite()).all()):
            raise ValueError(f"the variance leaves what float64 holds in layer {layer + 1}")
        slope = expectations.chords(k).slope(distance)
        distances.append((weights * slope * (k / following) * distance).clamp(0, 2))
        variances.append(following)
    correlations = 1 - torch.stack(distances)
    correlations[0] = c
    return Flow(*(x.reshape(depth + 1, *shape) for x in (torch.stack(variances), correlations)))


class ChordSlopes(Protocol):
    """Of fixed variances, as functions of the distance 1 - c of each."""

    def slope(self, distance: Tensor) -> Tensor:
        """E[(φ(u) - φ(v))²]/E[(u - v)²]."""
        ...

    def derivative(self, distance: Tensor) -> Tensor:
        """E[φ'(u)φ'(v)], for c ≥ 0."""
        ...


class Expectations:
    """Moments and chord slopes of one activation, tabulated as far as they were wanted."""

    def __init__(self, shape: Shape):
        self.shape = shape
        self.table = MomentTable(shape) if shape.rays is None else None
        self.chord_table = ChordTable(shape)

    def moments(self, variance: Tensor) -> Moments:
        """At variances (n,)."""
        return moments(self.shape, variance) if self.table is None else self.table(variance)

    def chords(self, variance: Tensor) -> ChordSlopes:
        """At variances (n,)."""
        rays = self.shape.rays
        return self.chord_table.at(variance) if rays is None else RayChords(*rays)


@lru_cache(maxsize=16)  # a table takes tenths of a second, and is wanted again
def expectations_of(activation: Activation) -> Expectations:
    """Of a name or a function. Raises ValueError as `Shape.of`."""
    return Expectations(Shape.of(activation))
