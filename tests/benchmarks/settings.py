"""What is measured: networks, data and step, and the exact gradient that all must agree with.

Only numpy and scipy are imported, so that every contestant's environment can read this.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import erf

Array = np.ndarray
Parameters = tuple[Array, ...]  # weights of each layer (chain, out, in), the readout (chain, in)

TEMPERATURE, STEP_SIZE = 1.0, 1e-6
GEMM_SIZE = 3072
AGREEMENT = 1e-4  # of gradients in float32 with the exact one; rounding leaves about 1e-6


class Setting(NamedTuple):
    """An ensemble of erf networks, in coordinates z whitened by the prior: U = |z|²/2 + L/T."""

    chains: int
    inputs: int
    widths: tuple[int, ...]
    points: int

    @property
    def fans(self) -> tuple[int, ...]:
        """Inputs of each layer, the readout's last."""
        return (self.inputs, *self.widths)

    @property
    def flops(self) -> int:
        """Of the matrix products of a step of all chains: two forward, two (or four) backward."""
        first = 4 * self.inputs * self.widths[0]
        later = sum(6 * a * b for a, b in zip(self.widths, self.widths[1:], strict=False))
        return self.chains * self.points * (first + later)

    def describe(self) -> str:
        """The numbers in words."""
        widths = " and ".join(str(width) for width in self.widths)
        return (
            f"{self.chains} chains, {self.inputs} inputs, width {widths}, {self.points} points, "
            f"{self.flops / 1e9:.2f} GF per step"
        )


SETTINGS = {
    "A": Setting(16, 50, (1000,), 1000),
    "B": Setting(8, 150, (700,), 3000),
    "C": Setting(512, 20, (100,), 200),
    "D": Setting(32, 50, (200, 200), 500),
}


def data(setting: Setting) -> tuple[Array, Array]:
    """x (point, input) and y (point), float32, the same for all chains."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((setting.points, setting.inputs), dtype=np.float32)
    return x, np.sin(x[:, 0])


def start(setting: Setting) -> Parameters:
    """z of each layer, float32: draws from the prior."""
    rng = np.random.default_rng(1)
    outs = [(width, fan) for width, fan in zip(setting.widths, setting.fans, strict=False)]
    shapes = [*outs, (setting.fans[-1],)]
    return tuple(rng.standard_normal((setting.chains, *s), dtype=np.float32) for s in shapes)


def exact_gradient(setting: Setting, z: Parameters) -> Parameters:
    """∇U of the first chain, in float64 by backpropagation."""
    x, y = (array.astype(np.float64) for array in data(setting))
    scales = [1 / math.sqrt(fan) for fan in setting.fans]
    weights = [scale * layer[0].astype(np.float64) for scale, layer in zip(scales, z, strict=True)]
    signals, fields = [x], []
    for weight in weights[:-1]:
        fields.append(signals[-1] @ weight.T)
        signals.append(erf(fields[-1]))
    residual = signals[-1] @ weights[-1] - y
    gradients = [signals[-1].T @ residual]
    delta = residual[:, None] * weights[-1]
    for level in reversed(range(len(fields))):
        delta = delta * 2 / math.sqrt(math.pi) * np.exp(-(fields[level] ** 2))
        gradients.insert(0, delta.T @ signals[level])
        delta = delta @ weights[level]
    return tuple(
        layer[0] + scale / TEMPERATURE * gradient
        for layer, scale, gradient in zip(z, scales, gradients, strict=True)
    )


def disagreement(setting: Setting, found: Parameters) -> float:
    """|∇U - exact| / |exact| of the first chain, for gradients shaped as z or with it flattened."""
    exact = np.concatenate([part.ravel() for part in exact_gradient(setting, start(setting))])
    ours = np.concatenate([np.asarray(part)[0].ravel() for part in found])
    return float(np.linalg.norm(ours - exact) / np.linalg.norm(exact))
