"""Schemes at the step that `auto` finds, beside each other, in all regimes.

Each scheme warms up as in a campaign, and then they take turns in one process of one thread, so
that what else the machine does meets all alike. The page says what `scheme: auto` names.

    python tests/benchmarks/bench_regimes.py [CPU seconds of each, 6 by default]
"""

import itertools
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from table import grid, machine
from torch import Tensor

from pipelines.analysis.convergence import Diagnostics, diagnostics
from storage.campaign.plugins import Plugins
from storage.campaign.spec import Campaign
from storage.planning.choosing import choice
from storage.planning.plan import WARMUP, Shard, plan
from storage.reading.document import parse
from workers import numerics
from workers.data.datasets import dataset
from workers.devices.placement import placement_of
from workers.ensemble import ensemble
from workers.ensemble.problem import Problem
from workers.ensemble.schemes import sampler_of, scheme_of
from workers.networks.networks import Network

PAGE = Path(__file__).with_name("REGIMES.md")
PROBLEMS = [  # N, P, T, d
    (200, 200, 0.1, 784),
    (200, 200, 0.01, 784),
    (200, 200, 0.1, 20),
    (2000, 50, 0.1, 20),
    (1000, 200, 0.01, 20),
    (50, 400, 0.1, 20),
]
TEXT = """
version: 1
name: regime
data: {{source: single_index, dimension: {d}, train: {P}, test: 32, teacher: {{1: 1.0, 3: 0.3}}}}
network: {{activation: erf, width: {N}, weight_variance: [1, 1]}}
sampler: {{scheme: {scheme}, step_size: auto, temperature: {T}, warmup: {warmup}, draws: 1,
  segment: 1}}
ensemble: {{datasets: 1, chains: 8, block: 8}}
observe: {{points: 32, histograms: false, kernels: false, overlaps: false}}
"""
WARMUPS = {"neurons": 100, "baoab": 800, "collapsed": 120}
SLOW = 100  # inputs, above which warm-ups of baoab are half as long
INTERVAL = 0.5  # units of time from draw to draw; neurons draw after every sweep
STREAM, ROUNDS = 9, 3
ENOUGH = 100  # effective samples, without which nothing is said of a bias
INTRODUCTION = """Written by `make bench`. 8 chains sample the posterior of an erf network of N
neurons and d inputs given P points of y = He_1(w\\*·x) + 0.3 He_3(w\\*·x), σ_w² = σ_a² = 1, at
temperature T, with the step (of `neurons` the angle) that `step_size: auto` finds in a warm-up and
without a friction given. Effective samples are ArviZ's bulk ones of all chains, per CPU second of
{seconds:g} in {rounds} rounds in which the schemes took turns: of f at a test point, the median of
32, and of Q, the mean over neurons of (w·w\\*)². Biases are relative to `neurons`, which has none,
of the train error, of Q, and of f as the root mean square of its 32 deviations over that of f; the
digits in brackets are standard errors, which f cannot be below. - says that fewer than {enough}
effective samples tell. In bold what `scheme: auto` names."""
HEAD = (
    "N, P, T, d", "scheme", "step", "f per s", "Q per s", "bias of train error", "of Q", "of f",
)  # fmt: skip


class Seen(NamedTuple):
    """Means of train error, Q and f at the test points, their errors and effective samples."""

    mean: np.ndarray
    error: np.ndarray
    found: Diagnostics


class Series:
    """Chains of a scheme that have warmed up, their draws and the CPU seconds that they took."""

    def __init__(self, spec: Campaign) -> None:
        placement = placement_of(numerics.describe())
        (cell,) = plan(spec).cells
        shard = Shard("ensemble", cell, segment=WARMUP)
        self.data = dataset(cell.spec, 0, Plugins(), {})
        _, saved = ensemble.run(shard, Plugins(), {}, None, placement)
        observed = ensemble.observe(shard, self.data, Plugins(), placement)
        self.problem: Problem = ensemble.make_problem(cell.spec, observed, placement)
        kind = scheme_of(self.problem).state
        self.state: Any = kind(**{name: torch.as_tensor(saved[name]) for name in kind._fields})
        self.step_size, self.made = float(saved["step_size"]), int(saved["step"])
        self.noise = ensemble.noise_of(shard, STREAM, placement)
        self.sampler = sampler_of(self.problem, self.step_size)
        exact = self.problem.settings.record.turns
        self.thin = 1 if exact else max(round(INTERVAL / self.step_size), 1)
        self.seconds = 0.0
        self.draws: list[np.ndarray] = []

    def sample(self, seconds: float) -> None:
        began, kept = time.process_time(), []
        while time.process_time() - began < seconds:
            for _ in range(self.thin):
                self.made += 1
                self.state = self.sampler.step(self.state, self.noise.at(self.made))
            kept.append(self.state.position)
        self.seconds += time.process_time() - began
        self.draws += [self._observed(position).numpy() for position in kept]

    def _observed(self, z: Tensor) -> Tensor:
        network = self.problem.network
        assert isinstance(network, Network)
        parameters = z * network.standard_deviations.to(z)
        test = torch.as_tensor(self.data.x_test).to(z)
        train = network.outputs(parameters, self.problem.x) - self.problem.y
        overlap = network.layers[0].of(parameters) @ torch.as_tensor(self.data.teacher).to(z)
        means = [part.square().mean(1, keepdim=True) for part in (train, overlap)]
        return torch.cat([*means, network.outputs(parameters, test)], 1)

    def seen(self) -> Seen:
        draws = np.stack(self.draws, 1).astype(np.float64)
        found = diagnostics(draws)
        return Seen(draws.mean((0, 1)), found.mcse, found)


def rows(problem: tuple[int, int, float, int], seconds: float) -> list[list[str]]:
    width, points, temperature, inputs = problem
    known = {"N": width, "P": points, "T": temperature, "d": inputs}
    series = {}
    for scheme, warmup in WARMUPS.items():
        steps = warmup // 2 if inputs > SLOW and scheme == "baoab" else warmup
        series[scheme] = Series(parse(TEXT.format(scheme=scheme, warmup=steps, **known), []))
    for each in series.values():
        each.sample(seconds / ROUNDS)  # what they forget of the warm-up
        each.draws.clear()
        each.seconds = 0.0
    for _, each in itertools.product(range(ROUNDS), series.values()):
        each.sample(seconds / ROUNDS)
    named = choice(series["baoab"].problem.spec).scheme
    exact, body = series["neurons"].seen(), []
    for name, each in series.items():
        title = f"**{name}**" if name == named else name
        body.append([", ".join(map(str, problem)), title, *row(each, exact)])
    return body


def row(series: Series, exact: Seen) -> list[str]:
    seen = series.seen()
    ess = seen.found.ess_bulk
    rates = [float(np.median(ess[2:])) / series.seconds, float(ess[1]) / series.seconds]
    cells = [f"{series.step_size:.2g}", *(f"{rate:.0f}" for rate in rates)]
    if series.problem.settings.record.turns:
        return [*cells, "", "", ""]
    error = np.hypot(seen.error, exact.error)
    for place in range(2):
        enough = min(ess[place], exact.found.ess_bulk[place]) >= ENOUGH
        bias = 100 * (seen.mean[place] / exact.mean[place] - 1)
        bar = 100 * error[place] / exact.mean[place]
        cells.append(f"{bias:+.1f}({bar:.1f}) %" if enough else "-")
    size = np.sqrt(np.square(exact.mean[2:]).mean())
    apart, bar = (
        100 * np.sqrt(np.square(part[2:]).mean()) / size for part in (seen.mean - exact.mean, error)
    )
    return [*cells, f"{apart:.1f}({bar:.1f}) %"]


def main(seconds: float) -> None:
    torch.set_num_threads(1)
    body = []
    for problem in PROBLEMS:
        body += rows(problem, seconds)
        print("\n".join(" | ".join(cells) for cells in body[-len(WARMUPS) :]), flush=True)
    said = INTRODUCTION.format(seconds=seconds, rounds=ROUNDS, enough=ENOUGH)
    parts = ["# Schemes by regime", said, grid(HEAD, body), "## The machine", machine([])]
    PAGE.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 6.0)
