"""Variances of the weights and biases of a fully connected network, layer by layer."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Variances(NamedTuple):
    """σ² and σ_b² of the layers of a network of L hidden ones."""

    weights: tuple[float, ...]  # L + 1, the readout's last
    biases: tuple[float, ...]  # L: the readout has none


def layer_variances(
    weight_variance: Sequence[float], bias_variance: float | Sequence[float], depth: int
) -> Variances:
    """One number for each layer; one bias variance alone stands for all hidden layers.

    Raises ValueError unless there are depth + 1 weight variances, and one bias variance or `depth`
    of them, all finite and none negative.
    """
    weights = tuple(float(variance) for variance in weight_variance)
    if len(weights) != depth + 1:
        raise ValueError(
            f"{len(weights)} weight variances for {depth} hidden layers; "
            f"give {depth + 1}, the last for the readout"
        )
    shared = isinstance(bias_variance, int | float)
    biases = (float(bias_variance),) * depth if shared else tuple(map(float, bias_variance))
    if len(biases) != depth:
        raise ValueError(
            f"{len(biases)} bias variances for {depth} hidden layers; give one for each, or one "
            "for all"
        )
    if not all(0 <= variance < math.inf for variance in (*weights, *biases)):
        raise ValueError(
            f"variances are {weights} and {bias_variance}; give finite numbers, none negative"
        )
    return Variances(weights, biases)
