"""The samplers of this project, all on the gradient and the noise of its kernels."""

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from ess_problem import CHAINS, INPUTS, NEURONS, POINTS, WIDTH, Array, data
from ess_serving import Chains, serve
from torch import Tensor

from workers.ensemble.adaptation import STABLE_STEP
from workers.fused.network import fused, potential
from workers.fused.noise import Noise
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import Network, fully_connected
from workers.sampler import Gradient, Sampler
from workers.samplers.baoab import baoab
from workers.samplers.collapsed import collapsed, marginal
from workers.samplers.linear_model import normals_needed
from workers.samplers.mala import mala
from workers.samplers.ula import ula

SEED, START = 3, 4  # of the noise; the start's has a stream of its own
ITERATIONS, PROBE = 40, 0.1  # of the power method; its finite difference, in prior deviations
OVERDAMPED = 0.5  # ε λ of ULA, before it is halved; ε √λ is what `step_size: auto` takes
FRICTION, INTERVAL = 0.15, 0.5  # γ, and units of time from draw to draw
LEARNING = 20_000  # steps from the prior to the posterior, at half the usual one
ACCEPTED, LOOKS, LOOK = 0.574, 20, 50  # of MALA's proposals; looks at it, steps between them


class Problem(NamedTuple):
    """Network, data and posterior, and the prior's widths (parameter,)."""

    network: Network
    x: Tensor  # the probes are the last points
    y: Tensor
    temperature: float
    gradient: Gradient
    widths: Tensor


def problem(temperature: float) -> Problem:
    x, y = (torch.from_numpy(array) for array in data())
    network = fused(
        fully_connected(
            INPUTS,
            [WIDTH],
            ACTIVATIONS["erf"],
            weight_variance=[1.0, 1.0],
            bias_variance=0.0,
            chi=1.0,
        )
    )
    assert isinstance(network, Network)
    gradient = potential(network, x[:POINTS], y[:POINTS], temperature)
    return Problem(network, x, y, temperature, gradient, network.standard_deviations.float())


def learned(posed: Problem, halvings: int) -> Tensor:
    """Positions that chains from the prior have come to."""
    noise = Noise(START, range(CHAINS), halvings)
    position = noise(0, (posed.network.size,), torch.float32)
    step_size = STABLE_STEP / 2 / math.sqrt(1.5 * stiffness(posed.gradient, position))
    sampler = baoab(posed.gradient, step_size, FRICTION)
    state = sampler.init(position, noise.at(1))
    for step in range(2, 2 + LEARNING):
        state = sampler.step(state, noise.at(step))
    return state.position


def stiffness(gradient: Gradient, position: Tensor, mobility: Tensor | float = 1.0) -> float:
    """λ: the largest eigenvalue of mobility times the Hessian of U, the largest of all chains."""
    base, generator = gradient(position)[1], torch.Generator().manual_seed(0)
    direction = torch.randn(position.shape, generator=generator)
    growth = torch.ones(len(position))
    for _ in range(ITERATIONS):
        probe = PROBE * direction / direction.norm(dim=1, keepdim=True)
        growth = mobility * (gradient(position + probe)[1] - base) / PROBE
        direction, growth = growth, growth.norm(dim=1)
    return float(growth.max())


def chains(posed: Problem, sampler: Sampler[Any], state: Any, noise: Noise, thin: int, text: str):
    """An ensemble from a state, one draw after every `thin` steps; ten of them at a time."""
    made = 0

    def draw() -> Tensor:
        nonlocal state, made
        kept = []
        for _ in range(10):
            for _ in range(thin):
                made += 1
                state = sampler.step(state, noise.at(made))
            kept.append(state.position)
        return torch.stack(kept, dim=1)

    def observe(positions: Tensor) -> Array:
        return observed(posed, positions.flatten(0, 1)).unflatten(0, (CHAINS, -1)).numpy()

    return Chains(text, lambda: CHAINS * made, draw, observe, lambda drawn: drawn[:, -1].numpy())


def observed(posed: Problem, z: Tensor) -> Tensor:
    """What is seen of draws z, (draw, quantity): outputs, train error, mean (w·w*)², w·w*."""
    f = posed.network.outputs(z * posed.widths, posed.x)
    error = (f[:, :POINTS] - posed.y[:POINTS]).square().mean(1, keepdim=True)
    weights = (z * posed.widths)[:, : WIDTH * INPUTS].unflatten(1, (WIDTH, INPUTS))
    along = weights[:, :, 0]
    overlap = along.square().mean(1, keepdim=True)
    return torch.cat([f[:, POINTS:], error, overlap, along[:, :NEURONS]], dim=1)


Chosen = tuple[Sampler[Any], str, int]  # what to run, its settings, steps from draw to draw


def contestant(choose: Callable[[Problem, Tensor, float], Chosen]):
    """What is made of a choice of sampler for a problem, its learned state and 2^-halvings."""

    def prepare(temperature: float, start: Array | None, halvings: int) -> Chains:
        posed = problem(temperature)
        position = learned(posed, halvings) if start is None else torch.from_numpy(start)
        sampler, text, thin = choose(posed, position, 0.5**halvings)
        noise = Noise(SEED, range(CHAINS), halvings)
        return chains(posed, sampler, sampler.init(position, noise.at(0)), noise, thin, text)

    return prepare


def one_step_for_all(posed: Problem, position: Tensor, part: float) -> Chosen:
    """ULA of the weights themselves: in whitened coordinates every step is divided by σ²."""
    mobility = posed.widths**-2
    reach = part * OVERDAMPED
    step_size = reach / stiffness(posed.gradient, position, mobility)
    return ula(posed.gradient, step_size * mobility), f"ε = {reach:.3g}/λ of the weights", 80


def whitened(posed: Problem, position: Tensor, part: float) -> Chosen:
    reach = part * OVERDAMPED
    sampler = ula(posed.gradient, reach / stiffness(posed.gradient, position))
    return sampler, f"ε = {reach:.3g}/λ", 40


def adjusted(posed: Problem, position: Tensor, part: float) -> Chosen:
    """MALA, its step moved until the acceptance is that of Roberts and Rosenthal (1998)."""
    curvature = stiffness(posed.gradient, position)
    step_size, gain, noise, made = 1 / curvature, 1.0, Noise(SEED, range(CHAINS), 99), 1
    for _ in range(LOOKS):
        sampler = mala(posed.gradient, step_size)
        state = sampler.init(position, noise.at(0))
        for _ in range(LOOK):
            state, made = sampler.step(state, noise.at(made)), made + 1
        position, share = state.position, float(state.accepted.double().mean()) / LOOK
        step_size, gain = step_size * math.exp(gain * (share - ACCEPTED)), 0.9 * gain
    return mala(posed.gradient, step_size), f"ε = {step_size * curvature:.2g}/λ", 40


def default(posed: Problem, position: Tensor, part: float) -> Chosen:
    """BAOAB, at the step of `step_size: auto`."""
    reach = part * STABLE_STEP
    step_size = reach / math.sqrt(stiffness(posed.gradient, position))
    text = f"ε = {reach:.3g}/√λ, γ = {FRICTION}"
    return baoab(posed.gradient, step_size, FRICTION), text, math.ceil(INTERVAL / step_size)


def integrated_out(posed: Problem, position: Tensor, part: float) -> Chosen:
    """BAOAB of the hidden weights, with λ that of their own potential."""
    x, y = posed.x[:POINTS], posed.y[:POINTS]
    evaluate = marginal(posed.network, x, y, posed.temperature)
    none = position.new_zeros(CHAINS, normals_needed(POINTS, WIDTH))
    hidden = position[:, : WIDTH * INPUTS].contiguous()
    curvature = stiffness(lambda z: evaluate(z, none)[:2], hidden)
    reach = part * STABLE_STEP
    step_size = reach / math.sqrt(curvature)
    sampler = collapsed(posed.network, x, y, posed.temperature, step_size, FRICTION)
    text = f"ε = {reach:.3g}/√λ = {step_size:.2g}, γ = {FRICTION}"
    return sampler, text, math.ceil(INTERVAL / step_size)


if __name__ == "__main__":
    contestants = {
        "default": default,
        "collapsed": integrated_out,
        "ula": one_step_for_all,
        "ula whitened": whitened,
        "mala": adjusted,
    }
    serve(contestant(contestants[sys.argv[1]]), ["torch"])
