"""Expectations without bias, for `REFERENCE`: Hamiltonian Monte Carlo, at length.

    python tests/benchmarks/ess_reference.py TEMPERATURE DRAWS

Trajectories of 3/2 units of time on average, their lengths drawn anew each time; accepted or not
by Metropolis et al. (1953). Duane, Kennedy, Pendleton and Roweth (1987).
"""

import argparse
import math

import numpy as np
import torch
from ess_problem import CHAINS, OVERLAP, TRAIN_ERROR, Array
from ess_torch import Problem, learned, observed, problem, stiffness

from pipelines.analysis.convergence import diagnostics
from workers.fused.noise import Noise
from workers.samplers.hmc import leapfrog

REACH, TIME, STREAM = 0.9, 1.5, 5  # ε √λ, and units of time of a trajectory


def draws(posed: Problem, count: int) -> tuple[Array, float]:
    """Train error and overlap, (chain, draw, 2), and the accepted share."""
    z = learned(posed, 0)
    step_size = REACH / math.sqrt(stiffness(posed.gradient, z))
    noise, lengths = Noise(STREAM, range(CHAINS), 0), np.random.default_rng(STREAM)
    seen, accepted = [], 0.0
    for made in range(count + count // 20):
        steps = round(TIME / step_size * lengths.uniform(0.5, 1.5))
        p = noise(2 * made, z.shape[1:], torch.float32)
        before, force = posed.gradient(z)
        proposal, q, after, _ = leapfrog(posed.gradient, z, p, before, force, step_size, steps)
        kinetic = (p.double().square().sum(1) - q.double().square().sum(1)) / 2
        decider = noise(2 * made + 1, (1,), torch.float64)[:, 0]
        accept = torch.special.log_ndtr(decider) < before.double() - after.double() + kinetic
        z = torch.where(accept[:, None], proposal, z)
        if made >= count // 20:
            accepted += float(accept.double().mean()) / count
            seen.append(observed(posed, z)[:, [TRAIN_ERROR, OVERLAP]])
    return torch.stack(seen, 1).double().numpy(), accepted


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("temperature", type=float)
    parser.add_argument("draws", type=int)
    chosen = parser.parse_args()
    values, accepted = draws(problem(chosen.temperature), chosen.draws)
    found = diagnostics(values)
    between = values.mean(1).std(0, ddof=1) / math.sqrt(CHAINS)
    print(f"{100 * accepted:.0f} % accepted, R-hat {found.rhat.max():.4f}")
    for index, name in enumerate(("train error", "<(w·w*)²>")):
        mean, error = values[..., index].mean(), found.mcse[index]
        print(f"{name}: Known({mean:.7f}, {error:.7f}); between chains {between[index]:.7f}")


if __name__ == "__main__":
    main()
