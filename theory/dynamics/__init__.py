"""Networks in time: gradient flow, Langevin dynamics at infinite width, and mean-field dynamics."""

from theory.dynamics.gradient_flow import GradientFlow, gradient_flow
from theory.dynamics.volterra import Volterra, volterra

__all__ = ["GradientFlow", "Volterra", "gradient_flow", "volterra"]
