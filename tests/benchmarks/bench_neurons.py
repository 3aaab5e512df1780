"""Effective samples per CPU second of `neurons` beside those of `baoab`, from narrow to wide.

They take turns in one process of one thread, so that what else the machine does meets both alike.

    python tests/benchmarks/bench_neurons.py [CPU seconds of each, 6 by default]
"""

import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from ess_problem import COEFFICIENTS
from torch import Tensor

from pipelines.analysis.convergence import diagnostics
from storage.campaign.sampler_spec import LARGEST_ANGLE
from workers.ensemble.adaptation import FIRST_ANGLE, KICKED, STABLE, TURNED, curvature
from workers.fused.network import fused, potential
from workers.fused.neurons import sweep
from workers.fused.noise import Noise
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import Network, fully_connected
from workers.sampler import Sampler
from workers.samplers.baoab import baoab
from workers.samplers.neurons import Neurons, neurons

PROBLEMS = [  # N, P, T
    (2000, 50, 0.1),
    (1000, 200, 0.1),
    (400, 200, 0.1),
    (200, 200, 0.1),
    (200, 200, 0.01),
]
CHAINS, INPUTS, PROBES = 8, 20, 32
FRICTION, INTERVAL = 0.15, 0.5  # of baoab: γ, and units of time from draw to draw
LEARNING, SETTLING, WINDOWS, WINDOW, ROUNDS = 1500, 300, 24, 8, 3


class Problem(NamedTuple):
    """A network of N neurons, P points of a cubic target in 20 dimensions, and probes."""

    network: Network
    x: Tensor  # the probes are the last points
    y: Tensor
    points: int
    temperature: float

    @property
    def data(self) -> tuple[Tensor, Tensor]:
        return self.x[: self.points].contiguous(), self.y[: self.points].contiguous()

    def observed(self, z: Tensor) -> Tensor:
        """f at the probes and the mean of Q = (w·w*)² over neurons, (chain, PROBES + 1)."""
        parameters = z * self.network.standard_deviations.float()
        weights = self.network.layers[0].of(parameters)
        outputs = self.network.outputs(parameters, self.x[self.points :])
        return torch.cat([outputs, weights[:, :, 0].square().mean(1, keepdim=True)], 1)


def problem(width: int, points: int, temperature: float) -> Problem:
    x = np.random.default_rng(0).standard_normal((points + PROBES, INPUTS))
    y = COEFFICIENTS[1] * x[:, 0] + COEFFICIENTS[3] * (x[:, 0] ** 3 - 3 * x[:, 0])
    network = fused(
        fully_connected(
            INPUTS,
            [width],
            ACTIVATIONS["erf"],
            weight_variance=[1.0, 1.0],
            bias_variance=0.0,
            chi=1.0,
        )
    )
    assert isinstance(network, Network)
    return Problem(network, *(torch.tensor(a).float() for a in (x, y)), points, temperature)


class Series:
    """Chains of a sampler, their draws and the CPU seconds that they took."""

    def __init__(self, sampler: Sampler[Any], position: Tensor, thin: int, stream: int) -> None:
        self.sampler, self.thin, self.made = sampler, thin, 0
        self.noise = Noise(5, range(CHAINS), stream)
        self.state = sampler.init(position, self.noise.at(0))
        self.seconds, self.draws = 0.0, []

    def run(self, steps: int) -> Tensor:
        for _ in range(steps):
            self.made += 1
            self.state = self.sampler.step(self.state, self.noise.at(self.made))
        return self.state.position

    def sample(self, seconds: float, observed: Callable[[Tensor], Tensor]) -> None:
        began, kept = time.process_time(), []
        while time.process_time() - began < seconds:
            kept.append(self.run(self.thin))
        self.seconds += time.process_time() - began
        self.draws += [observed(position).numpy() for position in kept]

    def rates(self) -> tuple[float, float]:
        """Effective samples of f, the median over probes, and of Q, per CPU second."""
        found = diagnostics(np.stack(self.draws, 1).astype(np.float64)).ess_bulk
        return float(np.median(found[:PROBES])) / self.seconds, float(found[-1]) / self.seconds


def by_baoab(posed: Problem) -> Series:
    gradient = potential(posed.network, *posed.data, posed.temperature)

    def step_size(position: Tensor) -> float:
        start = torch.randn(position.shape, generator=torch.Generator().manual_seed(0))
        return STABLE / math.sqrt(float(curvature(gradient, position, start, 40).values.max()))

    position = Noise(4, range(CHAINS), 0)(0, (posed.network.size,), torch.float32)
    falling = baoab(gradient, step_size(position) / 2.5, FRICTION)
    learned = Series(falling, position, 1, 1).run(LEARNING)
    step = step_size(learned)
    return Series(baoab(gradient, step, FRICTION), learned, math.ceil(INTERVAL / step), 2)


def by_neurons(posed: Problem, position: Tensor) -> Series:
    """At an angle found from the acceptance, as the warm-up of a campaign finds it."""
    angle, gain = FIRST_ANGLE, 1.0
    for window in range(WINDOWS):
        known = Neurons(posed.network, *posed.data, posed.temperature, angle)
        series = Series(neurons(known, sweep), position, 1, 3 + window)
        position = series.run(WINDOW)
        share = float(series.state.accepted.double().mean()) / (WINDOW * known.turns)
        wanted = KICKED if known.kicks else TURNED
        angle, gain = min(angle * math.exp(gain * (share - wanted)), LARGEST_ANGLE), 0.9 * gain
    known = Neurons(posed.network, *posed.data, posed.temperature, angle)
    return Series(neurons(known, sweep), position, 1, 3 + WINDOWS)


def main(seconds: float) -> None:
    torch.set_num_threads(1)
    print("N, P, T: effective samples per CPU second of f and of Q; neurons, baoab, ratio")
    for width, points, temperature in PROBLEMS:
        posed = problem(width, points, temperature)
        usual = by_baoab(posed)
        ours = by_neurons(posed, usual.state.position)
        for series in (ours, usual):
            series.run(SETTLING)
        for _ in range(ROUNDS):
            for series in (ours, usual):
                series.sample(seconds / ROUNDS, posed.observed)
        pairs = zip("fQ", ours.rates(), usual.rates(), strict=True)
        text = "; ".join(f"{name} {a:.0f}, {b:.0f}, {a / b:.2g}" for name, a, b in pairs)
        print(f"{width}, {points}, {temperature}: {text}", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 6.0)
