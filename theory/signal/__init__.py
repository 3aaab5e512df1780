"""Random networks: how signals go through their layers, and where they are critical."""

from theory.signal.criticality import (
    CriticalPoint,
    chi_parallel,
    chi_perpendicular,
    critical_bias,
    critical_point,
    universality_class,
)
from theory.signal.exact_prior import PriorMoments, prior_density, prior_moments
from theory.signal.finite_width import WidthCorrections, width_corrections
from theory.signal.fixed_points import FixedPoint, fixed_point, fixed_points
from theory.signal.propagation import Flow, flow
from theory.signal.uniform_prior import uniform_nngp

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
    "prior_density",
    "prior_moments",
    "uniform_nngp",
    "universality_class",
    "width_corrections",
]
