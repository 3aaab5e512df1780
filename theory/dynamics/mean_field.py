"""The mean-field dynamics of networks of one hidden layer, which learn features.

Each weight θ̂, in units of its prior, follows dθ̂ = -(∇L + T θ̂) dt + √(2T) dB from θ̂ ~ N(0, 1), with
L = ½ Σ_μ (f(x_μ) - y_μ)² and f = (σ_a/√N) Σ_i â_i φ(ŵ_i·x̂): gradient flow for T = 0, and else to
the posterior under label noise of variance T. For many neurons they see each other through f alone,
which is an average over the law of one:

    dâ = (s Σ_μ Δ_μ φ(h_μ) - T â) dt + √(2T) dB,     f(x) = √N σ_a <â φ(ŵ·x̂)>,    s = σ_a/√N,
    dŵ = (s â Σ_μ Δ_μ φ'(h_μ) x̂_μ - T ŵ) dt + √(2T) dB,     h_μ = ŵ·x̂_μ,     Δ = y - f.

In time σ_a² t this is the dynamical mean-field theory of Bordelon and Pehlevan (2022,
arXiv:2205.09653) of two layers, with γ_0² = 1/(N σ_a²): feature learning stays as it is where N
grows with N σ_a² fixed (mean-field scaling with χ ∝ N, in which T σ_a⁻² is fixed, too), and fades
where N grows alone, which leaves `theory.dynamics.volterra` or `gradient_flow`.

In campaigns: `mean_field`.
"""

import itertools
import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from theory.activations.records import Activation, function_of
from theory.dynamics.checks import check_neurons, check_times, checked_step
from theory.dynamics.particles import Averages, Particles, System, at_start, normals
from theory.kernels.all_points import all_points
from theory.kernels.fully_connected import ntk
from theory.kernels.variances import layer_variances
from theory.kernels.whitening import whitened

FEWEST_REPLICAS = 2
REPLICAS = 4  # where none are given


class MeanField(NamedTuple):
    """Outputs at all points, those of training first, and averages over neurons."""

    time: Tensor  # (time,)
    output: Tensor  # (time, point)
    covariance: Tensor  # of the estimate of the output, (time, point, point): in the limit zero
    kernel: Tensor  # σ_a² <φφᵀ>, (time, point, point)
    weight_covariance: Tensor  # <ŵ ŵᵀ> in units of the prior, (time, d, d): the bias comes last
    readout_variance: Tensor  # <â²> in units of the prior, (time,)
    loss: Tensor  # L, (time,)
    kernel_lag: (
        Tensor  # σ_a² <φ(t') φ(t)ᵀ>, t' being `lags` times before, (time, lag, point, point)
    )
    error: Averages  # standard errors, from replicas
    step_error: Averages  # what twice the step changes, over 3
    replicas: Averages  # each of the estimates that are averaged, (replica, time, ...)
    changes: Averages  # what twice the step changes in each, over 3
    step: float  # the longest


def mean_field(
    x: Tensor,
    y: Tensor,
    times: Sequence[float] | Tensor,
    *,
    width: float,
    temperature: float,
    activation: Activation,
    weight_variance: tuple[float, float],
    bias_variance: float = 0.0,
    x_test: Tensor | None = None,
    step: float | None = None,
    particles: int = 2048,
    replicas: int = REPLICAS,
    seed: int = 0,
    lags: Sequence[int] = (),
) -> MeanField:
    """Outputs and averages over neurons at any times, by particles that start from the prior.

    x is (n, d), y (n,), x_test (m, d); weight_variance is (σ_w², σ_a²). σ_a² and T are physical: in
    mean-field scaling both divided by χ. The dynamics are solved `replicas` times with so many
    particles, and the errors are their scatter; the bias of one, of order 1/particles, is below it
    while there are fewer replicas than particles. Steps are of equal length between two times and
    no longer than `step`, or than a tenth of the fastest time at the start; they and steps of twice
    the length are extrapolated to none. The same seed gives the same numbers. `kernel_lag` is NaN
    where there is no time so many before. Raises ValueError for data, networks, times, lags and
    numbers that do not fit, and for steps beyond stability.
    """
    moments = check_times(times)
    _check_lags(lags)
    weights, biases = _check(x, y, width, temperature, weight_variance, bias_variance)
    points = all_points(x, x_test)
    tangent = ntk(
        x.double(),
        depth=1,
        activation=activation,
        weight_variance=weights,
        bias_variance=biases,
    )
    longest = checked_step(step, float(torch.linalg.eigvalsh(tangent)[-1]))
    _check_numbers(particles, replicas)
    system = System(
        whitened(points, weights[0], biases[0]),
        y.double(),
        function_of(activation),
        float(width),
        weights[1],
        float(temperature),
    )
    found = [
        _replica(system, moments, longest, particles, seed * replicas + number, lags)
        for number in range(replicas)
    ]
    fine, coarse = map(_stacked, zip(*found, strict=True))
    change = Averages(*((a - b) / 3 for a, b in zip(fine, coarse, strict=True)))
    value = Averages(*(a + b for a, b in zip(fine, change, strict=True)))
    centred = (value.output - value.output.mean(0)).movedim(0, -1)  # (time, point, replica)
    return MeanField(
        moments,
        value.output.mean(0),
        centred @ centred.mT / (replicas * (replicas - 1)),
        value.kernel.mean(0),
        value.weight_covariance.mean(0),
        value.readout_variance.mean(0),
        value.loss.mean(0),
        value.kernel_lag.mean(0),
        Averages(*map(_standard_error, value)),
        Averages(*(c.mean(0).abs() for c in change)),
        value,
        change,
        longest,
    )


def _replica(
    system: System, times: Tensor, longest: float, count: int, seed: int, lags: Sequence[int]
) -> tuple[Averages, Averages]:
    """Averages over one set of particles at all times, with steps of some length and of twice it.

    Both have the same noise.
    """
    dimension = system.inputs.shape[1]
    generator = torch.Generator().manual_seed(seed)
    fine = coarse = at_start(count, dimension, seed)
    longest_lag = max(lags, default=0)
    past = [deque[Tensor](maxlen=longest_lag) for _ in range(2)]  # features at times before
    seen, now = [], 0.0
    for time, pairs in zip(times.tolist(), pairs_of_steps(times.tolist(), longest), strict=True):
        for _ in range(pairs):
            step = (time - now) / (2 * pairs)
            noise: list[Particles] = []
            if system.temperature:
                noise = [normals(count, dimension, generator) for _ in range(4)]
            fine = system.step(system.step(fine, step, noise[:2]), step, noise[2:])
            coarse = system.step(coarse, 2 * step, noise)
        now = time
        both = [*zip((fine, coarse), past, strict=True)]
        seen.append([system.averages(one, _before(phi, lags)) for one, phi in both])
        _check_finite(seen[-1], time)
        for one, phi in both if lags else ():
            phi.append(system.features(one))
    fine, coarse = map(_stacked, zip(*seen, strict=True))
    return fine, coarse


def _before(past: Sequence[Tensor], lags: Sequence[int]) -> list[Tensor | None]:
    return [past[-lag] if lag <= len(past) else None for lag in lags]


def pairs_of_steps(times: Sequence[float], longest: float) -> list[int]:
    """How many pairs of equal steps, none longer than `longest`, lead to each time from the last.

    ⌈(t_k - t_{k-1}) / (2 longest)⌉, from t = 0.
    """
    return [
        math.ceil((time - before) / (2 * longest))
        for before, time in itertools.pairwise([0.0, *times])
    ]


def _standard_error(values: Tensor) -> Tensor:
    """Of the mean over the first axis."""
    count = len(values)
    return ((values - values.mean(0)).square().sum(0) / (count * (count - 1))).sqrt()


def _stacked(averages: Sequence[Averages]) -> Averages:
    return Averages(*map(torch.stack, zip(*averages, strict=True)))


def _check_lags(lags: Sequence[int]) -> None:
    if not all(isinstance(lag, int) and lag >= 1 for lag in lags):
        raise ValueError(f"lags are {[*lags]}; give whole numbers of times, at least 1")


def _check_finite(averages: Sequence[Averages], time: float) -> None:
    if not all(bool(one.loss.isfinite()) for one in averages):
        raise ValueError(
            f"particles have left all bounds by time {time:g}, where features that are learned "
            "make the dynamics faster; give a shorter step"
        )


def _check_numbers(particles: int, replicas: int) -> None:
    if not isinstance(particles, int) or particles < 2 or particles % 2:
        raise ValueError(f"particles are {particles}; give an even number, at least 2")
    if not isinstance(replicas, int) or replicas < FEWEST_REPLICAS:
        raise ValueError(f"replicas are {replicas}; give at least {FEWEST_REPLICAS}")


def _check(
    x: Tensor,
    y: Tensor,
    width: float,
    temperature: float,
    weight_variance: tuple[float, float],
    bias_variance: float,
) -> tuple[tuple[float, float], tuple[float]]:
    check_neurons(x, y, width)
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; give a number, zero for gradient flow")
    weights, biases = layer_variances(weight_variance, bias_variance, 1)
    if not min(weights) > 0:
        raise ValueError(f"weight variances are {weights}; give positive ones")
    return (weights[0], weights[1]), (biases[0],)
