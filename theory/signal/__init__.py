"""Random networks: how signals go through their layers, and where they are critical.

    from theory.signal import critical_bias, critical_point, fixed_point, flow

    flow("tanh", weight_variance=2.5, bias_variance=0.1, variance=1.0, correlation=0.3, depth=50)
    fixed_point("tanh", weight_variance=2.5, bias_variance=0.1).depth_correlation  # layers
    critical_bias("tanh", torch.linspace(1, 4, 100))  # order above, chaos below
    critical_point("silu")

φ is a name that theory knows, or any function of tensors that torch can differentiate.
"""

from theory.signal.criticality import (
    CriticalPoint,
    chi_parallel,
    chi_perpendicular,
    critical_bias,
    critical_point,
    universality_class,
)
from theory.signal.exact_prior import PriorMoments, prior_density, prior_moments
from theory.signal.finite_width import (
    WidthCorrections,
    layered_corrections,
    width_corrections,
)
from theory.signal.phases import FixedPoint, fixed_point, fixed_points
from theory.signal.propagation import Flow, flow
from theory.signal.uniform_prior import uniform_nngp, uniform_pre_activation_kernels

__all__ = [
    "CriticalPoint",
    "FixedPoint",
    "Flow",
    "PriorMoments",
    "WidthCorrections",
    "chi_parallel",
    "chi_perpendicular",
    "critical_bias",
    "critical_point",
    "fixed_point",
    "fixed_points",
    "flow",
    "layered_corrections",
    "prior_density",
    "prior_moments",
    "uniform_nngp",
    "uniform_pre_activation_kernels",
    "universality_class",
    "width_corrections",
]
