"""The variational Gaussian approximation to the law of a neuron of one hidden layer.

In campaigns: `vga`.
"""

from collections.abc import Sequence

from torch import Tensor

from theory.activations.records import Activation
from theory.finite_width.equations_of_state import Saddle, equations_of_state


def variational_gaussian(
    x: Tensor,
    y: Tensor,
    ridge: float,
    width: float,
    *,
    activation: Activation,
    weight_variance: tuple[float, float],
    bias_variance: float | Sequence[float],
) -> Saddle:
    """The Gaussian N(0, Σ) nearest to the law of the weights of a neuron of one hidden layer.

    It minimises N KL(N(0, Σ) | N(0, 1)) less the evidence of the kernel that it gives, at

        Σ⁻¹ = (d/σ_w²) 1 - (σ_a²/N) d Tr[A κ(X Σ Xᵀ)]/dΣ,   A = t tᵀ - (K_f + T)⁻¹.

    A law of mean zero, it has no part of an even target that is learned through skewness.
    Arguments and errors as in `equations_of_state`.
    """
    return equations_of_state(
        x,
        y,
        ridge,
        [width],
        activation=activation,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
    )
