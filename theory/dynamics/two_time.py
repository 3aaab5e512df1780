"""Kernels between two times of a network whose weights forget, each at the same rate.

At infinite width and in equilibrium with its prior every weight θ̂ ~ N(0, 1) is an
Ornstein-Uhlenbeck process of its own, dθ̂ = -T θ̂ dt + √(2T) dB, so that a weight at two times τ
apart has the correlation ρ = e^{-Tτ}. Then the output has the covariance C_0 and the tangent kernel
R, with pre-activations of variance K_l(x, x) at both times, over which the expectations are:

    K_0 = ρ (σ_b² + σ_w0² x·x'/d),      K_l = ρ (σ_b² + σ_wl² E[φφ]_{K_{l-1}}),      C_0 = K_L,
    Θ_0 = K_0,      Θ_l = K_l + ρ σ_wl² Θ_{l-1} E[φ'φ']_{K_{l-1}},      R = Θ_L,

the readout without bias. As ρ dK_l/dρ = Θ_l, they obey fluctuation and dissipation,
R = -(1/T) dC_0/dτ, and at τ = 0 they are the NNGP kernel and the NTK. Avidan, Li and Sompolinsky
(2023, arXiv:2309.04522).
"""

from collections.abc import Sequence

from torch import Tensor

from theory.activations.records import Activation
from theory.kernels.fully_connected import Kernels
from theory.kernels.tiles import Network, points_of
from theory.kernels.variances import layer_variances


class TwoTimeKernels:
    """C_0 and R of some points x (n, d), in float64. Arguments as in `theory.kernels.nngp`."""

    def __init__(
        self,
        x: Tensor,
        *,
        depth: int,
        activation: Activation,
        weight_variance: Sequence[float],
        bias_variance: float | Sequence[float],
    ) -> None:
        if x.ndim != 2 or not x.is_floating_point():
            raise ValueError(
                f"inputs are {tuple(x.shape)} of {x.dtype}; give (points, dimension) floats"
            )
        if depth < 1:
            raise ValueError(f"depth is {depth}; give the number of hidden layers, at least 1")
        weights, biases = layer_variances(weight_variance, bias_variance, depth)
        inputs = x.double()
        self._network = Network.of(activation, weights, biases, slopes=True)
        self._points = points_of(self._network, inputs)
        self._first = inputs @ inputs.T * (weights[0] / x.shape[1]) + biases[0]
        self._first.diagonal().copy_(self._points.variances[:, 0])

    def at(self, correlation: float) -> Kernels:
        """C_0 and R at the time when weights have the correlation ρ = e^{-Tτ}, each (n, n)."""
        covariance, slope = self._both(correlation)
        return Kernels(covariance, slope * correlation)

    def slope_at(self, correlation: float) -> Tensor:
        """dC_0/dρ = R/ρ, (n, n), also where ρ = 0."""
        return self._both(correlation)[1]

    def _both(self, correlation: float) -> tuple[Tensor, Tensor]:
        network, points = self._network, self._points
        assert network.slope is not None
        covariance, tangent = self._first * correlation, self._first
        for layer, weight in enumerate(network.weights[1:], start=1):
            value, slope = points.values[layer - 1], points.slopes[layer - 1]
            back = network.slope.pairs(slope, covariance, slope)
            unforgotten = network.value.pairs(value, covariance, value) * weight
            unforgotten = unforgotten + network.offset(layer)
            covariance = unforgotten * correlation
            tangent = unforgotten + tangent * back * (weight * correlation)
        return covariance, tangent
