"""Activations φ and their slopes φ' in Triton, by the polynomials of `workers/fused/activations.h`.

A slope is divided by the constant of its activation in `UNITS`, which is put back where it costs
nothing: once for each neuron.
"""

import triton
import triton.language as tl

UNITS = {
    "erf": 1.1283791670955126,  # 2/√π
    "gelu": 1.0,
    "linear": 1.0,
    "quadratic": 2.0,
    "relu": 1.0,
    "tanh": 4.0,
}


@triton.jit
def erf_and_density(z):
    """erf(z) and exp(-z²)."""
    size = tl.minimum(tl.abs(z), 8.0, propagate_nan=tl.PropagateNan.ALL)
    square = size * size
    density = tl.exp2(square * -1.44269504)
    small = square * -0.000556178973 + 0.00489963405
    small = small * square + -0.0266950801
    small = small * square + 0.112795763
    small = small * square + -0.376122475
    small = (small * square + 1.12837911) * z
    large = size * 0.00135950197 + -0.0177413765
    large = large * size + 0.100853428
    large = large * size + -0.330545276
    large = large * size + 0.697586179
    large = large * size + -0.999592781
    large = 1.0 - density * (large * size + 0.975663722)
    return tl.where(size > 1.0, tl.where(z < 0, -large, large), small), density


@triton.jit
def tanh_and_slope(h):
    """tanh(h) and its slope over 4."""
    size = tl.minimum(tl.abs(h), 32.0, propagate_nan=tl.PropagateNan.ALL)
    decay = tl.exp2(size * -2.88539008)
    inverse = 1.0 / (1.0 + decay)
    square = size * size
    small = square * -0.00589796668 + 0.0207986254
    small = small * square + -0.0537847169
    small = small * square + 0.133319363
    small = small * square + -0.333332986
    small = (small * square + 1.0) * h
    large = (1.0 - decay) * inverse
    value = tl.where(size > 0.6, tl.where(h < 0, -large, large), small)
    return value, decay * inverse * inverse


@triton.jit
def phi_and_slope(h, PHI: tl.constexpr):
    """φ(h) and φ'(h) over its unit."""
    if PHI == "erf":
        phi, slope = erf_and_density(h)
    elif PHI == "gelu":
        erf, density = erf_and_density(h * 0.707106781)
        gate = erf * 0.5 + 0.5
        phi, slope = h * gate, h * 0.398942280 * density + gate
    elif PHI == "tanh":
        phi, slope = tanh_and_slope(h)
    elif PHI == "relu":
        phi = tl.where(h < 0, 0.0, h)
        slope = tl.where(h > 0, 1.0, 0.0)
    elif PHI == "quadratic":
        phi, slope = h * h, h
    else:
        tl.static_assert(PHI == "linear")
        phi, slope = h, tl.full(h.shape, 1.0, h.dtype)
    return phi, slope
