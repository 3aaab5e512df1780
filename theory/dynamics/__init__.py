"""Networks in time: gradient flow, Langevin dynamics at infinite width, and mean-field dynamics."""

from theory.dynamics.deep_linear import DeepLinear, deep_linear
from theory.dynamics.gradient_flow import GradientFlow, gradient_flow
from theory.dynamics.mean_field import MeanField, mean_field
from theory.dynamics.volterra import Volterra, volterra

__all__ = [
    "DeepLinear",
    "GradientFlow",
    "MeanField",
    "Volterra",
    "deep_linear",
    "gradient_flow",
    "mean_field",
    "volterra",
]
