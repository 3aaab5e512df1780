"""Langevin dynamics with weight decay of infinitely wide networks, from the prior to the posterior.

Each weight θ̂, in units of its prior, follows dθ̂ = -(∇L + T θ̂) dt + √(2T) dB from θ̂ ~ N(0, 1), with
L = ½ Σ_μ |f(x_μ) - y_μ|²: the stationary law is the posterior under label noise of variance T. In
standard scaling the data move each weight so little that it forgets as without them, and outputs
obey a linear equation with the kernels C_0 and R of `theory.dynamics.two_time`,

    f(x, t) = f_0(x, t) - ∫_0^t ds Σ_μ R(x, x_μ; t - s) (f(x_μ, s) - y_μ),

f_0 being Gaussian with the covariance C_0(t - s). It is exact for infinite width. Avidan, Li and
Sompolinsky (2023, arXiv:2309.04522).

C_0 is a sum of decaying exponentials, so f is linear in Ornstein-Uhlenbeck modes in one potential,
and everything follows from how these relax:

    X(t) = C_0(t) (K + T)⁻¹ - ∫_0^t R(t - s) X(s) ds,      X(0) = K (K + T)⁻¹,

from all points to those of training. The mean is (X(0) - X(t)) y, the response to a force at τ
before is G(τ) = -dX/dτ, the covariance in equilibrium is T X(τ), which is how fluctuation and
dissipation, T G = -dC_∞/dτ, appear, and

    C(t, s) = C_∞(t - s) + X(t) (K + T) X(s)ᵀ.

For t → 0 the mean is gradient flow with the NTK, for t → ∞ regression with the NNGP and ridge T.

In campaigns: `volterra`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.records import Activation
from theory.dynamics.checks import check_memory, check_targets, check_times
from theory.dynamics.memory import MemoryKernel
from theory.dynamics.relaxation import Forced, mesh_size, relax
from theory.dynamics.two_time import TwoTimeKernels
from theory.kernels.all_points import all_points

FEWEST_STEPS = 8  # while time doubles
WORKING, KEPT = 8, 16  # matrices that are held for each point of the mesh, and for each time


class Volterra(NamedTuple):
    """Outputs at all points, those of training first, over initializations and noise."""

    time: Tensor  # (time,)
    output: Tensor  # mean, (time, point) or (time, point, output)
    covariance: Tensor  # of an output at one time, (time, point, point)
    response: Tensor  # G of all points to a force at a training point, `time` before, (time, p, n)
    correlation: Tensor  # C_∞ between them in equilibrium, `time` apart, (time, p, n)
    loss: Tensor  # E[L], (time,)
    two_time: Tensor | None  # C(t, s), (time, time, point, point), where it was asked for
    error: Tensor  # of the mean: the largest that steps of half the length change it by, (time,)
    covariance_error: Tensor  # of the covariance, likewise
    steps: int  # of the mesh


def volterra(
    x: Tensor,
    y: Tensor,
    times: Sequence[float] | Tensor,
    *,
    temperature: float,
    depth: int,
    activation: Activation,
    weight_variance: Sequence[float],
    bias_variance: float | Sequence[float],
    x_test: Tensor | None = None,
    steps: int = 64,
    two_time: bool = False,
) -> Volterra:
    """Mean and covariance of the outputs at any times, and their response and correlation.

    x is (n, d), y (n,) or (n, outputs), x_test (m, d); p = n + m. `steps` are those while time
    doubles; they and half as many are extrapolated to none, and their difference is the error that
    is reported, that of the finer mesh. Their number goes as the logarithm of time, and the cost of
    each as `steps` p n². Raises ValueError for data, networks, times and steps that
    do not fit, a temperature that is not positive, K + T that is not positive definite, and
    two-time covariances that memory has no room for.
    """
    moments = check_times(times)
    points = all_points(x, x_test)
    train = check_targets(y, len(x))
    _check(x, y, temperature, steps)
    if not all(variance > 0 for variance in weight_variance):
        raise ValueError(f"weight variances are {[*weight_variance]}; give positive ones")
    pairs = len(moments) ** 2 if two_time else 0
    arrays = WORKING * (2 * steps + 1) + KEPT * len(moments) + pairs
    check_memory(
        8 * arrays * len(points) ** 2,
        f"{'two-time ' * two_time}covariances of {len(moments)} times and {len(points)} points",
    )
    kernels = TwoTimeKernels(
        points,
        depth=depth,
        activation=activation,
        weight_variance=weight_variance,
        bias_variance=bias_variance,
    )
    memory = MemoryKernel(kernels, float(temperature))
    problem = _Problem.of(memory, y.double().reshape(train, -1), depth)
    fine, coarse = (_solved(problem, moments, count) for count in (steps, steps // 2))
    output, error = _extrapolated(fine.output, coarse.output)
    covariance, covariance_error = _extrapolated(fine.covariance, coarse.covariance)
    relaxation, _ = _extrapolated(fine.relaxation, coarse.relaxation)
    slope, _ = _extrapolated(fine.slope, coarse.slope)
    residual = output[:, :train] - problem.labels
    spread = covariance[:, :train, :train].diagonal(dim1=1, dim2=2).sum(1)
    return Volterra(
        moments,
        output.reshape(len(moments), len(points), *y.shape[1:]),
        covariance,
        -slope,
        temperature * relaxation,
        (residual.square().sum((1, 2)) + output.shape[2] * spread) / 2,
        _two_time(problem, moments, steps) if two_time else None,
        error,
        covariance_error,
        mesh_size(problem.first, steps, float(moments[-1])),
    )


class _Problem(NamedTuple):
    """The equation and its limits."""

    memory: MemoryKernel
    labels: Tensor  # (n, outputs)
    factor: Tensor  # of K + T at the training points
    first: float  # no longer than any of the times of the system

    @classmethod
    def of(cls, memory: MemoryKernel, labels: Tensor, depth: int) -> "_Problem":
        train, temperature = len(labels), memory.temperature
        ridge = memory.prior[:train, :train] + temperature * torch.eye(train).to(labels)
        factor, failed = torch.linalg.cholesky_ex(ridge)
        rounding = train * torch.finfo(torch.float64).eps * float(ridge.diagonal().max())
        if failed or not float(factor.diagonal().square().min()) > rounding:
            raise ValueError(
                f"kernel of {train} points with temperature {temperature:g} is not positive "
                "definite in float64; raise the temperature or leave out repeated points"
            )
        fastest = float(torch.linalg.eigvalsh(memory.tangent[:train, :train])[-1])
        first = 1 / (fastest + (depth + 1) * temperature)
        return cls(memory, labels, factor, first)

    @property
    def prior(self) -> Tensor:
        """K, (p, p)."""
        return self.memory.prior

    @property
    def train(self) -> int:
        return len(self.labels)

    @property
    def ridge(self) -> Tensor:
        """K + T."""
        return self.factor @ self.factor.T

    def whitened(self, rows: Tensor) -> Tensor:
        """Rows (..., n) times (K + T)⁻¹."""
        flat = rows.reshape(-1, rows.shape[-1])
        return torch.cholesky_solve(flat.T, self.factor).T.reshape(rows.shape)

    def equilibrium(self, relaxed: Tensor) -> Tensor:
        """C_∞ (p, p) from F with the columns of training and of other points (p, p).

        T X towards training points, and F - X K towards the others.
        """
        n = self.train
        towards = relaxed[:, :n]
        others = relaxed[:, n:] - towards @ self.prior[:n, n:]
        return torch.cat([self.memory.temperature * towards, others], 1)

    def forced(self, train_only: bool) -> Forced:
        """The equation of X, or of X and the relaxation towards all other points."""
        n = self.train

        def forcing(covariance: Tensor) -> Tensor:
            whitened = self.whitened(covariance[..., :n])
            return whitened if train_only else torch.cat([whitened, covariance[..., n:]], -1)

        return Forced(self.memory, n, forcing)


class _Solution(NamedTuple):
    output: Tensor
    covariance: Tensor
    relaxation: Tensor
    slope: Tensor


def _solved(problem: _Problem, times: Tensor, steps: int) -> _Solution:
    found = list(relax(problem.forced(train_only=True), times, problem.first, steps))
    relaxation = torch.stack([value for _, value, _ in found])
    slope = torch.stack([slope for _, _, slope in found])
    start = problem.whitened(problem.prior[:, : problem.train])
    settled = problem.prior - start @ problem.prior[: problem.train]
    covariance = settled + relaxation @ problem.ridge @ relaxation.mT
    return _Solution(
        (start - relaxation) @ problem.labels,
        (covariance + covariance.mT) / 2,
        relaxation,
        slope,
    )


def _two_time(problem: _Problem, times: Tensor, steps: int) -> Tensor:
    """C(t, s), (time, time, p, p), extrapolated in the step."""
    later, earlier = torch.tril_indices(len(times), len(times))
    lags, order = (times[later] - times[earlier]).sort()
    p, n = len(problem.prior), problem.train
    found = torch.zeros(len(times), len(times), p, p, dtype=torch.float64)
    for count, share in ((steps, 4 / 3), (steps // 2, -1 / 3)):
        equation = problem.forced(train_only=False)
        alone = [value[:, :n] for _, value, _ in relax(equation, times, problem.first, count)]
        for place, value, _ in relax(equation, lags, problem.first, count):
            i, j = int(later[order[place]]), int(earlier[order[place]])
            start = alone[i] @ problem.ridge @ alone[j].T
            found[i, j] += share * (problem.equilibrium(value) + start)
    above, below = torch.triu_indices(len(times), len(times), 1)
    found[above, below] = found[below, above].mT
    return found


def _extrapolated(fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
    """The limit of no step of a rule of second order, and the largest error of the finer mesh."""
    change = (fine - coarse) / 3
    return fine + change, change.abs().flatten(1).amax(1)


def _check(x: Tensor, y: Tensor, temperature: float, steps: int) -> None:
    if len(y) != len(x):
        raise ValueError(f"targets are {tuple(y.shape)} at {len(x)} training points; give as many")
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"temperature is {temperature}; give a positive number, or take gradient_flow for none"
        )
    if not isinstance(steps, int) or steps < FEWEST_STEPS or steps % 2:
        raise ValueError(f"steps are {steps}; give an even number, at least {FEWEST_STEPS}")
