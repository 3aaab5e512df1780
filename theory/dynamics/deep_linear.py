"""Gradient flow of deep linear networks in mean field, by the equations of their matrices.

A network of L hidden layers of N neurons, h^{l+1} = (σ_l/√N) Ŵ^l h^l and f = (σ_a/√N) â·h^L, where
each weight, in units of its prior, follows dθ̂/dt = -∇L with L = ½ Σ_μ (f(x_μ) - y_μ)². With
s = σ_a/√N, Δ = y - f and the gradients g^l = (√N/σ_a) ∂f/∂h^l, those of a neuron are

    h_μ(t) = u_μ(t) + ∫ds C_μ(t, s) g(s),      g(t) = r(t) + ∫ds Σ_α D_α(t, s) h_α(s),

u ~ N(0, σ_{l-1}² H^{l-1}) and r ~ N(0, σ_l² G^{l+1}) being Gaussian, where for s < t

    C_μ = σ_{l-1}² [A^{l-1}_μ(t, s) + s Σ_α Δ_α(s) H^{l-1}_{μα}(t, s)],      A^l = ∂h/∂r,
    D_α = σ_l² [B^{l+1}_α(t, s) + s Δ_α(s) G^{l+1}(t, s)],                   B^l = ∂g/∂u.

H^l = <h h> and G^l = <g g> follow by linear algebra, from H⁰ = x·x'/d and G^{L+1} = 1, A⁰ = B^{L+1}
= 0, and the outputs from the tangent kernel of equal times,

    df/dt = Θ Δ,      Θ = σ_a² [H^L + Σ_{l=1}^{L-1} σ_l² G^{l+1} H^l + σ_0² G^1 H⁰].

Bordelon and Pehlevan (2022, arXiv:2205.09653), whose γ_0² is 1/(N σ_a²).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from theory.dynamics.checks import check_memory, check_neurons, check_times, checked_step
from theory.kernels.all_points import all_points
from theory.kernels.variances import layer_variances

TOLERANCE = 1e-10  # of the outputs, in units of the largest label
ITERATIONS = 500


class DeepLinear(NamedTuple):
    """Outputs at all points, those of training first, and the kernels of all layers."""

    time: Tensor  # (time,)
    output: Tensor  # (time, point)
    covariance: Tensor  # of outputs over initializations, (time, point, point): zero in the limit
    kernels: Tensor  # H^l at equal times, (time, layer, point, point)
    gradients: Tensor  # G^l, (time, layer)
    tangent: Tensor  # Θ, (time, point, point)
    loss: Tensor  # L, (time,)
    error: Tensor  # of the output: the largest that half of the steps changes, over 3, (time,)


class _Layer(NamedTuple):
    """What other layers see of one, at all pairs of times."""

    covariance: Tensor  # H, (time · point, time · point)
    gradient: Tensor  # G, (time, time)
    forward: Tensor  # A, with the weights of the integral, (time · point, time)
    backward: Tensor  # B, likewise, (time, time · train)


def deep_linear(
    x: Tensor,
    y: Tensor,
    times: Sequence[float] | Tensor,
    *,
    width: float,
    weight_variance: Sequence[float],
    x_test: Tensor | None = None,
    step: float | None = None,
) -> DeepLinear:
    """Outputs and kernels at any times.

    x is (n, d), y (n,), x_test (m, d); weight_variance is (σ_0², ..., σ_a²), one more than there
    are hidden layers, σ_a² physical. Steps are of equal length between two times and no longer than
    `step`, or than a tenth of the fastest time at the start; integrals go by the trapezoidal rule,
    and the outputs of these steps and of half as many are extrapolated to none. Raises ValueError
    for data, networks, times and steps that do not fit, where the equations are not solved, and
    where memory has no room for all pairs of times.
    """
    moments = check_times(times)
    check_neurons(x, y, width)
    weights, _ = layer_variances(weight_variance, 0.0, len(weight_variance) - 1)
    if len(weights) < 2 or not min(weights) > 0:
        raise ValueError(f"weight variances are {weights}; give positive ones, two at least")
    points = all_points(x, x_test)
    first = points @ points.T / points.shape[1]
    problem = _Problem(first, y.double(), weights, float(width))
    fastest = float(torch.linalg.eigvalsh(first[: len(y), : len(y)])[-1])
    fastest *= len(weights) * math.prod(weights)  # Θ starts as so many equal terms
    mesh, places = _mesh(moments, checked_step(step, fastest))
    check_memory(
        8 * 3 * len(weights) * (len(mesh) * len(points)) ** 2,
        f"kernels of {len(mesh)} times and {len(points)} points",
    )
    fine, coarse = problem.solve(mesh), problem.solve(mesh[::2])
    output = fine.output[places]
    change = (output - coarse.output[places // 2]) / 3
    residual = problem.y - (output + change)[:, : len(y)]
    return DeepLinear(
        moments,
        output + change,
        torch.zeros(len(moments), len(points), len(points), dtype=torch.float64),
        fine.kernels[places],
        fine.gradients[places],
        fine.tangent[places],
        residual.square().sum(1) / 2,
        change.abs().amax(1),
    )


def _mesh(times: Tensor, longest: float) -> tuple[Tensor, Tensor]:
    """Times from zero on, an even number of steps between any two that are asked for, and where
    these are among them.
    """
    mesh, places, now = [torch.zeros(1, dtype=torch.float64)], [], 0.0
    size = 1
    for time in times.tolist():
        count = 2 * math.ceil((time - now) / (2 * longest))
        if count:
            mesh.append(torch.linspace(now, time, count + 1, dtype=torch.float64)[1:])
        size, now = size + count, time
        places.append(size - 1)
    return torch.cat(mesh), torch.tensor(places)


class _Solution(NamedTuple):
    output: Tensor  # (time, point)
    kernels: Tensor  # (time, layer, point, point)
    gradients: Tensor  # (time, layer)
    tangent: Tensor  # (time, point, point)


class _Problem(NamedTuple):
    """A network and its data."""

    first: Tensor  # H⁰, (p, p)
    y: Tensor  # (n,)
    weights: tuple[float, ...]  # σ_0², ..., σ_{L-1}², σ_a²
    width: float

    def solve(self, mesh: Tensor) -> _Solution:
        """Sweep through the layers until outputs stay as they are."""
        rule = _trapezoid(mesh)
        residual = self.y.expand(len(mesh), -1)
        layers = [self._untrained(layer, len(mesh)) for layer in range(len(self.weights) + 1)]
        scale, change = float(self.y.abs().max()) or 1.0, math.inf
        for _ in range(ITERATIONS):
            drive = math.sqrt(self.weights[-1] / self.width) * residual
            for place in [*range(1, len(layers) - 1), *range(len(layers) - 3, 0, -1)]:
                layers[place] = self._layer(layers, place, drive, rule)
            found = self._solution(layers, mesh)
            following = self.y - found.output[:, : len(self.y)]
            change = float((following - residual).abs().max())
            residual = following
            if change <= TOLERANCE * scale:
                return found
            if not change < math.inf:
                break
        raise ValueError(
            f"matrices of the network are not solved up to time {float(mesh[-1]):g}: outputs still "
            f"change by {change:.1e}; give earlier times or shorter steps"
        )

    def _untrained(self, layer: int, times: int) -> _Layer:
        """Layers as they start; of 0 and L + 1 that is what they are."""
        p, n = len(self.first), len(self.y)
        below, above = math.prod(self.weights[:layer]), math.prod(self.weights[layer:-1])
        if layer == len(self.weights):  # the readout, which is no layer
            below, above = 0.0, 1.0
        ones = torch.ones(times, times, dtype=torch.float64)
        return _Layer(
            torch.kron(ones, below * self.first),
            above * ones,
            torch.zeros(times * p, times, dtype=torch.float64),
            torch.zeros(times, times * n, dtype=torch.float64),
        )

    def _layer(self, layers: list[_Layer], place: int, drive: Tensor, rule: Tensor) -> _Layer:
        """One layer from those around it. `drive` is s Δ, (time, n)."""
        times, n = drive.shape
        p = len(self.first)
        below, above = layers[place - 1], layers[place + 1]
        into = self.weights[place - 1]
        out = self.weights[place] if place < len(self.weights) - 1 else 1.0
        seen = below.covariance.reshape(times, p, times, p)[..., :n]
        learned = torch.einsum("tmsa,sa->tms", seen, drive) * rule[:, None]
        forward = into * (below.forward + learned.reshape(times * p, times))  # C
        learned = (above.gradient * rule)[:, :, None] * drive
        backward = out * (above.backward + learned.reshape(times, times * n))  # D
        train = torch.arange(times * p).reshape(times, p)[:, :n].flatten()
        closed = torch.eye(times, dtype=torch.float64) - backward @ forward[train]
        solved = torch.linalg.solve(closed, torch.cat([backward, torch.eye(times)], 1))
        response, own = solved[:, : times * n], solved[:, times * n :]  # S D and S
        source, noise = into * below.covariance, out * above.gradient
        moved = source[train]
        mixed = forward @ (response @ moved)  # C S D <u u>
        inner = response @ moved[:, train] @ response.T + own @ noise @ own.T
        covariance = source + mixed + mixed.T + forward @ inner @ forward.T
        return _Layer(covariance, inner, forward @ own, response)

    def _solution(self, layers: list[_Layer], mesh: Tensor) -> _Solution:
        times, p, n = len(mesh), len(self.first), len(self.y)
        hidden = layers[1:-1]
        kernels = torch.stack(
            [
                torch.einsum("tmtn->tmn", one.covariance.reshape(times, p, times, p))
                for one in hidden
            ],
            1,
        )
        gradients = torch.stack([one.gradient.diagonal() for one in hidden], 1)
        tangent = kernels[:, -1] + self.weights[0] * gradients[:, 0, None, None] * self.first
        for layer in range(1, len(hidden)):
            back = self.weights[layer] * gradients[:, layer, None, None]
            tangent = tangent + back * kernels[:, layer - 1]
        tangent = self.weights[-1] * tangent
        output = torch.zeros(times, p, dtype=torch.float64)
        for now, step in enumerate(mesh.diff(), start=1):
            before = tangent[now - 1][:, :n] @ (self.y - output[now - 1, :n])
            known = output[now - 1] + step / 2 * (before + tangent[now][:, :n] @ self.y)
            implicit = torch.eye(n, dtype=torch.float64) + step / 2 * tangent[now][:n, :n]
            output[now, :n] = torch.linalg.solve(implicit, known[:n])
            output[now, n:] = known[n:] - step / 2 * tangent[now][n:, :n] @ output[now, :n]
        return _Solution(output, kernels, gradients, tangent)


def _trapezoid(mesh: Tensor) -> Tensor:
    """Weights of the values at each time in the integral up to each time, (time, time)."""
    steps = mesh.diff()
    rule = torch.zeros(len(mesh), len(mesh), dtype=torch.float64)
    for now in range(1, len(mesh)):
        rule[now, :now] += steps[:now] / 2
        rule[now, 1 : now + 1] += steps[:now] / 2
    return rule
