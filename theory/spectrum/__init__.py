"""What follows from the spectrum of a kernel: the effective ridge, learning curves, exponents."""

from theory.spectrum.learning_curves import (
    effective_ridge,
    equivalent_kernel,
    equivalent_kernel_next_order,
    learning_curve,
    pool_spectrum,
)

__all__ = [
    "effective_ridge",
    "equivalent_kernel",
    "equivalent_kernel_next_order",
    "learning_curve",
    "pool_spectrum",
]
