"""Random networks: how signals go through their layers, and where they are critical."""

from theory.signal.criticality import (
    CriticalPoint,
    chi_parallel,
    chi_perpendicular,
    critical_bias,
    critical_point,
    universality_class,
)
from theory.signal.fixed_points import FixedPoint, fixed_point, fixed_points
from theory.signal.propagation import Flow, flow

__all__ = [
    "CriticalPoint",
    "FixedPoint",
    "Flow",
    "chi_parallel",
    "chi_perpendicular",
    "critical_bias",
    "critical_point",
    "fixed_point",
    "fixed_points",
    "flow",
    "universality_class",
]
