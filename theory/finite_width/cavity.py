"""The law of one neuron of a finite network, the other neurons being seen through averages.

The equations are those of `theory.finite_width.adaptive`. Given the draws, and l on them, the
discrepancy t solves y = (T + Q̃[t]) t: for l fixed the only stationary point of a concave function,
found by Newton's method. l follows from the response G, and is made self-consistent by iteration.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from theory.activations.kernel_map import KernelMap
from theory.activations.neurons import (
    Neurons,
    Proposal,
    Sample,
    adapted,
    averaged,
    draw,
    effective,
    prior_proposal,
    sample,
)
from theory.activations.records import Activation
from theory.numerics.fixed_point import fixed_point
from theory.numerics.newton_krylov import find_root

Force = Literal["mean_field", "first_order", "cavity"]

PRECISION = 1e-10  # of t, in units of the labels
TOLERANCE = 1e-7  # of ln l
GOOD_SHARE, LEAST_SHARE = 0.4, 0.02  # effective of all draws: stop adapting; do not trust
ADAPTATIONS = 4  # of the proposal at one strength
SMALLEST_STEP = 1 / 256  # of the strength


@dataclass(frozen=True)
class Problem:
    """A network of one hidden layer and its data, inputs in units of the prior."""

    inputs: Tensor  # x̂ (n, d)
    y: Tensor
    ridge: float
    width: float
    activation: Activation
    readout: float  # σ_a²
    force: Force

    def tilt(self, screening: Tensor) -> tuple[Tensor, Tensor]:
        """-½ ln(1 + l) and 1 + l, or what is left of them in the force chosen."""
        if self.force == "cavity":
            return -torch.log1p(screening) / 2, 1 + screening
        offset = -screening / 2 if self.force == "first_order" else torch.zeros_like(screening)
        return offset, torch.ones_like(screening)


class Law(NamedTuple):
    """The law e^{-S} of one neuron as weights on draws, and the averages that it is given by."""

    neurons: Neurons
    points: Sample  # at the training points
    coupling: float  # s
    weight: Tensor  # of each draw, adding up to one
    tau: Tensor  # τ
    damping: Tensor  # 1 + l
    discrepancy: Tensor  # t
    response: Tensor  # G
    residual: float

    @property
    def damped(self) -> Tensor:
        """Weights of which φφᵀ has the average Q̃/σ_a²."""
        return self.weight / self.damping

    def spread(self, features: Tensor, exact: Tensor) -> tuple[Tensor, Tensor]:
        """(Q̃ + D)/σ_a² with the training points, (m, n), and what is taken from it, (m,).

        features are (m, draws), exact the kernel (m, n) under N(0, Σ).
        """
        pull = self.weight * self.tau / self.damping
        mean, other = features @ pull, self.points.features @ pull
        matrix = averaged(
            features, self.points.features, exact, self.responding, self.neurons.reference
        )
        return matrix - self.coupling * torch.outer(mean, other), mean

    @property
    def responding(self) -> Tensor:
        """Weights of which φφᵀ has the average Q̃ + D, but for D's disconnected part."""
        return self.damped + self.coupling * self.weight * (self.tau / self.damping).square()


def solve(problem: Problem, normals: Tensor) -> Law:
    """The law at strength 1, which is s = σ_a²/N, from that at strength 0, of infinite width."""
    axis, t, response = _linear_response(problem)
    proposal, strength, step = prior_proposal(axis), 0.0, 1.0
    while strength < 1:
        following = min(1.0, strength + step)
        law = _law(problem, proposal, normals, following, t, response, exactly=False)
        for _ in range(ADAPTATIONS):
            if not LEAST_SHARE <= _share(law) <= GOOD_SHARE:
                break
            proposal = adapted(law.neurons, law.weight, axis)
            law = _law(problem, proposal, normals, following, t, response, exactly=False)
        if law.residual <= TOLERANCE and _share(law) >= LEAST_SHARE:
            strength, step, t, response = following, 2 * step, law.discrepancy, law.response
            proposal = adapted(law.neurons, law.weight, axis)
        elif step > SMALLEST_STEP:
            step /= 2
        else:
            return law
    return _law(problem, proposal, normals, 1.0, t, response, exactly=True)


def _share(law: Law) -> float:
    return effective(law.weight) / len(law.weight)


def _linear_response(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Of infinite width: the direction in which a force t tᵀ bends weights most, t, (K + T)⁻¹."""
    kernel_map = KernelMap(problem.activation)
    covariance = problem.inputs @ problem.inputs.T
    response = _inverse(problem.readout * kernel_map(covariance), problem.ridge)
    t = response @ problem.y
    force = problem.inputs.T @ kernel_map.pullback(covariance, torch.outer(t, t)) @ problem.inputs
    return torch.linalg.eigh(force)[1][:, -1], t, response


def _law(
    problem: Problem,
    proposal: Proposal,
    normals: Tensor,
    strength: float,
    t: Tensor,
    response: Tensor,
    *,
    exactly: bool,
) -> Law:
    """The law for given draws, with l self-consistent or, on the way, after two iterations."""
    neurons = draw(proposal, normals)
    points = sample(neurons, problem.inputs, problem.activation)
    coupling = strength * problem.readout / problem.width

    def screening(response: Tensor) -> Tensor:
        """ln l of every draw."""
        norms = ((response @ points.features) * points.features).sum(0)
        return (coupling * norms).clamp_min(torch.finfo(torch.float64).tiny).log()

    def given(log_screening: Tensor, guess: Tensor) -> Law:
        return _screened(problem, neurons, points, coupling, log_screening.exp(), guess)

    law = given(screening(response), t)
    if problem.force == "mean_field":
        return law
    if not exactly:
        return given(screening(law.response), law.discrepancy)

    def update(log_screening: Tensor) -> Tensor:
        nonlocal law
        law = given(log_screening, law.discrepancy)
        return screening(law.response)

    found = fixed_point(update, screening(law.response), TOLERANCE)
    return law._replace(residual=max(law.residual, found.residual))


def _screened(
    problem: Problem,
    neurons: Neurons,
    points: Sample,
    coupling: float,
    screening: Tensor,
    guess: Tensor,
) -> Law:
    """The law at given l: t by Newton's method, whitened by the kernel of N(0, Σ) and T."""
    offset, damping = problem.tilt(screening)
    base, features = neurons.log_prior + offset, points.features
    start = problem.readout * points.kernel
    factor = torch.linalg.cholesky(start + problem.ridge * torch.eye(len(start)).to(start))

    def whiten(vector: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(factor, vector[:, None], upper=False)[:, 0]

    scale = float(whiten(problem.y).norm()) or 1.0

    def of(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t = torch.linalg.solve_triangular(factor.T, scale * z[:, None], upper=True)[:, 0]
        tau = t @ features
        return t, tau, torch.softmax(base + coupling * tau.square() / (2 * damping), 0)

    def residual(z: Tensor) -> Tensor:
        t, tau, weight = of(z)
        damped = weight / damping
        total = damped.sum()
        smooth = total * (points.kernel @ t)
        rest = features @ ((damped - total * neurons.reference) * tau)
        labels = problem.ridge * t + problem.readout * (smooth + rest)
        return whiten(labels - problem.y) / scale

    root = find_root(residual, factor.T @ guess / scale, PRECISION)
    t, tau, weight = of(root.position)
    law = Law(neurons, points, coupling, weight, tau, damping, t, start, root.residual)
    matrix, _ = law.spread(features, points.kernel)
    return law._replace(response=_inverse(problem.readout * matrix, problem.ridge))


def _inverse(kernel: Tensor, ridge: float) -> Tensor:
    """(K + T)⁻¹."""
    matrix = (kernel + kernel.T) / 2 + ridge * torch.eye(len(kernel)).to(kernel)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise ValueError(
            f"the kernel averaged over draws is not positive definite with ridge {ridge:g}; give "
            "more normals or a larger ridge"
        )
    return torch.cholesky_inverse(factor)
